use super::RmsNorm;
use crate::testing::{Host, check, noise};

fn naive([x, s]: &[Host; 2]) -> Vec<f64> {
    let d = s.data.len();
    let row = |row: &[f64]| -> Vec<f64> {
        let r = (row.iter().map(|v| v * v).sum::<f64>() / d as f64 + 1e-5).sqrt();
        row.iter().zip(&s.data).map(|(v, s)| v / r * s).collect()
    };
    x.data.chunks(d).flat_map(row).collect()
}

#[test]
fn values_and_gradients_are_those_of_a_naive_loop() {
    for (n, d) in [(1, 1), (2, 5), (63, 5), (257, 1), (3, 500)] {
        let inputs = [noise(&[n, d], 1), noise(&[d], 2)];
        check(RmsNorm { eps: 1e-5, dtype: None }, inputs, &[], naive);
    }
}

#[test]
fn the_result_has_the_type_that_is_asked_for_and_the_gradients_those_of_the_inputs() {
    use burn::backend::Autodiff;
    use burn::tensor::{DType, Tensor};
    type Train = Autodiff<burn_flex::Flex>;

    let device = Default::default();
    let x = Tensor::<Train, 2>::from_floats([[3.0, 4.0]], &device).require_grad();
    let scale = Tensor::<Train, 1>::ones([2], &device).require_grad();
    let y = crate::rms_norm_to(x.clone(), scale.clone(), 1e-5, DType::BF16);
    assert_eq!(y.dtype(), DType::BF16);
    let grads = y.sum().backward();
    assert_eq!(x.grad(&grads).unwrap().dtype(), DType::F32);
    assert_eq!(scale.grad(&grads).unwrap().dtype(), DType::F32);
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod kernels {
    use burn::tensor::DType;

    use super::{RmsNorm, noise};
    use crate::rms_norm::RmsNormGradient;
    use crate::testing::kernels::{same, same_f32};

    const SHAPES: [[usize; 2]; 9] = [
        [1, 1],
        [3, 5],
        [257, 1],
        [63, 130],
        [700, 128],
        [9, 500],
        [70, 1024],
        [5, 4100],
        [2, 4999],
    ];

    #[test]
    fn equal_the_references() {
        for [n, d] in SHAPES {
            let [x, g] = [3, 4].map(|seed| noise(&[n, d], seed));
            let scale = noise(&[d], 5);
            same(RmsNorm { eps: 1e-5, dtype: None }, &[x.clone(), scale.clone()], &[]);
            same(RmsNormGradient { eps: 1e-5 }, &[x, scale, g], &[]);
        }
    }

    #[test]
    fn rows_of_zeros_have_a_gradient() {
        let mut x = noise(&[3, 8], 6);
        x.data.iter_mut().for_each(|v| *v = 0.0);
        let inputs = [x, noise(&[8], 7), noise(&[3, 8], 8)];
        same_f32(RmsNormGradient { eps: 1.0 }, &inputs, &[]);
    }

    #[cfg(feature = "wgpu")]
    #[test]
    fn each_tensor_may_have_its_own_type() {
        use burn::tensor::{Tensor, Tolerance};
        use burn_flex::Flex;

        use crate::{Backend, all, lift, lower};

        type Plain = burn_cubecl::CubeBackend<cubecl::wgpu::WgpuRuntime, f32, i32, u32>;

        fn run<B: Backend>(dtype: DType) -> [Vec<f32>; 3] {
            let device = Default::default();
            let flat = |n: usize, seed| {
                let data: Vec<f32> = noise(&[n], seed).data.iter().map(|v| *v as f32).collect();
                Tensor::<B, 1>::from_floats(data.as_slice(), &device)
            };
            let (x, scale) = (flat(7 * 24, 1).reshape([7, 24]), flat(24, 2));
            let g = flat(7 * 24, 3).reshape([7, 24]).cast(dtype);
            let op = RmsNorm { eps: 1e-5, dtype: Some(dtype) };
            let y = B::execute(&op, [lower(x.clone()), lower(scale.clone())], vec![]);
            let y = lift::<B, 2>(all::<_, 1>(y)[0].clone());
            assert_eq!(y.dtype(), dtype);
            let op = RmsNormGradient { eps: 1e-5 };
            let [dx, dscale] = all(B::execute(&op, [lower(x), lower(scale), lower(g)], vec![]));
            let (dx, dscale) = (lift::<B, 2>(dx), lift::<B, 1>(dscale));
            [y.cast(DType::F32).into_data(), dx.into_data(), dscale.into_data()]
                .map(|data| data.to_vec().expect("f32"))
        }
        let near = Tolerance::<f32>::rel_abs(1e-2, 1e-4);
        for (got, expected) in run::<Plain>(DType::F16).into_iter().zip(run::<Flex>(DType::F16)) {
            let [got, expected] = [got, expected].map(|v| burn::tensor::TensorData::from(&v[..]));
            got.assert_approx_eq::<f32>(&expected, near);
        }
    }
}
