//! Kernel: one unit draws the four words of a counter and decides on the four columns that they
//! belong to.

use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

use super::philox::{INCREMENTS, MULTIPLIERS, ROUNDS};
use super::{Dropout, WORDS, matrix};
use crate::plumbing::cube::{contiguous, empty, narrow, spread, vector_size};

/// Key and counter, but for the column and the row within the tensor.
#[derive(CubeType, CubeLaunch)]
struct Stream {
    seed_low: u32,
    seed_high: u32,
    step: u32,
    site: u32,
    row: u32,
}

/// As [`super::philox`].
#[cube]
fn philox(block: u32, row: u32, stream: &Stream) -> Array<u32> {
    let mut a = block;
    let mut b = row;
    let mut c = stream.site;
    let mut d = stream.step;
    let mut low = stream.seed_low;
    let mut high = stream.seed_high;
    let first = comptime!(MULTIPLIERS[0]).runtime();
    let second = comptime!(MULTIPLIERS[1]).runtime();
    #[unroll]
    for _ in 0..ROUNDS.comptime() {
        let high_first = first.mul_hi(a);
        let high_second = second.mul_hi(c);
        let low_first = first * a;
        let low_second = second * c;
        a = high_second ^ b ^ low;
        b = low_second;
        c = high_first ^ d ^ high;
        d = low_first;
        low += comptime!(INCREMENTS[0]);
        high += comptime!(INCREMENTS[1]);
    }
    let mut words = Array::<u32>::new(4usize);
    words[0] = a;
    words[1] = b;
    words[2] = c;
    words[3] = d;
    words
}

/// `width` vectors make a row of `x`, `blocks` counters cover it, and `rows` is the number of rows.
#[cube(launch_unchecked)]
fn kernel<F: Float, N: Size>(
    x: &Array<Vector<F, N>>,
    y: &mut Array<Vector<F, N>>,
    stream: Stream,
    threshold: u32,
    scale: f32,
    width: u32,
    blocks: u32,
    rows: u32,
    #[define(F)] _dtype: StorageType,
) {
    let row = ABSOLUTE_POS / blocks as usize;
    let block = ABSOLUTE_POS % blocks as usize;
    let size = N::value().comptime();
    let parts = comptime!(WORDS / size);
    if row < rows as usize {
        let words = philox(block as u32, row as u32 + stream.row, &stream);
        #[unroll]
        for part in 0..parts {
            let column = block * parts + part;
            if column < width as usize {
                let at = row * width as usize + column;
                let v = x[at];
                let mut out = Vector::<F, N>::empty();
                #[unroll]
                for i in 0..size {
                    let kept = words[part * size + i] >= threshold;
                    out[i] = F::cast_from(select(kept, f32::cast_from(v[i]) * scale, 0.0f32));
                }
                y[at] = out;
            }
        }
    }
}

pub(super) fn launch<R: CubeRuntime>(op: &Dropout, x: CubeTensor<R>) -> CubeTensor<R> {
    let x = contiguous(x);
    let y = empty(&x, x.meta.shape().clone(), x.dtype);
    let (rows, columns) = matrix(&x.meta.shape().to_vec());
    let size = vector_size(&x).min(WORDS);
    let blocks = columns.div_ceil(WORDS);
    let (cubes, cube) = spread(rows * blocks, 256);
    let (client, dtype) = (x.client.clone(), x.dtype);
    let (seed_low, seed_high) = (op.seed as u32, (op.seed >> 32) as u32);
    let stream = StreamLaunch::new(seed_low, seed_high, op.step, op.site, op.row);
    // SAFETY: both hold `rows` rows of `columns` elements, `size` divides these, and units past the
    // last row or the end of their row do nothing.
    unsafe {
        kernel::launch_unchecked::<R>(
            &client,
            cubes,
            cube,
            size,
            x.into_array_arg(),
            y.clone().into_array_arg(),
            stream,
            op.threshold(),
            op.scale(),
            narrow(columns / size),
            narrow(blocks),
            narrow(rows),
            dtype.into(),
        );
    }
    y
}
