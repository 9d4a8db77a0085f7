//! Matrix products for burn-flex, into memory that nobody has to clear or move first.

use burn_flex::FlexTensor;

use crate::plumbing::cpu::{Matrix, forward_strided, multiplied, tensor};

fn product(a: Matrix<'_>, b: Matrix<'_>) -> FlexTensor {
    tensor(multiplied(a, b, true), [a.rows, b.columns])
}

pub(super) fn linear(inputs: &[FlexTensor; 2]) -> FlexTensor {
    let [x, w] = inputs.each_ref().map(forward_strided);
    product(Matrix::of(&x), Matrix::of(&w))
}

/// Gradients of `x` and `w`, given `[x, w, g]`.
pub(super) fn gradient(inputs: &[FlexTensor; 3]) -> [FlexTensor; 2] {
    let inputs = inputs.each_ref().map(forward_strided);
    let [x, w, g] = inputs.each_ref().map(Matrix::of);
    let (dx, dw) = rayon::join(|| product(g, w.transposed()), || product(x.transposed(), g));
    [dx, dw]
}
