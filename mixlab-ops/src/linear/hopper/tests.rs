use std::collections::BTreeSet;

use burn::tensor::{DType, Tensor, TensorData};
use burn_cubecl::{CubeBackend, tensor::CubeTensor};
use cubecl::cuda::CudaRuntime;

use super::super::kernel::Rows;
use super::super::tests::RAGGED;
use super::tile::{SPLITS, TILES, Tile, Work};
use super::{Product, available};
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
            for stage in [32, 64] {
                let work = Work { sizes, stages: depth.div_ceil(stage), blocks: 132 };
                let (tile, splits) = Tile::choose(&work);
                reached.extend([(tile.rows(), tile.columns), (0, splits)]);
            }
        }
    }
    let all = TILES.iter().map(|tile| (tile.rows(), tile.columns));
    assert_eq!(reached, all.chain(SPLITS.map(|splits| (0, splits))).collect());
}

#[test]
fn all_texts_compile() {
    let outputs = [DType::F32, DType::BF16];
    for (tile, output) in TILES.iter().flat_map(|tile| outputs.map(|output| (tile, output))) {
        for across in LAYOUTS {
            compiles(&tile.source(Precision::Bf16, across, output), &["sm_90a"]);
        }
        compiles(&tile.source(Precision::Tf32, [false; 2], output), &["sm_90a"]);
    }
}

/// `x` `[B, R, C]` on the card, with neighbours along R next to each other if `across`.
fn on_card(x: &Host, dtype: DType, across: bool) -> CubeTensor<CudaRuntime> {
    let data: Vec<f32> = x.data.iter().map(|v| *v as f32).collect();
    let data = TensorData::new(data, x.shape.clone());
    let x = Tensor::<Gpu, 3>::from_data(data, &Default::default()).cast(dtype);
    lower(if across { x.swap_dims(1, 2).mul_scalar(1.0).swap_dims(1, 2) } else { x })
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
    for (precision, tolerance) in [(Precision::Bf16, 1e-4f32), (Precision::Tf32, 2e-3)] {
        let (batch, m, k, n) = (2, 130, 1101, 261);
        let operand = precision.operand();
        let [a, b] =
            [noise(&[batch, m, k], 1), noise(&[batch, k, n], 2)].map(|x| x.rounded(operand));
        let expected = vec![naive(&a, &b)];
        for (across, output, rows) in variants() {
            let [a, b] = [(&a, across[0]), (&b, across[1])].map(|(x, y)| on_card(x, operand, y));
            assert!(available(&a, precision), "this card is no Hopper");
            for (tile, splits) in TILES.iter().flat_map(|tile| SPLITS.map(|splits| (tile, splits)))
            {
                let product = Product::new([a.clone(), b.clone()], precision, output, rows);
                let c = lift::<Gpu, 3>(product.run(tile, splits));
                assert_eq!((c.dtype(), c.dims()), (output, [batch, m, n]));
                let c = c.cast(DType::F32).into_data().to_vec().expect("cast to f32");
                let name = format!("{}x{} / {splits}", tile.rows(), tile.columns);
                compare(&name, (output, tolerance.max(step(output))), &[c], &expected);
            }
        }
    }
}
