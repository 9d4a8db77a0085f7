use std::path::Path;

use burn::backend::Autodiff;
use burn::data::dataloader::DataLoaderBuilder;
use burn::data::dataset::InMemDataset;
use burn::module::Module;
use burn::optim::AdamWConfig;
use burn::record::{CompactRecorder, Recorder};
use burn::train::metric::{AccuracyMetric, LossMetric, PerplexityMetric};
use burn::train::{Learner, SupervisedTraining};
use burn_flex::Flex;

use super::*;
use crate::plan::Plan;
use crate::weights::layout;

type Training = Autodiff<Flex>;

fn plan(more: &str) -> Plan {
    let json = format!(
        r#"{{"model_dim": 16, "vocab_size": 12{more}, "blocks": [{{"type": "plain", "heads": 2}},
            {{"type": "swiglu"}}]}}"#
    );
    Plan::parse(&json, "test.json", &[]).unwrap().plan
}

/// Rows that count up modulo 12.
fn rows() -> Vec<Vec<i32>> {
    (0..32).map(|start| (start..start + 9).map(|token| token % 12).collect()).collect()
}

fn batch<B: Backend>(batcher: &RowBatcher) -> RowBatch<B> {
    batcher.batch(rows(), &Default::default())
}

fn loss<B: Backend>(output: &SequenceOutput<B>) -> f32 {
    output.loss.to_data().to_vec::<f32>().unwrap()[0]
}

fn learn(model: Model<Training>, directory: &Path) -> Model<Flex> {
    let [train, valid] = [1, 2].map(RowBatcher::new);
    let train = DataLoaderBuilder::new(train).batch_size(8).shuffle(3);
    let valid = DataLoaderBuilder::new(valid).batch_size(8);
    SupervisedTraining::new(
        directory,
        train.build(InMemDataset::new(rows())),
        valid.build(InMemDataset::new(rows())),
    )
    .metrics((LossMetric::new(), PerplexityMetric::new(), AccuracyMetric::new()))
    .with_file_checkpointer(CompactRecorder::new())
    .with_application_logger(None)
    .num_epochs(6)
    .launch(Learner::new(model, AdamWConfig::new().init(), 1e-2))
    .model
}

#[test]
fn a_batch_is_rows_and_the_tokens_after_them() {
    let RowBatch::<Flex> { tokens, targets, .. } =
        RowBatcher::new(0).batch(vec![vec![1, 2, 3], vec![4, 5, 6]], &Default::default());
    let read = |ids: Tensor<Flex, 2, Int>| ids.into_data().to_vec::<i32>().unwrap();
    assert_eq!((read(tokens.ids), read(targets)), (vec![1, 2, 4, 5], vec![2, 3, 5, 6]));
}

#[test]
#[should_panic(expected = "a row of `2` tokens in a batch of rows of `3`")]
fn rows_of_different_lengths_are_refused() {
    let _: RowBatch<Flex> =
        RowBatcher::new(0).batch(vec![vec![1, 2, 3], vec![4, 5]], &Default::default());
}

#[test]
fn a_step_has_the_loss_of_the_model_and_a_gradient_of_each_weight() {
    let model = plan(r#", "logit_softcap": 3"#).init::<Training>(&Default::default());
    let batch: RowBatch<Training> = batch(&RowBatcher::new(0));
    let expected = model.loss(batch.tokens.clone(), batch.targets.clone().flatten(0, 1), None);
    let step = TrainStep::step(&model, batch);
    assert!((loss(&step.item) - expected.into_scalar()).abs() < 1e-5);
    assert_eq!(step.item.logits.dims(), [32, 8, 12]);
    assert_eq!(step.grads.len(), layout(&model).len());
}

#[test]
fn dropout_acts_in_training_with_other_masks_for_each_batch_and_never_in_validation() {
    let model = plan(r#", "dropout": 0.5"#).init::<Training>(&Default::default());
    let batcher = RowBatcher::new(7);
    let [first, second] = [0, 1].map(|_| loss(&TrainStep::step(&model, batch(&batcher)).item));
    assert_ne!(first, second);
    let again = loss(&TrainStep::step(&model, batch(&RowBatcher::new(7))).item);
    assert_eq!(first, again);
    let valid = burn::module::AutodiffModule::valid(&model);
    let [first, second] = [0, 1].map(|_| loss(&InferenceStep::step(&valid, batch(&batcher))));
    assert_eq!(first, second);
}

#[test]
fn a_learner_of_burn_trains_a_model_with_its_optimizer_metrics_and_recorder() {
    let folder = tempfile::tempdir().unwrap();
    let device = Default::default();
    let model = plan("").init::<Training>(&device);
    let valid = burn::module::AutodiffModule::valid(&model);
    let before = loss(&InferenceStep::step(&valid, batch(&RowBatcher::new(0))));
    let learned = learn(model, folder.path());
    let after = loss(&InferenceStep::step(&learned, batch(&RowBatcher::new(0))));
    assert!(after < 0.5 * before, "{before} {after}");

    let checkpoint = folder.path().join("checkpoint/model-6");
    let record = CompactRecorder::new().load(checkpoint, &device).unwrap();
    let loaded = plan("").init::<Training>(&device).load_record(record);
    let loaded = burn::module::AutodiffModule::valid(&loaded);
    let found = loss(&InferenceStep::step(&loaded, batch(&RowBatcher::new(0))));
    assert!((found - after).abs() < 0.05, "numbers of 16 bits: {found} {after}");
    assert!(folder.path().join("train/epoch-6/Perplexity.log").exists());
}
