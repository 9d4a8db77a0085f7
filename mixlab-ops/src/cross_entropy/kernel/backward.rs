//! The gradient of the logits, when that of the losses is not what was expected.

use cubecl::prelude::*;

use crate::plumbing::rows::{Team, lane, row};

/// Multiplies the rows whose `g` is not `ahead` by `g / ahead`; the others are not read.
#[cube(launch_unchecked)]
pub(super) fn scale_rows_kernel<F: Float, N: Size>(
    g: &Array<f32>,
    dz: &mut Array<Vector<F, N>>,
    columns: u32,
    ahead: f32,
    #[comptime] team: Team,
    #[define(F)] _dtype: StorageType,
) {
    let columns = columns as usize;
    let (mut at, row) = (lane(team), row(team));
    if row < g.len() && g[row] != ahead {
        let factor = Vector::<f32, N>::new(g[row] / ahead);
        while at < columns {
            let here = row * columns + at;
            dz[here] = Vector::cast_from(Vector::<f32, N>::cast_from(dz[here]) * factor);
            at += comptime!(team.width);
        }
    }
}
