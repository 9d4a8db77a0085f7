//! Kernels: tokens are sorted by id, each by comparing it with all others; then the first token of an
//! id sums for all of them, in their order.

use burn::tensor::DType;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

use crate::plumbing::cube::{contiguous, cubes, empty, spread};

const UNITS: usize = 256;
/// Cubes that share the comparisons of a token.
const SPLITS: usize = 8;

#[cube(launch_unchecked)]
fn clear<F: Float>(x: &mut Array<F>, #[define(F)] _dtype: StorageType) {
    if ABSOLUTE_POS < x.len() {
        x[ABSOLUTE_POS] = F::new(0.0);
    }
}

/// For each token, among part `CUBE_POS_Y` of the others: how many have a smaller id, the same id,
/// and the same id at an earlier place, `[SPLITS, 3, N]`.
#[cube(launch_unchecked)]
fn compare<I: Int>(
    ids: &Array<I>,
    counts: &mut Array<u32>,
    tiles: u32,
    #[define(I)] _dtype: StorageType,
) {
    let unit = UNIT_POS as usize;
    let count = ids.len();
    let token = CUBE_POS_X as usize * UNITS.comptime() + unit;
    let mut others = SharedMemory::<u32>::new(UNITS);
    let mine = u32::cast_from(ids[min(token, count - 1)]);
    let mut less = 0u32;
    let mut same = 0u32;
    let mut before = 0u32;
    let first = CUBE_POS_Y as usize * tiles as usize;
    for tile in first..first + tiles as usize {
        let start = tile * UNITS.comptime();
        let id = u32::cast_from(ids[min(start + unit, count - 1)]);
        // No id is as large.
        others[unit] = select(start + unit < count, id, u32::MAX.runtime());
        sync_cube();
        for i in 0..UNITS.comptime() {
            let other = others[i];
            let equal = select(other == mine, 1u32, 0u32);
            less += select(other < mine, 1u32, 0u32);
            same += equal;
            before += select(start + i < token, equal, 0u32);
        }
        sync_cube();
    }
    if token < count {
        let at = CUBE_POS_Y as usize * 3 * count + token;
        counts[at] = less;
        counts[at + count] = same;
        counts[at + 2 * count] = before;
    }
}

/// Tokens in the order of their ids; and for the first token of each id, how many there are and
/// where they start in that order; for others, none.
#[cube(launch_unchecked)]
fn sort(counts: &Array<u32>, order: &mut Array<u32>, runs: &mut Array<u32>, count: u32) {
    let (token, count) = (ABSOLUTE_POS, count as usize);
    if token < count {
        let mut less = 0u32;
        let mut same = 0u32;
        let mut before = 0u32;
        for split in 0..SPLITS.comptime() {
            let at = split * 3 * count + token;
            less += counts[at];
            same += counts[at + count];
            before += counts[at + 2 * count];
        }
        order[(less + before) as usize] = token as u32;
        runs[token] = select(before == 0u32, same, 0u32);
        runs[count + token] = less;
    }
}

/// A cube for each token and `UNITS` columns.
#[cube(launch_unchecked)]
fn sum<F: Float, G: Float, I: Int>(
    ids: &Array<I>,
    order: &Array<u32>,
    runs: &Array<u32>,
    grad: &Array<G>,
    table: &mut Array<F>,
    width: u32,
    blocks: u32,
    #[define(F, G, I)] _dtypes: [StorageType; 3],
) {
    let (width, blocks, count) = (width as usize, blocks as usize, ids.len());
    let token = CUBE_POS / blocks;
    let column = CUBE_POS % blocks * UNITS.comptime() + UNIT_POS as usize;
    if token < count && column < width {
        let run = runs[token] as usize;
        let start = runs[count + token] as usize;
        let mut total = 0.0f32;
        for i in 0..run {
            let row = order[start + i] as usize;
            total += f32::cast_from(grad[row * width + column]);
        }
        if run > 0 {
            let id = usize::cast_from(ids[token]);
            table[id * width + column] = F::cast_from(total);
        }
    }
}

pub(super) fn gradient<R: CubeRuntime>(
    table: CubeTensor<R>,
    grad: CubeTensor<R>,
    ints: Vec<CubeTensor<R>>,
) -> CubeTensor<R> {
    let out = empty(&table, table.meta.shape().clone(), table.dtype);
    let grad = contiguous(grad);
    let ids = contiguous(ints.into_iter().next().expect("embedding has ids"));
    let [count, width] = grad.meta.shape().dims();
    let blocks = width.div_ceil(UNITS);
    let client = out.client.clone();
    let (all, unit) = spread(out.meta.num_elements(), 256);
    let types = [out.dtype.into(), grad.dtype.into(), ids.dtype.into()];
    let numbers = |count: usize| empty(&out, [count], DType::U32);
    let counts = numbers(SPLITS * 3 * count);
    let (order, runs) = (numbers(count), numbers(2 * count));
    let across = count.div_ceil(UNITS);
    let (sorting, sorters) = spread(count, UNITS as u32);
    // SAFETY: ids number rows of the table, which the caller of `embedding` promises; units past the
    // end of tokens or columns write nothing.
    unsafe {
        clear::launch_unchecked::<R>(
            &client,
            all,
            unit,
            out.clone().into_array_arg(),
            out.dtype.into(),
        );
        compare::launch_unchecked::<R>(
            &client,
            CubeCount::Static(across as u32, SPLITS as u32, 1),
            CubeDim::new_1d(UNITS as u32),
            ids.clone().into_array_arg(),
            counts.clone().into_array_arg(),
            across.div_ceil(SPLITS) as u32,
            ids.dtype.into(),
        );
        sort::launch_unchecked::<R>(
            &client,
            sorting,
            sorters,
            counts.into_array_arg(),
            order.clone().into_array_arg(),
            runs.clone().into_array_arg(),
            count as u32,
        );
        sum::launch_unchecked::<R>(
            &client,
            cubes(count * blocks),
            CubeDim::new_1d(UNITS as u32),
            ids.into_array_arg(),
            order.into_array_arg(),
            runs.into_array_arg(),
            grad.into_array_arg(),
            out.clone().into_array_arg(),
            width as u32,
            blocks as u32,
            types,
        );
    }
    out
}
