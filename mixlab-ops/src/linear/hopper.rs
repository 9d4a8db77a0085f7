//! Matrix products on Hopper: warpgroup instructions fed by the bulk copy engine.
//!
//! CubeCL writes neither, so the kernel is CUDA C++ (`hopper.cu`), one text for all formats, layouts
//! and tile sizes. Which tile, and into how many parts K is split, follows from the shape alone.

use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::cuda::CudaRuntime;
use cubecl::ir::{ElemType, FloatKind};
use cubecl::prelude::*;
use cubecl::server::{TensorMapBinding, TensorMapMeta};
use cubecl::zspace::{Shape, metadata::Metadata, strides};

use super::Precision;
use super::kernel::{Rows, sum_parts, transposed_copy, with_padded_rows};
use crate::plumbing::cube::empty;
use crate::plumbing::cuda::{Arguments, Defines, Source, Text, capability, launch};

static TEXT: Text = Text::new(include_str!("hopper.cu"));

/// A matrix, or several of the same shape, in memory.
#[derive(Clone, Debug)]
struct Operand {
    tensor: CubeTensor<CudaRuntime>,
    batch: usize,
    /// Length along the result, and along the sum.
    outer: usize,
    depth: usize,
    /// Whether neighbours in memory are neighbours along the result, not along the sum.
    across: bool,
    /// Elements from one row in memory to the next, and from one matrix to the next.
    row: usize,
    matrix: usize,
}

impl Operand {
    /// `x` `[…, outer, depth]`, copied if the copy engine cannot read it as it lies; TF32
    /// instructions also want neighbours along the sum.
    fn new(x: CubeTensor<CudaRuntime>, precision: Precision) -> Self {
        Self::in_place(&x, precision).unwrap_or_else(|| {
            if let Some(copy) = transposed_copy(&x, 16) {
                return Self::in_place(&copy, precision).expect("rows were aligned");
            }
            let copy = burn_cubecl::kernel::into_contiguous(x);
            let aligned = Self::in_place(&copy, precision);
            aligned.unwrap_or_else(|| Self::padded(copy, precision))
        })
    }

    fn in_place(x: &CubeTensor<CudaRuntime>, precision: Precision) -> Option<Self> {
        let (shape, strides) = (x.meta.shape(), x.meta.strides());
        let rank = shape.num_dims();
        let (outer, depth) = (shape[rank - 2], shape[rank - 1]);
        let (batch, matrix) = if rank == 3 { (shape[0], strides[0]) } else { (1, 0) };
        let [along_outer, along_depth] = [strides[rank - 2], strides[rank - 1]];
        let across = along_depth != 1 && along_outer == 1 && precision == Precision::Bf16;
        let row = if across { along_depth } else { along_outer };
        let rows = if across { depth } else { outer };
        let matrix = if batch > 1 { matrix } else { row * rows };
        let sixteen = |elements: usize| (elements * x.elem_size()).is_multiple_of(16);
        let dense = across || along_depth == 1;
        let aligned = sixteen(row) && sixteen(matrix) && row > 0 && matrix > 0;
        let start = x.handle.offset_start.unwrap_or(0).is_multiple_of(16);
        let tensor = x.clone();
        (dense && aligned && start).then_some(Self {
            tensor,
            batch,
            outer,
            depth,
            across,
            row,
            matrix,
        })
    }

    /// A copy with rows of a multiple of 16 bytes.
    fn padded(x: CubeTensor<CudaRuntime>, precision: Precision) -> Self {
        let copy = with_padded_rows(x, 16);
        Self::in_place(&copy, precision).expect("rows are padded to 16 bytes")
    }

    /// The description for the copy engine, which moves boxes of `rows` rows.
    fn map(&self, precision: Precision, across_rows: usize) -> TensorMapBinding {
        let (rows, columns) = match self.across {
            true => (self.depth, self.outer),
            false => (self.outer, self.depth),
        };
        let size = self.tensor.elem_size();
        let depth = 128 / size;
        let box_rows = if self.across { depth } else { across_rows };
        let kind = if precision == Precision::Tf32 { FloatKind::TF32 } else { FloatKind::BF16 };
        let meta = Metadata::new(
            Shape::new([self.batch, rows, columns]),
            strides![self.matrix, self.row, 1],
        );
        TensorMapBinding {
            binding: self.tensor.handle.clone().binding(),
            map: TensorMapMeta {
                format: TensorMapFormat::Tiled(TiledArgs {
                    tile_size: Shape::new([1, box_rows, depth]),
                }),
                metadata: meta,
                elem_stride: strides![1, 1, 1],
                interleave: TensorMapInterleave::None,
                swizzle: TensorMapSwizzle::B128,
                prefetch: TensorMapPrefetch::B256,
                oob_fill: OobFill::Zero,
                storage_ty: ElemType::Float(kind).into(),
            },
        }
    }
}

/// Tile of a block: rows in warpgroups of 64, columns, stages of operands in flight, and the share of
/// the best tile's speed that it reaches (measured on an H200).
struct Tile {
    warpgroups: usize,
    columns: usize,
    stages: usize,
    speed: f64,
}

const TILES: [Tile; 4] = [
    Tile { warpgroups: 2, columns: 256, stages: 4, speed: 1.0 },
    Tile { warpgroups: 2, columns: 128, stages: 6, speed: 0.92 },
    Tile { warpgroups: 1, columns: 128, stages: 6, speed: 0.56 },
    Tile { warpgroups: 1, columns: 64, stages: 8, speed: 0.40 },
];

/// Blocks at a time: the multiprocessors of an H100 or H200.
const BLOCKS: usize = 132;

impl Tile {
    fn rows(&self) -> usize {
        64 * self.warpgroups
    }

    /// Tiles of `batch` products `[m, n]`.
    fn count(&self, batch: usize, m: usize, n: usize) -> usize {
        batch * m.div_ceil(self.rows()) * n.div_ceil(self.columns)
    }

    /// Seconds, roughly, for `stages` stages of the depth split into `splits`.
    fn cost(&self, [batch, m, n]: [usize; 3], stages: usize, splits: usize) -> f64 {
        // A stage of the largest tile, and as many again for filling and emptying the pipeline.
        const STAGE: f64 = 0.79e-6 / (128.0 * 256.0);
        const AROUND: f64 = 5.0;
        const BYTES_PER_SECOND: f64 = 3.5e12;
        let waves = (self.count(batch, m, n) * splits).div_ceil(BLOCKS) as f64;
        let depth = stages.div_ceil(splits) as f64 + AROUND;
        let tile = (self.rows() * self.columns) as f64 * STAGE / self.speed;
        let parts = match splits {
            1 => 0.0,
            s => 3e-6 + (s * batch * m * n * 8) as f64 / BYTES_PER_SECOND,
        };
        waves * depth * tile + parts
    }

    /// The tile and the number of parts with the lowest cost.
    fn choose(sizes: [usize; 3], stages: usize) -> (&'static Self, usize) {
        let options = TILES.iter().flat_map(|tile| [1, 2, 4, 8].map(|splits| (tile, splits)));
        let sensible = options.filter(|(_, splits)| *splits == 1 || stages >= 8 * splits);
        let cost = |(tile, splits): &(&Self, usize)| tile.cost(sizes, stages, *splits);
        sensible.min_by(|a, b| cost(a).total_cmp(&cost(b))).expect("the list is not empty")
    }

    fn source(&self, precision: Precision, across: [bool; 2], output: DType) -> Source {
        let element = precision.operand().size();
        let defines = vec![
            ("CONSUMERS", self.warpgroups),
            ("BN", self.columns),
            ("BK", 128 / element),
            ("STAGES", self.stages),
            ("ELEMENT", element),
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

/// Whether [`product`] runs on the device of `x` in this precision.
pub(super) fn available(x: &CubeTensor<CudaRuntime>, precision: Precision) -> bool {
    precision != Precision::F32 && capability(x) == (9, 0)
}

/// `a b` for `a` `[…, N, K]` and `b` `[…, K, M]` of the type that `precision` multiplies, as a tensor
/// of type `output`, f32 or bf16.
pub(super) fn product(
    [a, b]: [CubeTensor<CudaRuntime>; 2],
    precision: Precision,
    output: DType,
    rows: Rows,
) -> CubeTensor<CudaRuntime> {
    let mut shape = a.meta.shape().to_vec();
    let last = shape.len() - 1;
    shape[last] = b.meta.shape()[last];
    let a = Operand::new(a, precision);
    let b = Operand::new(super::kernel::transposed(b), precision);
    let (batch, m, n) = (a.batch, a.outer, b.outer);
    let depth = 128 / a.tensor.elem_size();
    let stages = a.depth.div_ceil(depth);
    let (tile, splits) = Tile::choose([batch, m, n], stages);
    let direct = splits == 1;
    let written = if direct { output } else { DType::F32 };
    let row = match rows {
        Rows::Dense => n,
        Rows::Aligned => n.next_multiple_of(16 / output.size()),
    };
    let mut full = shape.clone();
    full[last] = row;
    let parts = if direct { full.clone() } else { vec![batch * splits, m, row] };
    let c = empty(&a.tensor, parts, written);
    let pair = |low: usize, high: usize| low as u64 | (high as u64) << 32;
    let numbers = vec![pair(m, n), pair(row, batch), pair(stages, splits), (m * row) as u64];
    let maps = vec![a.map(precision, tile.rows()), b.map(precision, tile.columns)];
    let source = tile.source(precision, [a.across, b.across], written);
    let blocks = (tile.count(batch, m, n) * splits).min(BLOCKS);
    let client = c.client.clone();
    let arguments = Arguments { maps, buffers: vec![c.clone()], numbers };
    // SAFETY: the maps bound what is read, and the sizes what is written.
    unsafe { launch(&client, source, (blocks, 1, 1), arguments) };
    let mut c = if direct { c } else { sum_parts(c, splits, full, output) };
    // What lies between its rows is no part of it.
    c.meta.shape = shape.into();
    c
}
