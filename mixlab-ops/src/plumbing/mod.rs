//! How each kind of backend runs an op: written once, for every op.

mod autodiff;
mod backends;
mod capture;

use burn::tensor::{Tensor, TensorPrimitive, backend::Backend};
use burn_backend::tensor::FloatTensor;

/// A primitive as a tensor of rank `D`.
pub fn lift<B: Backend, const D: usize>(x: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(x))
}

/// A tensor as its primitive.
pub fn lower<B: Backend, const D: usize>(x: Tensor<B, D>) -> FloatTensor<B> {
    x.into_primitive().tensor()
}
