//! Root-mean-square normalisation (Zhang and Sennrich, 2019).
//!
//! `y = x · r · s` with `r = 1 / √(mean(x²) + ε)` over the last axis. With `u = g ⊙ s`:
//! `∂x = r·u − x · r³ · mean(u ⊙ x)` and `∂s = Σ_n g ⊙ x · r`.

#[cfg(feature = "cpu")]
mod cpu;

use burn::tensor::Tensor;
use burn_backend::tensor::{FloatTensor, IntTensor};
#[cfg(feature = "cpu")]
use burn_flex::FlexTensor;

use crate::{Backend, Op, Spec, Tape, all, lift, lower};

/// Attributes of [`rms_norm`].
#[derive(Clone, Debug)]
pub struct RmsNorm {
    /// Added to the mean square before the root.
    pub eps: f32,
}

/// The gradients of [`RmsNorm`], of its inputs and the gradient of its output.
#[derive(Clone, Debug)]
pub struct RmsNormGradient {
    /// Added to the mean square before the root.
    pub eps: f32,
}

/// Normalises each row of `x` `[N, D]` to unit root mean square and multiplies by `scale` `[D]`.
pub fn rms_norm<B: Backend>(x: Tensor<B, 2>, scale: Tensor<B, 1>, eps: f32) -> Tensor<B, 2> {
    let outputs = B::execute(&RmsNorm { eps }, [lower(x), lower(scale)], vec![]);
    lift(outputs.into_iter().next().expect("one output"))
}

/// `1 / √(mean(x²) + ε)` of each row, `[N, 1]`.
fn inverse_rms<B: burn::tensor::backend::Backend>(x: Tensor<B, 2>, eps: f32) -> Tensor<B, 2> {
    let d = x.dims()[1] as f32;
    (x.clone() * x).sum_dim(1).div_scalar(d).add_scalar(eps).sqrt().recip()
}

impl Op<2> for RmsNorm {
    const NAME: &'static str = "mixlab.rms_norm";
    const GRADIENT: bool = true;

    fn attributes(&self) -> String {
        format!(r#"{{"eps":{:e}}}"#, self.eps)
    }

    fn outputs(&self, [x, _]: &[Spec; 2]) -> Vec<Spec> {
        vec![x.clone()]
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        [x, scale]: [FloatTensor<B>; 2],
        _: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let (x, scale) = (lift::<B, 2>(x), lift::<B, 1>(scale));
        let r = inverse_rms(x.clone(), self.eps);
        vec![lower(x * r * scale.unsqueeze())]
    }

    fn gradient<B: Backend>(&self, tape: Tape<B, 2>, grad: FloatTensor<B>) -> [FloatTensor<B>; 2] {
        let [x, scale] = tape.inputs;
        all(B::execute(&RmsNormGradient { eps: self.eps }, [x, scale, grad], vec![]))
    }

    #[cfg(feature = "cpu")]
    fn cpu(&self, inputs: &[FlexTensor; 2], _: &[FlexTensor]) -> Option<Vec<FlexTensor>> {
        Some(vec![cpu::rms_norm(self.eps, inputs)])
    }
}

impl Op<3> for RmsNormGradient {
    const NAME: &'static str = "mixlab.rms_norm_gradient";

    fn attributes(&self) -> String {
        format!(r#"{{"eps":{:e}}}"#, self.eps)
    }

    fn outputs(&self, [x, scale, _]: &[Spec; 3]) -> Vec<Spec> {
        vec![x.clone(), scale.clone()]
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        [x, scale, grad]: [FloatTensor<B>; 3],
        _: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let (x, scale, g) = (lift::<B, 2>(x), lift::<B, 1>(scale), lift::<B, 2>(grad));
        let d = x.dims()[1] as f32;
        let r = inverse_rms(x.clone(), self.eps);
        let normed = x * r.clone();
        let dscale = (g.clone() * normed.clone()).sum_dim(0).squeeze_dim::<1>(0);
        let u = g * scale.unsqueeze();
        let mean = (u.clone() * normed.clone()).sum_dim(1).div_scalar(d);
        vec![lower((u - normed * mean) * r), lower(dscale)]
    }

    #[cfg(feature = "cpu")]
    fn cpu(&self, inputs: &[FlexTensor; 3], _: &[FlexTensor]) -> Option<Vec<FlexTensor>> {
        Some(cpu::gradient(self.eps, inputs).into())
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests;
