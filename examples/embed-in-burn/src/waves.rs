//! The data: short pieces of sine, square and saw-tooth waves.

use std::f32::consts::TAU;
use std::ops::Range;

use burn::data::dataloader::batcher::Batcher;
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};

/// Kinds of waves.
pub const CLASSES: usize = 3;

/// Samples of a wave.
const LENGTH: usize = 24;

/// One wave.
#[derive(Clone, Debug)]
pub struct Wave {
    /// Its samples.
    pub samples: Vec<f32>,
    /// Its kind: sine, square, saw-tooth.
    pub class: i32,
}

impl Wave {
    /// Wave number `n`; numbers differ in kind, period and phase.
    fn new(n: usize) -> Self {
        let (class, period) = (n % CLASSES, 6.0 + (n * 7 % 11) as f32);
        let sample = |t: usize| {
            let phase = (t as f32 / period + n as f32 * 0.618).fract();
            match class {
                0 => (TAU * phase).sin(),
                1 => (0.5 - phase).signum(),
                _ => 2.0 * phase - 1.0,
            }
        };
        Self { samples: (0..LENGTH).map(sample).collect(), class: class as i32 }
    }

    /// The waves with these numbers.
    pub fn all(numbers: Range<usize>) -> Vec<Self> {
        numbers.map(Self::new).collect()
    }
}

/// Waves on a device.
#[derive(Clone, Debug)]
pub struct WaveBatch<B: Backend> {
    /// Samples `[B, T, 1]`.
    pub waves: Tensor<B, 3>,
    /// Kinds `[B]`.
    pub classes: Tensor<B, 1, Int>,
}

/// Puts waves on a device.
pub fn batch<B: Backend>(waves: &[Wave], device: &B::Device) -> WaveBatch<B> {
    let samples: Vec<f32> = waves.iter().flat_map(|wave| wave.samples.clone()).collect();
    let classes: Vec<i32> = waves.iter().map(|wave| wave.class).collect();
    let shape = [waves.len(), LENGTH, 1];
    WaveBatch {
        waves: Tensor::from_data(TensorData::new(samples, shape), device),
        classes: Tensor::from_data(TensorData::new(classes, [waves.len()]), device),
    }
}

/// Makes batches for Burn's data loader.
#[derive(Clone, Debug)]
pub struct WaveBatcher;

impl<B: Backend> Batcher<B, Wave, WaveBatch<B>> for WaveBatcher {
    fn batch(&self, waves: Vec<Wave>, device: &B::Device) -> WaveBatch<B> {
        batch(&waves, device)
    }
}
