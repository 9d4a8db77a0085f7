//! What training does beside its steps: fake quantization, averages, training on what is evaluated.

use crate::config::TrainingSpec;
use crate::weights::Levels;

/// Fake quantization: the forward pass of training sees each weight as quantization would leave it,
/// and its gradient goes to the weight itself (Bengio et al., 2013).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Qat {
    /// The numbers that weights are rounded to.
    pub levels: Levels,
    /// The first step of it.
    pub start: usize,
    /// Whether vectors are left alone.
    pub matrices_only: bool,
}

/// An exponential moving average of the weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Average {
    /// The step after which it begins, as a copy of the weights.
    pub start: usize,
    /// Share of the average that each update keeps.
    pub decay: f32,
    /// Steps between updates.
    pub interval: usize,
}

/// Training on the batch that is evaluated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TestTime {
    /// Steps on each batch.
    pub steps: usize,
    /// Learning rate; groups have theirs relative to `training.lr`, as in training.
    pub lr: f32,
    /// What is trained.
    pub mode: TestTimeMode,
}

/// What test-time training changes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TestTimeMode {
    /// All weights, after the batch was scored; they stay changed.
    Full,
    /// Adapters of this rank (Hu et al., 2021), before the batch is scored: the score is of tokens
    /// that they have seen. Each batch has new ones.
    Lora {
        /// Columns of the first factor.
        rank: usize,
    },
}

impl Qat {
    pub(super) fn of(spec: &TrainingSpec) -> Option<Self> {
        Some(Self {
            levels: match spec.qat.as_deref()? {
                "int8" => Levels::Int8,
                "int6" => Levels::Int6,
                _ => return None,
            },
            start: super::positive(spec.qat_start).unwrap_or(0),
            matrices_only: spec.qat_scope.as_deref() == Some("matrices"),
        })
    }
}

impl Average {
    pub(super) fn of(spec: &TrainingSpec) -> Option<Self> {
        Some(Self {
            start: super::positive(spec.swa_start)?,
            decay: spec.swa_decay.filter(|decay| *decay != 0.0).unwrap_or(0.999),
            interval: super::positive(spec.swa_interval).unwrap_or(10),
        })
    }

    /// Whether it is updated after `step`.
    pub fn is_due(&self, step: usize) -> bool {
        step.checked_sub(self.start).is_some_and(|since| since.is_multiple_of(self.interval))
    }
}

impl TestTime {
    pub(super) fn of(spec: &TrainingSpec) -> Option<Self> {
        Some(Self {
            steps: super::positive(spec.ttt_steps)?,
            lr: spec.ttt_lr.filter(|lr| *lr > 0.0).unwrap_or(1e-5),
            mode: match spec.ttt_mode.as_deref() {
                Some("lora") => {
                    TestTimeMode::Lora { rank: super::positive(spec.ttt_rank).unwrap_or(4) }
                }
                _ => TestTimeMode::Full,
            },
        })
    }
}
