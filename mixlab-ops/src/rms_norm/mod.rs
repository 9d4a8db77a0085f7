//! Root-mean-square normalisation (Zhang and Sennrich, 2019).
//!
//! `y = x · r · s` with `r = 1 / √(mean(x²) + ε)` over the last axis. With `u = g ⊙ s`:
//! `∂x = r·u − x · r³ · mean(u ⊙ x)` and `∂s = Σ_n g ⊙ x · r`. All of it is computed in f32, whatever
//! the types of `x`, `s` and `y`; `∂x` and `∂s` have those of `x` and `s`.

#[cfg(feature = "cpu")]
mod cpu;
#[cfg(feature = "cube")]
mod kernel;

use burn::tensor::{DType, Tensor};
use burn_backend::TensorMetadata;
use burn_backend::tensor::{FloatTensor, IntTensor};
#[cfg(feature = "cube")]
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
#[cfg(feature = "cpu")]
use burn_flex::FlexTensor;

use crate::shape::float;
use crate::{Axes, Backend, Mismatch, Op, Spec, Tape, all, lift, lower, run};

/// Attributes of [`rms_norm`].
#[derive(Clone, Debug)]
pub struct RmsNorm {
    /// Added to the mean square before the root.
    pub eps: f32,
    /// Type of the result; that of `x` if `None`.
    pub dtype: Option<DType>,
}

/// The gradients of [`RmsNorm`], of its inputs and the gradient of its output.
#[derive(Clone, Debug)]
pub struct RmsNormGradient {
    /// Added to the mean square before the root.
    pub eps: f32,
}

/// Normalises each row of `x` `[N, D]` to unit root mean square and multiplies by `scale` `[D]`.
pub fn rms_norm<B: Backend>(x: Tensor<B, 2>, scale: Tensor<B, 1>, eps: f32) -> Tensor<B, 2> {
    run(&RmsNorm { eps, dtype: None }, [lower(x), lower(scale)], vec![])
}

/// [`rms_norm`] with a result of type `dtype`, for example that of the operands of a following
/// matrix product.
pub fn rms_norm_to<B: Backend>(
    x: Tensor<B, 2>,
    scale: Tensor<B, 1>,
    eps: f32,
    dtype: DType,
) -> Tensor<B, 2> {
    run(&RmsNorm { eps, dtype: Some(dtype) }, [lower(x), lower(scale)], vec![])
}

/// Why the kernels cannot take rows of `x`, if they cannot.
#[cfg(feature = "cube")]
fn refusal<R: CubeRuntime>(x: &CubeTensor<R>) -> Option<String> {
    let (width, longest) = (x.meta.shape()[1], kernel::LONGEST);
    (width > longest).then(|| format!("rows of {width} numbers; it takes at most {longest}"))
}

fn single<B: burn::tensor::backend::Backend, const D: usize>(x: FloatTensor<B>) -> Tensor<B, D> {
    lift::<B, D>(x).cast(DType::F32)
}

/// `1 / √(mean(x²) + ε)` of each row, `[N, 1]`.
fn inverse_rms<B: burn::tensor::backend::Backend>(x: Tensor<B, 2>, eps: f32) -> Tensor<B, 2> {
    let d = x.dims()[1] as f32;
    let rms = (x.clone() * x).sum_dim(1).div_scalar(d).add_scalar(eps).sqrt();
    // Not `recip`: burn-ndarray's is good to four digits.
    rms.ones_like() / rms
}

impl Op<2> for RmsNorm {
    const NAME: &'static str = "mixlab.rms_norm";
    const GRADIENT: bool = true;
    const KEEPS_OUTPUT: bool = false;
    const KERNEL: bool = true;

    fn attributes(&self) -> String {
        let eps = self.eps;
        match self.dtype {
            Some(dtype) => format!(r#"{{"eps":{eps:e},"dtype":"{}"}}"#, dtype.name()),
            None => format!(r#"{{"eps":{eps:e}}}"#),
        }
    }

    fn outputs(&self, [x, scale]: &[Spec; 2], _: &[Spec]) -> Result<Vec<Spec>, Mismatch> {
        let mut axes = Axes::default();
        let shape = axes.of("x", x, ["N", "D"])?;
        axes.of("scale", scale, ["D"])?;
        Ok(vec![Spec::new(shape, float(self.dtype.unwrap_or(x.dtype))?)])
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        [x, scale]: [FloatTensor<B>; 2],
        _: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let dtype = self.dtype.unwrap_or(x.dtype());
        let (x, scale) = (single::<B, 2>(x), single::<B, 1>(scale));
        let r = inverse_rms(x.clone(), self.eps);
        vec![lower((x * r * scale.unsqueeze()).cast(dtype))]
    }

    fn gradient<B: Backend>(
        &self,
        mut tape: Tape<B, 2>,
        grad: FloatTensor<B>,
    ) -> [FloatTensor<B>; 2] {
        let [x, scale] = tape.inputs();
        all(B::execute(&RmsNormGradient { eps: self.eps }, [x, scale, grad], vec![]))
    }

    #[cfg(feature = "cpu")]
    fn cpu(&self, inputs: &[FlexTensor; 2], _: &[FlexTensor]) -> Option<Vec<FlexTensor>> {
        let single = self.dtype.is_none_or(|dtype| dtype == DType::F32);
        single.then(|| vec![cpu::rms_norm(self.eps, inputs)])
    }

    #[cfg(feature = "cube")]
    fn refusal<R: CubeRuntime>(&self, [x, _]: &[CubeTensor<R>; 2]) -> Option<String> {
        refusal(x)
    }

    #[cfg(feature = "cube")]
    unsafe fn cube<R: CubeRuntime>(
        &self,
        [x, scale]: [CubeTensor<R>; 2],
        _: Vec<CubeTensor<R>>,
    ) -> Vec<CubeTensor<R>> {
        vec![kernel::normed(self, x, scale)]
    }
}

impl Op<3> for RmsNormGradient {
    const NAME: &'static str = "mixlab.rms_norm_gradient";
    const KERNEL: bool = true;

    fn attributes(&self) -> String {
        format!(r#"{{"eps":{:e}}}"#, self.eps)
    }

    fn outputs(&self, [x, scale, grad]: &[Spec; 3], _: &[Spec]) -> Result<Vec<Spec>, Mismatch> {
        let mut axes = Axes::default();
        axes.of("x", x, ["N", "D"])?;
        axes.of("scale", scale, ["D"])?;
        axes.of("grad", grad, ["N", "D"])?;
        Ok(vec![x.clone(), scale.clone()])
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        [x, scale, grad]: [FloatTensor<B>; 3],
        _: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let dtypes = [x.dtype(), scale.dtype()];
        let (x, scale, g) = (single::<B, 2>(x), single::<B, 1>(scale), single::<B, 2>(grad));
        let d = x.dims()[1] as f32;
        let r = inverse_rms(x.clone(), self.eps);
        let normed = x * r.clone();
        let dscale = (g.clone() * normed.clone()).sum_dim(0).squeeze_dim::<1>(0);
        let u = g * scale.unsqueeze();
        let mean = (u.clone() * normed.clone()).sum_dim(1).div_scalar(d);
        let dx = (u - normed * mean) * r;
        vec![lower(dx.cast(dtypes[0])), lower(dscale.cast(dtypes[1]))]
    }

    #[cfg(feature = "cpu")]
    fn cpu(&self, inputs: &[FlexTensor; 3], _: &[FlexTensor]) -> Option<Vec<FlexTensor>> {
        Some(cpu::gradient(self.eps, inputs).into())
    }

    #[cfg(feature = "cube")]
    fn refusal<R: CubeRuntime>(&self, [x, ..]: &[CubeTensor<R>; 3]) -> Option<String> {
        refusal(x)
    }

    #[cfg(feature = "cube")]
    unsafe fn cube<R: CubeRuntime>(
        &self,
        inputs: [CubeTensor<R>; 3],
        _: Vec<CubeTensor<R>>,
    ) -> Vec<CubeTensor<R>> {
        kernel::gradient(self.eps, inputs)
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests;
