//! Dropout (Srivastava et al., 2014) whose mask depends on where it falls, not on what was drawn
//! before.
//!
//! `y = x / (1 − p)` where `u ≥ p`, else 0. The numbers `u` are those of Philox-4x32-10 (Salmon et
//! al., "Parallel random numbers: as easy as 1, 2, 3", 2011), a function of a key and a counter. The
//! key is the seed; the counter `(c / 4, row, site, step)` yields four words of 32 bits, for columns
//! `4⌊c/4⌋ … 4⌊c/4⌋ + 3` of the row. `u ≥ p` compares integers: the mask is the same on every
//! backend, and for every split of the rows over devices or smaller batches.
//!
//! The gradient is the same operation on the gradient of `y`: the mask is computed again, and
//! nothing is kept for it.

#[cfg(feature = "cpu")]
mod cpu;
#[cfg(feature = "cube")]
mod kernel;
mod philox;

use burn::tensor::{DType, Tensor, TensorData};
use burn_backend::TensorMetadata;
use burn_backend::tensor::{FloatTensor, IntTensor};
#[cfg(feature = "cube")]
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
#[cfg(feature = "cpu")]
use burn_flex::FlexTensor;

use crate::{Backend, Mismatch, Op, Spec, Tape, lift, lower, run};
use philox::{WORDS, philox};

/// Dropout of a tensor whose last axis are columns and whose other axes together are rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// `p`, the part of the elements that become 0; at least 0 and below 1.
    pub rate: f32,
    /// Seed of the run.
    pub seed: u64,
    /// Training step.
    pub step: u32,
    /// Place of this dropout among those of the step.
    pub site: u32,
    /// Number of the first row, counted over everything that the step's batch is split into.
    pub row: u32,
}

/// `x` `[…, C]` with about `op.rate` of its elements at 0 and the others divided by `1 − op.rate`.
///
/// # Panics
/// If `op.rate` is not at least 0 and below 1, or `x` has no elements.
pub fn dropout<B: Backend, const D: usize>(x: Tensor<B, D>, op: &Dropout) -> Tensor<B, D> {
    run(op, [lower(x)], vec![])
}

impl Dropout {
    /// What kept elements are multiplied by.
    fn scale(&self) -> f32 {
        1.0 / (1.0 - self.rate)
    }

    /// Random words below this drop their element.
    fn threshold(&self) -> u32 {
        // Exact: a power of two times a number of 24 bits, cut to an integer.
        (f64::from(self.rate) * 4_294_967_296.0) as u32
    }

    /// The random words of columns `4 · block` and the three after it, in the `row`-th row of `x`.
    fn words(&self, row: usize, block: usize) -> [u32; WORDS] {
        let row = self.row.wrapping_add(row as u32);
        let key = [self.seed as u32, (self.seed >> 32) as u32];
        philox([block as u32, row, self.site, self.step], key)
    }

    /// Whether each element of `x` is dropped.
    fn mask(&self, rows: usize, columns: usize) -> Vec<bool> {
        let threshold = self.threshold();
        let row = |row| {
            let words = (0..columns.div_ceil(WORDS)).flat_map(move |block| self.words(row, block));
            words.take(columns).map(move |word| word < threshold)
        };
        (0..rows).flat_map(row).collect()
    }
}

/// Rows and columns of a tensor of this shape.
fn matrix(shape: &[usize]) -> (usize, usize) {
    let columns = shape.last().copied().unwrap_or(1);
    (shape.iter().product::<usize>() / columns.max(1), columns)
}

impl Op<1> for Dropout {
    const NAME: &'static str = "mixlab.dropout";
    const GRADIENT: bool = true;
    const KEEPS: [bool; 1] = [false];
    const KEEPS_OUTPUT: bool = false;
    const KERNEL: bool = true;

    fn attributes(&self) -> String {
        let Self { rate, seed, step, site, row } = self;
        format!(r#"{{"rate":{rate},"seed":{seed},"step":{step},"site":{site},"row":{row}}}"#)
    }

    fn outputs(&self, [x]: &[Spec; 1], _: &[Spec]) -> Result<Vec<Spec>, Mismatch> {
        Mismatch::unless((0.0..1.0).contains(&self.rate), || {
            format!("`rate` should be in 0..1, and is `{}`", self.rate)
        })?;
        Mismatch::unless(!x.shape.contains(&0), || "`x` should have no empty axis".into())?;
        Ok(vec![x.clone()])
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        [x]: [FloatTensor<B>; 1],
        _: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let (shape, dtype) = (x.shape(), x.dtype());
        let (rows, columns) = matrix(&shape.to_vec());
        let count = [rows * columns];
        let x = lift::<B, 1>(B::float_reshape(x, count.into()));
        // As numbers: burn-candle makes no booleans from data.
        let mask = self.mask(rows, columns).into_iter().map(|dropped| f32::from(u8::from(dropped)));
        let mask = TensorData::new(mask.collect::<Vec<f32>>(), count);
        let dropped = Tensor::<B, 1>::from_data(mask, &x.device()).equal_elem(1.0);
        let y = x.cast(DType::F32).mul_scalar(self.scale()).mask_fill(dropped, 0.0).cast(dtype);
        vec![B::float_reshape(lower(y), shape)]
    }

    fn gradient<B: Backend>(&self, _: Tape<B, 1>, grad: FloatTensor<B>) -> [FloatTensor<B>; 1] {
        crate::all(B::execute(self, [grad], vec![]))
    }

    #[cfg(feature = "cpu")]
    fn cpu(&self, [x]: &[FlexTensor; 1], _: &[FlexTensor]) -> Option<Vec<FlexTensor>> {
        Some(vec![cpu::dropout(self, x)])
    }

    #[cfg(feature = "cube")]
    unsafe fn cube<R: CubeRuntime>(
        &self,
        [x]: [CubeTensor<R>; 1],
        _: Vec<CubeTensor<R>>,
    ) -> Vec<CubeTensor<R>> {
        vec![kernel::launch(self, x)]
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests;
