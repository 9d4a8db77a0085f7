//! Weights as quantization would leave them, for the forward pass of training.

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;
use burn_backend::TensorMetadata;
use burn_backend::tensor::FloatTensor;
use mixlab_ops::{Backend, lift, lower};

use super::parameters::{weights, with_weights};
use crate::plan::Qat;
use crate::weights::Levels;

/// `module` with its weights rounded as `qat` says; a gradient by one of them is taken for the gradient
/// by the weight itself.
///
/// Each row of a matrix has its own scale, its largest absolute value over 127, but at least 1/127 as
/// in mixlab 0.10.1; what is no matrix is one row.
pub fn fake_quantized<A, M>(module: &M, qat: &Qat) -> M
where
    A: AutodiffBackend<InnerBackend: Backend>,
    M: Module<A>,
{
    let rounded = weights::<A, M>(module).into_iter().map(|weight| {
        let is_matrix = weight.shape().num_dims() == 2;
        if is_matrix || !qat.matrices_only {
            fake_quantize::<A::InnerBackend>(weight, qat.levels)
        } else {
            weight
        }
    });
    with_weights(module, rounded.collect())
}

fn fake_quantize<B: Backend>(weight: FloatTensor<B>, levels: Levels) -> FloatTensor<B> {
    let shape = weight.shape();
    let rows = if shape.num_dims() == 2 { shape[0] } else { 1 };
    let columns = shape.num_elements() / rows.max(1);
    let weight: Tensor<B, 2> = lift(B::float_reshape(weight, [rows, columns].into()));
    let scale = weight.clone().abs().max_dim(1).div_scalar(127.0).clamp_min(1.0 / 127.0);
    let rounded = (weight / scale.clone()).clamp(-127.0, 127.0);
    let rounded = match levels {
        Levels::Int8 => rounded.round(),
        Levels::Int6 => {
            rounded.round().div_scalar(4.0).round().mul_scalar(4.0).clamp(-128.0, 124.0)
        }
    };
    B::float_reshape(lower(rounded * scale), shape)
}
