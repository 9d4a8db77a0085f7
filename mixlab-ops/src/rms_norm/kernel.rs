//! Kernels: a team of units holds a row in registers.

mod backward;
mod forward;

use burn::tensor::DType;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

use super::RmsNorm;
use crate::plumbing::cube::{contiguous, cubes, empty, narrow, vector_size};
use crate::plumbing::rows::{Team, UNITS};

/// Numbers of a row that one unit holds at most, and in the forward usually.
const HELD: usize = 32;
/// Numbers of a row that one unit usually holds in the gradient, three times over: registers for two
/// cubes of 256 units remain.
const HELD_THRICE: usize = 24;
/// The longest row.
pub(super) const LONGEST: usize = HELD * UNITS;
/// Columns, and slices of rows, that one cube sums.
const TILE: usize = 16;

/// What a kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct KernelConfig {
    team: Team,
    /// Vectors that each unit holds.
    each: usize,
}

/// Rows, vectors of a row, their size, and what to compile, for the tensors beside `x` to be read
/// and written with vectors of the same size.
struct Layout {
    rows: usize,
    columns: usize,
    size: usize,
    config: KernelConfig,
}

impl Layout {
    fn new<R: CubeRuntime>(x: &CubeTensor<R>, beside: [DType; 2], held: usize) -> Self {
        let [rows, width] = x.meta.shape().dims();
        let widest = beside.iter().map(DType::size).max().unwrap_or(1).max(x.dtype.size());
        let fitting = (16 / widest).max(1);
        let size = vector_size(x).min(fitting);
        let columns = width / size;
        let team = Team::new(x, columns, held / size);
        Self {
            rows,
            columns,
            size,
            config: KernelConfig { team, each: columns.div_ceil(team.width).max(1) },
        }
    }
}

/// `x · r · scale`.
pub(super) fn normed<R: CubeRuntime>(
    op: &RmsNorm,
    x: CubeTensor<R>,
    scale: CubeTensor<R>,
) -> CubeTensor<R> {
    let (x, scale) = (contiguous(x), contiguous(scale));
    let y = empty(&x, x.meta.shape().clone(), op.dtype.unwrap_or(x.dtype));
    let Layout { rows, columns, size, config } = Layout::new(&x, [scale.dtype, y.dtype], HELD);
    let (client, inverse) = (x.client.clone(), 1.0 / (columns * size) as f32);
    let dtypes = [x.dtype, scale.dtype, y.dtype];
    // SAFETY: teams past the last row neither read nor write, others stay within their row.
    unsafe {
        forward::rms_norm_kernel::launch_unchecked::<R>(
            &client,
            cubes(rows.div_ceil(config.team.count())),
            CubeDim::new_1d(UNITS as u32),
            size,
            x.into_array_arg(),
            scale.into_array_arg(),
            y.clone().into_array_arg(),
            narrow(rows),
            narrow(columns),
            inverse,
            op.eps,
            config,
            dtypes[0].into(),
            dtypes[1].into(),
            dtypes[2].into(),
        );
    }
    y
}

/// How many cubes share the rows for the gradient: each adds up its part of the gradient of the
/// scale, so few enough for the parts to be small, and enough to fill the device evenly.
fn parts<R: CubeRuntime>(x: &CubeTensor<R>, rows: usize, team: Team) -> usize {
    let processors = x.client.properties().hardware.num_streaming_multiprocessors.unwrap_or(32);
    rows.div_ceil(team.count()).clamp(1, 4 * processors as usize)
}

/// The gradients of `x` and of the scale.
pub(super) fn gradient<R: CubeRuntime>(eps: f32, inputs: [CubeTensor<R>; 3]) -> Vec<CubeTensor<R>> {
    let [x, scale, g] = inputs.map(contiguous);
    let Layout { rows, columns, size, config } =
        Layout::new(&x, [scale.dtype, g.dtype], HELD_THRICE);
    let (width, parts) = (columns * size, parts(&x, rows, config.team));
    let dx = empty(&x, [rows, width], x.dtype);
    let partial = empty(&x, [parts, width], DType::F32);
    let dscale = empty(&x, [width], scale.dtype);
    let client = x.client.clone();
    let dtypes = [x.dtype, scale.dtype, g.dtype];
    // SAFETY: every team stays within the rows that it finds to exist, and a cube within its row of
    // `partial`, which has one for each of the `parts` cubes. Columns and rows are checked in the sum.
    unsafe {
        backward::rms_norm_gradient_kernel::launch_unchecked::<R>(
            &client,
            CubeCount::Static(narrow(parts), 1, 1),
            CubeDim::new_1d(UNITS as u32),
            size,
            x.into_array_arg(),
            scale.into_array_arg(),
            g.into_array_arg(),
            dx.clone().into_array_arg(),
            partial.clone().into_array_arg(),
            narrow(rows),
            narrow(columns),
            1.0 / width as f32,
            eps,
            config,
            dtypes[0].into(),
            dtypes[1].into(),
            dtypes[2].into(),
        );
        backward::rms_norm_scale_kernel::launch_unchecked::<R>(
            &client,
            cubes(width.div_ceil(TILE)),
            CubeDim::new_1d((TILE * TILE) as u32),
            partial.into_array_arg(),
            dscale.clone().into_array_arg(),
            narrow(parts),
            dtypes[1].into(),
        );
    }
    vec![dx, dscale]
}
