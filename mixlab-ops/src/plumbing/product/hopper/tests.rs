use std::collections::BTreeSet;

use burn::tensor::{DType, Tensor, TensorData};
use burn_cubecl::{CubeBackend, tensor::CubeTensor};
use cubecl::cuda::CudaRuntime;

use super::tile::{SPLITS, TILES, Tile, Work};
use super::{Product, available, product, sooner_in_planes};
use crate::plumbing::product::{RAGGED, Rows, portable};
use crate::testing::kernels::{compare, step};
use crate::testing::nvrtc::compiles;
use crate::testing::{Host, noise};
use crate::{Precision, lift, lower};

type Gpu = CubeBackend<CudaRuntime, f32, i32, u32>;

#[test]
fn the_shapes_of_the_tests_reach_all_tiles_and_splits() {
    let mut reached = BTreeSet::new();
    for (n, k, m) in RAGGED {
        // The product, and those of its gradient.
        for (sizes, depth) in [([1, n, m], k), ([1, n, k], m), ([1, k, m], n)] {
            for precision in [Precision::Bf16, Precision::Tf32] {
                let work = Work::new(sizes, depth, precision, 132);
                let (tile, splits) = Tile::choose(&work);
                reached.extend([(tile.rows(), tile.columns), (0, splits)]);
            }
        }
    }
    let all = TILES.iter().map(|tile| (tile.rows(), tile.columns));
    assert_eq!(reached, all.chain(SPLITS.map(|splits| (0, splits))).collect());
}

#[test]
fn operands_are_split_where_that_pays() {
    // Training at widths of 1024, 768 and 384, orthogonalization; a narrow model, decoding, vectors.
    let large = [
        (1, [8192, 1024, 2734]),
        (1, [50304, 16384, 768]),
        (1, [16384, 384, 384]),
        (24, [384, 384, 384]),
    ];
    assert!(large.iter().all(|(batch, sizes)| sooner_in_planes(*batch, *sizes)));
    let small = [(1, [1024, 128, 342]), (1, [32, 768, 50304]), (1, [1 << 16, 1, 1 << 16])];
    assert!(small.iter().all(|(batch, sizes)| !sooner_in_planes(*batch, *sizes)));
}

#[test]
fn all_texts_compile() {
    let outputs = [DType::F32, DType::BF16];
    for (tile, output) in TILES.iter().flat_map(|tile| outputs.map(|output| (tile, output))) {
        for across in LAYOUTS {
            compiles(&tile.source(Precision::Bf16, across, output), &["sm_90a"]);
            if tile.columns <= 128 {
                compiles(&tile.source(Precision::F32, across, output), &["sm_90a"]);
            }
        }
        compiles(&tile.source(Precision::Tf32, [false; 2], output), &["sm_90a"]);
    }
}

/// `x` `[B, R, C]` as `[B, C, R]`.
fn transposed(x: &Host) -> Host {
    let [batch, r, c] = x.shape[..] else { panic!("rank 3") };
    let at = |i: usize| i / (r * c) * r * c + i % r * c + i / r % c;
    Host { data: (0..batch * r * c).map(|i| x.data[at(i)]).collect(), shape: vec![batch, c, r] }
}

/// `x` `[B, R, C]` on the card, with neighbours along R next to each other if `across`.
fn on_card(x: &Host, dtype: DType, across: bool) -> CubeTensor<CudaRuntime> {
    let x = if across { &transposed(x) } else { x };
    let data: Vec<f32> = x.data.iter().map(|v| *v as f32).collect();
    let data = TensorData::new(data, x.shape.clone());
    let x = Tensor::<Gpu, 3>::from_data(data, &Default::default()).cast(dtype);
    lower(if across { x.swap_dims(1, 2) } else { x })
}

/// `a b` in f64.
fn naive(a: &Host, b: &Host) -> Vec<f32> {
    let [batch, m, k] = a.shape[..] else { panic!("rank 3") };
    let n = b.shape[2];
    let mut c = vec![0.0f64; batch * m * n];
    for (row, (a, c)) in a.data.chunks(k).zip(c.chunks_mut(n)).enumerate() {
        let b = &b.data[row / m * k * n..][..k * n];
        for (a, b) in a.iter().zip(b.chunks(n)) {
            c.iter_mut().zip(b).for_each(|(c, b)| *c += a * b);
        }
    }
    c.into_iter().map(|v| v as f32).collect()
}

/// Which of the two operands lie across.
const LAYOUTS: [[bool; 2]; 4] = [[false; 2], [false, true], [true, false], [true; 2]];

/// What a tile and a number of splits may differ in, besides.
fn variants() -> impl Iterator<Item = ([bool; 2], DType, Rows)> {
    let outputs = [DType::F32, DType::BF16, DType::F16];
    let rows = [Rows::Dense, Rows::Aligned];
    LAYOUTS.into_iter().flat_map(move |across| {
        outputs.into_iter().flat_map(move |output| rows.map(|rows| (across, output, rows)))
    })
}

#[test]
#[ignore = "needs an H100 or H200"]
fn every_tile_split_layout_and_output_gives_the_product() {
    let mut layouts = BTreeSet::new();
    let precisions = [(Precision::Bf16, 1e-4f32), (Precision::Tf32, 2e-3), (Precision::F32, 2e-6)];
    for (precision, tolerance) in precisions {
        // Rows of whole copies of 16 bytes, and not.
        for (m, k, n) in [(136, 1104, 264), (130, 1101, 261)] {
            let [a, b] = [noise(&[2, m, k], 1), noise(&[2, k, n], 2)]
                .map(|x| x.rounded(precision.operand()));
            let expected = vec![naive(&a, &b)];
            for (across, output, rows) in variants() {
                let [a, b] = [(&a, across[0]), (&b, across[1])]
                    .map(|(x, across)| on_card(x, precision.operand(), across));
                assert!(available(&a), "this card is no Hopper");
                let product = Product::new([a, b], precision, output, rows);
                layouts.insert([product.a.across, product.b.across]);
                let within = (output, tolerance.max(step(output)));
                in_all_tiles(&product, within, &expected);
            }
        }
    }
    assert_eq!(layouts, BTreeSet::from(LAYOUTS));
}

/// Compares `product` in every tile and number of parts with what is expected.
fn in_all_tiles(product: &Product<CudaRuntime>, within: (DType, f32), expected: &[Vec<f32>]) {
    let fitting = TILES.iter().filter(|tile| tile.fits(&product.work()));
    for (tile, splits) in fitting.flat_map(|tile| SPLITS.map(|splits| (tile, splits))) {
        let c = lift::<Gpu, 3>(product.run(tile, splits));
        assert_eq!(c.dtype(), within.0);
        let c = c.cast(DType::F32).into_data().to_vec().expect("cast to f32");
        let name = format!("{}x{} / {splits}", tile.rows(), tile.columns);
        compare(&name, within, &[c], expected);
    }
}

/// Largest difference of `got` from `expected`, in parts of the largest.
fn error(got: CubeTensor<CudaRuntime>, expected: &[f32]) -> f32 {
    let got: Vec<f32> = lift::<Gpu, 3>(got).into_data().to_vec().expect("f32");
    let largest = expected.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    got.iter().zip(expected).fold(0.0f32, |m, (g, e)| m.max((g - e).abs())) / largest
}

#[test]
#[ignore = "needs an H100 or H200"]
fn products_in_f32_are_exact_to_a_millionth_at_any_depth() {
    for (name, shift) in [("of both signs", 0.0), ("positive", 1.0)] {
        for k in [64, 1024, 8192] {
            let [a, b] = [noise(&[1, 160, k], 1), noise(&[1, k, 160], 2)].map(|mut x| {
                x.data.iter_mut().for_each(|v| *v = f64::from((*v + shift) as f32));
                x
            });
            let expected = naive(&a, &b);
            let [a, b] = [&a, &b].map(|x| on_card(x, DType::F32, false));
            let plain = error(portable::product([a.clone(), b.clone()], DType::F32), &expected);
            let planes = error(product([a, b], Precision::F32, DType::F32, Rows::Dense), &expected);
            println!("{name}, depth {k}: {planes:.1e}, by fused multiply-adds {plain:.1e}");
            assert!(planes <= 1e-6, "{name}, depth {k}");
        }
    }
}
