//! Takes the weights of a trained model, trains its last two blocks on other text, and shows that all
//! other weights are what they were.
//!
//! ```sh
//! data=tests/golden/data
//! cargo run --release -- arch --config examples/finetune/model.json \
//!     --train "$data/char64/train_*.bin" --safetensors base.safetensors
//! cargo run --release -p finetune -- base.safetensors "$data/char64_even/train_*.bin" tuned.safetensors
//! ```

use std::ops::ControlFlow;
use std::path::Path;

use burn::backend::Autodiff;
use burn_flex::Flex;
use mixlab_burn::data::shard::Layout;
use mixlab_burn::data::{Loader, LoaderConfig};
use mixlab_burn::train::{Event, Run, Trainer, train};
use mixlab_burn::weights::{layout, load, save, values};
use mixlab_burn::{Model, Plan};

/// The first block whose weights are trained.
const FIRST: usize = 2;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [base, shards, tuned] = arguments.as_slice() else {
        anyhow::bail!("give weights to begin with, shards to train on, and a file for the result");
    };
    let plan = Plan::load(concat!(env!("CARGO_MANIFEST_DIR"), "/model.json"))?;
    let model = load(plan.init::<Autodiff<Flex>>(&Default::default()), Path::new(base))?;
    let before = values(&model);
    let model = finetune(model, shards)?;
    let after = values(&model);
    for ((index, weight), (before, after)) in
        layout(&model).iter().enumerate().zip(before.iter().zip(&after))
    {
        let verdict = if before == after { "as it was" } else { "trained" };
        println!("{:20} {verdict}", weight.file_name(index));
    }
    save(&model, Path::new(tuned), &plan.metadata())?;
    Ok(())
}

/// Trains the weights of the blocks from [`FIRST`] on, which are the last ones of a model. The others
/// have no gradient, and the optimizer keeps nothing for them.
fn finetune(model: Model<Autodiff<Flex>>, shards: &str) -> anyhow::Result<Model<Autodiff<Flex>>> {
    let plan = model.plan().clone();
    let trained: usize = model.blocks[FIRST..].iter().map(|block| layout(block).len()).sum();
    let mut trainer = Trainer::with_optimizer(model, &Default::default(), |mut optimizer| {
        let frozen = optimizer.weights.len() - trained;
        for weight in &mut optimizer.weights[..frozen] {
            weight.group = None;
        }
        optimizer
    })?;
    let batches = Loader::new(&LoaderConfig {
        patterns: vec![shards.into()],
        batch_tokens: plan.training.batch_tokens,
        seq_len: plan.seq_len,
        chunk: 0,
        seed: plan.training.seed,
        vocab_size: plan.vocab,
        layout: Layout::Header,
    })?;
    let run = Run { batches, validation: Vec::new(), log_every: 10, val_every: 10 };
    train(&mut trainer, run, |event| {
        if let Event::Logged(logged) = event {
            println!("step {:3}: loss {:.3}", logged.step, logged.loss);
        }
        ControlFlow::Continue(())
    })?;
    Ok(trainer.into_model())
}
