//! Kernels: a team of units reads a row of logits once; in the gradient it also writes it, over the
//! logits if nobody else holds them.

mod backward;
mod forward;

use burn::tensor::DType;
use burn_cubecl::kernel::cast;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

use crate::plumbing::cube::{contiguous, cubes, empty, vector_size};
use crate::plumbing::rows::{Team, UNITS, fast, tanh};

/// Vectors that a unit loads before it uses them.
const LOADS: usize = 4;

/// What a kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct How {
    team: Team,
    /// Whether exponentials are approximate.
    fast: bool,
    /// Whether the logits go through a softcap.
    capped: bool,
}

/// A logit, within ±`cap` if it is `capped`.
#[cube]
fn logit(z: f32, cap: f32, #[comptime] capped: bool) -> f32 {
    if comptime!(capped) { cap * tanh(z / cap) } else { z }
}

/// Rows, vectors of a row, their size, and what to compile.
fn layout<R: CubeRuntime>(z: &CubeTensor<R>, cap: Option<f32>) -> (usize, usize, usize, How) {
    let size = vector_size(z);
    let (rows, columns) = (z.meta.shape()[0], z.meta.shape()[1] / size);
    let team = Team::new(z, columns, 2 * LOADS);
    (rows, columns, size, How { team, fast: fast(z), capped: cap.is_some() })
}

/// The loss and the log-sum-exp of each row, in f32.
pub(super) fn losses<R: CubeRuntime>(
    softcap: Option<f32>,
    z: CubeTensor<R>,
    targets: CubeTensor<R>,
) -> Vec<CubeTensor<R>> {
    let (z, targets) = (contiguous(z), contiguous(targets));
    let (rows, columns, size, how) = layout(&z, softcap);
    let outputs = [(); 2].map(|()| empty(&z, [rows], DType::F32));
    let [nll, log_sum_exp] = outputs.clone().map(CubeTensor::into_array_arg);
    let (client, dtypes) = (z.client.clone(), [z.dtype, targets.dtype]);
    // SAFETY: teams past the last row neither read nor write, others stay within their row.
    unsafe {
        forward::cross_entropy_kernel::launch_unchecked::<R>(
            &client,
            cubes(rows.div_ceil(how.team.count())),
            CubeDim::new_1d(UNITS as u32),
            size,
            z.into_array_arg(),
            targets.into_array_arg(),
            nll,
            log_sum_exp,
            columns as u32,
            softcap.unwrap_or_default(),
            how,
            dtypes[0].into(),
            dtypes[1].into(),
        );
    }
    outputs.into()
}

/// The gradient of the logits, in their place if they are ours.
pub(super) fn gradient<R: CubeRuntime>(
    softcap: Option<f32>,
    [z, log_sum_exp, g]: [CubeTensor<R>; 3],
    targets: CubeTensor<R>,
) -> CubeTensor<R> {
    let (z, targets) = (contiguous(z), contiguous(targets));
    let [log_sum_exp, g] = [log_sum_exp, g].map(|x| contiguous(cast(x, DType::F32)));
    let (rows, columns, size, how) = layout(&z, softcap);
    let (client, dtypes) = (z.client.clone(), [z.dtype, targets.dtype]);
    let (dz, out) = match z.can_mut() {
        true => (z.clone(), z.as_tensor_alias(0).into_array_arg()),
        false => {
            let dz = empty(&z, z.meta.shape().clone(), z.dtype);
            (dz.clone(), dz.into_array_arg())
        }
    };
    // SAFETY: teams past the last row do nothing, others stay within their row; where `dz` is `z`,
    // each unit reads an element before it writes it and no other unit does either.
    unsafe {
        backward::cross_entropy_gradient_kernel::launch_unchecked::<R>(
            &client,
            cubes(rows.div_ceil(how.team.count())),
            CubeDim::new_1d(UNITS as u32),
            size,
            z.into_array_arg(),
            targets.into_array_arg(),
            log_sum_exp.into_array_arg(),
            g.into_array_arg(),
            out,
            columns as u32,
            softcap.unwrap_or_default(),
            how,
            dtypes[0].into(),
            dtypes[1].into(),
        );
    }
    dz
}
