//! Kernels: a team of units reads a row of logits once, and in training writes its gradient over it
//! if nobody else holds the logits.

mod backward;
mod forward;

use burn::tensor::DType;
use burn_cubecl::kernel::cast;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

use super::CrossEntropy;
use crate::plumbing::cube::{contiguous, cubes, empty, owned, vector_size};
use crate::plumbing::rows::{Team, UNITS, fast, tanh};

/// Vectors that a unit loads before it uses them.
const LOADS: usize = 4;

/// Bytes of a row that the caches keep until it is read again.
const SHORT: usize = 16 << 10;

/// What a kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct How {
    team: Team,
    /// Whether exponentials are approximate.
    fast: bool,
    /// Whether the logits go through a softcap.
    capped: bool,
    /// Whether the gradient is written.
    gradient: bool,
    /// Vectors of a row that stay in shared memory until they are read again: all or none.
    held: usize,
}

/// A logit, within ±`cap` if it is `capped`.
#[cube]
fn logit(z: f32, cap: f32, #[comptime] capped: bool) -> f32 {
    if comptime!(capped) { cap * tanh(z / cap) } else { z }
}

/// Units of a cube that holds a row of `z` in shared memory; `None` where rows are short or do not
/// fit.
fn holding<R: CubeRuntime>(z: &CubeTensor<R>) -> Option<usize> {
    let hardware = &z.client.properties().hardware;
    let row = z.meta.shape()[1] * z.dtype.size();
    let most = 1024.min(hardware.max_units_per_cube as usize);
    // Sums over the cube take some too.
    let free = hardware.max_shared_memory_size.saturating_sub(2 * size_of::<f32>() * most);
    let cubes = free / row;
    // A multiprocessor runs 2048 units.
    let fill = || (2048 / cubes).next_power_of_two().max(UNITS).min(most);
    (row > SHORT && cubes > 0).then(fill)
}

/// The loss of each row in f32, and the gradient of the logits if it is wanted, in their place if
/// they are ours.
pub(super) fn losses<R: CubeRuntime>(
    op: &CrossEntropy,
    z: CubeTensor<R>,
    targets: CubeTensor<R>,
) -> Vec<CubeTensor<R>> {
    let (z, targets) = (contiguous(z), contiguous(targets));
    let (rows, size) = (z.meta.shape()[0], vector_size(&z));
    let columns = z.meta.shape()[1] / size;
    let mut how = How {
        team: Team::new(&z, columns, 2 * LOADS),
        fast: fast(&z),
        capped: op.softcap.is_some(),
        gradient: op.ahead.is_some(),
        held: 0,
    };
    if let Some(units) = holding(&z).filter(|_| how.gradient) {
        (how.team, how.held) = (how.team.alone(units), columns);
    }
    let nll = empty(&z, [rows], DType::F32);
    let (client, dtypes) = (z.client.clone(), [z.dtype, targets.dtype]);
    let mut outputs = vec![nll.clone()];
    let mut dz = SequenceArg::new();
    if how.gradient {
        let (out, argument) = if z.can_mut() {
            (z.clone(), z.as_tensor_alias(0).into_array_arg())
        } else {
            let out = empty(&z, z.meta.shape().clone(), z.dtype);
            (out.clone(), out.into_array_arg())
        };
        dz.push(argument);
        outputs.push(out);
    }
    // SAFETY: teams past the last row neither read nor write, others stay within their row; where
    // `dz` is `z`, all of a team have read what others than its owner write before it is written.
    unsafe {
        forward::cross_entropy_kernel::launch_unchecked::<R>(
            &client,
            cubes(rows.div_ceil(how.team.count())),
            CubeDim::new_1d(how.team.units as u32),
            size,
            z.into_array_arg(),
            targets.into_array_arg(),
            nll.into_array_arg(),
            dz,
            columns as u32,
            op.softcap.unwrap_or_default(),
            op.ahead.unwrap_or_default(),
            how,
            dtypes[0].into(),
            dtypes[1].into(),
        );
    }
    outputs
}

/// The gradient of the logits, computed for losses with the gradient `ahead`, for the gradients `g`.
pub(super) fn gradient<R: CubeRuntime>(ahead: f32, [dz, g]: [CubeTensor<R>; 2]) -> CubeTensor<R> {
    let (dz, g) = (owned(dz), contiguous(cast(g, DType::F32)));
    let (rows, size) = (dz.meta.shape()[0], vector_size(&dz));
    let columns = dz.meta.shape()[1] / size;
    let team = Team::new(&dz, columns, LOADS);
    // SAFETY: teams past the last row do nothing, others stay within their row.
    unsafe {
        backward::scale_rows_kernel::launch_unchecked::<R>(
            &dz.client,
            cubes(rows.div_ceil(team.count())),
            CubeDim::new_1d(team.units as u32),
            size,
            g.into_array_arg(),
            dz.clone().into_array_arg(),
            columns as u32,
            ahead,
            team,
            dz.dtype.into(),
        );
    }
    dz
}
