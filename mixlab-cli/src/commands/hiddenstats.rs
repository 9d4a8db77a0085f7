//! `hiddenstats`: the hidden states of training batches, in a file.

use std::sync::Arc;

use anyhow::bail;
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;
use mixlab_burn::blocks::Block;
use mixlab_burn::data::tensors::{self, Named};
use mixlab_burn::data::{Batch, Batches, Loader};
use mixlab_burn::files::Replacement;
use mixlab_burn::inference::Session;
use mixlab_burn::ops::Backend;
use mixlab_burn::plan::Plan;

use super::shards::Sources;
use crate::backend::{self, Job, Place};
use crate::cli::{self, Layers};
use crate::memory::{self, bytes};
use crate::{kernels, outputs};

pub fn run<K: Block>(options: &cli::Hiddenstats) -> anyhow::Result<()> {
    let plan = super::trained::<K>(&options.model)?;
    check_memory(options, &plan)?;
    let sources = Sources::find(&options.shards, plan.vocab)?;
    let inputs =
        [options.model.config.paths(), vec![options.safetensors_load.clone()], sources.paths()];
    let file = outputs::reserve(&inputs.concat(), "--output", &options.output)?;
    let mut loader = Loader::new(&sources.loader(&plan, &sources.train))?;
    let batches = (0..options.batches).map(|_| loader.next_batch()).collect::<Result<_, _>>()?;
    backend::run(&options.model.machine.compute, Write { options, plan, batches, file })
}

/// Refuses more states than the machine has memory for: they are written when all are there.
fn check_memory<K: Block>(options: &cli::Hiddenstats, plan: &Plan<K>) -> anyhow::Result<()> {
    let states = names(plan, options.layers).count();
    let sizes = [states, options.batches, plan.training.batch_tokens, plan.dim, size_of::<f32>()];
    let needed = sizes.iter().fold(1, |product: u64, size| product.saturating_mul(*size as u64));
    let Some(available) = memory::of_the_machine().filter(|available| needed > *available) else {
        return Ok(());
    };
    bail!(
        "the hidden states of `{}` batches take {}, and this machine has {} of memory\n  hint: lower `--batches`",
        options.batches,
        bytes(needed),
        bytes(available)
    )
}

/// Batches whose states are written, ready to go to a backend.
struct Write<'a, K: Block> {
    options: &'a cli::Hiddenstats,
    plan: Arc<Plan<K>>,
    batches: Vec<Batch>,
    file: Replacement,
}

impl<K: Block> Job for Write<'_, K> {
    fn run<A>(self, device: A::Device, place: &Place) -> anyhow::Result<()>
    where
        A: AutodiffBackend<InnerBackend: Backend> + Backend,
    {
        let Self { options, plan, batches, file } = self;
        let waiting = kernels::explain_wait(place);
        let weights = &options.safetensors_load;
        let session = Session::<A::InnerBackend, K>::load(plan.clone(), weights, &device)?;
        let mut states: Vec<Named> =
            names(&plan, options.layers).map(|name| Named { name, values: Vec::new() }).collect();
        let shape = [batches.len() * plan.batch(), plan.seq_len, plan.dim];
        for batch in batches {
            let layers = match options.layers {
                Layers::Last => vec![session.hidden(batch)?],
                Layers::All => session.layers(batch)?,
            };
            states.iter_mut().zip(layers).for_each(|(to, x)| to.values.extend(numbers(x)));
        }
        drop(waiting);
        let path = &options.output;
        let written = tensors::write(file, &states, &shape);
        let bytes = written.map_err(|error| outputs::unwritable(path, error))?;
        println!("hidden state dims: {shape:?}");
        println!("wrote {} ({bytes} bytes)", path.display());
        if states.len() > 1 {
            let names: Vec<&str> = states.iter().map(|state| state.name.as_str()).collect();
            println!("layers: {}", names.join(" "));
        }
        Ok(())
    }
}

/// The names of the states, in order.
fn names<K: Block>(plan: &Plan<K>, layers: Layers) -> impl Iterator<Item = String> {
    let blocks = if layers == Layers::All { plan.steps.len() } else { 0 };
    (0..blocks).map(|i| format!("block.{i}")).chain(["hidden".to_owned()])
}

fn numbers<B: Backend>(x: Tensor<B, 3>) -> Vec<f32> {
    x.into_data().convert::<f32>().into_vec().expect("converted to f32 above")
}
