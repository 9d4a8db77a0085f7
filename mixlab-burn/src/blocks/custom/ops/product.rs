//! Products of matrices and vectors.

use burn::tensor::{DType, FloatDType};
use burn_backend::TensorMetadata;
use burn_backend::tensor::FloatTensor;
use mixlab_ops::{Backend, Precision, lift, linear, lower};

use super::elementwise::matrix;
use super::{Call, Dims, Site, broadcast, dims, expand, reshape};
use crate::blocks::custom::fault::Fault;

/// The shapes of two factors with at least two axes: a vector is a row on the left and a column on
/// the right.
pub fn factors(a: &Dims, b: &Dims) -> [Dims; 2] {
    let a = if a.len() == 1 { vec![1, a[0]] } else { a.clone() };
    let b = if b.len() == 1 { vec![b[0], 1] } else { b.clone() };
    [a, b]
}

/// Leading axes broadcast, then rows of `a` and columns of `b`; an axis that a vector was given is
/// dropped again, unless it is the only one left.
pub fn matmul_shape(_: &Site<'_>, inputs: &[Dims]) -> Result<Vec<Dims>, Fault> {
    let [a, b] = factors(&inputs[0], &inputs[1]);
    let (rows, inner) = (a[a.len() - 2], a[a.len() - 1]);
    let (other, columns) = (b[b.len() - 2], b[b.len() - 1]);
    if inner != other {
        return Err(Fault::new(
            format!("the inner lengths `{inner}` and `{other}` differ"),
            "the last axis of `a` must be as long as the one before the last of `b`; a weight [n] counts as [1, n]",
        ));
    }
    let mut shape = broadcast(&[a[..a.len() - 2].to_vec(), b[..b.len() - 2].to_vec()])?;
    if inputs[0].len() > 1 || inputs[1].len() == 1 {
        shape.push(rows);
    }
    if inputs[1].len() > 1 {
        shape.push(columns);
    }
    Ok(vec![shape])
}

/// A stream times a weight matrix is one product; anything else is batched. Both have operands in
/// the precision of the pass.
pub fn matmul<B: Backend>(mut call: Call<'_, B>) -> Vec<FloatTensor<B>> {
    let [a, b] = call.take();
    let [left, right] = factors(&dims::<B>(&a), &dims::<B>(&b));
    let (a, b) = (reshape::<B>(a, &left), reshape::<B>(b, &right));
    if right.len() == 2 {
        let y = linear(matrix::<B>(a), lift(b), call.flow.precision);
        return call.shaped(lower(y));
    }
    let split = |dims: &Dims| (dims[..dims.len() - 2].to_vec(), dims[dims.len() - 2..].to_vec());
    let ((lead_a, a_matrix), (lead_b, b_matrix)) = (split(&left), split(&right));
    let lead = broadcast(&[lead_a, lead_b]).expect("planning has checked the leading axes");
    let a = expand::<B>(a, &[lead.clone(), a_matrix].concat());
    let b = expand::<B>(b, &[lead, b_matrix].concat());
    let dtype = a.dtype();
    let [a, b] = [a, b].map(|x| operand::<B>(x, call.flow.precision));
    let y = B::float_matmul(a, b);
    call.shaped(if y.dtype() == dtype { y } else { B::float_cast(y, dtype.into()) })
}

/// `x` in the format of products.
fn operand<B: Backend>(x: FloatTensor<B>, precision: Precision) -> FloatTensor<B> {
    match precision {
        Precision::Bf16 if x.dtype() != DType::BF16 => B::float_cast(x, FloatDType::BF16),
        _ => x,
    }
}

/// Leading axes broadcast, then the last axis of `a` and that of `b`.
pub fn outer_shape(_: &Site<'_>, inputs: &[Dims]) -> Result<Vec<Dims>, Fault> {
    let [a, b] = inputs else { unreachable!("planning has counted the inputs") };
    let mut shape = broadcast(&[a[..a.len() - 1].to_vec(), b[..b.len() - 1].to_vec()])?;
    shape.extend([a[a.len() - 1], b[b.len() - 1]]);
    Ok(vec![shape])
}

/// Each pair of elements of the last axes.
pub fn outer<B: Backend>(mut call: Call<'_, B>) -> Vec<FloatTensor<B>> {
    let [a, b] = call.take();
    let column = [dims::<B>(&a), vec![1]].concat();
    let mut row = dims::<B>(&b);
    row.insert(row.len() - 1, 1);
    call.inputs = vec![reshape::<B>(a, &column), reshape::<B>(b, &row)];
    super::elementwise::binary(call, B::float_mul)
}
