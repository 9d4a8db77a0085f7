//! Rotary position embedding (Su et al., 2021) on interleaved pairs.
//!
//! For pair `i` of the first `R` channels and position `p`, with `θ = p · base^(−2i/R)`:
//! `(x₂ᵢ, x₂ᵢ₊₁) → (x₂ᵢ cos θ − x₂ᵢ₊₁ sin θ, x₂ᵢ sin θ + x₂ᵢ₊₁ cos θ)`; channels from `R` on pass
//! through. A rotation is orthogonal, so the gradient is the rotation by `−θ`.

#[cfg(feature = "cpu")]
mod cpu;
#[cfg(feature = "cube")]
mod kernel;

use burn::tensor::{Tensor, TensorData};
use burn_backend::tensor::{FloatTensor, IntTensor};
#[cfg(feature = "cube")]
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
#[cfg(feature = "cpu")]
use burn_flex::FlexTensor;

use crate::{Axes, Backend, Mismatch, Op, Spec, Tape, all, lift, lower, run};

/// Positions that there are angles for: tables have a row for each.
const MOST: usize = 1 << 24;

/// Attributes of [`rope`].
#[derive(Clone, Debug)]
pub struct Rope {
    /// `R`: how many channels of a head turn; even.
    pub dims: usize,
    /// Base of the wavelengths, 10000 in the paper.
    pub base: f32,
    /// Position of the first of the `T` steps.
    pub start: usize,
    /// Turn by `−θ`, as the gradient does.
    pub inverse: bool,
}

/// Rotates the first `dims` channels of each head of `x` `[B, H, T, hd]` by their position, which
/// is `start` for the first step of `T`.
pub fn rope<B: Backend>(x: Tensor<B, 4>, dims: usize, base: f32, start: usize) -> Tensor<B, 4> {
    let op = Rope { dims, base, start, inverse: false };
    run(&op, [lower(x)], vec![])
}

impl Rope {
    /// `cos θ` and `±sin θ` of each of `len` positions and each pair, computed in f64.
    fn angles(&self, len: usize) -> [Vec<f32>; 2] {
        let pairs = self.dims / 2;
        let step = -2.0 * f64::from(self.base).ln() / self.dims as f64;
        let sign = if self.inverse { -1.0 } else { 1.0 };
        let rates: Vec<f64> = (0..pairs).map(|i| (step * i as f64).exp()).collect();
        let angles = (self.start..self.start + len)
            .flat_map(|p| rates.iter().map(move |rate| p as f64 * rate));
        angles
            .map(|a| (a.cos() as f32, (sign * a.sin()) as f32))
            .unzip::<_, _, Vec<_>, Vec<_>>()
            .into()
    }

    /// [`Rope::angles`] as `[1, 1, T, R/2]`.
    fn table<B: burn::tensor::backend::Backend>(
        &self,
        len: usize,
        device: &B::Device,
    ) -> [Tensor<B, 4>; 2] {
        let shape = [1, 1, len, self.dims / 2];
        self.angles(len).map(|t| Tensor::from_data(TensorData::new(t, shape), device))
    }
}

impl Op<1> for Rope {
    const NAME: &'static str = "mixlab.rope";
    const GRADIENT: bool = true;
    const KEEPS: [bool; 1] = [false];
    const KEEPS_OUTPUT: bool = false;
    const KERNEL: bool = true;

    fn attributes(&self) -> String {
        let Self { dims, base, start, inverse } = self;
        format!(r#"{{"dims":{dims},"base":{base:e},"start":{start},"inverse":{inverse}}}"#)
    }

    fn outputs(&self, [x]: &[Spec; 1], _: &[Spec]) -> Result<Vec<Spec>, Mismatch> {
        let [_, _, len, width] = Axes::default().of("x", x, ["B", "H", "T", "hd"])?;
        let pairs = self.dims.is_multiple_of(2) && (2..=width).contains(&self.dims);
        Mismatch::unless(pairs, || {
            format!("`dims` should be an even number in 2..={width}, and is `{}`", self.dims)
        })?;
        let end = self.start.checked_add(len).filter(|end| *end <= MOST);
        Mismatch::unless(end.is_some(), || {
            format!("`start` + T should be at most {MOST}, and `start` is `{}`", self.start)
        })?;
        Ok(vec![x.clone()])
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        [x]: [FloatTensor<B>; 1],
        _: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let x = lift::<B, 4>(x);
        let [b, h, t, hd] = x.dims();
        let [cos, sin] = self.table::<B>(t, &x.device()).map(|w| w.cast(x.dtype()));
        let pairs = x.clone().narrow(3, 0, self.dims).reshape([b, h, t, self.dims / 2, 2]);
        let even = pairs.clone().narrow(4, 0, 1).squeeze_dim::<4>(4);
        let odd = pairs.narrow(4, 1, 1).squeeze_dim::<4>(4);
        let first = even.clone() * cos.clone() - odd.clone() * sin.clone();
        let second = even * sin + odd * cos;
        let turned = Tensor::stack::<5>(vec![first, second], 4).reshape([b, h, t, self.dims]);
        let rest = hd - self.dims;
        vec![lower(match rest {
            0 => turned,
            _ => Tensor::cat(vec![turned, x.narrow(3, self.dims, rest)], 3),
        })]
    }

    fn gradient<B: Backend>(&self, _: Tape<B, 1>, grad: FloatTensor<B>) -> [FloatTensor<B>; 1] {
        let back = Rope { inverse: !self.inverse, ..self.clone() };
        all(B::execute(&back, [grad], vec![]))
    }

    #[cfg(feature = "cpu")]
    fn cpu(&self, inputs: &[FlexTensor; 1], _: &[FlexTensor]) -> Option<Vec<FlexTensor>> {
        Some(vec![cpu::rope(self, &inputs[0])])
    }

    #[cfg(feature = "cube")]
    unsafe fn cube<R: CubeRuntime>(
        &self,
        [x]: [CubeTensor<R>; 1],
        _: Vec<CubeTensor<R>>,
    ) -> Vec<CubeTensor<R>> {
        vec![kernel::rope(self, x)]
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests;
