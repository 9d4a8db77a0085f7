//! Attention by matrix units: each plane has 16 rows of a head, and sums of products stay in its
//! fragments. Which element of a fragment a unit holds is the device's secret, so scores pass through
//! shared memory on their way to being weights.

pub(super) mod backward;
mod blocks;
pub(super) mod forward;

use burn::tensor::DType;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};

use super::tile::Use;

/// Rows and columns of a fragment, and steps of its depth.
pub(super) const SIDE: usize = 16;
/// Units of a plane: two to each of its rows.
pub(super) const WIDTH: usize = 32;
/// Halves, or floats, that keep neighbouring rows in different banks.
const GAP: [usize; 2] = [8, 4];

/// How a cube shares out its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Planes {
    /// Planes, of 16 rows each.
    pub planes: usize,
    /// Rows of the other side that are looked at together.
    pub columns: usize,
    /// Channels of a head, rounded up to whole fragments.
    pub width: usize,
}

impl Planes {
    pub const fn rows(&self) -> usize {
        self.planes * SIDE
    }

    pub const fn units(&self) -> usize {
        self.planes * WIDTH
    }

    /// Fragments of a row.
    pub const fn channels(&self) -> usize {
        self.width / SIDE
    }

    /// Fragments of a row of scores.
    pub const fn across(&self) -> usize {
        self.columns / SIDE
    }

    /// Quads of a row of scores that a unit has.
    pub const fn quads(&self) -> usize {
        self.columns / 8
    }

    /// Quads from one row to the next, of channels, of scores and of weights.
    pub const fn row_pitch(&self) -> usize {
        (self.width + GAP[0]) / 4
    }

    pub const fn score_pitch(&self) -> usize {
        (self.columns + GAP[1]) / 4
    }

    pub const fn weight_pitch(&self) -> usize {
        (self.columns + GAP[0]) / 4
    }

    /// Quads of a block of rows or columns, whichever are more: rows pass through it on their way to
    /// fragments.
    pub const fn block(&self) -> usize {
        let most = if self.rows() > self.columns { self.rows() } else { self.columns };
        most * self.row_pitch()
    }

    /// Bytes of shared memory.
    pub const fn shared(&self, of: Use) -> usize {
        let [half, single] = [4 * 2, 4 * 4];
        let scores = self.rows() * self.score_pitch() * single;
        let weights = self.rows() * self.weight_pitch() * half;
        let besides = 2 * self.units() * size_of::<f32>();
        let columns = self.columns * self.row_pitch() * half;
        besides
            + match of {
                Use::Forward => self.block() * half + scores + weights,
                Use::Backward => self.block() * half + columns + 2 * (scores + weights),
            }
    }

    /// Planes and columns, the fastest first.
    pub const fn shapes(of: Use) -> &'static [[usize; 2]] {
        match of {
            Use::Forward => &[[4, 64], [4, 32], [2, 32]],
            Use::Backward => &[[4, 32], [2, 32]],
        }
    }

    pub fn new([planes, columns]: [usize; 2], width: usize) -> Self {
        Self { planes, columns, width: width.next_multiple_of(SIDE) }
    }

    /// The share for heads of `width` channels in `shared` bytes.
    pub fn choose(of: Use, width: usize, shared: usize) -> Option<Self> {
        let mut shapes = Self::shapes(of).iter().map(|shape| Self::new(*shape, width));
        shapes.find(|shape| shape.shared(of) <= shared)
    }
}

/// Whether the device of `x` has such units for its type.
pub(super) fn available<R: CubeRuntime>(x: &CubeTensor<R>) -> bool {
    let properties = x.client.properties();
    let hardware = &properties.hardware;
    let (operand, sum) = (x.dtype.into(), DType::F32.into());
    let mut shapes = properties.features.matmul.cmma.iter();
    [hardware.plane_size_min, hardware.plane_size_max] == [WIDTH as u32; 2]
        && shapes.any(|c| {
            [c.a_type, c.b_type, c.cd_type] == [operand, operand, sum]
                && [c.m, c.n, c.k] == [SIDE as u32; 3]
        })
}
