//! Operands of a product as the bulk copy engine reads them.

use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::ir::{ElemType, FloatKind};
use cubecl::prelude::*;
use cubecl::server::{TensorMapBinding, TensorMapMeta};
use cubecl::zspace::{Shape, metadata::Metadata, strides};

use super::planes::{PLANES, planes};
use crate::Precision;
use crate::plumbing::product::copies::{transposed_copy, with_padded_rows};

/// A matrix, or several of the same shape, in memory.
#[derive(Clone, Debug)]
pub struct Operand<R: CubeRuntime> {
    pub tensor: CubeTensor<R>,
    pub batch: usize,
    /// Times that the batch lies in memory: of f32 once for every plane.
    planes: usize,
    /// Length along the result, and along the sum.
    pub outer: usize,
    pub depth: usize,
    /// Whether neighbours in memory are neighbours along the result, not along the sum.
    pub across: bool,
    /// Elements from one row in memory to the next, and from one matrix to the next.
    row: usize,
    matrix: usize,
}

impl<R: CubeRuntime> Operand<R> {
    /// `x` `[…, outer, depth]`, copied if the copy engine cannot read it as it lies; TF32
    /// instructions also want neighbours along the sum. In f32 its planes.
    pub fn new(x: CubeTensor<R>, precision: Precision) -> Self {
        if precision == Precision::F32 {
            let all =
                Self::in_place(&planes(x), Precision::Bf16).expect("rows of planes are aligned");
            return Self { batch: all.batch / PLANES, planes: PLANES, ..all };
        }
        Self::in_place(&x, precision).unwrap_or_else(|| {
            if let Some(copy) = transposed_copy(&x, 16) {
                return Self::in_place(&copy, precision).expect("rows were aligned");
            }
            let copy = burn_cubecl::kernel::into_contiguous(x);
            let aligned = Self::in_place(&copy, precision);
            aligned.unwrap_or_else(|| Self::padded(copy, precision))
        })
    }

    fn in_place(x: &CubeTensor<R>, precision: Precision) -> Option<Self> {
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
            planes: 1,
            outer,
            depth,
            across,
            row,
            matrix,
        })
    }

    /// A copy with rows of a multiple of 16 bytes.
    fn padded(x: CubeTensor<R>, precision: Precision) -> Self {
        let copy = with_padded_rows(x, 16);
        Self::in_place(&copy, precision).expect("rows are padded to 16 bytes")
    }

    /// The description for the copy engine, which moves boxes of `rows` rows.
    pub fn map(&self, precision: Precision, across_rows: usize) -> TensorMapBinding {
        let (rows, columns) =
            if self.across { (self.depth, self.outer) } else { (self.outer, self.depth) };
        let size = self.tensor.elem_size();
        let depth = 128 / size;
        let box_rows = if self.across { depth } else { across_rows };
        let kind = if precision == Precision::Tf32 { FloatKind::TF32 } else { FloatKind::BF16 };
        let meta = Metadata::new(
            Shape::new([self.planes * self.batch, rows, columns]),
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
