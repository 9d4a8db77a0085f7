//! Heads as blocks pass them: `[B, T, H, hd]` seen through swapped axes; and each tile by itself.

use std::time::Instant;

use burn::tensor::backend::Backend as _;
use burn::tensor::{DType, Distribution, Tensor, TensorData};
use burn_cubecl::{CubeBackend, CubeRuntime, tensor::CubeTensor};
use burn_flex::Flex;
use cubecl::wgpu::WgpuRuntime;

use super::planes::Planes;
use super::share::Share;
use super::tile::{SHAPES, Tile, Use};
use super::{Kernels, shared};
use crate::testing::kernels::{
    TextDevice, TextRuntime, compare, expected, on_gpu, runs_kernels, same_by_matrix_units,
};
use crate::testing::{Host, noise, with_references};
use crate::{
    Attention, AttentionGradient, Backend, Op, Precision, Retention, RetentionGradient, Xsa,
    XsaGradient, lift, lower,
};

type On<R> = CubeBackend<R, f32, i32, u32>;
type Gpu = On<WgpuRuntime>;

fn tensor<B: burn::tensor::backend::Backend>(x: &Host) -> Tensor<B, 4> {
    let data: Vec<f32> = x.data.iter().map(|v| *v as f32).collect();
    Tensor::from_data(TensorData::new(data, x.shape.clone()), &Default::default())
}

fn host(x: CubeTensor<WgpuRuntime>) -> TensorData {
    lift::<Gpu, 4>(x).cast(DType::F32).into_data()
}

/// Runs `op` on views of `inputs` `[B, T, H, hd]` and on copies of the views.
fn check<O: Op<N>, const N: usize>(op: O, inputs: [&Host; N]) {
    let views = inputs.map(|x| tensor::<Gpu>(x).swap_dims(1, 2));
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

fn numbers<B: burn::tensor::backend::Backend>(x: burn_backend::tensor::FloatTensor<B>) -> Vec<f32> {
    lift::<B, 4>(x).into_data().to_vec().expect("f32")
}

#[test]
fn every_tile_gives_what_the_reference_does() {
    let of = Attention { causal: true, scale: 0.2, precision: Precision::F32 };
    for (hd, tq, tk) in [(20, 70, 70), (64, 65, 97), (100, 33, 50)] {
        let inputs = [[2, 4, tq, hd], [2, 2, tk, hd], [2, 2, tk, hd]];
        let [q, k, v] = [0, 1, 2].map(|n| noise(&inputs[n], n as u64));
        let [y, g] = [3, 4].map(|seed| noise(&q.shape, seed));
        let [outputs, gradients] = with_references(|| {
            let outputs =
                Flex::execute(&of, [&q, &k, &v].map(|x| lower(tensor::<Flex>(x))), vec![]);
            let inputs = [&q, &k, &v, &y].map(|x| lower(tensor::<Flex>(x)));
            let [a, b, c, d] = inputs;
            let inputs = [a, b, c, d, outputs[1].clone(), lower(tensor::<Flex>(&g))];
            let gradients = Flex::execute(&AttentionGradient { of: of.clone() }, inputs, vec![]);
            [outputs, gradients].map(|all| all.into_iter().map(numbers::<Flex>).collect::<Vec<_>>())
        });
        let log_sum_exp = Host {
            data: outputs[1].iter().map(|x| f64::from(*x)).collect(),
            shape: vec![2, 4, tq, 1],
        };
        on_gpu!(R, computes, {
            let on = |x: &Host| lower(tensor::<On<R>>(x));
            let kernels = || Kernels::<R>::new([&q, &k, &v].map(on), None, of.clone());
            for tile in SHAPES.map(|shape| Tile::new(shape, hd)) {
                let fits = |of| tile.shared(of) <= shared(&on(&q));
                let mut found = vec![];
                if fits(Use::Forward) {
                    found.push((kernels().forward_in(Share::Units(tile)), &outputs));
                }
                if fits(Use::Backward) {
                    let given = [&y, &log_sum_exp, &g].map(on);
                    found.push((kernels().gradient_in([Share::Units(tile); 2], given), &gradients));
                }
                for (found, expected) in found {
                    let found: Vec<_> = found.into_iter().map(numbers::<On<R>>).collect();
                    if computes {
                        compare(&format!("{tile:?}"), (DType::F32, 1e-5), &found, expected);
                    }
                }
            }
        });
    }
}

#[test]
fn heads_of_any_width_have_tiles_in_the_shared_memory_of_every_gpu() {
    for hd in 1..=128 {
        for of in [Use::Forward, Use::Backward] {
            for rows in [1, 20, 1000] {
                let tile = Tile::choose(of, hd, rows, 32 << 10).expect("a tile fits");
                assert!(tile.shared(of) <= 32 << 10 && tile.slices * tile.depth >= hd);
            }
        }
    }
}

/// Attributes, `[B, H, Hk, Tq, Tk, hd]`, and how scores fade.
const BY_MATRIX_UNITS: [(bool, [usize; 6], Option<f64>); 5] = [
    (true, [1, 2, 1, 70, 70, 20], None),
    (true, [1, 2, 2, 33, 150, 64], None),
    (false, [1, 1, 1, 17, 65, 100], None),
    (true, [2, 2, 2, 130, 130, 16], Some(0.25)),
    (true, [1, 1, 1, 40, 200, 33], Some(3.0)),
];

#[test]
fn matrix_units_give_what_the_references_do() {
    if !runs_kernels() {
        return;
    }
    for (causal, [b, h, hk, tq, tk, hd], fades) in BY_MATRIX_UNITS {
        let [q, y, g] = [30, 31, 32].map(|seed| noise(&[b, h, tq, hd], seed));
        let [k, v] = [33, 34].map(|seed| noise(&[b, hk, tk, hd], seed));
        // Scores that grow by more than a weight may.
        let scale = 6.0 / (hd as f32).sqrt();
        let of = Attention { causal, scale, precision: Precision::F32 };
        let log_sum_exp = |found: Vec<Vec<f32>>| Host {
            data: found[1].iter().map(|x| f64::from(*x)).collect(),
            shape: vec![b, h, tq, 1],
        };
        match fades {
            None => {
                let inputs = [q.clone(), k.clone(), v.clone()];
                same_by_matrix_units(&of, &inputs);
                let log_sum_exp = log_sum_exp(expected(&of, &inputs));
                let inputs = [q, k, v, y, log_sum_exp, g];
                same_by_matrix_units(&AttentionGradient { of }, &inputs);
            }
            Some(fades) => {
                let of = Retention { scale, precision: Precision::F32 };
                let decay =
                    Host { data: (1..=h).map(|n| fades / n as f64).collect(), shape: vec![h] };
                let inputs = [q.clone(), k.clone(), v.clone(), decay.clone()];
                same_by_matrix_units(&of, &inputs);
                let log_sum_exp = log_sum_exp(expected(&of, &inputs));
                let inputs = [q, k, v, decay, y, log_sum_exp, g];
                same_by_matrix_units(&RetentionGradient { of }, &inputs);
            }
        }
    }
}

#[test]
fn matrix_units_are_taken_where_there_are_rows_for_them() {
    let heads = |rows: usize, dtype| {
        let x = Tensor::<On<TextRuntime>, 4>::zeros([1, 1, rows, 64], &TextDevice::Runs);
        lower(x.cast(dtype))
    };
    let of = Attention { causal: true, scale: 1.0, precision: Precision::F32 };
    let by_planes = |rows, dtype| {
        let inputs = [(); 3].map(|()| heads(rows, dtype));
        let share = Kernels::new(inputs, None, of.clone()).share(Use::Forward, rows);
        matches!(share, Share::Planes(_))
    };
    assert!(by_planes(16, DType::BF16) && by_planes(100, DType::F16));
    assert!(!by_planes(15, DType::BF16) && !by_planes(100, DType::F32));
}

/// What the order of the shapes was measured with.
#[test]
#[ignore = "prints how fast each tile is"]
fn speeds() {
    on_gpu!(R, computes, {
        for shape in LARGE.into_iter().filter(|_| computes) {
            for tile in SHAPES.map(|s| Tile::new(s, shape[3])) {
                speed::<R>(shape, [Share::Units(tile); 2], DType::F32);
            }
        }
    });
}

/// The same through wgpu in bf16, by units and by matrix units.
#[test]
#[ignore = "prints how fast each tile is"]
fn speeds_of_matrix_units() {
    for shape in LARGE {
        let memory = shared(&random::<WgpuRuntime>(shape, DType::BF16));
        let fastest = [Use::Forward, Use::Backward]
            .map(|of| Tile::choose(of, shape[3], shape[2], memory).expect("a tile fits"));
        speed::<WgpuRuntime>(shape, fastest.map(Share::Units), DType::BF16);
        let [forward, backward] = [Use::Forward, Use::Backward].map(Planes::shapes);
        for forward in forward {
            for backward in backward {
                let shares = [forward, backward].map(|s| Share::Planes(Planes::new(*s, shape[3])));
                speed::<WgpuRuntime>(shape, shares, DType::BF16);
            }
        }
    }
}

/// Shapes `[B, H, T, hd]` of training.
const LARGE: [[usize; 4]; 4] =
    [[8, 16, 1024, 64], [64, 6, 256, 64], [8, 4, 128, 32], [8, 8, 1024, 128]];

fn random<R: CubeRuntime>(shape: [usize; 4], dtype: DType) -> CubeTensor<R> {
    let how = Distribution::Normal(0.0, 1.0);
    lower(Tensor::<On<R>, 4>::random(shape, how, &Default::default()).cast(dtype))
}

/// Prints the rates of a share of the forward and one of the gradient, of the products that causality
/// leaves.
fn speed<R: CubeRuntime>(shape: [usize; 4], [forward, backward]: [Share; 2], dtype: DType) {
    let of = Attention { causal: true, scale: 0.125, precision: Precision::F32 };
    let random = || random::<R>(shape, dtype);
    let kernels = Kernels::<R>::new([(); 3].map(|()| random()), None, of);
    let [b, h, t, hd] = shape;
    let product = (b * h * t * t * hd) as f64;
    let wait = || On::<R>::sync(&Default::default()).expect("the device answers");
    let time = |name: &str, share: Share, products: f64, run: &dyn Fn()| {
        let stretch = |count: u32| {
            wait();
            let start = Instant::now();
            (0..count).for_each(|_| run());
            wait();
            start.elapsed().as_secs_f64() / f64::from(count)
        };
        let once = stretch(2).max(1e-6);
        let stretches = (0..3).map(|_| stretch((0.05 / once).clamp(2.0, 200.0) as u32));
        let best = stretches.fold(f64::INFINITY, f64::min);
        let rate = products * product / best * 1e-12;
        println!("{shape:?} {share:?} {name}: {rate:.1} TFLOP/s, {:.1} us", best * 1e6);
    };
    let fits = |share: Share, of| share.shared(of) <= shared(&kernels.q);
    if fits(forward, Use::Forward) {
        time("forward", forward, 2.0, &|| drop(kernels.forward_in(forward)));
    }
    if fits(backward, Use::Backward) {
        let [y, log_sum_exp] = crate::all(kernels.forward_in(forward));
        let g = random();
        let of_queries = || kernels.of_queries([&y, &g, &log_sum_exp], backward);
        time("of queries", backward, 3.0, &|| drop(of_queries()));
        let [_, delta, _] = of_queries();
        let of_keys = || kernels.of_keys([g.clone(), log_sum_exp.clone(), delta.clone()], backward);
        time("of keys", backward, 4.0, &|| drop(of_keys()));
    }
}
