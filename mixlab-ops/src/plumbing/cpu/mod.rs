//! What the fused bodies for burn-flex are made of: vector arithmetic, work split over threads,
//! matrix products and heads, all on plain slices.
//!
//! Every split of work depends on sizes alone, and every sum has one order, so that results depend
//! neither on the number of threads nor on the width of the processor's vectors.

mod awake;
mod heads;
mod lanes;
mod matrix;
mod packed;
mod row;
mod split;

use burn::tensor::{DType, Shape};
use burn_flex::{FlexTensor, Layout};
use burn_std::Bytes;

pub(crate) use awake::awake;
pub(crate) use heads::{Heads, joined, streamed};
pub(crate) use lanes::{
    Lanes, by_lane, combine, each, exp, fill, maximum, sigmoid, sum, tanh, update, wide,
};
pub(crate) use matrix::{Matrix, Product, forward_strided, multiplied, multiply};
pub(crate) use row::{add_row, set_row};
pub(crate) use split::{TASK, column_sums, each_row, in_place, parallel, parallel_if, pointwise};

/// A tensor of `shape` that owns `data`, in row-major order.
pub(crate) fn tensor(data: Vec<f32>, shape: impl Into<Shape>) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(data), Layout::contiguous(shape.into()), DType::F32)
}

/// `x` as it is if its data is all of its memory, in order; else a copy.
pub(crate) fn whole(x: FlexTensor) -> FlexTensor {
    let whole = x.is_contiguous() && x.layout().start_offset() == 0;
    if whole && x.storage::<f32>().len() == x.layout().shape().num_elements() {
        x
    } else {
        x.to_contiguous()
    }
}

/// Integers of either width as indices; a negative one becomes too large for any axis.
pub(crate) fn indices(x: &FlexTensor) -> Option<Vec<usize>> {
    let x = x.to_contiguous();
    match x.dtype() {
        DType::I32 => Some(x.storage::<i32>().iter().map(|i| *i as usize).collect()),
        DType::I64 => Some(x.storage::<i64>().iter().map(|i| *i as usize).collect()),
        _ => None,
    }
}
