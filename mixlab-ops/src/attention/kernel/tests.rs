//! Heads as blocks pass them: `[B, T, H, hd]` seen through swapped axes.

use burn::tensor::{DType, Tensor, TensorData};
use burn_cubecl::{CubeBackend, tensor::CubeTensor};
use cubecl::wgpu::WgpuRuntime;

use crate::testing::{Host, noise};
use crate::{Attention, AttentionGradient, Backend, Op, Precision, Xsa, XsaGradient, lift, lower};

type Gpu = CubeBackend<WgpuRuntime, f32, i32, u32>;

fn tensor(x: &Host) -> Tensor<Gpu, 4> {
    let data: Vec<f32> = x.data.iter().map(|v| *v as f32).collect();
    Tensor::from_data(TensorData::new(data, x.shape.clone()), &Default::default())
}

fn host(x: CubeTensor<WgpuRuntime>) -> TensorData {
    lift::<Gpu, 4>(x).cast(DType::F32).into_data()
}

/// Runs `op` on views of `inputs` `[B, T, H, hd]` and on copies of the views.
fn check<O: Op<N>, const N: usize>(op: O, inputs: [&Host; N]) {
    let views = inputs.map(|x| tensor(x).swap_dims(1, 2));
    let copies =
        views.clone().map(|x| Tensor::<Gpu, 4>::from_data(x.into_data(), &Default::default()));
    let expected = Gpu::execute(&op, copies.map(lower), vec![]);
    let found = Gpu::execute(&op, views.map(lower), vec![]);
    for (found, expected) in found.into_iter().zip(expected) {
        let shape = found.meta.shape().clone();
        if shape[3] == inputs[0].shape[3] {
            let dense = [shape[1] * shape[2] * shape[3], shape[3], shape[1] * shape[3], 1];
            assert_eq!(found.meta.strides().to_vec(), dense, "memory order of the outputs");
        }
        host(found).assert_eq(&host(expected), true);
    }
}

#[test]
fn views_give_the_same_results_in_their_own_memory_order() {
    let (b, h, hk, t, hd) = (2, 4, 2, 37, 12);
    let [q, y, g] = [70, 71, 72].map(|seed| noise(&[b, t, h, hd], seed));
    let [k, v] = [73, 74].map(|seed| noise(&[b, t, hk, hd], seed));
    let log_sum_exp = noise(&[b, t, h, 1], 75);
    let of = Attention { causal: true, scale: 0.3, precision: Precision::F32 };
    check(of.clone(), [&q, &k, &v]);
    check(AttentionGradient { of }, [&q, &k, &v, &y, &log_sum_exp, &g]);
    check(Xsa, [&y, &v]);
    check(XsaGradient, [&y, &v, &g]);
}
