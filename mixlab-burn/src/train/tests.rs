mod optimizer_plans;

use std::path::Path;
use std::sync::Arc;

use burn::backend::Autodiff;
use burn::tensor::{DType, TensorData};
use burn_backend::ops::FloatTensorOps;
use burn_flex::Flex;

use super::{Optimizer, Run, State, StateError, Trainer, train};
use crate::data::shard::{Layout, write_shard};
use crate::data::{Batch, Batches, DataError, Loader, LoaderConfig, Prefetch};
use crate::model::Model;
use crate::plan::Plan;
use crate::weights::{Weight, fill, values};

type Train = Autodiff<Flex>;

const STEPS: usize = 12;

/// A plan with dropout, both optimizers and two phases; `training` has more of that object.
fn plan(training: &str) -> Arc<Plan> {
    let json = format!(
        r#"{{"model_dim": 16, "vocab_size": 29, "seq_len": 8, "dropout": 0.2,
            "blocks": [{{"type": "plain", "heads": 2}}, {{"type": "swiglu"}}],
            "training": {{"batch_tokens": 32, "weight_decay": 0.1, "grad_clip": 1.0,
                "phases": [{{"steps": 5, "lr": 0.01}}, {{"steps": 7, "lr": 0.003}}] {training}}}}}"#
    );
    Arc::new(Plan::parse(&json, "test.json", &[]).unwrap().plan)
}

fn model(plan: &Arc<Plan>) -> Model<Train> {
    Model::init(plan.clone(), &Default::default())
}

fn trainer(plan: &Arc<Plan>) -> Trainer<Train, crate::blocks::Builtin> {
    Trainer::new(model(plan), &Default::default())
}

/// Two shards of noise, and a loader for them whose shards come round within a run.
fn loader_config(folder: &Path) -> LoaderConfig {
    for file in 0..2u32 {
        let tokens = (0..130u32).map(|i| ((i * i + 7 * i + file) % 29) as u16);
        let path = folder.join(format!("train_{file}.bin"));
        write_shard(&path, &tokens.collect::<Vec<_>>()).unwrap();
    }
    LoaderConfig {
        patterns: vec![format!("{}/train_*.bin", folder.display())],
        batch_tokens: 32,
        seq_len: 8,
        chunk: 0,
        seed: 3,
        vocab_size: 29,
        layout: Layout::Header,
    }
}

/// A batch that depends on its number alone.
fn batch(number: usize) -> Batch {
    let tokens: Vec<u16> = (0..33).map(|i| ((i * i + 5 * i + 11 * number) % 29) as u16).collect();
    Batch::from_tokens(&tokens, 8).unwrap()
}

/// All weights, to the bit.
fn bits(model: &Model<Train>) -> Vec<Vec<u32>> {
    values(model).into_iter().map(|w| w.into_iter().map(f32::to_bits).collect()).collect()
}

#[test]
fn a_resumed_run_ends_like_one_that_never_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let config = loader_config(folder.path());
    let features = r#""qat": "int8", "qat_start": 6, "swa_start": 2, "swa_interval": 2,
        "grad_accum_steps": 2, "z_loss": 1e-4"#;
    for more in [r#""optimizer": "muon""#, r#""optimizer": "adamw""#, features] {
        let plan = plan(&format!(", {more}"));
        let mut whole = trainer(&plan);
        let mut batches = Prefetch::start(Loader::new(&config).unwrap());
        let mut stopped = Vec::new();
        for step in 0..STEPS {
            if [0, 1, 5, 7].contains(&step) {
                let mut state = whole.state();
                state.set_position(&batches.position().unwrap());
                stopped.push((state, values(whole.model())));
            }
            if step == 6 {
                whole.read().unwrap().unwrap();
            }
            whole.step(batches.next_batch().unwrap()).unwrap();
        }
        let expected = whole.read().unwrap().unwrap();
        for (state, weights) in stopped {
            let position = state.position().unwrap().unwrap();
            let mut batches = Prefetch::start(Loader::resume(&config, &position).unwrap());
            let model = fill(model(&plan), |i, _| Some(weights[i].clone()));
            let mut resumed = Trainer::resume(model, state, &Default::default()).unwrap();
            while resumed.steps() < STEPS {
                resumed.step(batches.next_batch().unwrap()).unwrap();
            }
            let logged = resumed.read().unwrap().unwrap();
            assert_eq!(logged.loss.to_bits(), expected.loss.to_bits());
            assert_eq!((logged.step, logged.tokens), (expected.step, expected.tokens));
            assert_eq!(bits(resumed.model()), bits(whole.model()));
            let averages = [&resumed, &whole].map(|run| run.averaged().map(|model| bits(&model)));
            assert_eq!(averages[0], averages[1]);
            assert_eq!(averages[0].is_some(), more == features);
            assert_eq!(resumed.state(), whole.state());
        }
    }
}

#[test]
fn a_state_tells_of_what_is_missing_wrong_or_too_much() {
    let plan = plan("");
    let mut run = trainer(&plan);
    run.step(batch(0)).unwrap();
    let resume = |change: &dyn Fn(&mut State)| -> StateError {
        let mut state = run.state();
        change(&mut state);
        Trainer::resume(model(&plan), state, &Default::default()).err().expect("a broken state")
    };
    let drop_v = |state: &mut State| drop(state.tensors.remove("w0_embed.v"));
    assert!(matches!(resume(&drop_v), StateError::Missing { name } if name == "w0_embed.v"));
    let other = |state: &mut State| {
        state.tensors.insert("w0_embed.m".into(), TensorData::zeros::<f32, _>([28, 16]));
    };
    let message = resume(&other).to_string();
    let expected = "`w0_embed.m` in the state of the run is F32 [28, 16], not F32 [29, 16]";
    assert!(message.starts_with(expected), "{message}");
    let more = |state: &mut State| {
        state.numbers.insert("epoch".into(), 3);
    };
    assert!(matches!(resume(&more), StateError::Unknown { name } if name == "epoch"));
    for name in ["step", "tokens", "watch.read", "watch.in_a_row"] {
        let endless = |state: &mut State| {
            state.numbers.insert(name.into(), u64::MAX);
        };
        let message = resume(&endless).to_string();
        let expected = format!("`{name}` in the state of the run is `{}`, not at most", u64::MAX);
        assert!(message.starts_with(&expected), "{message}");
    }
}

#[test]
fn runs_in_one_process_do_not_disturb_each_other() {
    let plans = [plan(""), plan(r#", "seed": 7"#)];
    let alone = plans.each_ref().map(|plan| {
        let mut run = trainer(plan);
        (0..STEPS).for_each(|step| run.step(batch(step)).unwrap());
        bits(run.model())
    });
    let mut together = plans.each_ref().map(trainer);
    for step in 0..STEPS {
        together.iter_mut().for_each(|run| run.step(batch(step)).unwrap());
    }
    assert_eq!(together.each_ref().map(|run| bits(run.model())), alone);
    assert_ne!(alone[0], alone[1]);
}

#[test]
fn runs_on_other_threads_do_not_disturb_it() {
    for features in [r#", "grad_accum_steps": 4"#, r#", "grad_accum_steps": 2, "qat": "int6""#] {
        let plan = plan(features);
        let run = || {
            let mut run = trainer(&plan);
            (0..2).for_each(|step| run.step(batch(step)).unwrap());
            bits(run.model())
        };
        let alone = run();
        std::thread::scope(|scope| {
            let runs = [(); 6].map(|()| scope.spawn(|| (0..60).all(|_| run() == alone)));
            assert!(runs.into_iter().all(|run| run.join().unwrap()));
        });
    }
}

/// Trains with AdamW and Muon on some batches, `broken` of them with a gradient that is not finite;
/// returns the weights and how many updates had no effect.
fn trained(broken: &[usize]) -> (Vec<Vec<u32>>, usize) {
    let plan = plan("");
    let (mut model, device) = (model(&plan), Default::default());
    let mut optimizer = Optimizer::<Flex>::new(&model, &plan.training, &device);
    let mut skipped = 0;
    let mut apply = |model: Model<Train>, number, factor: f32| {
        let (tokens, targets) = model.upload(batch(number), &device);
        let loss = model.loss(tokens, targets, None);
        let mut gradients = optimizer.gradients(&model, &mut loss.backward());
        for (name, gradient) in gradients.iter_mut() {
            if name == "w0_embed" {
                let scaled = gradient.take().map(|g| Flex::float_mul_scalar(g, factor.into()));
                *gradient = scaled;
            }
        }
        let (model, health) = optimizer.apply(model, gradients, 0.01);
        skipped += usize::from(health.into_data().to_vec::<f32>().unwrap()[0] < 0.0);
        model
    };
    for number in 0..6 {
        for _ in broken.iter().filter(|step| **step == number) {
            model = apply(model, 20 + number, f32::INFINITY);
        }
        model = apply(model, number, 1.0);
    }
    (bits(&model), skipped)
}

#[test]
fn a_skipped_update_might_as_well_not_have_been() {
    let (expected, none) = trained(&[]);
    assert_eq!(none, 0);
    for broken in [&[0][..], &[1], &[0, 0, 3, 5]] {
        let (got, skipped) = trained(broken);
        assert_eq!(skipped, broken.len());
        assert_eq!(got, expected, "broken before {broken:?}");
    }
}

#[test]
fn the_loop_trains_on_any_batches_and_says_when_they_end() {
    let plan = plan("");
    let run = |batches: usize| {
        let batches = (0..batches).map(|number| Ok(batch(number)));
        let run = Run { batches, validation: vec![batch(99)], log_every: 4, val_every: STEPS };
        let (mut logged, mut trainer) = (Vec::new(), trainer(&plan));
        let trained = train(&mut trainer, run, |event| {
            if let super::Event::Logged(step) = event {
                logged.push((step.step, step.val_loss.is_some(), step.tokens));
            }
            std::ops::ControlFlow::Continue(())
        });
        (trained, logged, trainer)
    };
    let (trained, logged, by_loop) = run(STEPS);
    assert_eq!(logged, [(0, true, 32), (4, false, 160), (8, false, 288), (11, true, 384)]);
    let trained = trained.unwrap();
    assert_eq!(trained.steps, STEPS);
    let mut by_hand = trainer(&plan);
    (0..STEPS).for_each(|number| by_hand.step(batch(number)).unwrap());
    assert_eq!(bits(by_loop.model()), bits(by_hand.model()));
    let (failed, _, by_loop) = run(3);
    let error = failed.expect_err("too few batches");
    assert!(matches!(error, super::TrainError::Data(DataError::Exhausted)), "{error}");
    assert_eq!(by_loop.steps(), 3, "what was trained is still there");
}

#[test]
fn a_batch_that_does_not_fit_leaves_the_run_as_it_was() {
    let plan = plan("");
    let mut run = trainer(&plan);
    assert!(run.read().unwrap().is_none());
    let before = bits(run.model());
    let error = run.step(Batch { y: vec![29; 32], ..batch(0) }).unwrap_err().to_string();
    assert!(error.contains("token id `29`") && error.contains("hint: "), "{error}");
    assert_eq!((run.steps(), bits(run.model())), (0, before));
    run.step(batch(0)).unwrap();
    assert_eq!(run.read().unwrap().unwrap().step, 0);
    assert!(run.read().unwrap().is_none());
}

#[test]
fn a_state_holds_only_named_numbers_of_plain_types() {
    let plan = plan("");
    let mut run = trainer(&plan);
    run.step(batch(0)).unwrap();
    let state = run.state();
    for (name, data) in &state.tensors {
        let expected = if ["watch.last", "watch.first", "best.loss"].contains(&&name[..]) {
            DType::F64
        } else {
            DType::F32
        };
        assert_eq!(data.dtype, expected, "{name}");
    }
    assert_eq!(state.numbers["step"], 1);
    assert!(state.tensors.contains_key("w0_embed.m") && state.tensors.contains_key("bias"));
}

/// First moments are a tenth of the gradients; weights would tell less, for AdamW makes as much of a
/// gradient that is only rounding as of a large one.
#[test]
fn parts_of_a_batch_make_the_gradients_of_the_whole() {
    let stepped = |parts: usize| {
        let more =
            format!(r#", "grad_accum_steps": {parts}, "z_loss": 1e-3, "optimizer": "adamw""#);
        let mut run = trainer(&plan(&more));
        run.step(batch(0)).unwrap();
        let loss = run.read().unwrap().unwrap().loss;
        let moments = run.state().tensors.into_iter().filter(|(name, _)| name.ends_with(".m"));
        (moments.map(|(name, data)| (name, data.to_vec::<f32>().unwrap())), loss)
    };
    let (whole, loss) = stepped(1);
    let whole: Vec<_> = whole.collect();
    for parts in [2, 4] {
        let (moments, of_parts) = stepped(parts);
        assert!((of_parts - loss).abs() < 1e-5, "{of_parts} instead of {loss}");
        for ((name, got), (_, expected)) in moments.zip(&whole) {
            let largest = expected.iter().fold(0f32, |max, v| max.max(v.abs()));
            let errors = got.iter().zip(expected).map(|(a, b)| (a - b).abs());
            let error = errors.fold(0.0, f32::max);
            assert!(largest > 0.0 && error <= 1e-5 * largest, "{name}, {parts} parts: {error}");
        }
    }
}

#[test]
fn training_ends_when_validation_gets_no_better() {
    let plan = plan(r#", "patience": 2"#);
    let batches = (0..STEPS).map(|number| Ok(batch(number)));
    // No text: the better the model, the worse.
    let validation = vec![Batch { y: vec![28; 32], ..batch(0) }];
    let run = Run { batches, validation, log_every: 1, val_every: 1 };
    let (mut losses, mut end) = (Vec::new(), None);
    let mut trainer = trainer(&plan);
    train(&mut trainer, run, |event| {
        match event {
            super::Event::Logged(step) => losses.push(step.val_loss.unwrap()),
            super::Event::OutOfPatience(step) => end = Some(step.step),
            _ => {}
        }
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    let mut best = (f64::INFINITY, 0);
    let stale = losses.iter().position(|loss| {
        best = if *loss < best.0 { (*loss, 0) } else { (best.0, best.1 + 1) };
        best.1 == 2
    });
    assert_eq!(stale, end);
    assert_eq!(trainer.steps(), end.map_or(STEPS, |step| step + 1));
    assert!(end.is_some(), "{losses:?}");
}

/// What `Trainer::read` says in the end of a run that breaks.
fn ended(mut run: Trainer<Train, crate::blocks::Builtin>) -> String {
    let read = (0..STEPS).find_map(|number| {
        run.step(batch(number)).unwrap();
        run.read().err()
    });
    read.expect("the run breaks").to_string()
}

/// What it says if the head begins as `value`.
fn failed(value: f32) -> String {
    let head = |_, weight: &Weight| (weight.name == "head").then(|| vec![value; weight.len()]);
    ended(Trainer::new(fill(model(&plan("")), head), &Default::default()))
}

#[test]
fn a_start_that_is_not_finite_is_the_fault_of_weights_and_not_of_the_learning_rate() {
    for (value, part) in [
        (f32::NAN, "_head` is not finite"),
        (f32::INFINITY, "_head` is not finite"),
        (1e38, "the largest is `1e38` in `w"),
    ] {
        let message = failed(value);
        assert!(message.contains(part) && message.contains("before any update"), "{message}");
        assert!(!message.contains("training.lr"), "{message}");
    }
}

#[test]
fn a_loss_whose_gradients_overflow_is_named_and_the_finite_loss_is_not_blamed() {
    for weight in ["1e30", "3e38"] {
        let message = ended(trainer(&plan(&format!(r#", "z_loss": {weight}"#))));
        assert!(
            message.starts_with("the gradients are not finite (the loss is, with `"),
            "{message}"
        );
        let named =
            format!("without `training.z_loss`, which is `{weight}`, the gradients are finite");
        assert!(message.contains(&named), "{message}");
        assert!(
            message.ends_with("hint: lower `training.z_loss`; it is usually `1e-4`"),
            "{message}"
        );
    }
}

#[test]
fn a_run_that_breaks_is_the_fault_of_the_learning_rate_that_made_its_largest_weights() {
    let message = |rates: &str| {
        let json = format!(
            r#"{{"model_dim": 16, "vocab_size": 29, "seq_len": 8,
                "blocks": [{{"type": "plain", "heads": 2}}, {{"type": "swiglu"}}],
                "training": {{"batch_tokens": 32, {rates}}}}}"#
        );
        ended(trainer(&Arc::new(Plan::parse(&json, "test.json", &[]).unwrap().plan)))
    };
    for group in ["embed", "matrix", "scalar", "head"] {
        let message = message(&format!(r#""{group}_lr": 1e30"#));
        assert!(message.contains(&format!("hint: lower `training.{group}_lr`")), "{message}");
    }
    assert!(
        message(r#""lr": 1e30"#).contains("hint: lower `training.lr`, or set `training.grad_clip`")
    );
    let phases = message(r#""phases": [{"steps": 9, "lr": 1e30}], "grad_clip": 1"#);
    assert!(phases.contains("hint: lower the `lr` of `training.phases`"), "{phases}");
    assert!(!phases.contains("grad_clip"), "{phases}");
}
