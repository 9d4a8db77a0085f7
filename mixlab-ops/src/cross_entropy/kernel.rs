//! Kernels: a team of units reads a row of logits, and in training reads it again and writes the
//! gradient over it if nobody else holds the logits.

mod backward;
mod forward;

use burn::tensor::DType;
use burn_cubecl::kernel::cast;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

use super::CrossEntropy;
use crate::plumbing::cube::{contiguous, cubes, empty, narrow, owned, vector_size};
use crate::plumbing::rows::{Team, UNITS, fast, tanh};

/// Vectors that a unit loads before it uses them.
const LOADS: usize = 4;

/// What a kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct KernelConfig {
    team: Team,
    /// Whether exponentials are approximate.
    fast: bool,
    /// Whether the logits go through a softcap.
    capped: bool,
    /// Whether the gradient is written.
    gradient: bool,
}

/// A logit, within ±`cap` if it is `capped`.
#[cube]
fn logit(z: f32, cap: f32, #[comptime] capped: bool) -> f32 {
    if comptime!(capped) { cap * tanh(z / cap) } else { z }
}

/// The loss of each row in f32, and the gradient of the logits if it is wanted, in their place if
/// they are ours.
pub(super) fn losses<R: CubeRuntime>(
    op: &CrossEntropy,
    z: CubeTensor<R>,
    targets: CubeTensor<R>,
) -> Vec<CubeTensor<R>> {
    let (z, targets) = (contiguous(z), contiguous(targets));
    #[cfg(feature = "cuda")]
    if let Some(outputs) = super::cuda::losses(op, &z, &targets) {
        return outputs;
    }
    let (rows, size) = (z.meta.shape()[0], vector_size(&z));
    let columns = z.meta.shape()[1] / size;
    let config = KernelConfig {
        team: Team::new(&z, columns, 2 * LOADS),
        fast: fast(&z),
        capped: op.softcap.is_some(),
        gradient: op.ahead.is_some(),
    };
    let nll = empty(&z, [rows], DType::F32);
    let (client, dtypes) = (z.client.clone(), [z.dtype, targets.dtype]);
    let mut outputs = vec![nll.clone()];
    let mut dz = SequenceArg::new();
    if config.gradient {
        let (out, argument) = if z.can_mut() {
            (z.clone(), z.as_tensor_alias(0).into_array_arg())
        } else {
            let out = empty(&z, z.meta.shape().clone(), z.dtype);
            (out.clone(), out.into_array_arg())
        };
        dz.push(argument);
        outputs.push(out);
    }
    // SAFETY: teams past the last row neither read nor write, others stay within their row, and so do
    // targets; where `dz` is `z`, each unit reads and writes vectors of its own.
    unsafe {
        forward::cross_entropy_kernel::launch_unchecked::<R>(
            &client,
            cubes(rows.div_ceil(config.team.count())),
            CubeDim::new_1d(UNITS as u32),
            size,
            z.into_array_arg(),
            targets.into_array_arg(),
            nll.into_array_arg(),
            dz,
            narrow(columns),
            op.softcap.unwrap_or_default(),
            op.ahead.unwrap_or_default(),
            config,
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
            CubeDim::new_1d(UNITS as u32),
            size,
            g.into_array_arg(),
            dz.clone().into_array_arg(),
            narrow(columns),
            ahead,
            team,
            dz.dtype.into(),
        );
    }
    dz
}
