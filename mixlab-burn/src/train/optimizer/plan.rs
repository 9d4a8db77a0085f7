//! Which algorithm updates which weight, as data that a caller may change.

use burn::module::Module;
use burn::tensor::backend::Backend;

use crate::plan::{Algorithm, Training};
use crate::weights::{Weight, WeightKind, layout};

/// Weights that are updated in the same way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OptimizerGroup {
    /// AdamW, or Muon, which takes matrices only.
    pub algorithm: Algorithm,
    /// Learning rate at the peak of the schedule.
    pub lr: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Decay of the first moment, or Muon's momentum.
    pub beta1: f32,
    /// AdamW's decay of the second moment.
    pub beta2: f32,
    /// AdamW's denominator guard.
    pub epsilon: f32,
    /// Muon's Newton–Schulz iterations.
    pub newton_schulz_steps: usize,
    /// Whether Muon's momentum is Nesterov's.
    pub nesterov: bool,
}

/// One weight, and what updates it.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// Its name in files.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// What it is, by name and rank.
    pub kind: WeightKind,
    /// Its place among the groups; `None` freezes it: it has no gradient and no state.
    pub group: Option<usize>,
    /// Whether it decays.
    pub decay: bool,
}

/// How all weights of a model are updated.
#[derive(Clone, Debug, PartialEq)]
pub struct OptimizerPlan {
    /// Ways of updating.
    pub groups: Vec<OptimizerGroup>,
    /// The weights of the model, in their order.
    pub weights: Vec<Assignment>,
    /// Bound of the norm of all gradients together.
    pub grad_clip: Option<f32>,
    /// What the schedule's rate is divided by, for the factor of the groups' rates; the factor is 1 if
    /// this is not above 0.
    pub base_lr: f32,
}

/// Why weights cannot be updated as an [`OptimizerPlan`] says.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OptimizerPlanError {
    /// The list is not the model's.
    #[error(
        "the optimizer plan has `{found}` as weight `{index}`, the model `{expected}`\n  hint: keep the weights of the plan that you were given, in their order; change `group` and `decay`"
    )]
    Weights {
        /// The first place where they differ.
        index: usize,
        /// The weight there in the plan, or `nothing`.
        found: String,
        /// The weight there in the model, or `nothing`.
        expected: String,
    },
    /// A weight names a group that there is not.
    #[error(
        "the weight `{weight}` is in group `{group}` of `{groups}`\n  hint: groups are counted from 0; `None` freezes a weight"
    )]
    Group {
        /// The weight.
        weight: String,
        /// Its group.
        group: usize,
        /// How many groups there are.
        groups: usize,
    },
    /// Muon was given something else than a matrix.
    #[error(
        "Muon cannot update `{weight}`, which is {shape:?}\n  hint: put weights that are no matrices into a group of AdamW"
    )]
    NoMatrix {
        /// The weight.
        weight: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// There is nothing to train.
    #[error("every weight is frozen\n  hint: give at least one weight a group")]
    AllFrozen,
}

impl OptimizerPlan {
    /// How `training` says that the weights of `module` are updated: groups for embeddings, head,
    /// scalars and matrices, those of them that there are, in the order in which weights use them.
    pub fn of<B: Backend, M: Module<B>>(module: &M, training: &Training) -> Self {
        let (mut groups, mut kinds) = (Vec::new(), Vec::new());
        let assign = |(index, weight): (usize, Weight)| {
            let group = kinds.iter().position(|kind| *kind == weight.kind).unwrap_or_else(|| {
                kinds.push(weight.kind);
                groups.push(OptimizerGroup::of(weight.kind, training));
                groups.len() - 1
            });
            Assignment {
                name: weight.file_name(index),
                decay: weight.shape.len() >= 2,
                shape: weight.shape,
                kind: weight.kind,
                group: Some(group),
            }
        };
        let weights = layout(module).into_iter().enumerate().map(assign).collect();
        Self { groups, weights, grad_clip: training.grad_clip, base_lr: training.lr }
    }

    /// The group of a weight, if it is updated.
    pub fn group(&self, weight: &Assignment) -> Option<&OptimizerGroup> {
        weight.group.map(|group| &self.groups[group])
    }

    /// Whether this is a plan for the weights of `module`.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn check<B: Backend, M: Module<B>>(&self, module: &M) -> Result<(), OptimizerPlanError> {
        let expected: Vec<_> = layout(module).into_iter().enumerate().collect();
        for index in 0..expected.len().max(self.weights.len()) {
            let found = self.weights.get(index).map(|w| (w.name.clone(), w.shape.clone()));
            let model = expected.get(index).map(|(i, w)| (w.file_name(*i), w.shape.clone()));
            if found != model {
                let name = |x: Option<(String, Vec<usize>)>| {
                    x.map_or("nothing".into(), |(name, shape)| format!("{name} {shape:?}"))
                };
                let (found, expected) = (name(found), name(model));
                return Err(OptimizerPlanError::Weights { index, found, expected });
            }
        }
        for weight in &self.weights {
            let Some(group) = weight.group else { continue };
            let groups = self.groups.len();
            let Some(rule) = self.groups.get(group) else {
                let weight = weight.name.clone();
                return Err(OptimizerPlanError::Group { weight, group, groups });
            };
            if rule.algorithm == Algorithm::Muon && weight.shape.len() != 2 {
                let (weight, shape) = (weight.name.clone(), weight.shape.clone());
                return Err(OptimizerPlanError::NoMatrix { weight, shape });
            }
        }
        if self.weights.iter().any(|weight| weight.group.is_some()) {
            Ok(())
        } else {
            Err(OptimizerPlanError::AllFrozen)
        }
    }
}

impl OptimizerGroup {
    /// How `training` updates weights of this kind.
    fn of(kind: WeightKind, training: &Training) -> Self {
        let (group, matrix) = match kind {
            WeightKind::Embed => (training.embed, false),
            WeightKind::Head => (training.head, false),
            WeightKind::Scalar => (training.scalar, false),
            WeightKind::Matrix => (training.matrix, true),
        };
        Self {
            algorithm: if matrix { training.optimizer } else { Algorithm::AdamW },
            lr: group.lr,
            weight_decay: group.weight_decay,
            beta1: if matrix { training.muon_momentum } else { training.beta1 },
            beta2: training.beta2,
            epsilon: training.epsilon,
            newton_schulz_steps: training.muon_backend_steps,
            nesterov: training.muon_nesterov,
        }
    }
}
