//! The kernels of `hopper.cu`: attention by warpgroup instructions, fed by the bulk copy engine.

use burn::tensor::DType;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::ir::{ElemType, FloatKind};
use cubecl::prelude::*;
use cubecl::server::{TensorMapBinding, TensorMapMeta};
use cubecl::zspace::{Shape, metadata::Metadata, strides};

use super::Attention;
use crate::Precision;
use crate::plumbing::cuda::{Source, Text};

static TEXT: Text = Text::new(concat!(
    include_str!("../plumbing/barriers.cu"),
    include_str!("common.cu"),
    include_str!("hopper.cu")
));
/// Rows that a warpgroup keeps, and of the tiles that it walks over.
const ROWS: usize = 64;
/// Tiles in flight.
const STAGES: usize = 2;
/// Bytes before the first tile, which lies at a multiple of as many.
const ALIGNED: usize = 1 << 10;

/// Heads of one width and type on Hopper.
#[derive(Clone, Copy, Debug)]
pub(super) struct Warpgroups {
    /// Channels of a head that are computed.
    padded: usize,
    dtype: DType,
}

/// How a kernel's blocks are made.
struct Block {
    warpgroups: usize,
    /// Whether it has a multiprocessor to itself.
    wide: bool,
    /// How many share a multiprocessor, which bounds the registers of a thread.
    sharing: usize,
    /// Tensors whose rows it keeps.
    kept: usize,
}

impl Warpgroups {
    /// For heads of `padded` channels in `dtype`; `None` if they are multiplied in another way.
    pub fn new(
        of: &Attention,
        padded: usize,
        dtype: DType,
        capability: (i32, i32),
    ) -> Option<Self> {
        let taken = match dtype {
            DType::BF16 | DType::F16 => true,
            DType::F32 => of.precision != Precision::F32,
            _ => false,
        };
        (taken && capability == (9, 0) && of.scale >= 0.0).then_some(Self { padded, dtype })
    }

    fn floats(&self) -> bool {
        self.dtype == DType::F32
    }

    /// What was fastest on an H200 of all that was tried (docs/performance.md).
    fn block(&self, entry: &str, decay: bool) -> Block {
        let one = |sharing, kept| Block { warpgroups: 1, wide: false, sharing, kept };
        let of_64 = self.padded == 64;
        match (entry, self.floats()) {
            ("attention_forward", false) if self.padded <= 64 => one(4, 1),
            ("attention_forward", false) if self.padded == 96 => one(3, 1),
            ("attention_forward", _) => one(1, 1),
            ("attention_dq", false) if of_64 && !decay => one(3, 2),
            ("attention_dq", _) => one(1, 2),
            (_, false) if self.padded > 64 => {
                Block { warpgroups: 2, wide: true, sharing: 1, kept: 2 }
            }
            _ => one(if of_64 { 2 } else { 1 }, 2),
        }
    }

    /// Rows that a block of `entry` keeps.
    pub fn rows(&self, entry: &str, decay: bool) -> usize {
        ROWS * self.block(entry, decay).warpgroups
    }

    /// `entry`, for attention that is causal or not, with decays or without.
    pub fn source(&self, entry: &'static str, [causal, decay]: [bool; 2]) -> Source {
        let block = self.block(entry, decay);
        let kind = match self.dtype {
            DType::BF16 => 0,
            DType::F16 => 1,
            _ => 2,
        };
        let copying = if block.wide { 128 } else { 32 };
        let rows = block.kept * ROWS * block.warpgroups + STAGES * 2 * ROWS;
        Source {
            entry,
            text: &TEXT,
            defines: vec![
                ("HD", self.padded),
                ("CAUSAL", causal as usize),
                ("DECAY", decay as usize),
                ("TYPE", kind),
                ("GROUPS", block.warpgroups),
                ("STAGES", STAGES),
                ("WIDE", block.wide as usize),
                ("BLOCKS", block.sharing),
            ],
            preamble: |_| String::new(),
            block: CubeDim::new_1d((128 * block.warpgroups + copying) as u32),
            shared: ALIGNED + rows * self.padded * self.dtype.size(),
        }
    }

    /// The description of `x` `[B, H, T, hd]` for the copy engine, which moves boxes of 64 positions
    /// by as many channels as its swizzle is wide.
    pub fn map<R: CubeRuntime>(&self, x: &CubeTensor<R>) -> TensorMapBinding {
        let row = self.padded * self.dtype.size();
        let (across, swizzle) = match (row % 128, row % 64) {
            (0, _) => (128, TensorMapSwizzle::B128),
            (_, 0) => (64, TensorMapSwizzle::B64),
            _ => (32, TensorMapSwizzle::B32),
        };
        let kind = match self.dtype {
            DType::BF16 => FloatKind::BF16,
            DType::F16 => FloatKind::F16,
            _ => FloatKind::TF32,
        };
        TensorMapBinding {
            binding: x.handle.clone().binding(),
            map: TensorMapMeta {
                format: TensorMapFormat::Tiled(TiledArgs {
                    tile_size: Shape::new([1, 1, ROWS, across / self.dtype.size()]),
                }),
                metadata: Metadata::new(x.meta.shape().clone(), x.meta.strides().clone()),
                elem_stride: strides![1, 1, 1, 1],
                interleave: TensorMapInterleave::None,
                swizzle,
                prefetch: TensorMapPrefetch::B256,
                oob_fill: OobFill::Zero,
                storage_ty: ElemType::Float(kind).into(),
            },
        }
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::super::flash::WIDTHS;
    use super::*;
    use crate::testing::nvrtc::compiles;

    #[test]
    fn all_texts_compile_and_their_tiles_fit() {
        for (padded, dtype) in
            WIDTHS.into_iter().flat_map(|w| [DType::BF16, DType::F16, DType::F32].map(|d| (w, d)))
        {
            let heads = Warpgroups { padded, dtype };
            for entry in ["attention_forward", "attention_dq", "attention_dkdv"] {
                for flags in [[false, false], [false, true], [true, false], [true, true]] {
                    let source = heads.source(entry, flags);
                    assert!(source.shared <= 225 << 10, "{padded} {dtype:?} {entry}");
                    compiles(&source, &["sm_90a"]);
                }
            }
        }
    }

    #[test]
    fn other_cards_and_scales_and_exact_floats_are_not_taken() {
        let of = |scale, precision| Attention { causal: true, scale, precision };
        let tf32 = of(0.125, Precision::Tf32);
        assert!(Warpgroups::new(&tf32, 64, DType::F32, (9, 0)).is_some());
        assert!(Warpgroups::new(&tf32, 64, DType::F32, (10, 0)).is_none());
        assert!(Warpgroups::new(&of(-1.0, Precision::Tf32), 64, DType::F32, (9, 0)).is_none());
        assert!(Warpgroups::new(&of(0.125, Precision::F32), 64, DType::F32, (9, 0)).is_none());
        assert!(Warpgroups::new(&of(0.125, Precision::F32), 64, DType::BF16, (9, 0)).is_some());
    }
}
