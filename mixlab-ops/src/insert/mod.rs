//! Steps written into a buffer: how keys and values of new tokens join those of earlier ones.
//!
//! `y = buffer`, but `y[b, h, start + t] = new[b, h, t]`. The buffer is written in place where nobody
//! else holds it.

#[cfg(feature = "cpu")]
mod cpu;

use burn::tensor::Tensor;
use burn_backend::tensor::{FloatTensor, IntTensor};
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

#[cfg(all(test, feature = "cpu"))]
mod tests;
