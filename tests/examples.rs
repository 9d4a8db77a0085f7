//! The configs in `examples/`: all plan, the small ones learn, and their notes say what they are.

use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::sync::Arc;

use burn::backend::Autodiff;
use burn_flex::Flex;
use mixlab_burn::data::shard::Layout;
use mixlab_burn::data::{Loader, LoaderConfig, Prefetch};
use mixlab_burn::model::Model;
use mixlab_burn::plan::Plan;
use mixlab_burn::program::Counts;
use mixlab_burn::train::{Event, Run, Trainer, train};
use mixlab_burn::weights::values;

use crate::cli::TRAIN;
use crate::docs::root;

/// Names of the files in `examples/` that end in `.{extension}`, without that.
fn names(extension: &str) -> BTreeSet<String> {
    let files = fs::read_dir(root().join("examples")).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    let matching = paths.filter(|path| path.extension().is_some_and(|e| e == extension));
    matching.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect()
}

/// FLOPs of a forward pass over one batch, by mixlab 0.10.1. It leaves out the bigram projection and
/// the products inside of retention and of latents, so examples with those are not here.
const FORWARD_FLOPS: [(&str, u64); 9] = [
    ("plain_3L", 2_217_213_952),
    ("softcap_plain", 2_217_213_952),
    ("gqa_8h4kv", 2_116_550_656),
    ("token_blend_plain", 254_672_896),
    ("mamba_2L", 167_903_232),
    ("rwkv_2L", 193_069_056),
    ("custom_geglu", 245_891_072),
    ("depth_recurrent", 335_872_000),
    ("depth_recurrent_gqa", 140_137_463_808),
];

fn plan(name: &str) -> Result<Arc<Plan>, String> {
    plan_with(name, &[])
}

fn plan_with(name: &str, overrides: &[String]) -> Result<Arc<Plan>, String> {
    let path = root().join("examples").join(format!("{name}.json"));
    let planned = Plan::read(&path, overrides).map_err(|e| e.to_string())?;
    if planned.plan.name == name {
        Ok(Arc::new(planned.plan))
    } else {
        Err(format!("{name}.json: its `name` is `{}`", planned.plan.name))
    }
}

/// `1234567` as `1,234,567`.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    groups.map(|group| String::from_utf8_lossy(group)).collect::<Vec<_>>().join(",")
}

/// How a note states the size of a model.
fn size(counts: &Counts) -> String {
    let Counts { parameters, expanded, weights, .. } = *counts;
    let text = format!("{} parameters in {weights} weights", grouped(parameters));
    if parameters == expanded {
        text
    } else {
        format!("{text} ({} if no weights were shared)", grouped(expanded))
    }
}

fn note(name: &str) -> String {
    let path = root().join("examples").join(format!("{name}.md"));
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Runs `check` on every example and reports all failures together.
fn every_example(mut check: impl FnMut(&str, &Counts) -> Result<(), String>) {
    let counts = |name: &str| Counts::of(&plan(name)?).map_err(|e| format!("{name}: {e}"));
    let check = |name: &String| counts(name).and_then(|counts| check(name, &counts)).err();
    let failures: Vec<_> = names("json").iter().filter_map(check).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_example_plans_and_can_be_described() {
    let mut described = 0;
    every_example(|_, _| {
        described += 1;
        Ok(())
    });
    assert!(described >= 16, "only {described} examples were described");
}

#[test]
fn forward_flops_are_those_of_the_original_where_both_count_the_same_products() {
    let mut compared = 0;
    every_example(|name, counts| {
        let Some((_, flops)) = FORWARD_FLOPS.iter().find(|(known, _)| *known == name) else {
            return Ok(());
        };
        compared += 1;
        if counts.forward_flops == *flops {
            Ok(())
        } else {
            Err(format!("{name}: {} instead of {flops}", counts.forward_flops))
        }
    });
    assert_eq!(compared, FORWARD_FLOPS.len());
}

#[test]
fn the_note_of_each_example_states_its_size() {
    every_example(|name, counts| match size(counts) {
        size if note(name).contains(&size) => Ok(()),
        size => Err(format!("{name}.md does not say `{size}`")),
    });
}

#[test]
fn every_example_has_a_note_with_its_command_and_a_line_in_the_list() {
    let mut notes = names("md");
    assert!(notes.remove("README"));
    assert_eq!(notes, names("json"));
    let list = note("README");
    for name in names("json") {
        let command = format!("cargo run --release -- arch --config examples/{name}.json");
        assert!(note(&name).contains(&command), "{name}.md lacks `{command}`");
        assert!(list.contains(&format!("[{name}]({name}.md)")), "README.md lacks {name}");
    }
}

/// FLOPs of a training step on one row that tell small examples from those that are made for a GPU,
/// with wide blocks or long rows: one of these takes longer here than all others together.
const SMALL: u64 = 5_000_000_000;
/// Those that are not small.
const LARGE: [&str; 5] = [
    "depth_recurrent_gqa",
    "gated_linear_attention",
    "gpt2_small",
    "recurrent_parallel",
    "unet_transformer",
];
const STEPS: usize = 20;

/// The loss of each step of an example on rows of letters, one row a step.
fn losses(plan: Arc<Plan>) -> Vec<f64> {
    let loader = LoaderConfig {
        patterns: vec![root().join("tests").join(TRAIN).display().to_string()],
        batch_tokens: plan.training.batch_tokens,
        seq_len: plan.seq_len,
        chunk: plan.training.shuffle_chunk_tokens,
        seed: plan.training.seed,
        vocab_size: plan.vocab,
        layout: Layout::Header,
    };
    let batches = Prefetch::start(Loader::new(&loader).unwrap());
    let run = Run { batches, validation: Vec::new(), log_every: 1, val_every: 1 };
    let device = Default::default();
    let model = Model::<Autodiff<Flex>>::init(plan, &device);
    let mut losses = Vec::new();
    let trained = train(&mut Trainer::new(model, &device), run, |event| {
        if let Event::Logged(logged) = event {
            losses.push(logged.loss);
        }
        ControlFlow::Continue(())
    });
    trained.unwrap_or_else(|error| panic!("{error}"));
    losses
}

/// Trains all examples that are small or all that are not; returns the names of the others.
fn all_learn(small: bool) -> Vec<String> {
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let mut left_out = Vec::new();
    for name in names("json") {
        let seq_len = plan(&name).unwrap().seq_len;
        let overrides =
            [format!("training.steps={STEPS}"), format!("training.batch_tokens={seq_len}")];
        let plan = plan_with(&name, &overrides).unwrap();
        if (Counts::of(&plan).unwrap().training_flops() <= SMALL) != small {
            left_out.push(name);
            continue;
        }
        let losses = losses(plan);
        assert_eq!(losses.len(), STEPS, "{name}");
        assert!(losses.iter().all(|loss| loss.is_finite()), "{name}: {losses:?}");
        let (early, late) = (mean(&losses[..5]), mean(&losses[STEPS - 5..]));
        assert!(late < early - 0.1, "{name}: {losses:?}");
        println!("{name}: {early:.3} to {late:.3}");
    }
    left_out
}

#[test]
fn every_small_example_learns() {
    assert_eq!(all_learn(true), LARGE);
}

#[test]
#[ignore = "a quarter of an hour: cargo test --release -p mixlab-tests large_example -- --ignored"]
fn every_large_example_learns() {
    let small = all_learn(false);
    assert!(
        names("json").iter().all(|name| small.contains(name) != LARGE.contains(&name.as_str()))
    );
}

/// First values of some weights of plain_3L as mixlab 0.10.1 draws them, by index.
type Start = [(usize, [f32; 3]); 2];

fn assert_start(overrides: &[&str], start: Start) {
    let overrides: Vec<_> = overrides.iter().map(|text| (*text).to_owned()).collect();
    let path = root().join("examples/plain_3L.json");
    let planned = Plan::read(&path, &overrides).unwrap();
    let model: Model<Flex> = Model::init(Arc::new(planned.plan), &Default::default());
    let values = values(&model);
    for (index, expected) in start {
        for (value, expected) in values[index].iter().zip(expected) {
            let error = (value - expected).abs();
            assert!(error <= 1e-8, "weight {index}: {value} instead of {expected}");
        }
    }
}

#[test]
fn plain_3l_starts_with_the_weights_of_the_original() {
    let embed = (0, [-0.018_326_778, -0.062_642_43, 0.015_024_654]);
    assert_start(&[], [embed, (4, [0.135_937_35, -0.119_796_15, 0.015_772_747])]);
    let embed = (0, [0.031_072_611, 0.002_505_121_8, -0.009_887_496]);
    let normal = ["training.weight_init=normal", "training.weight_init_std=0.02"];
    assert_start(&normal, [embed, (4, [-0.033_392_288, 0.043_450_7, -0.015_795_866])]);
}
