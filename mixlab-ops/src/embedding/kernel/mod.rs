//! Kernels: rows by their numbers, and the sum of the gradients of each row.
//!
//! For the sums tokens are [sorted](sort) by id. The tokens of one id are then neighbours, and
//! each chunk of the order is summed by itself, in order; what an id has in several chunks is added
//! up afterwards, chunk by chunk. So the sums are the same in every run, and an id that every token
//! has is not one unit's work.

mod sort;

use burn::tensor::DType;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

use crate::plumbing::cube::{contiguous, cubes, empty, narrow, spread, vector_size};
use crate::plumbing::indices::known;
use sort::{Sorted, sorted};

const UNITS: usize = 256;
/// Tokens that are summed one after the other.
const CHUNK: usize = 64;

/// Row `ids[n]` of the table for each `n`, zeros where there is none.
#[cube(launch_unchecked)]
fn gather<F: Float, I: Int, N: Size>(
    table: &Array<Vector<F, N>>,
    ids: &Array<I>,
    y: &mut Array<Vector<F, N>>,
    classes: u32,
    columns: u32,
    #[define(F, I)] _dtypes: [StorageType; 2],
) {
    if ABSOLUTE_POS < y.len() {
        let (classes, columns) = (classes as usize, columns as usize);
        let id = known::<I>(ids[ABSOLUTE_POS / columns], classes);
        let mut row = Vector::<F, N>::new(F::new(0.0));
        if id < classes {
            row = table[id * columns + ABSOLUTE_POS % columns];
        }
        y[ABSOLUTE_POS] = row;
    }
}

#[cube(launch_unchecked)]
fn clear<F: Float>(x: &mut Array<F>, #[define(F)] _dtype: StorageType) {
    if ABSOLUTE_POS < x.len() {
        x[ABSOLUTE_POS] = F::new(0.0);
    }
}

/// The chunk and the column of a unit, of which `blocks` cubes have the columns of a chunk.
#[cube]
fn place(blocks: usize) -> (usize, usize) {
    (CUBE_POS / blocks, CUBE_POS % blocks * UNITS.comptime() + UNIT_POS as usize)
}

/// The sums of a chunk. An id that has tokens in no other chunk is done; of one that goes on from
/// the chunk before, the sum goes to the first row of the chunk's `parts`; of one that starts here
/// and goes on in the next chunk, to the second.
#[cube(launch_unchecked)]
fn sum_chunks<F: Float, G: Float>(
    ids: &Array<u32>,
    order: &Array<u32>,
    grad: &Array<G>,
    table: &mut Array<F>,
    parts: &mut Array<f32>,
    classes: u32,
    width: u32,
    blocks: u32,
    #[define(F, G)] _dtypes: [StorageType; 2],
) {
    let (classes, width, count) = (classes as usize, width as usize, ids.len());
    let (chunk, column) = place(blocks as usize);
    let first = chunk * CHUNK.comptime();
    if first < count && column < width {
        let end = min(first + CHUNK.comptime(), count);
        let before = max(first, 1) - 1;
        let mut id = ids[first];
        let mut goes_on = first > 0 && ids[before] == id;
        let mut sum = 0.0f32;
        for at in first..end {
            let next = ids[at];
            if next != id {
                if goes_on {
                    parts[2 * chunk * width + column] = sum;
                } else {
                    // Ids are in order: this is none of those past the last class.
                    table[id as usize * width + column] = F::cast_from(sum);
                }
                goes_on = false.runtime();
                sum = 0.0f32;
                id = next;
            }
            sum += f32::cast_from(grad[order[at] as usize * width + column]);
        }
        if goes_on {
            parts[2 * chunk * width + column] = sum;
        } else if end < count && ids[min(end, count - 1)] == id {
            parts[(2 * chunk + 1) * width + column] = sum;
        } else if (id as usize) < classes {
            table[id as usize * width + column] = F::cast_from(sum);
        }
    }
}

/// Adds up the parts of the ids that have tokens in several chunks: where such an id starts.
#[cube(launch_unchecked)]
fn join_chunks<F: Float>(
    ids: &Array<u32>,
    parts: &Array<f32>,
    table: &mut Array<F>,
    classes: u32,
    width: u32,
    blocks: u32,
    #[define(F)] _dtype: StorageType,
) {
    let (classes, width, count) = (classes as usize, width as usize, ids.len());
    let (chunk, column) = place(blocks as usize);
    let first = chunk * CHUNK.comptime();
    let end = first + CHUNK.comptime();
    if end < count && column < width {
        let before = max(first, 1) - 1;
        let id = ids[end - 1];
        let starts = first == 0 || ids[before] != id;
        if starts && ids[end] == id && (id as usize) < classes {
            let mut sum = parts[(2 * chunk + 1) * width + column];
            let mut at = end;
            while at < count {
                if ids[at] == id {
                    sum += parts[2 * (at / CHUNK.comptime()) * width + column];
                    at += CHUNK.comptime();
                } else {
                    at = count;
                }
            }
            table[id as usize * width + column] = F::cast_from(sum);
        }
    }
}

/// The rows of `table` that `ids` number.
pub(super) fn rows<R: CubeRuntime>(table: CubeTensor<R>, ids: CubeTensor<R>) -> CubeTensor<R> {
    let (table, ids) = (contiguous(table), contiguous(ids));
    let [classes, width] = table.meta.shape().dims();
    let y = empty(&table, [ids.meta.num_elements(), width], table.dtype);
    let size = vector_size(&table);
    let (count, cube) = spread(y.meta.num_elements() / size, UNITS as u32);
    let (client, types) = (table.client.clone(), [table.dtype.into(), ids.dtype.into()]);
    // SAFETY: a unit for each vector of `y`, which has a row for each id; ids that number no row of
    // the table read nothing.
    unsafe {
        gather::launch_unchecked::<R>(
            &client,
            count,
            cube,
            size,
            table.into_array_arg(),
            ids.into_array_arg(),
            y.clone().into_array_arg(),
            narrow(classes),
            narrow(width / size),
            types,
        );
    }
    y
}

/// The sums of the rows of `grad` by their id, as a tensor like `table`.
pub(super) fn gradient<R: CubeRuntime>(
    table: CubeTensor<R>,
    grad: CubeTensor<R>,
    ids: CubeTensor<R>,
) -> CubeTensor<R> {
    let out = empty(&table, table.meta.shape().clone(), table.dtype);
    let grad = contiguous(grad);
    let [classes, width] = out.meta.shape().dims();
    let Sorted { ids, order } = sorted(contiguous(ids), classes);
    let chunks = ids.meta.num_elements().div_ceil(CHUNK);
    let parts = empty(&out, [2 * chunks, width], DType::F32);
    let (all, unit) = spread(out.meta.num_elements(), UNITS as u32);
    let blocks = width.div_ceil(UNITS);
    let (client, types) = (out.client.clone(), [out.dtype.into(), grad.dtype.into()]);
    let sizes = [classes, width, blocks].map(narrow);
    // SAFETY: units past the last chunk or column do nothing; sorted ids number rows of the table or
    // are as many as it has, and those are not written.
    unsafe {
        clear::launch_unchecked::<R>(
            &client,
            all,
            unit,
            out.clone().into_array_arg(),
            out.dtype.into(),
        );
        sum_chunks::launch_unchecked::<R>(
            &client,
            cubes(chunks * blocks),
            CubeDim::new_1d(UNITS as u32),
            ids.clone().into_array_arg(),
            order.into_array_arg(),
            grad.into_array_arg(),
            out.clone().into_array_arg(),
            parts.clone().into_array_arg(),
            sizes[0],
            sizes[1],
            sizes[2],
            types,
        );
        join_chunks::launch_unchecked::<R>(
            &client,
            cubes(chunks * blocks),
            CubeDim::new_1d(UNITS as u32),
            ids.into_array_arg(),
            parts.into_array_arg(),
            out.clone().into_array_arg(),
            sizes[0],
            sizes[1],
            sizes[2],
            out.dtype.into(),
        );
    }
    out
}
