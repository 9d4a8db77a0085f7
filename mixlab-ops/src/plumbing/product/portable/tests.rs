use std::collections::BTreeSet;
use std::time::Instant;

use burn::tensor::backend::Backend;
use burn::tensor::{DType, Distribution, Tensor, TensorData};
use burn_cubecl::{CubeBackend, CubeRuntime, tensor::CubeTensor};
use cubecl::wgpu::WgpuRuntime;

use super::Product;
use super::tile::{OF_PLANES, SPLITS, TILES, Tile, Work};
use crate::plumbing::product::RAGGED;
use crate::testing::kernels::{
    TextDevice, TextRuntime, compare, on_gpu, runs_kernels, step, translated,
};
use crate::testing::{Host, noise};
use crate::{lift, lower};

type Gpu<R> = CubeBackend<R, f32, i32, u32>;

/// Which of the two operands lie along the depth.
const LAYOUTS: [[bool; 2]; 4] = [[false; 2], [false, true], [true, false], [true; 2]];

#[test]
fn the_shapes_of_the_tests_reach_all_tiles_and_splits() {
    let mut reached = BTreeSet::new();
    let large = [
        (4096, 512, 4096),
        (1024, 1024, 2734),
        (64, 1024, 2734),
        (512, 512, 512),
        (2734, 256, 1000),
    ];
    for (n, k, m) in RAGGED.into_iter().chain(large) {
        for shared in [64 << 10, 32 << 10] {
            let work = Work { sizes: [1, n, m], depth: k, processors: 132, shared, units: 1024 };
            let (tile, splits) = Tile::choose(&TILES, &work);
            reached.extend([(tile.rows, tile.columns, tile.stage), (0, 0, splits)]);
        }
    }
    let all = TILES.iter().map(|tile| (tile.rows, tile.columns, tile.stage));
    assert_eq!(reached, all.chain(SPLITS.map(|splits| (0, 0, splits))).collect());
}

/// `x` `[B, R, C]` as `[B, C, R]`.
fn transposed(x: &Host) -> Host {
    let [batch, r, c] = x.shape[..] else { panic!("rank 3") };
    let at = |i: usize| i / (r * c) * r * c + i % r * c + i / r % c;
    Host { data: (0..batch * r * c).map(|i| x.data[at(i)]).collect(), shape: vec![batch, c, r] }
}

/// `x` `[B, R, C]` on the device, with neighbours along `C` next to each other if `along`.
fn on_device<R: CubeRuntime>(
    x: &Host,
    dtype: DType,
    along: bool,
    device: &R::Device,
) -> CubeTensor<R> {
    let x = if along { x } else { &transposed(x) };
    let data: Vec<f32> = x.data.iter().map(|v| *v as f32).collect();
    let data = TensorData::new(data, x.shape.clone());
    let x = Tensor::<Gpu<R>, 3>::from_data(data, device).cast(dtype);
    lower(if along { x } else { x.swap_dims(1, 2) })
}

/// `a b` in f64.
fn naive(a: &Host, b: &Host) -> Vec<f32> {
    let [_, m, k] = a.shape[..] else { panic!("rank 3") };
    let n = b.shape[2];
    let cell = |i: usize| {
        let (row, column) = (i / n, i % n);
        let b = &b.data[row / m * k * n..];
        (0..k).map(|at| a.data[row * k + at] * b[at * n + column]).sum::<f64>() as f32
    };
    (0..a.shape[0] * m * n).map(cell).collect()
}

/// How a product is computed, and where.
struct How<D> {
    /// Type of the operands, and of the result.
    types: [DType; 2],
    splits: usize,
    /// Whether matrix units read halves in pairs; or as the device has it.
    pairs: Option<bool>,
    device: D,
}

impl<D: Default> How<D> {
    fn new(types: [DType; 2], splits: usize) -> Self {
        Self { types, splits, pairs: None, device: D::default() }
    }
}

/// The product of `a` and `b` in every layout, compared with `expected`.
fn in_all_layouts<R: CubeRuntime>(
    [a, b]: [&Host; 2],
    tile: Tile,
    how: &How<R::Device>,
    expected: &[Vec<f32>],
) {
    let ([held, output], splits) = (how.types, how.splits);
    for along in LAYOUTS {
        // Of `b` `[K, M]` neighbours along the depth are those in a column.
        let [a, b] = [(a, along[0]), (b, !along[1])]
            .map(|(x, last)| on_device::<R>(x, held, last, &how.device));
        let mut product = Product::new([a, b], output);
        product.pairs = how.pairs.unwrap_or(product.pairs);
        if !tile.fits(&product.work()) {
            continue;
        }
        assert_eq!([product.a.along, product.b.along], along);
        assert!(tile.quads > 0 || product.unit.is_some(), "no matrix units for {held:?}");
        let y = lift::<Gpu<R>, 3>(product.run(tile, splits));
        assert_eq!(y.dtype(), output);
        let y = y.cast(DType::F32).into_data().to_vec().expect("cast to f32");
        let name = format!("{tile:?} / {splits}, {along:?}, pairs {:?}", how.pairs);
        if !expected.is_empty() {
            compare(&name, (output, step(output).max(1e-5)), &[y], expected);
        }
    }
}

#[test]
fn every_tile_split_and_layout_gives_the_product() {
    // Rows of whole quads, of pairs, and of neither.
    let shapes =
        [((132, 68, 140), &TILES[..]), ((130, 90, 66), &TILES[3..4]), ((65, 77, 33), &TILES[3..])];
    on_gpu!(R, computes, {
        for ((n, k, m), tiles) in shapes {
            let [a, b] = [noise(&[2, n, k], 1), noise(&[2, k, m], 2)];
            let expected = computes.then(|| naive(&a, &b));
            for tile in tiles {
                for splits in [1, 3] {
                    let how = How::new([DType::F32; 2], splits);
                    in_all_layouts::<R>([&a, &b], *tile, &how, expected.as_slice());
                }
            }
        }
    });
}

/// Rows of whole quads, of pairs, and of neither.
const SHAPES: [[usize; 3]; 3] = [[132, 68, 140], [130, 90, 66], [65, 77, 33]];

/// Compares a product by matrix units with the one in f64.
fn by_matrix_units<R: CubeRuntime>([n, k, m]: [usize; 3], tile: Tile, how: &How<R::Device>) {
    let [a, b] = [noise(&[2, n, k], 1), noise(&[2, k, m], 2)].map(|x| x.rounded(how.types[0]));
    in_all_layouts::<R>([&a, &b], tile, how, &[naive(&a, &b)]);
}

#[test]
fn matrix_units_of_a_text_give_the_product() {
    if !runs_kernels() {
        return;
    }
    let (single, half) = (DType::F32, DType::BF16);
    let device = TextDevice::Runs;
    for (shape, tile, types, splits, pairs) in [
        (SHAPES[0], 0, [half; 2], 1, true),
        (SHAPES[0], 4, [DType::F16, single], 3, false),
        (SHAPES[1], 5, [half, single], 1, true),
        (SHAPES[2], 5, [DType::F16; 2], 1, false),
    ] {
        let how = How { types, splits, pairs: Some(pairs), device: device.clone() };
        by_matrix_units::<TextRuntime>(shape, OF_PLANES[tile], &how);
    }
    translated();
}

#[test]
#[ignore = "needs a GPU with matrix units"]
fn matrix_units_give_the_product() {
    for shape in SHAPES {
        for held in [DType::F16, DType::BF16] {
            for tile in OF_PLANES {
                for (splits, output) in [(1, DType::F32), (1, held), (3, DType::F32)] {
                    let how = How::new([held, output], splits);
                    by_matrix_units::<WgpuRuntime>(shape, tile, &how);
                }
            }
        }
    }
}

/// Shapes `[batch, n, k, m]` of training.
const LARGE: [[usize; 4]; 10] = [
    [1, 4096, 4096, 4096],
    [1, 8192, 1024, 1024],
    [1, 8192, 1024, 2734],
    [1, 16384, 384, 384],
    [1, 16384, 384, 1536],
    [1, 1024, 128, 1024],
    [1, 1024, 128, 342],
    [8, 1024, 1024, 1024],
    [24, 384, 384, 384],
    [9, 128, 128, 128],
];

/// What `cost` and the speeds of tiles are measured with.
#[test]
#[ignore = "prints how fast each tile is"]
fn speeds() {
    on_gpu!(R, computes, {
        for shape in LARGE.into_iter().filter(|_| computes) {
            // The product, and those of its gradient.
            let ([batch, n, k, m], types) = (shape, [DType::F32; 2]);
            speed::<R>("NN", [batch, n, k, m], [true, false], types);
            speed::<R>("NT", [batch, n, m, k], [true, true], types);
            speed::<R>("TN", [batch, k, n, m], [false, false], types);
        }
    });
}

/// The same of matrix units, in bf16, through wgpu.
#[test]
#[ignore = "prints how fast each tile is"]
fn speeds_of_matrix_units() {
    for shape in LARGE {
        let [batch, n, k, m] = shape;
        let types = [DType::BF16; 2];
        speed::<WgpuRuntime>("NN", [batch, n, k, m], [true, false], types);
        speed::<WgpuRuntime>("NT", [batch, n, m, k], [true, true], types);
        speed::<WgpuRuntime>("TN", [batch, k, n, m], [false, false], types);
    }
}

/// Prints the rate of each tile and number of parts for `[batch, n, k] · [batch, k, m]`.
fn speed<R: CubeRuntime>(
    name: &str,
    [batch, n, k, m]: [usize; 4],
    along: [bool; 2],
    [held, output]: [DType; 2],
) {
    let tensor = |outer: usize, depth: usize, along: bool| {
        let shape = if along { [batch, outer, depth] } else { [batch, depth, outer] };
        let how = Distribution::Normal(0.0, 1.0);
        let x = Tensor::<Gpu<R>, 3>::random(shape, how, &Default::default()).cast(held);
        if along { x } else { x.swap_dims(1, 2) }
    };
    let a = lower(tensor(n, k, along[0]));
    let b = lower(tensor(m, k, along[1]).swap_dims(1, 2));
    let product = Product::new([a, b], output);
    let tiles = product.tiles();
    let chosen = Tile::choose(tiles, &product.work());
    let wait = || <Gpu<R> as Backend>::sync(&Default::default()).expect("the device answers");
    for tile in tiles.iter().copied().filter(|tile| tile.fits(&product.work())) {
        for splits in SPLITS {
            if (tile, splits) != chosen && splits > 1 && k < 8 * splits * tile.stage {
                continue;
            }
            let run = |count: u32| {
                wait();
                let start = Instant::now();
                (0..count).for_each(|_| drop(product.run(tile, splits)));
                wait();
                start.elapsed().as_secs_f64() / f64::from(count)
            };
            let once = run(2).max(1e-6);
            let best = (0..3).map(|_| run((0.02 / once).clamp(2.0, 200.0) as u32));
            let best = best.fold(f64::INFINITY, f64::min);
            let rate = 2e-12 * (batch * n * k * m) as f64 / best;
            let mark = if (tile, splits) == chosen { " chosen" } else { "" };
            let Tile { rows, columns, planes: [down, across], stage, .. } = tile;
            println!(
                "{name} {batch}x[{n},{k}]x[{k},{m}] {rows}x{columns}x{stage} of {down}x{across} / \
                 {splits}: {rate:.1} TFLOP/s, {:.1} us{mark}",
                best * 1e6
            );
        }
    }
}
