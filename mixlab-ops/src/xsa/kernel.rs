//! Kernels: some units of a cube share a row, each with a few vectors of it in registers; their dot
//! products add up in shared memory, in a fixed order.

use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

use crate::plumbing::cube::{cubes, narrow};
use crate::plumbing::heads::{channels_at_once, empty_like, heads, row};

/// Units of a cube.
const UNITS: usize = 256;

/// What there is to do; `width` counts vectors.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Sizes {
    /// `H`.
    heads: u32,
    /// `Hk`.
    groups: u32,
    /// `T`.
    steps: u32,
    /// Rows that cubes share out.
    rows: u32,
    /// Vectors of a row.
    width: u32,
}

/// The part of a row that is this unit's: every `units`-th vector from `lane` on.
#[cube]
fn load<F: Float, N: Size>(
    x: &Tensor<Vector<F, N>>,
    at: usize,
    width: usize,
    #[comptime] units: usize,
    #[comptime] per: usize,
) -> Array<Vector<f32, N>> {
    let mut part = Array::<Vector<f32, N>>::new(per);
    let lane = UNIT_POS as usize % units;
    #[unroll]
    for i in 0..per {
        // The last vector stands in past the end, times zero: a branch would wait for each load.
        let column = lane + i * units;
        let there = select(column < width, 1.0f32, 0.0f32);
        part[i] = Vector::cast_from(x[at + min(column, width - 1)]) * Vector::new(there);
    }
    part
}

#[cube]
fn dot<N: Size>(
    a: &Array<Vector<f32, N>>,
    b: &Array<Vector<f32, N>>,
    #[comptime] per: usize,
) -> f32 {
    let mut products = a[0] * b[0];
    #[unroll]
    for i in 1..per {
        products += a[i] * b[i];
    }
    let mut sum = 0.0f32;
    #[unroll]
    for n in 0..N::value() {
        sum += products[n];
    }
    sum
}

/// The sum of what the units of this row wrote at `first` and on.
#[cube]
fn total(parts: &SharedMemory<f32>, first: usize, #[comptime] units: usize) -> f32 {
    let start = first + UNIT_POS as usize / units * units;
    let mut sum = 0.0f32;
    for i in 0..units {
        sum += parts[start + i];
    }
    sum
}

/// `z = y − (y·v / n) v`.
#[cube(launch_unchecked)]
fn forward<F: Float, N: Size>(
    y: &Tensor<Vector<F, N>>,
    v: &Tensor<Vector<F, N>>,
    z: &mut Tensor<Vector<F, N>>,
    sizes: Sizes,
    #[comptime] units: usize,
    #[comptime] per: usize,
    #[define(F)] _dtype: StorageType,
) {
    let mut parts = SharedMemory::<f32>::new(comptime!(2 * UNITS));
    let unit = UNIT_POS as usize;
    let (width, steps, all) = (sizes.width as usize, sizes.steps as usize, sizes.heads as usize);
    let row_index = CUBE_POS * comptime!(UNITS / units) + unit / units;
    let at = min(row_index, sizes.rows as usize - 1);
    let (step, head, batch) = (at % steps, at / steps % all, at / steps / all);
    let group = head * sizes.groups as usize / all;
    let vs = load(v, row(v, batch, group, step), width, units, per);
    let ys = load(y, row(y, batch, head, step), width, units, per);
    parts[unit] = dot(&ys, &vs, per);
    parts[UNITS.comptime() + unit] = dot(&vs, &vs, per);
    sync_cube();
    let along = total(&parts, 0, units) / (total(&parts, UNITS, units) + 1e-8);
    let to = row(z, batch, head, step);
    #[unroll]
    for i in 0..per {
        let lane = unit % units + i * units;
        if row_index < sizes.rows as usize && lane < width {
            z[to + lane] = Vector::cast_from(ys[i] - vs[i] * Vector::new(along));
        }
    }
}

/// `dy = g − e v` and `dv = Σ −c g − e (y − 2 c v)` over the heads that share `v`.
#[cube(launch_unchecked)]
fn backward<F: Float, N: Size>(
    y: &Tensor<Vector<F, N>>,
    v: &Tensor<Vector<F, N>>,
    g: &Tensor<Vector<F, N>>,
    dy: &mut Tensor<Vector<F, N>>,
    dv: &mut Tensor<Vector<F, N>>,
    sizes: Sizes,
    #[comptime] units: usize,
    #[comptime] per: usize,
    #[define(F)] _dtype: StorageType,
) {
    // For even and for odd heads: a unit may be one head ahead of another.
    let mut parts = SharedMemory::<f32>::new(comptime!(6 * UNITS));
    let unit = UNIT_POS as usize;
    let (width, steps, groups) =
        (sizes.width as usize, sizes.steps as usize, sizes.groups as usize);
    let row_index = CUBE_POS * comptime!(UNITS / units) + unit / units;
    let inside = row_index < sizes.rows as usize;
    let at = min(row_index, sizes.rows as usize - 1);
    let (step, group, batch) = (at % steps, at / steps % groups, at / steps / groups);
    let vs = load(v, row(v, batch, group, step), width, units, per);
    let square = dot(&vs, &vs, per);
    let mut sum = Array::<Vector<f32, N>>::new(per);
    #[unroll]
    for i in 0..per {
        sum[i] = Vector::new(0.0f32);
    }
    let shared = sizes.heads as usize / groups;
    for n in 0..shared {
        let head = group * shared + n;
        let ys = load(y, row(y, batch, head, step), width, units, per);
        let gs = load(g, row(g, batch, head, step), width, units, per);
        let first = (n % 2) * comptime!(3 * UNITS);
        parts[first + unit] = dot(&ys, &vs, per);
        parts[first + UNITS.comptime() + unit] = dot(&gs, &vs, per);
        parts[first + comptime!(2 * UNITS) + unit] = square;
        sync_cube();
        let norm = total(&parts, first + comptime!(2 * UNITS), units) + 1e-8;
        let c = Vector::<f32, N>::new(total(&parts, first, units) / norm);
        let e = Vector::<f32, N>::new(total(&parts, first + UNITS.comptime(), units) / norm);
        let to = row(dy, batch, head, step);
        #[unroll]
        for i in 0..per {
            let lane = unit % units + i * units;
            if inside && lane < width {
                dy[to + lane] = Vector::cast_from(gs[i] - vs[i] * e);
            }
            sum[i] += (vs[i] * (c + c) - ys[i]) * e - gs[i] * c;
        }
    }
    let to = row(dv, batch, group, step);
    #[unroll]
    for i in 0..per {
        let lane = unit % units + i * units;
        if inside && lane < width {
            dv[to + lane] = Vector::cast_from(sum[i]);
        }
    }
}

/// How rows are shared out.
struct Launch {
    sizes: [u32; 5],
    /// Channels of a vector.
    size: usize,
    /// Units of a row.
    units: usize,
    /// Vectors of a unit.
    per: usize,
    cubes: usize,
}

impl Launch {
    fn new<R: CubeRuntime>(tensors: &[&CubeTensor<R>], groups: usize, rows: usize) -> Self {
        let [_, heads, steps, hd] = tensors[0].meta.shape().dims();
        let size = channels_at_once(tensors);
        let width = hd / size;
        // Up to eight channels a unit, at least eight units a row.
        let units = hd.div_ceil(8).next_power_of_two().clamp(8, UNITS);
        Self {
            sizes: [heads, groups, steps, rows, width].map(narrow),
            size,
            units,
            per: width.div_ceil(units),
            cubes: (rows * units).div_ceil(UNITS),
        }
    }

    fn sizes<R: CubeRuntime>(&self) -> SizesLaunch<R> {
        let [heads, groups, steps, rows, width] = self.sizes;
        SizesLaunch::new(heads, groups, steps, rows, width)
    }
}

/// Launches [`forward`].
pub(super) fn launch<R: CubeRuntime>(y: CubeTensor<R>, v: CubeTensor<R>) -> CubeTensor<R> {
    let dtype = y.dtype;
    let [y, v] = [y, v].map(|x| heads(x, dtype));
    let z = empty_like(&y, dtype);
    let [b, h, t, _] = y.meta.shape().dims();
    let launch = Launch::new(&[&y, &v, &z], v.meta.shape()[1], b * h * t);
    let client = y.client.clone();
    // SAFETY: `sizes` are those of all three, and units past the last row store nothing.
    unsafe {
        forward::launch_unchecked::<R>(
            &client,
            cubes(launch.cubes),
            CubeDim::new_1d(UNITS as u32),
            launch.size,
            y.into_tensor_arg(),
            v.into_tensor_arg(),
            z.clone().into_tensor_arg(),
            launch.sizes(),
            launch.units,
            launch.per,
            dtype.into(),
        );
    }
    z
}

/// Launches [`backward`].
pub(super) fn launch_gradient<R: CubeRuntime>(inputs: [CubeTensor<R>; 3]) -> Vec<CubeTensor<R>> {
    let dtype = inputs[0].dtype;
    let [y, v, g] = inputs.map(|x| heads(x, dtype));
    let (dy, dv) = (empty_like(&y, dtype), empty_like(&v, dtype));
    let [b, groups, t, _] = v.meta.shape().dims();
    let launch = Launch::new(&[&y, &v, &g, &dy, &dv], groups, b * groups * t);
    let client = y.client.clone();
    // SAFETY: as above.
    unsafe {
        backward::launch_unchecked::<R>(
            &client,
            cubes(launch.cubes),
            CubeDim::new_1d(UNITS as u32),
            launch.size,
            y.into_tensor_arg(),
            v.into_tensor_arg(),
            g.into_tensor_arg(),
            dy.clone().into_tensor_arg(),
            dv.clone().into_tensor_arg(),
            launch.sizes(),
            launch.units,
            launch.per,
            dtype.into(),
        );
    }
    vec![dy, dv]
}
