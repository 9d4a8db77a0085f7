use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::backend::Autodiff;
use burn::tensor::{DType, Int, Tensor};
use burn_flex::Flex;

use super::Spec;
use crate::*;

fn f32<const D: usize>(shape: [usize; D]) -> Spec {
    Spec::new(shape, DType::F32)
}

fn bf16<const D: usize>(shape: [usize; D]) -> Spec {
    Spec::new(shape, DType::BF16)
}

fn ids(count: usize) -> [Spec; 1] {
    [Spec::new([count], DType::I64)]
}

/// What `op` has against these inputs.
fn against<O: Op<N>, const N: usize>(op: O, inputs: [Spec; N], ints: &[Spec]) -> String {
    let found = op.outputs(&inputs, ints);
    found.expect_err(&format!("`{}` takes {inputs:?}", O::NAME)).to_string()
}

#[test]
fn products_norms_and_gates_say_what_does_not_fit() {
    let kind = Activation::Silu;
    let precision = Precision::F32;
    let linear = |output| Linear { precision, output };
    for (found, expected) in [
        (
            against(linear(None), [f32([2, 3]), f32([4, 5])], &[]),
            "`weight` should be [K, M] with K = 3",
        ),
        (against(linear(None), [f32([2, 0]), f32([0, 5])], &[]), "`x` should have no empty axis"),
        (
            against(linear(Some(DType::I32)), [f32([2, 3]), f32([3, 5])], &[]),
            "a result of i32 is none of floats",
        ),
        (
            against(LinearGradient { precision }, [f32([2, 3]), f32([3, 5]), f32([5, 2])], &[]),
            "`grad` should be [N, M] with N = 2, M = 5",
        ),
        (against(Activate { kind }, [f32([2])], &[]), "`x` should be [N, D]"),
        (
            against(ActivateGradient { kind }, [f32([2, 3]), bf16([2, 3])], &[]),
            "`grad` should be f32 as `x` is",
        ),
        (
            against(Gate { kind }, [bf16([2, 3]), f32([2, 3])], &[]),
            "`x` should be bf16 as `gate` is",
        ),
        (
            against(GateGradient { kind }, [f32([2, 3]), f32([2, 3]), f32([2, 4])], &[]),
            "`grad` should be [N, D] with N = 2, D = 3",
        ),
        (
            against(RmsNorm { eps: 0.0, dtype: None }, [f32([2, 3]), f32([2])], &[]),
            "`scale` should be [D] with D = 3",
        ),
        (
            against(RmsNormGradient { eps: 0.0 }, [f32([2, 3]), f32([3]), f32([3, 3])], &[]),
            "`grad` should be [N, D] with N = 2, D = 3",
        ),
    ] {
        assert_eq!(found, expected);
    }
}

#[test]
fn ops_on_heads_say_what_does_not_fit() {
    let precision = Precision::F32;
    let attention = |causal| Attention { causal, scale: 1.0, precision };
    let retention = Retention { scale: 1.0, precision };
    let q = || f32([1, 4, 5, 8]);
    let rope = |dims| Rope { dims, base: 10_000.0, start: 0, inverse: false };
    let far = Rope { start: usize::MAX, ..rope(8) };
    for (found, expected) in [
        (
            against(attention(true), [q(), f32([1, 4, 4, 8]), f32([1, 4, 4, 8])], &[]),
            "Tq = 5 should be at most Tk = 4",
        ),
        (
            against(attention(false), [q(), f32([1, 4, 6, 8]), f32([1, 4, 5, 8])], &[]),
            "`v` should be [B, Hk, Tk, hd] with B = 1, hd = 8, Hk = 4, Tk = 6",
        ),
        (
            against(attention(true), [q(), f32([1, 3, 5, 8]), f32([1, 3, 5, 8])], &[]),
            "Hk = 3 should divide H = 4",
        ),
        (
            against(attention(true), [q(), bf16([1, 4, 5, 8]), q()], &[]),
            "`k` should be f32 as `q` is",
        ),
        (
            against(AttentionGradient { of: attention(true) }, [(); 6].map(|()| q()), &[]),
            "`log_sum_exp` should be [B, H, Tq, 1] with B = 1, H = 4, Tq = 5",
        ),
        (
            against(retention.clone(), [q(), q(), q(), f32([5])], &[]),
            "`decay` should be [H] with H = 4",
        ),
        (
            against(
                RetentionGradient { of: retention },
                [q(), q(), q(), f32([4]), q(), f32([1, 4, 5, 1]), bf16([1, 4, 5, 8])],
                &[],
            ),
            "`grad` should be f32 as `q` is",
        ),
        (against(rope(3), [q()], &[]), "`dims` should be an even number in 2..=8, and is `3`"),
        (
            against(far, [q()], &[]),
            "`start` + T should be at most 16777216, and `start` is `18446744073709551615`",
        ),
        (against(rope(10), [q()], &[]), "`dims` should be an even number in 2..=8, and is `10`"),
        (
            against(Insert { start: 3 }, [q(), f32([1, 4, 3, 8])], &[]),
            "T = 3 from 3 on should be at most R = 5",
        ),
        (
            against(Xsa, [q(), f32([1, 2, 6, 8])], &[]),
            "`v` should be [B, Hk, T, hd] with B = 1, T = 5, hd = 8",
        ),
        (
            against(XsaGradient, [q(), f32([1, 2, 5, 8]), f32([1, 2, 5, 8])], &[]),
            "`grad` should be [B, H, T, hd] with B = 1, H = 4, T = 5, hd = 8",
        ),
    ] {
        assert_eq!(found, expected);
    }
}

#[test]
fn scans_say_what_does_not_fit() {
    let u = || f32([2, 3, 4]);
    let states = || f32([2, 3, 4, 5]);
    let from = |of| ScanFrom { of };
    for (found, expected) in [
        (against(Scan, [u(), f32([3])], &[]), "`gate` should be [C] with C = 4"),
        (
            against(ScanGradient, [u(), f32([4]), u(), f32([2, 4, 4])], &[]),
            "`grad` should be [B, T, C] with C = 4, B = 2, T = 3",
        ),
        (
            against(ScanTv, [u(), f32([4])], &[]),
            "`gate` should be [B, T, C] with B = 2, T = 3, C = 4",
        ),
        (
            against(ScanTvGradient, [u(), u(), f32([2, 3, 5]), u()], &[]),
            "`h` should be [B, T, C] with B = 2, T = 3, C = 4",
        ),
        (
            against(from(Recurrence::ScanTv), [u(), u(), f32([2, 5])], &[]),
            "`state` should be [B, C] with B = 2, C = 4",
        ),
        (
            against(from(Recurrence::MatrixScan), [states(), u(), f32([2, 5, 4])], &[]),
            "`state` should be [B, Da, Db] with B = 2, Da = 4, Db = 5",
        ),
        (
            against(
                ScanFromGradient { of: Recurrence::Scan },
                [u(), f32([4]), f32([2, 4]), f32([2, 3, 5]), u()],
                &[],
            ),
            "`h` should be [B, T, C] with B = 2, T = 3, C = 4",
        ),
        (against(FadingMax, [u(), f32([3])], &[]), "`rate` should be [C] with C = 4"),
        (
            against(MatrixScan, [states(), f32([2, 3, 5])], &[]),
            "`gate` should be [B, T, Da] with B = 2, T = 3, Da = 4",
        ),
        (
            against(MatrixScanGradient, [u(), states(), f32([2, 3, 4])], &[]),
            "`grad` should be [B, T, Da, Db] with B = 2, T = 3, Da = 4, Db = 5",
        ),
    ] {
        assert_eq!(found, expected);
    }
}

#[test]
fn ops_with_indices_say_what_does_not_fit() {
    let loss = CrossEntropy::default();
    let bytes = [Spec::new([2], DType::U8)];
    for (found, expected) in [
        (against(loss.clone(), [f32([2, 3])], &ids(3)), "`targets` should be [N] with N = 2"),
        (
            against(loss.clone(), [f32([2, 3])], &[]),
            "it takes 1 tensors of indices, and was given 0",
        ),
        (against(loss, [f32([2, 3])], &bytes), "indices should be integers of 32 or 64 bits"),
        (
            against(CrossEntropyGradient { ahead: 1.0 }, [f32([2, 3]), f32([3])], &[]),
            "`grad` should be [N] with N = 2",
        ),
        (against(Embedding, [f32([3])], &ids(2)), "`table` should be [V, D]"),
        (
            against(EmbeddingGradient, [f32([5, 3]), f32([2, 3])], &ids(4)),
            "`ids` should be [N] with N = 2",
        ),
    ] {
        assert_eq!(found, expected);
    }
}

#[test]
fn updates_say_what_does_not_fit() {
    let rates = vec![Rates { lr: 0.1, decay: 0.0, beta1: 0.9, bias: 1 }];
    let adamw = AdamW { rates, beta2: 0.9, epsilon: 1e-8 };
    let momentum = Momentum { momentum: 0.9, nesterov: true, index: 1 };
    let step = MuonStep { lr: 0.1, decay: 0.0, index: 2 };
    let (factor, batch) = (|| f32([2]), || f32([2, 3, 4]));
    let orthogonalize = Orthogonalize { steps: 1, precision: Precision::F32 };
    for (found, expected) in [
        (
            against(
                adamw.clone(),
                [factor(), f32([2]), f32([3]), f32([3]), f32([3]), f32([4])],
                &[],
            ),
            "`v` should be f32 [3]",
        ),
        (
            against(adamw.clone(), [factor(), f32([1])], &[]),
            "`bias` should have a number for each place, and has `1`",
        ),
        (
            against(adamw, [factor(), f32([2]), f32([3]), f32([3])], &[]),
            "`1` weights should have a weight, gradient, m and v each",
        ),
        (
            against(momentum.clone(), [factor(), batch(), f32([4, 3]), f32([3, 4])], &[]),
            "`gradient` should be [R, C] with R = 3, C = 4",
        ),
        (
            against(momentum, [factor(), batch(), f32([3, 4])], &[]),
            "`0` matrices from `1` on should be some of S = 2",
        ),
        (
            against(step, [factor(), batch(), f32([3, 4])], &[]),
            "`1` matrices from `2` on should be some of S = 2",
        ),
        (against(orthogonalize, [f32([3, 4])], &[]), "`batch` should be [S, R, C]"),
        (against(SquareSum, [f32([2]), f32([3, 4])], &[]), "`parts` should be f32 [128]"),
        (against(ClipFactor { bound: 1.0 }, [bf16([128])], &[]), "`parts` should be f32 [128]"),
    ] {
        assert_eq!(found, expected);
    }
}

/// The panic of a product of shapes that do not fit, and of targets that are too few.
fn refused<B: Backend>(device: &B::Device) {
    let matrix = |shape| Tensor::<B, 2>::zeros(shape, device);
    let text = |run: &dyn Fn()| {
        let panic = catch_unwind(AssertUnwindSafe(run)).expect_err("it ran");
        *panic.downcast::<String>().expect("a panic with a formatted text")
    };
    let found = text(&|| drop(linear(matrix([2, 3]), matrix([4, 5]), Precision::F32)));
    let expected = "`mixlab.linear` does not take (f32 [2, 3], f32 [4, 5]): `weight` should be [K, M] with K = 3";
    assert_eq!(found, expected);
    let targets = Tensor::<B, 1, Int>::zeros([3], device);
    let int = targets.dtype().name();
    let found = text(&|| drop(cross_entropy(matrix([2, 3]), targets.clone())));
    let expected = format!(
        "`mixlab.cross_entropy` does not take (f32 [2, 3], {int} [3]): `targets` should be [N] with N = 2"
    );
    assert_eq!(found, expected);
}

#[test]
fn every_backend_refuses_inputs_that_do_not_fit() {
    #[cfg(feature = "ndarray")]
    refused::<burn_ndarray::NdArray>(&Default::default());
    refused::<Flex>(&Default::default());
    refused::<Autodiff<Flex>>(&Default::default());
    let session = capture::Session::new().unwrap();
    refused::<capture::Capture>(session.device());
    #[cfg(feature = "candle")]
    #[allow(deprecated)]
    refused::<burn_candle::Candle>(&Default::default());
    #[cfg(feature = "wgpu")]
    {
        type Gpu = burn_cubecl::CubeBackend<cubecl::wgpu::WgpuRuntime, f32, i32, u32>;
        refused::<Gpu>(&Default::default());
        refused::<burn_fusion::Fusion<Gpu>>(&Default::default());
    }
}
