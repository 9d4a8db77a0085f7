//! Matrix products on Hopper: warpgroup instructions fed by the bulk copy engine.
//!
//! CubeCL writes neither, so the kernel is CUDA C++ (`hopper.cu`), one text for all formats, layouts
//! and tile sizes. Which tile, and into how many parts K is split, follows from the shape and the
//! number of multiprocessors alone.

mod operand;
mod planes;
#[cfg(all(test, feature = "cpu"))]
mod tests;
mod tile;

use burn::tensor::DType;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};

use super::parts::sum_parts;
use super::{Precision, Rows};
use crate::plumbing::cube::empty;
use crate::plumbing::cuda::{Arguments, capability, launch};
use operand::Operand;
use planes::PLANES;
use tile::{Tile, Work};

/// Whether [`product`] runs on the device of `x` in half precision and TF32.
pub(super) fn available<R: CubeRuntime>(x: &CubeTensor<R>) -> bool {
    capability(x) == (9, 0)
}

/// Whether [`product`] is the one to multiply `a` `[…, N, K]` and `b` `[…, K, M]` of the type that
/// `precision` multiplies.
pub(super) fn takes<R: CubeRuntime>([a, b]: [&CubeTensor<R>; 2], precision: Precision) -> bool {
    let rank = a.meta.shape().num_dims();
    let batch = if rank == 3 { a.meta.shape()[0] } else { 1 };
    let sizes = [a.meta.shape()[rank - 2], a.meta.shape()[rank - 1], b.meta.shape()[rank - 1]];
    available(a) && (precision != Precision::F32 || sooner_in_planes(batch, sizes))
}

/// Whether `batch` products `[n, k] · [k, m]` in f32 are done sooner by planes of the operands than by
/// fused multiply-adds. (Rates as measured on an H100.)
fn sooner_in_planes(batch: usize, [n, k, m]: [usize; 3]) -> bool {
    /// Multiply-adds a second.
    const FUSED: f64 = 18e12;
    const BY_PLANES: f64 = 50e12;
    /// Elements that are split in a second, and seconds that the launches take.
    const SPLIT: f64 = 2.5e11;
    const LAUNCHES: f64 = 6e-6;
    let count = |sizes: [usize; 3]| sizes.iter().fold(batch as f64, |all, n| all * *n as f64);
    // The planes of an operand with the gaps between their rows, whichever these are.
    let held = |rows: usize, width: usize| {
        let gaps = |n: usize| n.next_multiple_of(8);
        count([PLANES, rows, gaps(width)]).max(count([PLANES, gaps(rows), width]))
    };
    let whole = count([n.next_multiple_of(64), k.next_multiple_of(64), m.next_multiple_of(64)]);
    held(n, k).max(held(k, m)) < u32::MAX.into()
        && count([n, k, m]) / FUSED
            > whole / BY_PLANES + (count([n, k, 1]) + count([k, m, 1])) / SPLIT + LAUNCHES
}

/// `a b` for `a` `[…, N, K]` and `b` `[…, K, M]` of the type that `precision` multiplies, as a tensor
/// of type `output`.
///
/// # Panics
/// If they have more than three axes.
pub(super) fn product<R: CubeRuntime>(
    [a, b]: [CubeTensor<R>; 2],
    precision: Precision,
    output: DType,
    rows: Rows,
) -> CubeTensor<R> {
    let product = Product::new([a, b], precision, output, rows);
    let (tile, splits) = Tile::choose(&product.work());
    product.run(tile, splits)
}

/// Operands as they are read, and the result that is asked for.
struct Product<R: CubeRuntime> {
    a: Operand<R>,
    b: Operand<R>,
    /// Of the result.
    shape: Vec<usize>,
    precision: Precision,
    output: DType,
    rows: Rows,
}

impl<R: CubeRuntime> Product<R> {
    fn new([a, b]: [CubeTensor<R>; 2], precision: Precision, output: DType, rows: Rows) -> Self {
        let mut shape = a.meta.shape().to_vec();
        assert!(shape.len() <= 3, "a product of tensors `{shape:?}`: it takes one axis of batches");
        *shape.last_mut().expect("matrices") = b.meta.shape()[shape.len() - 1];
        let b = super::transposed(b);
        let [a, b] = [a, b].map(|x| Operand::new(x, precision));
        Self { a, b, shape, precision, output, rows }
    }

    fn work(&self) -> Work {
        let Self { a, b, precision, .. } = self;
        let hardware = &a.tensor.client.properties().hardware;
        let blocks = hardware.num_streaming_multiprocessors.unwrap_or(1) as usize;
        Work::new([a.batch, a.outer, b.outer], a.depth, *precision, blocks)
    }

    fn run(&self, tile: &Tile, splits: usize) -> CubeTensor<R> {
        let Self { a, b, output, precision, .. } = self;
        let work = self.work();
        let [batch, m, n] = work.sizes;
        // The kernel writes these two types; what it does not write itself is summed in f32, from
        // one part too.
        let direct = splits == 1 && matches!(output, DType::F32 | DType::BF16);
        let written = if direct { *output } else { DType::F32 };
        let row = match self.rows {
            Rows::Dense => n,
            Rows::Aligned => n.next_multiple_of(16 / output.size()),
        };
        let mut full = self.shape.clone();
        *full.last_mut().expect("matrices") = row;
        let parts = if direct { full.clone() } else { vec![batch * splits, m, row] };
        let c = empty(&a.tensor, parts, written);
        let pair = |low: usize, high: usize| low as u64 | (high as u64) << 32;
        let depth = pair(work.stages, splits);
        let numbers = vec![pair(m, n), pair(row, batch), depth, (m * row) as u64];
        let maps = vec![a.map(*precision, tile.rows()), b.map(*precision, tile.columns)];
        let source = tile.source(*precision, [a.across, b.across], written);
        let blocks = (tile.count(work.sizes) * splits).min(work.blocks);
        let client = c.client.clone();
        let arguments = Arguments { maps, buffers: vec![c.clone()], numbers };
        // SAFETY: the maps bound what is read, and the sizes what is written.
        unsafe { launch(&client, source, (blocks, 1, 1), arguments) };
        let mut c = if direct { c } else { sum_parts(c, splits, full, *output) };
        // What lies between its rows is no part of it.
        c.meta.shape = self.shape.clone().into();
        c
    }
}
