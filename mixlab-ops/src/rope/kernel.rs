//! Kernel: one unit turns the same channels of a few heads at one position, with angles from a table
//! that stays on the device.

use core::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use burn::tensor::{DType, Shape};
use burn_backend::{DeviceId, DeviceOps};
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use burn_std::{Metadata, Strides};
use cubecl::prelude::*;

use super::Rope;
use crate::plumbing::cube::{contiguous, empty, narrow, spread, vector_size};

/// Heads of one unit: they share the angles, and their loads are in flight together.
const HEADS: usize = 4;

/// Lengths of the axes of a tensor `[B, H, T, hd]`, or the steps along them; channels in vectors.
#[derive(CubeType, CubeLaunch)]
struct Axes {
    batch: u32,
    head: u32,
    time: u32,
    channel: u32,
}

/// Turns the first `turning` vectors of each row. A vector has pairs of channels and `M` is half its
/// size; or, if not `paired`, it is one channel, whose partner is loaded beside it. The table's row
/// of the first step is `start`.
#[cube(launch_unchecked)]
fn rope_kernel<F: Float, N: Size, M: Size>(
    x: &Array<Vector<F, N>>,
    cos: &Array<Vector<f32, M>>,
    sin: &Array<Vector<f32, M>>,
    y: &mut Array<Vector<F, N>>,
    shape: Axes,
    from: Axes,
    to: Axes,
    turning: u32,
    start: u32,
    sign: f32,
    #[comptime] paired: bool,
    #[define(F)] _dtype: StorageType,
) {
    let heads = shape.head as usize;
    let groups = (heads + comptime!(HEADS - 1)) / comptime!(HEADS);
    let channel = ABSOLUTE_POS % shape.channel as usize;
    let rest = ABSOLUTE_POS / shape.channel as usize;
    let first = rest % groups * comptime!(HEADS);
    let rest = rest / groups;
    let time = rest % shape.time as usize;
    let batch = rest / shape.time as usize;
    if batch < shape.batch as usize {
        let turning = turning as usize;
        let turns = channel < turning;
        let source = batch * from.batch as usize + time * from.time as usize;
        let target = batch * to.batch as usize + time * to.time as usize + channel;
        let mut mine = Array::<Vector<F, N>>::new(HEADS);
        let mut partner = Array::<Vector<F, N>>::new(HEADS);
        #[unroll]
        for k in 0..HEADS {
            // Of a head past the end nothing is written: it may read the last one again.
            let head = min(first + k, heads - 1);
            let row = source + head * from.head as usize;
            mine[k] = x[row + channel];
            if comptime!(!paired) {
                partner[k] = x[row + select(turns, channel ^ 1, channel)];
            }
        }
        let mut c = Vector::<f32, M>::new(1.0);
        let mut s = Vector::<f32, M>::new(0.0);
        if turns {
            let position = start as usize + time;
            let at = if comptime!(paired) {
                position * turning + channel
            } else {
                position * (turning / 2) + channel / 2
            };
            c = cos[at];
            s = sin[at] * Vector::new(sign);
        }
        #[unroll]
        for k in 0..HEADS {
            let v = mine[k];
            let mut out = v;
            if turns {
                if comptime!(paired) {
                    #[unroll]
                    for i in 0..M::value() {
                        let even = f32::cast_from(v[2 * i]);
                        let odd = f32::cast_from(v[2 * i + 1]);
                        out[2 * i] = F::cast_from(even * c[i] - odd * s[i]);
                        out[2 * i + 1] = F::cast_from(even * s[i] + odd * c[i]);
                    }
                } else {
                    let place = channel % 2;
                    let s = select(place == 0, -s[0], s[0]);
                    let other = f32::cast_from(partner[k][0]);
                    out[0] = F::cast_from(f32::cast_from(v[0]) * c[0] + other * s);
                }
            }
            if first + k < heads {
                y[target + (first + k) * to.head as usize] = out;
            }
        }
    }
}

/// What tells one table from another.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    runtime: TypeId,
    device: DeviceId,
    dims: usize,
    base: u32,
}

/// The tables of this process, with their lengths.
type Tables = HashMap<Key, (usize, Box<dyn Any + Send>)>;

/// How many tables are held: a model has one or two. One more, and all are made anew as needed.
const TABLES: usize = 32;

/// `cos θ` and `sin θ` `[at least len, R/2]` on the device of `x`, computed once.
fn table<R: CubeRuntime>(op: &Rope, x: &CubeTensor<R>, len: usize) -> [CubeTensor<R>; 2] {
    static HELD: LazyLock<Mutex<Tables>> = LazyLock::new(Mutex::default);
    let key = Key {
        runtime: TypeId::of::<R>(),
        device: x.device.id(),
        dims: op.dims,
        base: op.base.to_bits(),
    };
    let mut tables = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    let known = tables.get(&key).filter(|(rows, _)| *rows >= len);
    if let Some(table) = known.and_then(|(_, table)| table.downcast_ref::<[CubeTensor<R>; 2]>()) {
        return table.clone();
    }
    // Generation lengthens the sequence by one at a time.
    let rows = len.next_power_of_two();
    let angles = Rope { inverse: false, start: 0, ..op.clone() }.angles(rows);
    let table = angles.map(|angles| {
        let handle = x.client.create_from_slice(f32::as_bytes(&angles));
        let shape = Shape::new([rows, op.dims / 2]);
        CubeTensor::new_contiguous(x.client.clone(), x.device.clone(), shape, handle, DType::F32)
    });
    if tables.len() >= TABLES {
        tables.clear();
    }
    tables.insert(key, (rows, Box::new(table.clone())));
    table
}

/// A new tensor without gaps of the shape of `x`, with its outer axes in the order that they have
/// in the memory of `x`.
fn alike<R: CubeRuntime>(x: &CubeTensor<R>) -> CubeTensor<R> {
    let (shape, strides) = (x.meta.shape().clone(), x.meta.strides());
    let mut order = [0, 1, 2, 3];
    order[..3].sort_by_key(|axis| core::cmp::Reverse(strides[*axis]));
    let mut y = empty(x, order.map(|axis| shape[axis]), x.dtype);
    let dense = y.meta.strides().clone();
    let mut strides = Strides::new(&[0; 4]);
    for (at, axis) in order.into_iter().enumerate() {
        strides[axis] = dense[at];
    }
    y.meta = Box::new(Metadata::new(shape, strides));
    y
}

/// Elements of a vector: they must divide a row, its turning part, and the steps between rows.
fn size_for<R: CubeRuntime>(x: &CubeTensor<R>, dims: usize) -> usize {
    let (shape, strides) = (x.meta.shape(), x.meta.strides());
    let fits = |size: usize| {
        let steps = (0..3).filter(|axis| shape[*axis] > 1).map(|axis| strides[axis]);
        dims.is_multiple_of(size) && steps.into_iter().all(|step| step.is_multiple_of(size))
    };
    let mut size = vector_size(x);
    while !fits(size) {
        size /= 2;
    }
    size
}

fn axes<R: CubeRuntime>(of: &[usize], size: usize) -> AxesLaunch<R> {
    AxesLaunch::new(
        narrow(of[0] / size),
        narrow(of[1] / size),
        narrow(of[2] / size),
        narrow(of[3] / size),
    )
}

/// `x` turned, in the memory order of `x`.
pub(super) fn rope<R: CubeRuntime>(op: &Rope, x: CubeTensor<R>) -> CubeTensor<R> {
    let x = if x.meta.strides()[3] == 1 { x } else { contiguous(x) };
    let y = alike(&x);
    let [batch, heads, len, width] = x.meta.shape().dims();
    let size = size_for(&x, op.dims);
    let channels = width / size;
    let paired = size > 1;
    let [cos, sin] = table(op, &x, op.start + len).map(CubeTensor::into_array_arg);
    let shape = AxesLaunch::new(narrow(batch), narrow(heads), narrow(len), narrow(channels));
    let [from, to] = [&x, &y].map(|t| axes(t.meta.strides(), size));
    let (cubes, cube) = spread(batch * heads.div_ceil(HEADS) * len * channels, 256);
    let (client, dtype) = (x.client.clone(), x.dtype);
    // SAFETY: a unit of a batch that exists reads and writes within its rows of `x` and `y`, whose
    // strides these are, and its row of the table, which has at least
    // `start + len`.
    unsafe {
        rope_kernel::launch_unchecked::<R>(
            &client,
            cubes,
            cube,
            size,
            (size / 2).max(1),
            x.into_array_arg(),
            cos,
            sin,
            y.clone().into_array_arg(),
            shape,
            from,
            to,
            narrow(op.dims / size),
            narrow(op.start),
            if op.inverse { -1.0 } else { 1.0 },
            paired,
            dtype.into(),
        );
    }
    y
}
