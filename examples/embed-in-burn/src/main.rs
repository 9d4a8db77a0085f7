//! A Burn project with one block of mixlab: linear layers of Burn around a block from JSON, trained by
//! Burn's `Learner` and exported to ONNX.
//!
//! ```sh
//! cargo run --release -p embed-in-burn -- out
//! ```

mod classifier;
mod waves;

use std::path::Path;

use anyhow::Context;
use burn::backend::Autodiff;
use burn::data::{dataloader::DataLoaderBuilder, dataset::InMemDataset};
use burn::optim::AdamWConfig;
use burn::record::CompactRecorder;
use burn::tensor::backend::Backend;
use burn::train::metric::{AccuracyMetric, LossMetric};
use burn::train::{Learner, SupervisedTraining};
use burn_flex::Flex;
use mixlab_burn::onnx::{Dim, Options, Trace, trace};

use classifier::Classifier;
use waves::{Wave, WaveBatcher};

/// The block, as a config has it.
const BLOCK: &str = include_str!("../block.json");

fn main() -> anyhow::Result<()> {
    let folder = std::env::args().nth(1).context("give a folder for what the run writes")?;
    let learned = learn(Path::new(&folder))?;
    let path = Path::new(&folder).join("waves.onnx");
    export(&learned, &path)?;
    let right = learned.accuracy(&Wave::all(1000..1100));
    println!(
        "{:.0} % of new waves are told apart; the model is in {}",
        right * 100.0,
        path.display()
    );
    Ok(())
}

/// Trains for four passes over a few hundred waves.
fn learn(folder: &Path) -> anyhow::Result<Classifier<Flex>> {
    let device = Default::default();
    // What the layers start with, the block's too.
    Flex::seed(&device, 42);
    let model = Classifier::<Autodiff<Flex>>::new(BLOCK, &device)?;
    println!("{model}");
    let waves = |numbers| InMemDataset::new(Wave::all(numbers));
    let train = DataLoaderBuilder::new(WaveBatcher).batch_size(16).shuffle(7).build(waves(0..320));
    let valid = DataLoaderBuilder::new(WaveBatcher).batch_size(16).build(waves(320..400));
    let learner = Learner::new(model, AdamWConfig::new().init(), 3e-3);
    let training = SupervisedTraining::new(folder, train, valid)
        .metrics((LossMetric::new(), AccuracyMetric::new()))
        .with_file_checkpointer(CompactRecorder::new())
        .num_epochs(4);
    Ok(training.launch(learner).model)
}

/// Writes the model as a file for any number of waves of any length.
fn export(model: &Classifier<Flex>, path: &Path) -> anyhow::Result<()> {
    let traced = trace(
        &["batch", "time"],
        |device| Classifier::new(BLOCK, device).expect("it was read before"),
        |model, trace: &Trace<'_>| {
            let waves =
                trace.float("waves", [Dim::from("batch"), Dim::from("time"), Dim::Fixed(1)]);
            trace.output("classes", model.forward(waves));
        },
    )?;
    traced.write(model, path, &Options::default())?;
    Ok(())
}
