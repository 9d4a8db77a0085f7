use super::Rope;
use crate::testing::{Host, check, noise};

fn naive(x: &Host, dims: usize, start: usize) -> Vec<f64> {
    let (t, hd) = (x.shape[2], x.shape[3]);
    let mut y = x.data.clone();
    for (row, channels) in y.chunks_mut(hd).enumerate() {
        let p = (start + row % t) as f64;
        for i in 0..dims / 2 {
            let theta = p * 10000f64.powf(-2.0 * i as f64 / dims as f64);
            let (a, b) = (channels[2 * i], channels[2 * i + 1]);
            channels[2 * i] = a * theta.cos() - b * theta.sin();
            channels[2 * i + 1] = a * theta.sin() + b * theta.cos();
        }
    }
    y
}

#[test]
fn pairs_turn_by_their_position_and_the_rest_passes_through() {
    for (t, hd, dims) in [(1, 2, 2), (2, 8, 4), (63, 6, 6), (257, 5, 2), (2, 500, 500)] {
        for start in [0, 41] {
            let op = Rope { dims, base: 10000.0, start, inverse: false };
            check(op, [noise(&[2, 3, t, hd], 6)], &[], |[x]| naive(x, dims, start));
        }
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod kernels {
    use super::{Rope, noise};
    use crate::testing::kernels::{same, same_f32};

    #[test]
    fn equal_the_references() {
        let shapes = [
            ([1, 1, 1, 2], 2),
            ([2, 3, 5, 6], 6),
            ([2, 5, 7, 6], 4),
            ([1, 4, 9, 5], 4),
            ([2, 6, 33, 64], 64),
            ([2, 3, 17, 64], 16),
            ([1, 9, 3, 24], 12),
        ];
        for (shape, dims) in shapes {
            for (start, inverse) in [(0, false), (0, true), (61, false)] {
                same(Rope { dims, base: 10000.0, start, inverse }, &[noise(&shape, 7)], &[]);
            }
        }
    }

    #[test]
    fn late_positions_are_as_exact_as_early_ones() {
        for (start, len) in [(0, 2048), (0, 2050), (2047, 3)] {
            let op = Rope { dims: 4, base: 10000.0, start, inverse: false };
            same_f32(op, &[noise(&[1, 2, len, 4], 8)], &[]);
        }
    }

    #[cfg(feature = "wgpu")]
    #[test]
    fn the_result_lies_in_memory_as_its_input_does() {
        use burn::tensor::{Tensor, Tolerance};
        use burn_flex::Flex;

        use crate::{Backend, lift, lower};

        type Plain = burn_cubecl::CubeBackend<cubecl::wgpu::WgpuRuntime, f32, i32, u32>;

        /// Heads of a stream `[B, T, H · hd]` of which the first `skip` channels are left out.
        fn heads<B: Backend>(skip: usize) -> Tensor<B, 4> {
            let (b, t, h, hd) = (2, 6, 5, 8);
            let data: Vec<f32> =
                noise(&[b * t * (h * hd + skip)], 9).data.iter().map(|v| *v as f32).collect();
            let x = Tensor::<B, 1>::from_floats(data.as_slice(), &Default::default());
            let x = x.reshape([b, t, h * hd + skip]).narrow(2, skip, h * hd);
            x.reshape([b, t, h, hd]).swap_dims(1, 2)
        }
        let op = Rope { dims: 8, base: 100.0, start: 0, inverse: false };
        for skip in [0, 8, 3] {
            let got = Plain::execute(&op, [lower(heads::<Plain>(skip))], vec![]).pop().unwrap();
            assert_eq!(got.meta.strides()[..], [240, 8, 40, 1]);
            let expected = Flex::execute(&op, [lower(heads::<Flex>(skip))], vec![]).pop().unwrap();
            let expected = lift::<Flex, 4>(expected).into_data();
            let near = Tolerance::<f32>::rel_abs(1e-5, 1e-6);
            lift::<Plain, 4>(got).into_data().assert_approx_eq::<f32>(&expected, near);
        }
    }
}
