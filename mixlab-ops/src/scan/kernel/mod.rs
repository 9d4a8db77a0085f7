//! Kernels of the recurrences; [`walk`] has the plan.

mod backward;
mod forward;
mod walk;

use burn::tensor::{DType, Shape};
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

use crate::plumbing::cube::{contiguous, cubes, empty, narrow, ready, vector_size};
use crate::plumbing::reduce::sum_first;

pub(crate) use walk::Kind;
use walk::{ExtentLaunch, UNITS};

/// Cubes that leave most of a large GPU idle.
const FEW: usize = 128;

/// A launch over sequences `[B, T, C]`, or `[B, T, G, C]` with [`Kind::Rows`].
struct Launch {
    kind: Kind,
    steps: usize,
    groups: usize,
    /// Columns of a group, in vectors of `size`.
    columns: usize,
    size: usize,
    /// Units across the columns.
    width: usize,
    /// Cubes that share a group.
    blocks: usize,
    cubes: usize,
}

impl Launch {
    fn new<R: CubeRuntime>(u: &CubeTensor<R>, kind: Kind) -> Self {
        let shape = u.meta.shape();
        let (steps, channels) = (shape[1], shape[shape.num_dims() - 1]);
        let groups = if kind == Kind::Rows { shape[2] } else { 1 };
        let sequences = shape[0] * groups;
        let make = |size: usize, width: usize| {
            let columns = channels / size;
            let blocks = columns.div_ceil(width);
            let cubes = sequences * blocks;
            Self { kind, steps, groups, columns, size, width, blocks, cubes }
        };
        // 32 channels a cube: lines of 128 bytes.
        let size = vector_size(u).min(4);
        let wide = make(size, 32 / size);
        // With few of them narrower cubes, so that more multiprocessors have work.
        if wide.cubes < FEW || channels <= 8 { make(1, 8) } else { wide }
    }

    fn extent<R: CubeRuntime>(&self) -> ExtentLaunch<R> {
        let Self { steps, groups, columns, blocks, cubes, .. } = *self;
        let [steps, columns, groups, blocks, cubes] =
            [steps, columns, groups, blocks, cubes].map(narrow);
        ExtentLaunch::new(steps, columns, groups, blocks, cubes)
    }

    /// Elements of a vector of gates.
    fn gate_size(&self) -> usize {
        if self.kind == Kind::Rows { 1 } else { self.size }
    }
}

/// Matrices of one column are numbers: `x` `[B, T, C, 1]` as `[B, T, C]`, and the kind that takes
/// its channels side by side.
fn columns<R: CubeRuntime>(x: CubeTensor<R>, kind: Kind) -> (CubeTensor<R>, Kind) {
    let x = contiguous(x);
    let shape = x.meta.shape().clone();
    if kind == Kind::Rows && shape[3] == 1 {
        let flat = Shape::new([shape[0], shape[1], shape[2]]);
        return (burn_cubecl::ops::reshape(x, flat), Kind::Column);
    }
    (x, kind)
}

/// All states of the recurrence over `u`, from the state `initial` if there is one.
pub(crate) fn states<R: CubeRuntime>(
    u: CubeTensor<R>,
    gates: CubeTensor<R>,
    initial: Option<CubeTensor<R>>,
    kind: Kind,
) -> CubeTensor<R> {
    let shape = u.meta.shape().clone();
    let ((u, kind), gates) = (columns(u, kind), contiguous(gates));
    let launch = Launch::new(&u, kind);
    let h = empty(&u, shape, u.dtype);
    let continues = initial.is_some();
    let initial = initial.map_or_else(|| u.clone(), |x| ready(x, u.dtype));
    let (client, dtype, gate) = (u.client.clone(), u.dtype, gates.dtype);
    // SAFETY: the extent is that of `u` and `h`, the gates have the shape that `kind` says, an
    // initial state is read only if there is one, which has a number for each sequence and column,
    // and units without a column or a step of their own store nothing.
    unsafe {
        forward::forward::launch_unchecked::<R>(
            &client,
            cubes(launch.cubes),
            CubeDim::new_1d(UNITS as u32),
            launch.size,
            launch.gate_size(),
            u.into_array_arg(),
            gates.into_array_arg(),
            initial.into_array_arg(),
            h.clone().into_array_arg(),
            launch.extent(),
            kind,
            continues,
            launch.width,
            if launch.size == 1 { 16 } else { 8 },
            dtype.into(),
            gate.into(),
        );
    }
    h
}

/// Gradients of `u`, of the gates and, if there is one, of the state `initial`, given
/// `[u, gates, h, g]` with the states `h` and their gradient `g`. Where the recurrence does not
/// average nothing reads `u`: any tensor of its shape will do.
pub(crate) fn gradient<R: CubeRuntime>(
    [u, gates, h, g]: [CubeTensor<R>; 4],
    initial: Option<CubeTensor<R>>,
    kind: Kind,
) -> Vec<CubeTensor<R>> {
    let (dtype, whole) = (u.dtype, u.meta.shape().clone());
    let (u, kind) = columns(u, kind);
    let [h, g] = [h, g].map(|x| ready(x, dtype));
    let gates = contiguous(gates);
    let launch = Launch::new(&u, kind);
    let shape = gates.meta.shape().clone();
    // The sums of a cube, or the gradient itself.
    let parts = match kind {
        Kind::Constant => empty(&gates, [u.meta.shape()[0], shape[0]], DType::F32),
        Kind::Rows if launch.blocks > 1 => {
            empty(&gates, [launch.blocks, shape.num_elements()], DType::F32)
        }
        _ => empty(&gates, shape.clone(), gates.dtype),
    };
    let du = empty(&u, whole, dtype);
    let initial = initial.map(|x| ready(x, dtype));
    let dinitial = initial.as_ref().map(|x| empty(x, x.meta.shape().clone(), dtype));
    let (client, gate, part) = (u.client.clone(), gates.dtype, parts.dtype);
    // SAFETY: as above; `parts` has a place for each step that a cube sums, or each of its columns.
    unsafe {
        backward::backward::launch_unchecked::<R>(
            &client,
            cubes(launch.cubes),
            CubeDim::new_1d(UNITS as u32),
            launch.size,
            launch.gate_size(),
            launch.gate_size(),
            u.clone().into_array_arg(),
            gates.into_array_arg(),
            initial.clone().unwrap_or(u).into_array_arg(),
            h.into_array_arg(),
            g.into_array_arg(),
            du.clone().into_array_arg(),
            parts.clone().into_array_arg(),
            dinitial.clone().unwrap_or_else(|| empty(&du, [1], dtype)).into_array_arg(),
            launch.extent(),
            kind,
            initial.is_some(),
            launch.width,
            if launch.size == 1 { 8 } else { 4 },
            dtype.into(),
            gate.into(),
            part.into(),
        );
    }
    let dgates = match kind {
        Kind::Constant => sum_first(parts, shape, gate),
        Kind::Rows if launch.blocks > 1 => sum_first(parts, shape, gate),
        _ => parts,
    };
    [du, dgates].into_iter().chain(dinitial).collect()
}
