//! Ten lines that train a block of JSON in Burn's `Learner`, on any backend.
// Burn 0.21 is the last release with candle.
#![allow(deprecated)]

mod counted;

use std::sync::atomic::Ordering;

use burn::backend::{Autodiff, Candle, Flex, NdArray, Router};
use burn::data::{dataloader::DataLoaderBuilder, dataset::InMemDataset};
use burn::optim::AdamWConfig;
use burn::tensor::backend::AutodiffBackend;
use burn::train::metric::LossMetric;
use burn::train::{Learner, SupervisedTraining};
use mixlab_burn::learner::RowBatcher;
use mixlab_burn::{Plan, ops};

const JSON: &str =
    r#"{"model_dim": 16, "vocab_size": 12, "blocks": [{"type": "plain", "heads": 2}]}"#;

/// The perplexity on text that counts up modulo 12, after a few passes over it.
fn train<B: AutodiffBackend<InnerBackend: ops::Backend> + ops::Backend>(name: &str) -> f32 {
    let plan: Plan = Plan::parse(JSON, "these lines", &[]).unwrap().plan;
    let model = plan.init::<B>(&Default::default());
    let rows: Vec<Vec<i32>> = (0..32).map(|n| (n..n + 9).map(|t| t % 12).collect()).collect();
    let train = DataLoaderBuilder::new(RowBatcher::new(1))
        .batch_size(8)
        .build(InMemDataset::new(rows.clone()));
    let valid = DataLoaderBuilder::new(RowBatcher::new(2))
        .batch_size(8)
        .build(InMemDataset::new(rows.clone()));
    let training = SupervisedTraining::new(
        std::env::temp_dir().join(format!("fresh-crate-{}-{name}", std::process::id())),
        train,
        valid,
    )
    .metrics((LossMetric::new(),))
    .num_epochs(8);
    let model = training.launch(Learner::new(model, AdamWConfig::new().init(), 1e-2)).model;

    let batch = burn::data::dataloader::batcher::Batcher::batch(
        &RowBatcher::new(3),
        rows,
        &Default::default(),
    );
    let output = burn::train::InferenceStep::step(&model, batch);
    output.loss.into_data().convert::<f32>().as_slice::<f32>().unwrap()[0].exp()
}

/// Backends that are not here: it is enough that this compiles.
#[cfg(feature = "elsewhere")]
#[allow(dead_code)]
fn elsewhere() -> [f32; 6] {
    use burn::backend::{Cuda, LibTorch, Metal, Rocm, Vulkan, Wgpu};
    [
        train::<Autodiff<Cuda>>("cuda"),
        train::<Autodiff<Rocm>>("rocm"),
        train::<Autodiff<Metal>>("metal"),
        train::<Autodiff<Vulkan>>("vulkan"),
        train::<Autodiff<Wgpu>>("wgpu"),
        train::<Autodiff<LibTorch>>("libtorch"),
    ]
}

fn main() {
    let mut found = vec![
        ("flex", train::<Autodiff<Flex>>("flex")),
        ("ndarray", train::<Autodiff<NdArray>>("ndarray")),
        ("candle", train::<Autodiff<Candle>>("candle")),
        ("router", train::<Autodiff<Router<(Flex, NdArray)>>>("router")),
        ("counted", train::<Autodiff<counted::Counted>>("counted")),
    ];
    #[cfg(feature = "vulkan")]
    found.push(("vulkan", train::<Autodiff<burn::backend::Vulkan>>("vulkan")));
    found.sort_by(|a, b| a.1.total_cmp(&b.1));
    println!("perplexity: {found:?}");
    // 32 steps and their validation, with more than ten products each.
    assert!(counted::PRODUCTS.load(Ordering::Relaxed) > 320);
    // Chance is 12; the text has no chance in it.
    assert!(found.last().unwrap().1 < 2.0);
}
