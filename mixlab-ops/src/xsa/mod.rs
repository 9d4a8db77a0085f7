//! Exclusive self-attention: what attention found, less its projection on the position's own value.
//!
//! `z = y − (y·v / n) v` with `n = v·v + 10⁻⁸`, dot products over the head width. With `c = y·v / n`
//! and `e = g·v / n`: `∂y = g − e v` and `∂v = −c g − e (y − 2c v)`, summed over the query heads that
//! share `v`. Nothing but `y` and `v` is kept.

use burn::tensor::Tensor;
use burn_backend::tensor::{FloatTensor, IntTensor};

use crate::attention::{repeat_heads, sum_groups};
use crate::{Backend, Op, Spec, Tape, lift, lower};

/// [`xsa`] has no attributes.
#[derive(Clone, Debug)]
pub struct Xsa;

/// Removes from `y` `[B, H, T, hd]` its projection on `v` `[B, Hk, T, hd]`; `Hk` divides `H`, and
/// query head `h` looks at value head `⌊h·Hk/H⌋`.
pub fn xsa<B: Backend>(y: Tensor<B, 4>, v: Tensor<B, 4>) -> Tensor<B, 4> {
    let outputs = B::execute(&Xsa, [lower(y), lower(v)], vec![]);
    lift(outputs.into_iter().next().expect("one output"))
}

/// `x·v / (v·v + 10⁻⁸)` of each position, `[B, H, T, 1]`.
fn along<B: burn::tensor::backend::Backend>(x: Tensor<B, 4>, v: Tensor<B, 4>) -> Tensor<B, 4> {
    (x * v.clone()).sum_dim(3) / ((v.clone() * v).sum_dim(3) + 1e-8)
}

impl Op<2> for Xsa {
    const NAME: &'static str = "mixlab.xsa";
    const GRADIENT: bool = true;

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
        let c = along(y.clone(), v.clone());
        vec![lower(y - v * c)]
    }

    fn gradient<B: Backend>(&self, tape: Tape<B, 2>, grad: FloatTensor<B>) -> [FloatTensor<B>; 2] {
        let [y, v] = tape.inputs.map(lift::<B, 4>);
        let g = lift::<B, 4>(grad);
        let (heads, groups) = (y.dims()[1], v.dims()[1]);
        let v = repeat_heads(v, heads);
        let c = along(y.clone(), v.clone());
        let e = along(g.clone(), v.clone());
        let dy = g.clone() - v.clone() * e.clone();
        let dv = (v * (c.clone() * 2.0) - y) * e - g * c;
        [lower(dy), lower(sum_groups(dv, groups))]
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests;
