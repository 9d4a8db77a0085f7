//! Steps written into a buffer: how keys and values of new tokens join those of earlier ones.
//!
//! `y = buffer`, but `y[b, h, start + t] = new[b, h, t]`. The buffer is written in place where nobody
//! else holds it. What it holds so far is read where it lies ([`leading`]).

#[cfg(feature = "cpu")]
mod cpu;

use burn::tensor::Tensor;
use burn_backend::tensor::{FloatTensor, IntTensor};
#[cfg(feature = "cube")]
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
#[cfg(feature = "cpu")]
use burn_flex::FlexTensor;

use crate::{Axes, Backend, Mismatch, Op, Spec, lift, lower, run, same_type};

/// Attributes of [`insert`].
#[derive(Clone, Debug)]
pub struct Insert {
    /// Where the first new step goes.
    pub start: usize,
}

/// `buffer` `[B, H, R, hd]` with the steps `start..start + T` replaced by `new` `[B, H, T, hd]`.
pub fn insert<B: Backend>(buffer: Tensor<B, 4>, new: Tensor<B, 4>, start: usize) -> Tensor<B, 4> {
    run(&Insert { start }, [lower(buffer), lower(new)], vec![])
}

impl Op<2> for Insert {
    const NAME: &'static str = "mixlab.insert";

    fn attributes(&self) -> String {
        format!(r#"{{"start":{}}}"#, self.start)
    }

    fn outputs(&self, [buffer, new]: &[Spec; 2], _: &[Spec]) -> Result<Vec<Spec>, Mismatch> {
        let mut axes = Axes::default();
        let [_, _, room, _] = axes.of("buffer", buffer, ["B", "H", "R", "hd"])?;
        let [_, _, steps, _] = axes.of("new", new, ["B", "H", "T", "hd"])?;
        let fits = self.start.checked_add(steps).is_some_and(|end| end <= room);
        Mismatch::unless(fits, || {
            format!("T = {steps} from {} on should be at most R = {room}", self.start)
        })?;
        same_type(&[("buffer", buffer), ("new", new)])?;
        Ok(vec![buffer.clone()])
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        [buffer, new]: [FloatTensor<B>; 2],
        _: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let new = lift::<B, 4>(new);
        let [b, h, steps, hd] = new.dims();
        let place = [0..b, 0..h, self.start..self.start + steps, 0..hd];
        vec![lower(lift::<B, 4>(buffer).slice_assign(place, new))]
    }

    #[cfg(feature = "cpu")]
    fn cpu_owned(
        &self,
        [buffer, new]: [FlexTensor; 2],
        _: &[FlexTensor],
    ) -> Result<Vec<FlexTensor>, [FlexTensor; 2]> {
        Ok(vec![cpu::insert(buffer, &new, self.start)])
    }
}

/// Attributes of [`leading`].
#[derive(Clone, Debug)]
pub struct Leading {
    /// How many steps.
    pub steps: usize,
}

/// The first `steps` steps of `buffer` `[B, H, R, hd]`, `[B, H, steps, hd]`: a view of it. Burn's own
/// slices are copies where what they leave out ends at no multiple of a device's alignment, which would
/// be nearly every time that a buffer has one step more.
pub fn leading<B: Backend>(buffer: Tensor<B, 4>, steps: usize) -> Tensor<B, 4> {
    run(&Leading { steps }, [lower(buffer)], vec![])
}

impl Op<1> for Leading {
    const NAME: &'static str = "mixlab.leading";
    const KERNEL: bool = true;

    fn attributes(&self) -> String {
        format!(r#"{{"steps":{}}}"#, self.steps)
    }

    fn outputs(&self, [buffer]: &[Spec; 1], _: &[Spec]) -> Result<Vec<Spec>, Mismatch> {
        let [b, h, room, hd] = Axes::default().of("buffer", buffer, ["B", "H", "R", "hd"])?;
        let fits = 0 < self.steps && self.steps <= room;
        Mismatch::unless(fits, || {
            format!("`{}` steps should be at least 1 and at most R = {room}", self.steps)
        })?;
        Ok(vec![Spec::new([b, h, self.steps, hd], buffer.dtype)])
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        [buffer]: [FloatTensor<B>; 1],
        _: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        vec![lower(lift::<B, 4>(buffer).narrow(2, 0, self.steps))]
    }

    #[cfg(feature = "cube")]
    unsafe fn cube<R: CubeRuntime>(
        &self,
        [mut buffer]: [CubeTensor<R>; 1],
        _: Vec<CubeTensor<R>>,
    ) -> Vec<CubeTensor<R>> {
        buffer.meta.shape_mut()[2] = self.steps;
        vec![buffer]
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests;
