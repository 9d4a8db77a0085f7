//! What broke a run whose loss or gradients are not finite, and the way out.

use burn::tensor::backend::AutodiffBackend;
use burn_backend::TensorMetadata;
use burn_backend::tensor::FloatTensor;
use mixlab_ops::{Backend, lift};

use super::TrainError;
use super::parameters::renewed;
use super::trainer::{Aim, Trainer};
use crate::blocks::Block;
use crate::plan::Training;
use crate::weights::{WeightKind, values};

/// Products of a few such numbers overflow.
const LARGE: f32 = 1e9;

/// How weights become smaller that were never updated.
const SMALLER: &str = "begin with other weights, or with a smaller number where the config says how they begin, as `training.weight_init_std` or `qk_gain`";

impl<A: AutodiffBackend<InnerBackend: Backend> + Backend, K: Block> Trainer<A, K> {
    /// Why there never was an update, the last step being `step` and its loss `loss`: whatever it is,
    /// it is no learning rate.
    pub(super) fn broken_start(&self, step: usize, loss: f64) -> TrainError {
        let (cause, hint) = self.z_loss(step).unwrap_or_else(|| self.weights_at_fault());
        TrainError::BrokenStart { step, loss, cause, hint }
    }

    /// Why the gradients of `step`, the last one, which changed no weight, are not finite.
    pub(super) fn broken_gradients(&self, step: usize) -> TrainError {
        let usual = || {
            let hint = format!("{}, or train with `--precision f32`", self.slower());
            (self.nearest_to_the_loss(step), hint)
        };
        let (cause, hint) = self.z_loss(step).unwrap_or_else(usual);
        TrainError::NotFinite { step, cause, hint }
    }

    /// How updates become smaller: by the learning rate of the weights that are largest, and by
    /// clipping where there is none.
    pub(super) fn slower(&self) -> String {
        let training = &self.model().plan().training;
        let (largest, _) = self.largest();
        let kind = self.optimizer().weights[largest].kind;
        let lower = format!("lower {}", rate_field(training, kind));
        match training.grad_clip {
            None => format!("{lower}, or set `training.grad_clip` to `1`"),
            Some(_) => lower,
        }
    }

    /// The index of the weight that has the largest value or one that is not finite, and that value.
    fn largest(&self) -> (usize, f32) {
        let key = |value: &f32| if value.is_nan() { f32::INFINITY } else { value.abs() };
        let sizes = values(self.model()).into_iter().enumerate();
        let sizes = sizes.map(|(i, w)| (i, w.iter().map(key).fold(0.0, f32::max)));
        sizes.max_by(|a, b| a.1.total_cmp(&b.1)).expect("a model has weights")
    }

    /// What in weights that were never updated makes a loss that is not finite.
    fn weights_at_fault(&self) -> (String, String) {
        let (largest, size) = self.largest();
        let name = &self.optimizer().weights[largest].name;
        if !size.is_finite() {
            return (format!("the weight `{name}` is not finite"), SMALLER.into());
        }
        let cause = format!("weights are finite, the largest is `{size:e}` in `{name}`");
        let hint = if size > LARGE {
            SMALLER
        } else {
            "look for an extreme number in the config, or train with `--precision f32`"
        };
        (cause, hint.into())
    }

    /// Whether the last step would have had finite gradients without `z_loss`.
    fn z_loss(&self, step: usize) -> Option<(String, String)> {
        let weight = self.model().plan().training.z_loss?;
        let aim = Aim { z_loss: None, ..self.aim(step) };
        let (_, without) = self.pass(&renewed(self.model()), self.last_batch()?, &aim);
        let finite = without.iter().all(|(_, grad)| is_finite::<A::InnerBackend>(grad));
        let cause =
            format!("without `training.z_loss`, which is `{weight:e}`, the gradients are finite");
        finite.then(|| (cause, "lower `training.z_loss`; it is usually `1e-4`".into()))
    }

    /// The weight nearest to the loss whose gradient is not finite: the backward pass met it first.
    fn nearest_to_the_loss(&self, step: usize) -> String {
        let Some(last) = self.last_batch() else {
            return "the batch is unknown, for it was before the run was resumed".into();
        };
        let (_, gradients) = self.pass(&renewed(self.model()), last, &self.aim(step));
        let broken = gradients.iter().filter(|(_, grad)| !is_finite::<A::InnerBackend>(grad));
        match broken.last() {
            Some((name, _)) => format!("nearest to the loss is that of `{name}`"),
            None => "none of them in a second try".into(),
        }
    }
}

/// Whether the norm of a gradient is finite, which the optimizer asks for.
fn is_finite<B: Backend>(grad: &Option<FloatTensor<B>>) -> bool {
    let Some(grad) = grad.clone() else { return true };
    let elements = grad.shape().num_elements();
    let numbers = lift::<B, 1>(B::float_reshape(grad, [elements].into())).into_data();
    numbers.convert::<f32>().iter::<f32>().map(|v| v * v).sum::<f32>().is_finite()
}

/// Which field of a config sets the learning rate of weights of a kind, as hints call it.
fn rate_field(training: &Training, kind: WeightKind) -> &'static str {
    let (field, group) = match kind {
        WeightKind::Embed => ("`training.embed_lr`", training.embed),
        WeightKind::Head => ("`training.head_lr`", training.head),
        WeightKind::Scalar => ("`training.scalar_lr`", training.scalar),
        WeightKind::Matrix => ("`training.matrix_lr`", training.matrix),
    };
    match (group.lr == training.lr, training.phases.is_empty()) {
        (false, _) => field,
        (true, true) => "`training.lr`",
        (true, false) => "the `lr` of `training.phases`",
    }
}
