//! How each kind of backend runs an op: written once, for every op.

mod autodiff;
mod backends;
mod capture;
#[cfg(feature = "cpu")]
pub(crate) mod cpu;
#[cfg(feature = "cube")]
pub(crate) mod cube;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
#[cfg(feature = "cuda")]
pub(crate) mod deferred;
pub(crate) mod fallbacks;
#[cfg(feature = "cube")]
mod fusion;
pub(crate) mod heads;
pub(crate) mod indices;
pub(crate) mod list;
pub(crate) mod product;
#[cfg(feature = "cube")]
pub(crate) mod reduce;
#[cfg(feature = "cube")]
pub(crate) mod rows;

pub use fallbacks::fallbacks;

use core::any::Any;

use burn::tensor::{Tensor, TensorPrimitive, backend::Backend};
use burn_backend::tensor::{FloatTensor, IntTensor};

/// A primitive as a tensor of rank `D`.
pub fn lift<B: Backend, const D: usize>(x: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(x))
}

/// A tensor as its primitive.
pub fn lower<B: Backend, const D: usize>(x: Tensor<B, D>) -> FloatTensor<B> {
    x.into_primitive().tensor()
}

/// The differentiable output of `op`, the first one, as a tensor of rank `D`.
pub(crate) fn run<B: crate::Backend, O: crate::Op<N>, const N: usize, const D: usize>(
    op: &O,
    inputs: [FloatTensor<B>; N],
    ints: Vec<IntTensor<B>>,
) -> Tensor<B, D> {
    let outputs = B::execute(op, inputs, ints);
    lift(outputs.into_iter().next().expect("an op has at least one output"))
}

/// The outputs of an op that has `N`.
pub(crate) fn all<T, const N: usize>(outputs: Vec<T>) -> [T; N] {
    let count = outputs.len();
    outputs.try_into().unwrap_or_else(|_| panic!("an op returned {count} outputs instead of {N}"))
}

/// What a panic says, if that is a text.
pub(crate) fn said(panic: &(dyn Any + Send)) -> Option<&str> {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
}
