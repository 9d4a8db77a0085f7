//! Which tile multiplies, into how many parts the depth is split, and the text of the kernel.

use burn::tensor::DType;
use cubecl::prelude::*;

use crate::Precision;
use crate::plumbing::cuda::{Defines, Source, Text};

static TEXT: Text =
    Text::new(concat!(include_str!("../../barriers.cu"), include_str!("../hopper.cu")));

/// What a product asks of a card.
pub struct Work {
    /// Matrices, and rows and columns of each.
    pub sizes: [usize; 3],
    /// Stages of the whole depth, each for every term.
    pub stages: usize,
    /// Blocks at a time: the card's multiprocessors.
    pub blocks: usize,
    /// Whether sums have registers besides those that instructions add to.
    twice: bool,
}

/// Tile of a block: rows in warpgroups of 64, columns, stages of operands in flight, and the share of
/// the best tile's speed that it reaches (measured on an H200).
pub struct Tile {
    pub warpgroups: usize,
    pub columns: usize,
    stages: usize,
    speed: f64,
}

pub const TILES: [Tile; 4] = [
    Tile { warpgroups: 2, columns: 256, stages: 4, speed: 1.0 },
    Tile { warpgroups: 2, columns: 128, stages: 6, speed: 0.92 },
    Tile { warpgroups: 1, columns: 128, stages: 6, speed: 0.56 },
    Tile { warpgroups: 1, columns: 64, stages: 8, speed: 0.40 },
];

/// Into how many parts the depth may be split.
pub const SPLITS: [usize; 4] = [1, 2, 4, 8];

/// Bytes of an operand's element as the instructions take it.
fn element(precision: Precision) -> usize {
    if precision == Precision::Tf32 { 4 } else { 2 }
}

/// Products that are summed to make one: in f32 those of planes of bfloat16s that are no smaller than
/// what rounding a sum of 32 bits leaves.
fn terms(precision: Precision) -> usize {
    if precision == Precision::F32 { 6 } else { 1 }
}

impl Work {
    /// Of matrices of these sizes and depth.
    pub fn new(sizes: [usize; 3], depth: usize, precision: Precision, blocks: usize) -> Self {
        let stages = depth.div_ceil(128 / element(precision)) * terms(precision);
        Self { sizes, stages, blocks, twice: precision == Precision::F32 }
    }
}

impl Tile {
    pub fn rows(&self) -> usize {
        64 * self.warpgroups
    }

    /// Whether a thread has registers for all its sums.
    pub fn fits(&self, work: &Work) -> bool {
        !work.twice || self.columns <= 128
    }

    /// Tiles of `batch` products `[m, n]`.
    pub fn count(&self, [batch, m, n]: [usize; 3]) -> usize {
        batch * m.div_ceil(self.rows()) * n.div_ceil(self.columns)
    }

    /// Seconds, roughly, for `work` with its depth in `splits` parts.
    fn cost(&self, work: &Work, splits: usize) -> f64 {
        // A stage of the largest tile, and as many again for filling and emptying the pipeline.
        const STAGE: f64 = 0.79e-6 / (128.0 * 256.0);
        const AROUND: f64 = 5.0;
        const BYTES_PER_SECOND: f64 = 3.5e12;
        let [batch, m, n] = work.sizes;
        let waves = (self.count(work.sizes) * splits).div_ceil(work.blocks) as f64;
        let depth = work.stages.div_ceil(splits) as f64 + AROUND;
        let tile = (self.rows() * self.columns) as f64 * STAGE / self.speed;
        let parts = match splits {
            1 => 0.0,
            s => 3e-6 + (s * batch * m * n * 8) as f64 / BYTES_PER_SECOND,
        };
        waves * depth * tile + parts
    }

    /// The tile and the number of parts with the lowest cost.
    pub fn choose(work: &Work) -> (&'static Self, usize) {
        let fitting = TILES.iter().filter(|tile| tile.fits(work));
        let options = fitting.flat_map(|tile| SPLITS.map(|splits| (tile, splits)));
        let sensible = options.filter(|(_, splits)| *splits == 1 || work.stages >= 8 * splits);
        let cost = |(tile, splits): &(&Self, usize)| tile.cost(work, *splits);
        sensible.min_by(|a, b| cost(a).total_cmp(&cost(b))).expect("the list is not empty")
    }

    pub fn source(&self, precision: Precision, across: [bool; 2], output: DType) -> Source {
        let element = element(precision);
        let defines = vec![
            ("CONSUMERS", self.warpgroups),
            ("BN", self.columns),
            ("BK", 128 / element),
            ("STAGES", self.stages),
            ("ELEMENT", element),
            ("TERMS", terms(precision)),
            ("A_ACROSS", across[0] as usize),
            ("B_ACROSS", across[1] as usize),
            ("OUTPUT_BYTES", output.size()),
        ];
        Source {
            entry: "mixlab_product",
            text: &TEXT,
            defines,
            preamble: instruction,
            block: CubeDim::new_1d(128 * (self.warpgroups as u32 + 1)),
            // Tiles start at a multiple of 1024 bytes.
            shared: self.stages * (self.rows() + self.columns) * 128 + 1024,
        }
    }
}

/// The instruction that multiplies a stage, as macros: one for each width of a tile and type of the
/// operands, with all registers by name.
fn instruction(defines: &Defines) -> String {
    let of = |name| defines.iter().find(|(n, _)| *n == name).expect("`Tile::source` defines it").1;
    let registers = of("BN") / 2;
    let list = |each: fn(usize) -> String| (0..registers).map(each).collect::<Vec<_>>().join(", ");
    let (depth, kind, order) = match of("ELEMENT") {
        2 => (16, "bf16", format!(", {}, {}", of("A_ACROSS"), of("B_ACROSS"))),
        _ => (8, "tf32", String::new()),
    };
    let instruction = format!(
        "{{ .reg .pred p; setp.ne.b32 p, %{accumulate}, 0; wgmma.mma_async.sync.aligned.m64n{n}k{depth}.f32.{kind}.{kind} {{{d}}}, %{a}, %{b}, p, 1, 1{order}; }}",
        accumulate = registers + 2,
        n = of("BN"),
        d = list(|i| format!("%{i}")),
        a = registers,
        b = registers + 1,
    );
    let named = list(|i| format!("\"+f\"(d[{i}])"));
    format!("#define INSTRUCTION \"{instruction}\"\n#define REGISTERS {named}\n")
}
