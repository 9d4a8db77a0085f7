//! Kernels against references: the same inputs on a GPU backend and on burn-ndarray, which runs references.
//!
//! Outputs of kernels are allocated full of NaN in tests, so that an element that nobody wrote
//! fails. Inputs come contiguous and as transposed views. What runs here is also translated for
//! Metal and WGSL, and the text checked ([`text`](super::text)).

use burn::tensor::{DType, Int, Shape, Tensor, TensorMetadata};
use burn_backend::tensor::FloatTensor;
use burn_cubecl::{CubeBackend, CubeRuntime};
use burn_fusion::Fusion;
use burn_ndarray::NdArray;

#[cfg(feature = "wgpu")]
use super::text::{Metal, TextRuntime, Wgsl, translated};
use super::{Host, primitive, tensor};
use crate::{Backend, Op, lift};

const HALVES: [DType; 2] = [DType::F16, DType::BF16];

/// Runs `op` on every GPU backend of this build and compares all outputs with its reference in
/// f32: to `1e-5` of the largest magnitude in f32, to `2e-2` in half precision.
pub fn same<O: Op<N>, const N: usize>(op: O, inputs: &[Host; N], ints: &[i64]) {
    same_f32(op.clone(), inputs, ints);
    for dtype in HALVES {
        let expected = reference(&op, (inputs, ints), dtype);
        for got in everywhere(&op, inputs, ints, dtype) {
            compare(O::NAME, dtype, &got, &expected);
        }
    }
}

/// As [`same`], in f32 alone.
pub fn same_f32<O: Op<N>, const N: usize>(op: O, inputs: &[Host; N], ints: &[i64]) {
    let expected = reference(&op, (inputs, ints), DType::F32);
    for got in everywhere(&op, inputs, ints, DType::F32) {
        compare(O::NAME, DType::F32, &got, &expected);
    }
}

/// All outputs of `op` in f32 on each GPU backend of this build.
pub fn outputs<O: Op<N>, const N: usize>(op: O, inputs: &[Host; N]) -> Vec<Vec<Vec<f32>>> {
    everywhere(&op, inputs, &[], DType::F32)
}

#[allow(unused_mut)]
fn everywhere<O: Op<N>, const N: usize>(
    op: &O,
    inputs: &[Host; N],
    ints: &[i64],
    dtype: DType,
) -> Vec<Vec<Vec<f32>>> {
    assert!(O::KERNEL, "`{}` has no kernel to compare", O::NAME);
    let mut found = Vec::new();
    // A machine with an NVIDIA card asks for it; others run wgpu, if only on the processor.
    let cuda = std::env::var_os("MIXLAB_TEST_CUDA").is_some();
    #[cfg(feature = "wgpu")]
    if !cuda {
        found.extend(on::<cubecl::wgpu::WgpuRuntime, _, N>(op, inputs, ints, dtype));
        on::<TextRuntime<Metal>, _, N>(op, inputs, ints, dtype);
        on::<TextRuntime<Wgsl>, _, N>(op, inputs, ints, dtype);
        assert!(translated() > 0);
    }
    #[cfg(feature = "cuda")]
    if cuda {
        found.extend(on::<cubecl::cuda::CudaRuntime, _, N>(op, inputs, ints, dtype));
    }
    let _ = cuda;
    let refused = crate::fallbacks();
    assert!(refused.is_empty(), "kernels were refused: {refused:?}");
    found
}

/// Contiguous inputs, transposed views, and through `Fusion`; nothing if the device lacks `dtype`.
#[allow(dead_code)]
fn on<R: CubeRuntime, O: Op<N>, const N: usize>(
    op: &O,
    inputs: &[Host; N],
    ints: &[i64],
    dtype: DType,
) -> Vec<Vec<Vec<f32>>> {
    type Plain<R> = CubeBackend<R, f32, i32, u32>;
    if !<Plain<R> as burn::tensor::backend::Backend>::supports_dtype(&Default::default(), dtype) {
        return vec![];
    }
    vec![
        run::<Plain<R>, O, N>(op, (inputs, ints), dtype, dtype, false),
        run::<Plain<R>, O, N>(op, (inputs, ints), dtype, dtype, true),
        run::<Fusion<Plain<R>>, O, N>(op, (inputs, ints), dtype, dtype, false),
    ]
}

/// What the reference of `op` gives in f32 for inputs rounded to `rounded`.
fn reference<O: Op<N>, const N: usize>(
    op: &O,
    inputs: (&[Host; N], &[i64]),
    rounded: DType,
) -> Vec<Vec<f32>> {
    run::<NdArray, O, N>(op, inputs, rounded, DType::F32, false)
}

/// All outputs of `op` for inputs rounded to `rounded` and then held as `held`.
fn run<B: Backend, O: Op<N>, const N: usize>(
    op: &O,
    (inputs, ints): (&[Host; N], &[i64]),
    rounded: DType,
    held: DType,
    transposed: bool,
) -> Vec<Vec<f32>> {
    let device = Default::default();
    let float = |x: &Host| -> FloatTensor<B> {
        let flat = match rounded {
            DType::F32 => tensor::<B>(x),
            _ => tensor::<B>(&x.rounded(rounded)).cast(held),
        };
        let x = primitive(flat, &x.shape);
        match (transposed, x.rank()) {
            (true, rank) if rank >= 2 => {
                let swapped = B::float_swap_dims(x, rank - 2, rank - 1);
                // A copy in the swapped order, looked at in the original one.
                let copy = B::float_mul_scalar(swapped, 1f32.into());
                B::float_swap_dims(copy, rank - 2, rank - 1)
            }
            _ => x,
        }
    };
    let floats = inputs.each_ref().map(float);
    let int = (!ints.is_empty()).then(|| Tensor::<B, 1, Int>::from_ints(ints, &device));
    let ints = int.into_iter().map(Tensor::into_primitive).collect();
    let outputs = B::execute(op, floats, ints);
    outputs.into_iter().map(|x| host::<B>(x)).collect()
}

fn host<B: Backend>(x: FloatTensor<B>) -> Vec<f32> {
    let count = x.shape().num_elements();
    let flat: Tensor<B, 1> = lift(B::float_reshape(x, Shape::new([count])));
    flat.cast(DType::F32).into_data().to_vec().expect("cast to f32")
}

fn compare(name: &str, dtype: DType, got: &[Vec<f32>], expected: &[Vec<f32>]) {
    let tolerance = if dtype == DType::F32 { 1e-5 } else { 2e-2 };
    assert_eq!(got.len(), expected.len(), "`{name}`: outputs");
    for (n, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert_eq!(got.len(), expected.len(), "`{name}`: length of output {n}");
        // Smaller results of inputs of size 1 are differences of rounded terms.
        let largest = expected.iter().fold(1e-1f32, |m, v| m.max(v.abs()));
        for (i, (g, e)) in got.iter().zip(expected).enumerate() {
            let error = (g - e).abs() / largest;
            assert!(
                error <= tolerance,
                "`{name}` in {dtype:?}, output {n}[{i}]: got {g}, expected {e} (error {error:e})"
            );
        }
    }
}
