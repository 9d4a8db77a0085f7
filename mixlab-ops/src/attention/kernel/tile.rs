//! How a cube shares out its tiles.

/// Rows of the other side that are looked at together.
pub(super) const COLUMNS: usize = 32;
/// Bytes of a quad of f32.
const QUAD: usize = 16;

/// Tiles of a cube, in shared memory as quads of channels.
///
/// A cube keeps some rows of a head, queries or keys, and walks along the other ones, [`COLUMNS`] at
/// a time. Unit `u` has rows `y`, `y + down`, … of them, four in all, for `y = ⌊u/across⌋`; the
/// neighbouring columns that are part `u mod across` of a tile of scores; and as many channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Tile {
    /// Rows of a cube.
    pub rows: usize,
    /// Units side by side: 4 or 8.
    pub across: usize,
    /// Channels of the columns that are in shared memory at once.
    pub depth: usize,
    /// How many times that makes a head.
    pub slices: usize,
}

/// Rows and units side by side, the fastest first.
pub(super) const SHAPES: [[usize; 2]; 4] = [[64, 4], [64, 8], [32, 8], [16, 8]];

/// What a cube does with its tiles.
#[derive(Clone, Copy, Debug)]
pub(super) enum Use {
    /// One tile of rows, and one of sums.
    Forward,
    /// Two tiles of rows, and one or two of sums; two blocks of scores.
    Backward,
}

impl Tile {
    pub(super) fn new([rows, across]: [usize; 2], width: usize) -> Self {
        let parts = width.div_ceil(32);
        let depth = if parts.is_multiple_of(2) { 64 } else { 32 };
        Self { rows, across, depth, slices: width.div_ceil(depth) }
    }

    /// Units from top to bottom.
    pub const fn down(&self) -> usize {
        self.rows / 4
    }

    pub const fn units(&self) -> usize {
        self.down() * self.across
    }

    /// Quads of columns that a unit has.
    pub const fn quads(&self) -> usize {
        COLUMNS / 4 / self.across
    }

    /// Quads of channels that a unit has of a slice.
    pub const fn channels(&self) -> usize {
        self.line() / self.across
    }

    /// Quads of a line of a slice.
    pub const fn line(&self) -> usize {
        self.depth / 4
    }

    /// Bytes of shared memory.
    pub const fn shared(&self, of: Use) -> usize {
        let (kept, besides) = match of {
            Use::Forward => (1, 0),
            // What fades is added up over the units.
            Use::Backward => (2, self.units() * size_of::<f32>()),
        };
        let rows = kept * self.rows * self.slices * self.line();
        let (columns, weights) = (COLUMNS * self.line(), self.rows * COLUMNS / 4);
        (rows + columns + weights) * QUAD + besides
    }

    /// Whether registers hold what a unit has: four columns of two blocks of scores, or eight of one
    /// beside the sums.
    fn light(&self, of: Use) -> bool {
        match of {
            Use::Forward => self.channels() * self.slices <= 4,
            Use::Backward => self.quads() == 1,
        }
    }

    /// The tile for heads of `width` channels and `rows` rows, in `shared` bytes.
    pub fn choose(of: Use, width: usize, rows: usize, shared: usize) -> Option<Self> {
        let fits = |tile: &Self| tile.shared(of) <= shared && tile.light(of);
        let fitting: Vec<_> =
            SHAPES.map(|s| Self::new(s, width)).into_iter().filter(fits).collect();
        // Of a few rows the smallest tile has the fewest that are not there.
        let whole = fitting.iter().filter(|tile| tile.rows >= rows).min_by_key(|tile| tile.rows);
        whole.or(fitting.first()).copied()
    }
}
