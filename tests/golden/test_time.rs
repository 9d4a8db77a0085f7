//! Test-time training: losses, weights and adapters of mixlab 0.10.1.

use burn::tensor::{Tensor, TensorData};
use burn_flex::Flex;
use mixlab_burn::blocks::Builtin;
use mixlab_burn::data::Batch;
use mixlab_burn::eval::mean_loss;
use mixlab_burn::plan::TestTimeMode;
use mixlab_burn::train::{Adapters, OptimizerPlan, TestTimeTraining, Trainer};
use mixlab_burn::weights::{self, layout, values};

use super::{Case, Train, distance};

/// The batches that a case was trained on before it scored them, or after.
fn test_time_batches(case: &Case) -> Vec<Batch> {
    let tensors = case.tensors("ttt_batches.safetensors");
    let (rows, seq) = (case.plan.batch(), case.plan.seq_len);
    let ids = |name: &str| tensors[name].iter().map(|id| *id as i32).collect::<Vec<_>>();
    let (x, y) = (ids("x"), ids("y"));
    let pairs = x.chunks(rows * seq).zip(y.chunks(rows * seq)).map(|(x, y)| {
        let before = |row: usize| if row == 0 { -1 } else { x[row * seq - 1] };
        let prev = (0..rows).map(before).collect();
        Batch { batch: rows, seq, x: x.to_vec(), y: y.to_vec(), prev }
    });
    pairs.collect()
}

fn test_time(case: &Case) -> TestTimeTraining<Train, Builtin> {
    let model = weights::load(case.model::<Train>(), &case.path("final.safetensors")).unwrap();
    let rule = case.plan.training.ttt.unwrap();
    TestTimeTraining::new(Trainer::new(model, &Default::default()), rule)
}

fn mean(losses: &[f32]) -> f64 {
    losses.iter().map(|loss| f64::from(*loss)).sum::<f64>() / losses.len() as f64
}

#[test]
fn training_on_what_was_scored_gives_the_losses_and_weights_of_the_original() {
    let case = Case::open("ttt_full").unwrap();
    let mut evaluation = test_time(&case);
    let expected = case.trace["ttt"]["scored_losses"].as_array().unwrap();
    let batches = test_time_batches(&case);
    assert_eq!(batches.len(), expected.len());
    for (batch, expected) in batches.iter().zip(expected) {
        let got = mean(&evaluation.losses(batch).unwrap());
        let error = (got - expected.as_f64().unwrap()).abs();
        assert!(error < 1e-5, "{got} instead of {expected}");
    }
    let (start, end) = (case.tensors("final.safetensors"), case.tensors("after_ttt.safetensors"));
    let change = distance(start.values(), end.values());
    let names = layout(evaluation.model()).into_iter().enumerate();
    let expected: Vec<&Vec<f32>> = names.map(|(i, w)| &end[&w.file_name(i)]).collect();
    let error = distance(&values(evaluation.model()), expected) / change;
    assert!(error < 1e-3, "the weights are off by {error:e} of the change");
}

#[test]
fn adapters_end_where_those_of_the_original_end_and_score_the_same() {
    let case = Case::open("ttt_lora").unwrap();
    let evaluation = test_time(&case);
    let plan = OptimizerPlan::of(evaluation.model(), &case.plan.training);
    for (number, batch) in test_time_batches(&case).iter().enumerate() {
        let factors = |stage: &str| -> Vec<[Tensor<Flex, 2>; 2]> {
            let tensors = case.tensors(&format!("lora_batch{number}.{stage}.safetensors"));
            let TestTimeMode::Lora { rank } = case.plan.training.ttt.unwrap().mode else {
                panic!("the case has adapters")
            };
            let pair = |i: usize| {
                ["a", "b"].map(|part| {
                    let x = &tensors[&format!("w{i}.{part}")];
                    let other = x.len() / rank;
                    let shape = if part == "a" { [other, rank] } else { [rank, other] };
                    Tensor::from_data(TensorData::new(x.clone(), shape), &Default::default())
                })
            };
            (0..plan.weights.len()).map(pair).collect()
        };
        let (start, end) = (factors("init"), factors("final"));
        let flat = |factors: &[[Tensor<Flex, 2>; 2]]| -> Vec<Vec<f32>> {
            let all = factors.iter().flatten();
            all.map(|x| x.to_data().to_vec().unwrap()).collect()
        };
        let change = distance(&flat(&start), &flat(&end));
        let adapters = Adapters::new(&plan, start, &Default::default());
        let adapted = evaluation.adapted(batch, adapters);
        let error = distance(&flat(&adapted.factors), &flat(&end)) / change;
        assert!(error < 1e-3, "the factors are off by {error:e} of the change");
        let model = adapted.on::<Train, _>(evaluation.model());
        let got = mean_loss(&model, std::slice::from_ref(batch), &Default::default());
        let expected = case.trace["ttt"]["loss_lora_ttt"][number].as_f64().unwrap();
        assert!((got - expected).abs() < 1e-5, "{got} instead of {expected}");
    }
}
