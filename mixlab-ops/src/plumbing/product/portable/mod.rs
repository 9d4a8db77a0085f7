//! Matrix products on every GPU, in kernels of CubeCL's language: operands in half precision by the
//! matrix units of the device, if it has them for that type; others by fused multiply-adds in f32.
//! Sums are in f32 either way.
//!
//! Which tile, and into how many parts the depth is split, follows from the shape and the number of
//! multiprocessors alone; parts are summed in order.

mod blocked;
mod lines;
#[cfg(all(test, feature = "cpu", feature = "wgpu"))]
mod tests;
mod tile;
mod units;

use burn::tensor::DType;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

use super::parts::sum_parts;
use crate::plumbing::cube::{contiguous, cubes, empty, narrow, vector_of};
use lines::{LinesLaunch, SizesLaunch};
use tile::{OF_PLANES, TILES, Tile, Work};
use units::Unit;

/// Multiprocessors of a device that doesn't say how many it has, as none does outside of CUDA: with too
/// many a small device adds up more parts than it needs, with too few a large one stands idle.
const PROCESSORS: u32 = 64;

/// `a b` for `a` `[…, N, K]` and `b` `[…, K, M]` of one type, as a tensor of type `output` without
/// gaps.
///
/// # Panics
/// If they have more than three axes.
pub(super) fn product<R: CubeRuntime>([a, b]: [CubeTensor<R>; 2], output: DType) -> CubeTensor<R> {
    let product = Product::new([a, b], output);
    let tiles = if product.unit.is_some() { &OF_PLANES[..] } else { &TILES };
    let (tile, splits) = Tile::choose(tiles, &product.work());
    product.run(tile, splits)
}

/// Whether the device of `x` has matrix units for operands of its type.
pub(super) fn has_matrix_units<R: CubeRuntime>(x: &CubeTensor<R>) -> bool {
    matrix_unit(x).is_some()
}

/// The matrix units that the device of `x` has for operands of its type. Those of Metal, 8 wide, are
/// left out: nobody has seen the kernel run there.
fn matrix_unit<R: CubeRuntime>(x: &CubeTensor<R>) -> Option<Unit> {
    let properties = x.client.properties();
    let width = units::WIDTH as u32;
    let planes = [properties.hardware.plane_size_min, properties.hardware.plane_size_max];
    let (operand, sum) = (x.dtype.into(), DType::F32.into());
    let shapes = properties.features.matmul.cmma.iter();
    shapes
        .filter(|c| [c.a_type, c.b_type, c.cd_type] == [operand, operand, sum])
        .filter(|c| x.dtype != DType::F32 && planes == [width; 2] && c.m == c.n)
        .map(|c| Unit { side: c.m as usize, depth: c.k as usize })
        .find(|unit| (unit.side, unit.depth) == (16, 16))
}

/// A matrix, or several of the same shape, as kernels read it.
struct Operand<R: CubeRuntime> {
    tensor: CubeTensor<R>,
    /// Whether neighbours in memory are neighbours along the depth.
    along: bool,
    /// Lines of a matrix, elements of a line, and from one line and one matrix to the next.
    lines: [usize; 4],
}

impl<R: CubeRuntime> Operand<R> {
    /// `x` `[…, outer, depth]`: as it lies if either axis has neighbours in memory, or copied.
    fn new(x: CubeTensor<R>) -> Self {
        Self::in_place(&x).unwrap_or_else(|| {
            Self::in_place(&contiguous(x)).expect("its last axis has neighbours in memory")
        })
    }

    fn in_place(x: &CubeTensor<R>) -> Option<Self> {
        let (shape, strides) = (x.meta.shape(), x.meta.strides());
        let last = shape.num_dims() - 1;
        let dense = |axis: usize| strides[axis] == 1 || shape[axis] == 1;
        let along = dense(last);
        if !along && !dense(last - 1) {
            return None;
        }
        let (line, other) = if along { (last, last - 1) } else { (last - 1, last) };
        let matrix = if last == 2 && shape[0] > 1 { strides[0] } else { 0 };
        let step = if shape[other] > 1 { strides[other] } else { 0 };
        let lines = [shape[other], shape[line], step, matrix];
        Some(Self { tensor: x.clone(), along, lines })
    }

    /// Elements that a unit can load at once.
    fn vector(&self) -> usize {
        let [_, length, step, matrix] = self.lines;
        let start = self.tensor.handle.offset_start.unwrap_or(0) as usize;
        let elements = start / self.tensor.elem_size();
        // A number that divides them all; the kernel assembles quads.
        let all = [length, step, matrix, elements, 4];
        let power = all.into_iter().map(usize::trailing_zeros).min().unwrap_or(0);
        vector_of(&self.tensor, 1 << power)
    }

    fn launch(&self) -> LinesLaunch<R> {
        let [count, length, step, matrix] = self.lines.map(narrow);
        LinesLaunch::new(count, length, step, matrix)
    }
}

/// Operands as they are read, and the result that is asked for.
struct Product<R: CubeRuntime> {
    a: Operand<R>,
    b: Operand<R>,
    /// Of the result.
    shape: Vec<usize>,
    depth: usize,
    output: DType,
    /// What multiplies, if the device has it.
    unit: Option<Unit>,
}

impl<R: CubeRuntime> Product<R> {
    fn new([a, b]: [CubeTensor<R>; 2], output: DType) -> Self {
        let mut shape = a.meta.shape().to_vec();
        assert!(
            (2..=3).contains(&shape.len()),
            "a product of tensors `{shape:?}`: it takes matrices, and one axis of batches"
        );
        let last = shape.len() - 1;
        let depth = shape[last];
        shape[last] = b.meta.shape()[last];
        let unit = matrix_unit(&a);
        let [a, b] = [a, super::transposed(b)].map(Operand::new);
        Self { a, b, shape, depth, output, unit }
    }

    /// Matrices, and rows and columns of each.
    fn sizes(&self) -> [usize; 3] {
        match self.shape[..] {
            [batch, rows, columns] => [batch, rows, columns],
            _ => [1, self.shape[0], self.shape[1]],
        }
    }

    fn work(&self) -> Work {
        let hardware = &self.a.tensor.client.properties().hardware;
        let processors = hardware.num_streaming_multiprocessors.unwrap_or(PROCESSORS) as usize;
        let [shared, units] =
            [hardware.max_shared_memory_size, hardware.max_units_per_cube as usize];
        Work { sizes: self.sizes(), depth: self.depth, processors, shared, units }
    }

    fn run(&self, tile: Tile, splits: usize) -> CubeTensor<R> {
        let Self { a, shape, output, .. } = self;
        let work = self.work();
        let [batch, rows, columns] = work.sizes;
        let stages = self.depth.div_ceil(tile.stage);
        // No part is empty.
        let part = stages.div_ceil(splits);
        let splits = stages.div_ceil(part);
        let (written, dtype) = match splits {
            1 => (shape.clone(), *output),
            _ => (vec![batch * splits, rows, columns], DType::F32),
        };
        let y = empty(&a.tensor, written, dtype);
        let [down, across] = tile.grid(work.sizes);
        let count = down * across * batch * splits;
        let [rows, columns] = [rows, columns].map(narrow);
        let [down, across, stages, part, parts, number] =
            [down, across, stages, part, splits, count].map(narrow);
        let sizes = SizesLaunch::new(rows, columns, down, across, stages, part, parts, number);
        self.launch(tile, cubes(count), &y, sizes);
        if splits == 1 { y } else { sum_parts(y, splits, shape.clone(), *output) }
    }

    fn launch(&self, tile: Tile, count: CubeCount, y: &CubeTensor<R>, sizes: SizesLaunch<R>) {
        let Self { a, b, .. } = self;
        let (client, types) = (y.client.clone(), [a.tensor.dtype.into(), y.dtype.into()]);
        let read = |x: &Operand<R>| {
            // What is turned on its way is read one by one.
            let turned = tile.quads > 0 && x.along;
            if turned { 1 } else { x.vector() }
        };
        let [va, vb, vy] = [read(a), read(b), vector_of(y, self.sizes()[2]).min(4)];
        let [x, w, y] = [&a.tensor, &b.tensor, y].map(|x| x.clone().into_array_arg());
        let (of_a, of_b) = (a.launch(), b.launch());
        let (a_along, b_along) = (a.along, b.along);
        // SAFETY: the lines are those of the operands, beyond whose ends nothing is read, and the
        // sizes bound what is written.
        unsafe {
            match self.unit.filter(|_| tile.quads == 0) {
                Some(unit) => units::product::launch_unchecked::<R>(
                    &client,
                    count,
                    CubeDim::new_2d(units::WIDTH as u32, units::PLANES as u32),
                    va,
                    vb,
                    vy,
                    x,
                    w,
                    y,
                    of_a,
                    of_b,
                    sizes,
                    tile,
                    unit,
                    a_along,
                    b_along,
                    types,
                ),
                None => blocked::product::launch_unchecked::<R>(
                    &client,
                    count,
                    CubeDim::new_1d(tile.units as u32),
                    va,
                    vb,
                    vy,
                    x,
                    w,
                    y,
                    of_a,
                    of_b,
                    sizes,
                    tile,
                    a_along,
                    b_along,
                    types,
                ),
            }
        }
    }
}
