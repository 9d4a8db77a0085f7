//! Where training begins: at drawn weights, at given ones, or in the middle of a run.

use std::sync::Arc;

use burn::tensor::backend::AutodiffBackend;
use mixlab_burn::blocks::Block;
use mixlab_burn::model::Model;
use mixlab_burn::ops::Backend;
use mixlab_burn::plan::Plan;
use mixlab_burn::runs::Checkpoint;
use mixlab_burn::train::Trainer;
use mixlab_burn::weights;

use crate::cli::WarmStart;

/// Names that are listed of those that were not loaded.
const SHOWN: usize = 20;

/// The run that was saved as `found`.
pub fn resumed<A, K>(
    plan: &Arc<Plan<K>>,
    found: Checkpoint,
    device: &A::Device,
    say: &impl Fn(String),
) -> anyhow::Result<Trainer<A, K>>
where
    A: AutodiffBackend<InnerBackend: Backend> + Backend,
    K: Block,
{
    let model = weights::load(Model::new(plan.clone(), device), &found.weights)?;
    let trainer = Trainer::resume(model, found.state, device)?;
    let (step, steps, path) = (found.step, plan.training.steps, found.weights.display());
    say(format!("  [{}] resumed at step {step}/{steps} from {path}", plan.name));
    Ok(trainer)
}

/// A run at its start, from weights that are drawn or given.
pub fn fresh<A, K>(
    plan: &Arc<Plan<K>>,
    options: &WarmStart,
    device: &A::Device,
    say: &impl Fn(String),
) -> anyhow::Result<Trainer<A, K>>
where
    A: AutodiffBackend<InnerBackend: Backend> + Backend,
    K: Block,
{
    let WarmStart { safetensors_load, load_map, load_partial } = options;
    let Some(path) = safetensors_load else {
        return Ok(Trainer::new(Model::init(plan.clone(), device), device));
    };
    if load_map.is_empty() && !load_partial {
        let model: Model<A, K> = weights::load(Model::new(plan.clone(), device), path)?;
        let count = weights::layout(&model).len();
        say(format!("  [{}] loaded {count} weights from {}", plan.name, path.display()));
        return Ok(Trainer::new(model, device));
    }
    let model = Model::init(plan.clone(), device);
    let (model, done) = weights::transfer(model, path, load_map, *load_partial)?;
    say(format!("  [{}] loaded {} weights from {}", plan.name, done.loaded, path.display()));
    for (what, list) in
        [("not loaded, as drawn", &done.kept), ("not used of the file", &done.unused)]
    {
        list.iter().take(SHOWN).for_each(|name| say(format!("  [{}] {what}: {name}", plan.name)));
        if let Some(rest @ 1..) = list.len().checked_sub(SHOWN) {
            say(format!("  [{}] {what}: {rest} more", plan.name));
        }
    }
    Ok(Trainer::new(model, device))
}
