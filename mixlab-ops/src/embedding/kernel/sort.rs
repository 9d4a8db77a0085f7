//! Tokens in the order of their ids, those of one id in the order that they have: a radix sort from
//! the lowest digit up, without atomic additions.
//!
//! A digit has one value for each unit of a cube. A cube takes a tile of tokens; in a tile a token
//! counts those before it with its digit, and each unit those with its own. Where a digit starts
//! in the whole follows from the counts of all tiles, which every cube adds up for itself.

use burn::tensor::DType;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

use crate::plumbing::cube::{cubes, empty, narrow};
use crate::plumbing::indices::known;

/// Units of a cube, and values of a digit.
const DIGITS: usize = 256;
/// Bits of a digit.
const BITS: usize = 8;
/// Tokens of a unit.
const EACH: usize = 2;
/// Tokens of a cube.
const TILE: usize = EACH * DIGITS;

/// The ids of a tile, in `shared`; past the last token none, and a digit that no unit has. Ids
/// that number nothing become `classes`.
#[cube]
fn load<I: Int>(ids: &Array<I>, shared: &mut SharedMemory<u32>, classes: u32, shift: u32) {
    let unit = UNIT_POS as usize;
    #[unroll]
    for k in 0..EACH {
        let place = k * DIGITS.comptime() + unit;
        let token = CUBE_POS * TILE.comptime() + place;
        let id = known::<I>(ids[min(token, ids.len() - 1)], classes as usize) as u32;
        let digit = (id >> shift) % comptime!(DIGITS as u32);
        shared[place] = select(token < ids.len(), digit, comptime!(DIGITS as u32).runtime());
    }
    sync_cube();
}

/// How many tokens of each tile have each digit, `[tiles, DIGITS]`.
#[cube(launch_unchecked)]
fn count<I: Int>(
    ids: &Array<I>,
    counts: &mut Array<u32>,
    classes: u32,
    shift: u32,
    #[define(I)] _dtype: StorageType,
) {
    let mut digits = SharedMemory::<u32>::new(TILE);
    load::<I>(ids, &mut digits, classes, shift);
    let mut count = 0u32;
    for place in 0..TILE.comptime() {
        count += select(digits[place] == UNIT_POS, 1u32, 0u32);
    }
    let at = CUBE_POS * DIGITS.comptime() + UNIT_POS as usize;
    if at < counts.len() {
        counts[at] = count;
    }
}

/// Where the tokens of this cube's tile start that have the digit of this unit.
#[cube]
fn start(counts: &Array<u32>) -> u32 {
    let mut sums = SharedMemory::<u32>::new(DIGITS);
    let unit = UNIT_POS as usize;
    let mut total = 0u32;
    let mut before = 0u32;
    for tile in 0..counts.len() / DIGITS.comptime() {
        let count = counts[tile * DIGITS.comptime() + unit];
        total += count;
        before += select(tile < CUBE_POS, count, 0u32);
    }
    // The sum over this digit and all smaller ones.
    let mut sum = total;
    #[unroll]
    for round in 0..BITS {
        let step = comptime!(1usize << round);
        sums[unit] = sum;
        sync_cube();
        let other = sums[max(unit, step) - step];
        sum += select(unit >= step, other, 0u32);
        sync_cube();
    }
    sum - total + before
}

/// Puts each token, with its id, where it belongs by one digit. Before the `first` pass tokens are
/// in their own order.
#[cube(launch_unchecked)]
fn place<I: Int>(
    ids: &Array<I>,
    order: &Array<u32>,
    counts: &Array<u32>,
    next_ids: &mut Array<u32>,
    next_order: &mut Array<u32>,
    classes: u32,
    shift: u32,
    #[comptime] first: bool,
    #[define(I)] _dtype: StorageType,
) {
    let mut digits = SharedMemory::<u32>::new(TILE);
    let mut starts = SharedMemory::<u32>::new(DIGITS);
    load::<I>(ids, &mut digits, classes, shift);
    let unit = UNIT_POS as usize;
    starts[unit] = start(counts);
    sync_cube();
    #[unroll]
    for k in 0..EACH {
        let local = k * DIGITS.comptime() + unit;
        let digit = digits[local];
        let mut rank = 0u32;
        for other in 0..local {
            rank += select(digits[other] == digit, 1u32, 0u32);
        }
        let token = CUBE_POS * TILE.comptime() + local;
        if token < ids.len() {
            let to = (starts[digit as usize] + rank) as usize;
            next_ids[to] = known::<I>(ids[token], classes as usize) as u32;
            if comptime!(first) {
                next_order[to] = token as u32;
            } else {
                next_order[to] = order[token];
            }
        }
    }
}

/// Ids in their order, and which token each is.
pub(super) struct Sorted<R: CubeRuntime> {
    /// An id that numbers nothing is the number of classes, and so at the end.
    pub ids: CubeTensor<R>,
    pub order: CubeTensor<R>,
}

/// Sorts `ids`, which have no gaps and number `classes` things.
pub(super) fn sorted<R: CubeRuntime>(ids: CubeTensor<R>, classes: usize) -> Sorted<R> {
    let bits = (usize::BITS - classes.leading_zeros()) as usize;
    // Nothing reads the order before the first pass.
    let mut now = Sorted { order: ids.clone(), ids };
    for pass in 0..bits.div_ceil(BITS) {
        now = by_digit(now, classes, pass);
    }
    now
}

/// One pass of the sort.
fn by_digit<R: CubeRuntime>(
    Sorted { ids, order }: Sorted<R>,
    classes: usize,
    pass: usize,
) -> Sorted<R> {
    let count = ids.meta.num_elements();
    let tiles = count.div_ceil(TILE);
    let numbers = |count: usize| empty(&ids, [count], DType::U32);
    let counts = numbers(tiles * DIGITS);
    let next = Sorted { ids: numbers(count), order: numbers(count) };
    let (client, dtype) = (ids.client.clone(), ids.dtype);
    let (classes, shift) = (narrow(classes), narrow(pass * BITS));
    // SAFETY: tokens past the end are not written, nor counts of tiles past the last; digits of
    // tokens that exist are less than `DIGITS`, and their places are a permutation.
    unsafe {
        count::launch_unchecked::<R>(
            &client,
            cubes(tiles),
            CubeDim::new_1d(DIGITS as u32),
            ids.clone().into_array_arg(),
            counts.clone().into_array_arg(),
            classes,
            shift,
            dtype.into(),
        );
        place::launch_unchecked::<R>(
            &client,
            cubes(tiles),
            CubeDim::new_1d(DIGITS as u32),
            ids.into_array_arg(),
            order.into_array_arg(),
            counts.into_array_arg(),
            next.ids.clone().into_array_arg(),
            next.order.clone().into_array_arg(),
            classes,
            shift,
            pass == 0,
            dtype.into(),
        );
    }
    next
}
