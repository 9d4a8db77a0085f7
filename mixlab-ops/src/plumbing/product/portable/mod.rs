//! Matrix products on every GPU, in kernels of CubeCL's language: operands in half precision by the
//! matrix units of the device, if it has them for that type; others by fused multiply-adds in f32.
//! Sums are in f32 either way.
//!
//! Which tile, and into how many parts the depth is split, follows from the shape and the number of
//! multiprocessors alone; parts are summed in order.

mod blocked;
mod lines;
mod packs;
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
use packs::Packing;
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
    let (tile, splits) = Tile::choose(product.tiles(), &product.work());
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

    /// The largest power of two that divides where lines start and end, in elements.
    fn aligned(&self) -> usize {
        let [_, length, step, matrix] = self.lines;
        let start = self.tensor.handle.offset_start.unwrap_or(0) as usize;
        let elements = start / self.tensor.elem_size();
        let all = [length, step, matrix, elements, 16];
        1 << all.into_iter().map(usize::trailing_zeros).min().unwrap_or(0)
    }

    /// Elements that a unit can load at once; the kernel assembles quads.
    fn vector(&self) -> usize {
        vector_of(&self.tensor, self.aligned().min(4))
    }

    /// As [`vector`](Self::vector), where elements have some halves and the kernel assembles packs.
    fn packed(&self, packing: Packing) -> usize {
        (self.aligned() / packing.halves).min(packing.elements)
    }

    /// With elements of so many halves.
    fn launch(&self, halves: usize) -> LinesLaunch<R> {
        let [count, length, step, matrix] = self.lines;
        let [length, step, matrix] = [length, step, matrix].map(|n| n / halves);
        let [count, length, step, matrix] = [count, length, step, matrix].map(narrow);
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
    /// Whether matrix units can read halves as numbers of 32 bits.
    pairs: bool,
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
        let pairs = R::name(&a.client) == "wgpu<spirv>";
        let [a, b] = [a, super::transposed(b)].map(Operand::new);
        Self { a, b, shape, depth, output, unit, pairs }
    }

    /// Matrices, and rows and columns of each.
    fn sizes(&self) -> [usize; 3] {
        match self.shape[..] {
            [batch, rows, columns] => [batch, rows, columns],
            _ => [1, self.shape[0], self.shape[1]],
        }
    }

    fn tiles(&self) -> &'static [Tile] {
        if self.unit.is_some() { &OF_PLANES } else { &TILES }
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

    /// How matrix units read the operands: 16 bytes at once where rows start at whole numbers of 32
    /// bits. Vulkan has no vectors of eight halves, and CUDA and Metal read halves as nothing else.
    fn packing(&self) -> Packing {
        let Self { a, b, .. } = self;
        if self.pairs && a.aligned().min(b.aligned()) > 1 {
            return Packing { halves: 2, elements: 4 };
        }
        Packing { halves: 1, elements: vector_of(&a.tensor, 8) }
    }

    fn launch(&self, tile: Tile, count: CubeCount, y: &CubeTensor<R>, sizes: SizesLaunch<R>) {
        match self.unit.filter(|_| tile.quads == 0) {
            Some(unit) => self.launch_planes(tile, unit, count, y, sizes),
            None => self.launch_units(tile, count, y, sizes),
        }
    }

    fn launch_planes(
        &self,
        tile: Tile,
        unit: Unit,
        count: CubeCount,
        y: &CubeTensor<R>,
        sizes: SizesLaunch<R>,
    ) {
        let Self { a, b, .. } = self;
        let (packing, operand) = (self.packing(), a.tensor.dtype.into());
        let element = if packing.halves == 2 { DType::U32.into() } else { operand };
        let [down, across] = tile.planes;
        let planes = narrow(down * across);
        let size = vector_of(y, self.sizes()[2]).min(4);
        // SAFETY: the lines are those of the operands, beyond whose ends nothing is read, and the
        // sizes bound what is written.
        unsafe {
            units::product::launch_unchecked::<R>(
                &y.client,
                count,
                CubeDim::new_2d(units::WIDTH as u32, planes),
                packing.elements,
                a.packed(packing),
                b.packed(packing),
                size,
                a.tensor.clone().into_array_arg(),
                b.tensor.clone().into_array_arg(),
                y.clone().into_array_arg(),
                a.launch(packing.halves),
                b.launch(packing.halves),
                sizes,
                tile,
                unit,
                packing,
                [a.along, b.along],
                [element, operand, y.dtype.into()],
            );
        }
    }

    fn launch_units(&self, tile: Tile, count: CubeCount, y: &CubeTensor<R>, sizes: SizesLaunch<R>) {
        let Self { a, b, .. } = self;
        // What is turned on its way is read one by one.
        let read = |x: &Operand<R>| if x.along { 1 } else { x.vector() };
        let size = vector_of(y, self.sizes()[2]).min(4);
        // SAFETY: as above.
        unsafe {
            blocked::product::launch_unchecked::<R>(
                &y.client,
                count,
                CubeDim::new_1d(tile.units as u32),
                read(a),
                read(b),
                size,
                a.tensor.clone().into_array_arg(),
                b.tensor.clone().into_array_arg(),
                y.clone().into_array_arg(),
                a.launch(1),
                b.launch(1),
                sizes,
                tile,
                a.along,
                b.along,
                [a.tensor.dtype.into(), y.dtype.into()],
            );
        }
    }
}
