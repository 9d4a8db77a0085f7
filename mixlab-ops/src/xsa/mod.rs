//! Exclusive self-attention: what attention found, less its projection on the position's own value.
//!
//! `z = y − (y·v / (v·v + 10⁻⁸)) v`, dot products over the head width.

use burn::tensor::Tensor;
use burn_backend::tensor::{FloatTensor, IntTensor};

use crate::attention::repeat_heads;
use crate::{Backend, Op, Spec, lift, lower};

/// [`xsa`] has no attributes.
#[derive(Clone, Debug)]
pub struct Xsa;

/// Removes from `y` `[B, H, T, hd]` its projection on `v` `[B, Hk, T, hd]`; `Hk` divides `H`, and
/// query head `h` looks at value head `⌊h·Hk/H⌋`.
pub fn xsa<B: Backend>(y: Tensor<B, 4>, v: Tensor<B, 4>) -> Tensor<B, 4> {
    let outputs = B::execute(&Xsa, [lower(y), lower(v)], vec![]);
    lift(outputs.into_iter().next().expect("one output"))
}

impl Op<2> for Xsa {
    const NAME: &'static str = "mixlab.xsa";

    fn outputs(&self, [y, _]: &[Spec; 2]) -> Vec<Spec> {
        vec![y.clone()]
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        [y, v]: [FloatTensor<B>; 2],
        _: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let (y, v) = (lift::<B, 4>(y), lift::<B, 4>(v));
        let v = repeat_heads(v, y.dims()[1]);
        let along = (y.clone() * v.clone()).sum_dim(3);
        let norm = (v.clone() * v.clone()).sum_dim(3) + 1e-8;
        vec![lower(y - v * (along / norm))]
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests;
