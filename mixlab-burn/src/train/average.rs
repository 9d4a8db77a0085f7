//! An exponential moving average of the weights.

use burn::tensor::DType;
use burn_backend::tensor::FloatTensor;
use mixlab_ops::Backend;

use super::{OptimizerPlan, Snapshot, State, StateError};
use crate::plan::Average;

/// The average of each weight, from the first update on.
#[derive(Clone, Debug)]
pub(super) struct Averages<B: Backend> {
    rule: Average,
    values: Option<Vec<FloatTensor<B>>>,
}

impl<B: Backend> Averages<B> {
    /// No average yet.
    pub fn new(rule: Average) -> Self {
        Self { rule, values: None }
    }

    /// Whether the weights after `step` go into the average.
    pub fn is_due(&self, step: usize) -> bool {
        self.rule.is_due(step)
    }

    /// Takes in `weights`: `e ← d·e + (1 − d)·w`, or a copy the first time.
    pub fn update(&mut self, weights: Vec<FloatTensor<B>>) {
        let decay = self.rule.decay;
        let next = match self.values.take() {
            // Of their own, so that the weights can still be written over.
            None => weights.into_iter().map(|w| B::float_mul_scalar(w, 1f32.into())).collect(),
            Some(values) => {
                let mix = |(e, w)| {
                    let e = B::float_mul_scalar(e, decay.into());
                    B::float_add(e, B::float_mul_scalar(w, (1.0 - decay).into()))
                };
                values.into_iter().zip(weights).map(mix).collect()
            }
        };
        self.values = Some(next);
    }

    /// The average of each weight, once there is one.
    pub fn values(&self) -> Option<&Vec<FloatTensor<B>>> {
        self.values.as_ref()
    }

    /// Adds the averages to `snapshot`.
    pub fn save(&self, plan: &OptimizerPlan, snapshot: &mut Snapshot<B>) {
        for (weight, value) in plan.weights.iter().zip(self.values.iter().flatten()) {
            snapshot.tensor(name(&weight.name), value.clone(), &weight.shape);
        }
    }

    /// Takes the averages out of `state`, if it has some.
    pub fn resume(
        &mut self,
        plan: &OptimizerPlan,
        state: &mut State,
        device: &B::Device,
    ) -> Result<(), StateError> {
        if !plan.weights.first().is_some_and(|weight| state.has(&name(&weight.name))) {
            return Ok(());
        }
        let read = plan.weights.iter().map(|weight| {
            let data = state.tensor(&name(&weight.name), DType::F32, &weight.shape)?;
            Ok(B::float_from_data(data, device))
        });
        self.values = Some(read.collect::<Result<_, StateError>>()?);
        Ok(())
    }
}

fn name(weight: &str) -> String {
    format!("{weight}.average")
}
