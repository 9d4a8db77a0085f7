//! Parameters as they start. All are lazy: nothing is allocated until the first use.

use burn::module::{Initializer, Param};
use burn::tensor::{Tensor, backend::Backend};
use mixlab_ops::{Activation, activate};

/// A matrix `[rows, columns]` for `y = x·W`. It stays zero until [`crate::weights::initialize`]
/// draws it or a file replaces it.
pub fn matrix<B: Backend>(shape: [usize; 2], device: &B::Device) -> Param<Tensor<B, 2>> {
    Initializer::Zeros.init(shape, device)
}

/// A vector `[n]` of ones.
pub fn ones<B: Backend>(n: usize, device: &B::Device) -> Param<Tensor<B, 1>> {
    Initializer::Ones.init([n], device)
}

/// A vector `[n]` of zeros.
pub fn zeros<B: Backend>(n: usize, device: &B::Device) -> Param<Tensor<B, 1>> {
    Initializer::Zeros.init([n], device)
}

/// A vector `[n]` of `value`.
pub fn constant<B: Backend>(n: usize, value: f32, device: &B::Device) -> Param<Tensor<B, 1>> {
    Initializer::Constant { value: value.into() }.init([n], device)
}

/// The logistic function of a vector `[n]`.
pub(crate) fn sigmoid<B: mixlab_ops::Backend>(x: Tensor<B, 1>) -> Tensor<B, 1> {
    activate(Activation::Sigmoid, x.unsqueeze()).squeeze_dim(0)
}

/// `y` `[N, D]` times the branch's learned scale, if it has one.
pub(crate) fn scaled<B: Backend>(
    y: Tensor<B, 2>,
    scale: &Option<Param<Tensor<B, 1>>>,
) -> Tensor<B, 2> {
    match scale {
        Some(scale) => y * scale.val().unsqueeze(),
        None => y,
    }
}
