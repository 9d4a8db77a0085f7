//! What scores batches for a command: a model as it is, or one that is trained on what it scores.

use burn::tensor::backend::AutodiffBackend;
use mixlab_burn::blocks::Block;
use mixlab_burn::data::Batch;
use mixlab_burn::eval::mean_loss;
use mixlab_burn::inference::Session;
use mixlab_burn::ops::Backend;
use mixlab_burn::plan::{Plan, TestTime, TestTimeMode};
use mixlab_burn::train::TestTimeTraining;
use serde_json::{Value, json};

use crate::report::shortest_f32;

/// Gives the losses of tokens. What it has scored may change what it scores later.
pub trait Scorer {
    /// Weights of the model.
    fn weights(&self) -> usize;

    /// The loss of each token of `batch` in nats, row by row.
    fn losses(&mut self, batch: Batch) -> anyhow::Result<Vec<f32>>;

    /// Mean loss of `batches` in nats per token.
    fn mean_loss(&mut self, batches: &[Batch]) -> anyhow::Result<f64>;
}

impl<B: Backend, K: Block> Scorer for Session<B, K> {
    fn weights(&self) -> usize {
        mixlab_burn::weights::layout(self.model()).len()
    }

    fn losses(&mut self, batch: Batch) -> anyhow::Result<Vec<f32>> {
        Ok(Session::losses(self, batch)?)
    }

    fn mean_loss(&mut self, batches: &[Batch]) -> anyhow::Result<f64> {
        Ok(mean_loss(self.model(), batches, self.device()))
    }
}

impl<A, K> Scorer for TestTimeTraining<A, K>
where
    A: AutodiffBackend<InnerBackend: Backend> + Backend,
    K: Block,
{
    fn weights(&self) -> usize {
        mixlab_burn::weights::layout(self.model()).len()
    }

    fn losses(&mut self, batch: Batch) -> anyhow::Result<Vec<f32>> {
        Ok(TestTimeTraining::losses(self, &batch)?)
    }

    fn mean_loss(&mut self, batches: &[Batch]) -> anyhow::Result<f64> {
        Ok(TestTimeTraining::mean_loss(self, batches)?)
    }
}

/// How lines call test-time training, and its settings.
pub fn words(rule: &TestTime) -> (&'static str, String) {
    let settings = format!("steps={} lr={}", rule.steps, shortest_f32(rule.lr));
    match rule.mode {
        TestTimeMode::Full => ("score-first TTT", settings),
        TestTimeMode::Lora { rank } => ("LoRA-TTT", format!("{settings} rank={rank}")),
    }
}

/// The end of a line of results that test-time training has made.
pub fn fields(rule: &TestTime) -> String {
    let (steps, lr) = (rule.steps, shortest_f32(rule.lr));
    match rule.mode {
        TestTimeMode::Full => format!(" ttt_steps={steps} ttt_lr={lr}"),
        TestTimeMode::Lora { rank } => {
            format!(" ttt_mode=lora ttt_steps={steps} ttt_lr={lr} ttt_rank={rank}")
        }
    }
}

/// The same for programs.
pub fn object(rule: &TestTime) -> Value {
    let (mode, rank) = match rule.mode {
        TestTimeMode::Full => ("full", None),
        TestTimeMode::Lora { rank } => ("lora", Some(rank)),
    };
    let lr: Value = serde_json::from_str(&rule.lr.to_string()).unwrap_or_default();
    json!({"mode": mode, "steps": rule.steps, "lr": lr, "rank": rank})
}

/// Says on stderr of a plan whose scores are of tokens that were trained on.
pub fn warn<K: Block>(plan: &Plan<K>) {
    if plan.training.ttt.is_some_and(|rule| matches!(rule.mode, TestTimeMode::Lora { .. })) {
        eprintln!(
            "note: LoRA-TTT scores tokens that its adapters were fitted to: such scores compare adapters, not models\n  hint: `--set training.ttt_mode=full` scores first; `--set training.ttt_steps=0` does not train"
        );
    }
}
