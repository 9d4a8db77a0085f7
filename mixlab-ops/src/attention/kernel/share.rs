//! What multiplies: the units of a cube, or its planes where the device has matrix units; and the
//! kernels, each for either.

use cubecl::prelude::*;

use super::planes::{self, Planes};
use super::tile::Tile;
#[cfg(test)]
use super::tile::Use;
use super::tiles::Sizes;
use super::{backward, forward as by_units};

/// How a cube shares out its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Share {
    Units(Tile),
    Planes(Planes),
}

impl Share {
    /// Rows of a cube.
    pub const fn rows(&self) -> usize {
        match self {
            Self::Units(tile) => tile.rows,
            Self::Planes(planes) => planes.rows(),
        }
    }

    /// Bytes of shared memory.
    #[cfg(test)]
    pub const fn shared(&self, of: Use) -> usize {
        match self {
            Self::Units(tile) => tile.shared(of),
            Self::Planes(planes) => planes.shared(of),
        }
    }

    pub fn cube(&self) -> CubeDim {
        match self {
            Self::Units(tile) => CubeDim::new_1d(tile.units() as u32),
            Self::Planes(planes) => CubeDim::new_2d(planes::WIDTH as u32, planes.planes as u32),
        }
    }

    const fn by_planes(&self) -> bool {
        matches!(self, Self::Planes(_))
    }

    fn planes(&self) -> Planes {
        let Self::Planes(planes) = *self else { unreachable!("asked for where planes multiply") };
        planes
    }

    fn tile(&self) -> Tile {
        let Self::Units(tile) = *self else { unreachable!("asked for where units multiply") };
        tile
    }
}

/// `y` and the log-sum-exp of each row of scores.
#[cube(launch_unchecked)]
pub(super) fn forward<F: Float, N: Size>(
    q: &Tensor<Vector<F, N>>,
    k: &Tensor<Vector<F, N>>,
    v: &Tensor<Vector<F, N>>,
    decay: &Array<f32>,
    y: &mut Tensor<Vector<F, N>>,
    log_sum_exp: &mut Array<f32>,
    sizes: Sizes,
    scale: f32,
    #[comptime] causal: bool,
    #[comptime] fades: bool,
    #[comptime] share: Share,
    #[define(F)] _dtype: StorageType,
) {
    if CUBE_POS < sizes.cubes as usize {
        if comptime!(share.by_planes()) {
            let planes = comptime!(share.planes());
            planes::forward::forward(
                q,
                k,
                v,
                decay,
                y,
                log_sum_exp,
                sizes,
                scale,
                causal,
                fades,
                planes,
            );
        } else {
            let tile = comptime!(share.tile());
            by_units::forward(q, k, v, decay, y, log_sum_exp, sizes, scale, causal, fades, tile);
        }
    }
}

/// `dq`, the `delta = Σ g ⊙ y` of each query, and `ddecay` summed over the rows of each cube,
/// `[B, tiles, H]`.
#[cube(launch_unchecked)]
pub(super) fn of_queries<F: Float, N: Size>(
    q: &Tensor<Vector<F, N>>,
    k: &Tensor<Vector<F, N>>,
    v: &Tensor<Vector<F, N>>,
    decay: &Array<f32>,
    y: &Tensor<Vector<F, N>>,
    g: &Tensor<Vector<F, N>>,
    log_sum_exp: &Array<f32>,
    dq: &mut Tensor<Vector<F, N>>,
    delta: &mut Array<f32>,
    ddecay: &mut Array<f32>,
    sizes: Sizes,
    scale: f32,
    #[comptime] causal: bool,
    #[comptime] fades: bool,
    #[comptime] share: Share,
    #[define(F)] _dtype: StorageType,
) {
    if CUBE_POS < sizes.cubes as usize {
        if comptime!(share.by_planes()) {
            let planes = comptime!(share.planes());
            planes::backward::of_queries(
                q,
                k,
                v,
                decay,
                y,
                g,
                log_sum_exp,
                dq,
                delta,
                ddecay,
                sizes,
                scale,
                causal,
                fades,
                planes,
            );
        } else {
            let tile = comptime!(share.tile());
            backward::of_queries(
                q,
                k,
                v,
                decay,
                y,
                g,
                log_sum_exp,
                dq,
                delta,
                ddecay,
                sizes,
                scale,
                causal,
                fades,
                tile,
            );
        }
    }
}

/// `dk` and `dv`.
#[cube(launch_unchecked)]
pub(super) fn of_keys<F: Float, N: Size>(
    q: &Tensor<Vector<F, N>>,
    k: &Tensor<Vector<F, N>>,
    v: &Tensor<Vector<F, N>>,
    decay: &Array<f32>,
    g: &Tensor<Vector<F, N>>,
    log_sum_exp: &Array<f32>,
    delta: &Array<f32>,
    dk: &mut Tensor<Vector<F, N>>,
    dv: &mut Tensor<Vector<F, N>>,
    sizes: Sizes,
    scale: f32,
    #[comptime] causal: bool,
    #[comptime] fades: bool,
    #[comptime] share: Share,
    #[define(F)] _dtype: StorageType,
) {
    if CUBE_POS < sizes.cubes as usize {
        if comptime!(share.by_planes()) {
            let planes = comptime!(share.planes());
            planes::backward::of_keys(
                q,
                k,
                v,
                decay,
                g,
                log_sum_exp,
                delta,
                dk,
                dv,
                sizes,
                scale,
                causal,
                fades,
                planes,
            );
        } else {
            let tile = comptime!(share.tile());
            backward::of_keys(
                q,
                k,
                v,
                decay,
                g,
                log_sum_exp,
                delta,
                dk,
                dv,
                sizes,
                scale,
                causal,
                fades,
                tile,
            );
        }
    }
}
