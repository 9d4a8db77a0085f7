//! Which tile a cube multiplies, and into how many parts the depth is split.

use super::lines::{FOUR, Slab};
use super::packs::{self, Packing};
use super::{blocked, units};

/// Tile of a cube.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Tile {
    pub rows: usize,
    pub columns: usize,
    /// A unit has so many quads of columns, of four times as many rows; none if planes multiply.
    pub quads: usize,
    /// Planes from top to bottom and from left to right; none if units multiply.
    pub planes: [usize; 2],
    /// Units of a cube.
    pub units: usize,
    /// Steps of the depth in shared memory at a time.
    pub stage: usize,
    /// Share of the best tile's speed that it reaches, in percent.
    speed: usize,
}

/// Tile of a cube whose units multiply.
const fn of_units([rows, columns]: [usize; 2], quads: usize, stage: usize, speed: usize) -> Tile {
    let units = rows * columns / (16 * quads * quads);
    Tile { rows, columns, quads, planes: [0; 2], units, stage, speed }
}

/// Tile of a cube whose planes multiply with matrix units.
const fn of_planes(
    [rows, columns]: [usize; 2],
    planes: [usize; 2],
    stage: usize,
    speed: usize,
) -> Tile {
    let units = planes[0] * planes[1] * units::WIDTH;
    Tile { rows, columns, quads: 0, planes, units, stage, speed }
}

pub(super) const TILES: [Tile; 5] = [
    // Units have half of the registers of others, and twice as many hide each other's waiting.
    of_units([256, 128], 2, 16, 100),
    // For devices with 32 KiB of shared memory, as the others are.
    of_units([128, 128], 2, 8, 85),
    of_units([128, 64], 2, 8, 75),
    of_units([64, 64], 2, 8, 68),
    of_units([32, 32], 1, 8, 34),
];

pub(super) const OF_PLANES: [Tile; 6] = [
    of_planes([128, 128], [2, 4], 32, 100),
    of_planes([256, 128], [4, 2], 32, 95),
    of_planes([128, 128], [2, 4], 64, 95),
    of_planes([128, 128], [2, 2], 32, 95),
    of_planes([128, 64], [2, 2], 64, 75),
    of_planes([64, 64], [2, 2], 64, 60),
];

/// Into how many parts the depth may be split.
pub(super) const SPLITS: [usize; 5] = [1, 2, 4, 8, 16];

/// What a product asks of a device.
pub(super) struct Work {
    /// Matrices, and rows and columns of each.
    pub sizes: [usize; 3],
    pub depth: usize,
    /// The device's multiprocessors, and bytes of shared memory and units that a cube may have.
    pub processors: usize,
    pub shared: usize,
    pub units: usize,
}

impl Tile {
    /// Units of a row, and of a column.
    pub const fn across(&self) -> usize {
        self.columns / (4 * self.quads)
    }

    pub const fn down(&self) -> usize {
        self.rows / (4 * self.quads)
    }

    /// What a cube reads of the operands at a time.
    pub const fn of_rows(&self, along: bool) -> Slab {
        Slab { wide: self.rows, stage: self.stage, along, units: self.units }
    }

    pub const fn of_columns(&self, along: bool) -> Slab {
        Slab { wide: self.columns, stage: self.stage, along, units: self.units }
    }

    /// The same for a cube whose planes multiply.
    pub fn slabs(&self, along: [bool; 2], packing: Packing) -> (packs::Slab, packs::Slab) {
        let Self { stage, units, .. } = *self;
        let of = |wide, along| packs::Slab { wide, stage, along, units, packing };
        (of(self.rows, along[0]), of(self.columns, along[1]))
    }

    /// Tiles of a matrix from top to bottom, and from left to right.
    pub fn grid(&self, [_, rows, columns]: [usize; 3]) -> [usize; 2] {
        [rows.div_ceil(self.rows), columns.div_ceil(self.columns)]
    }

    /// Time, roughly, for `work` with its depth in `splits` parts: steps of the depth of one element.
    fn cost(&self, work: &Work, splits: usize) -> f64 {
        // Stages that filling the pipeline and writing the result take.
        const AROUND: f64 = 4.0;
        // Steps that the launch of a sum takes, and an element of a part to be written and read.
        const SUM: f64 = 5e5;
        const PART: f64 = 60.0;
        // Units of a processor; what multiplies with fewer waits for its memory.
        const BUSY: f64 = 256.0;
        let [batch, rows, columns] = work.sizes;
        let [down, across] = self.grid(work.sizes);
        let cubes = batch * down * across * splits;
        let each = cubes.div_ceil(work.processors) as f64;
        let busy = (each * self.units as f64 / BUSY).min(1.0);
        let stages = work.depth.div_ceil(self.stage).div_ceil(splits);
        let depth = (stages as f64 + AROUND) * self.stage as f64;
        let tile = (self.rows * self.columns) as f64 / (self.speed as f64 / 100.0);
        let parts = match splits {
            1 => 0.0,
            s => SUM + (s * batch * rows * columns) as f64 / work.processors as f64 * PART,
        };
        each * tile * depth / busy + parts
    }

    /// Bytes of shared memory at most.
    fn shared(&self) -> usize {
        if self.quads == 0 {
            // As lines across the depth have fewer gaps.
            let (a, b) = self.slabs([true; 2], Packing { halves: 1, elements: 4 });
            let scratch = self.units / units::WIDTH * units::SQUARE * size_of::<f32>();
            return (a.held() + b.held()) * FOUR * 2 + scratch;
        }
        let slabs = [self.of_rows(true), self.of_columns(true)];
        2 * (blocked::held(&slabs[0]) + blocked::held(&slabs[1])) * FOUR * size_of::<f32>()
    }

    /// Whether a cube of the device can be so large.
    pub fn fits(&self, work: &Work) -> bool {
        self.shared() <= work.shared && self.units <= work.units
    }

    /// The tile of `tiles` and the number of parts with the lowest cost.
    pub fn choose(tiles: &[Self], work: &Work) -> (Self, usize) {
        let fitting = tiles.iter().filter(|tile| tile.fits(work));
        let options = fitting.flat_map(|tile| SPLITS.map(|splits| (*tile, splits)));
        let sensible =
            options.filter(|(tile, splits)| *splits == 1 || work.depth >= 8 * splits * tile.stage);
        let cost = |(tile, splits): &(Self, usize)| tile.cost(work, *splits);
        sensible
            .min_by(|a, b| cost(a).total_cmp(&cost(b)))
            .expect("a tile of 32 rows and columns fits every device")
    }
}
