use std::iter;

use burn::backend::Autodiff;
use burn::module::{AutodiffModule, Module};
use burn::optim::{GradientsParams, Optimizer, SgdConfig};
use burn::record::{FullPrecisionSettings, NamedMpkBytesRecorder, Recorder};
use burn::tensor::{Int, Tensor, backend::Backend};
use burn_flex::Flex;

use super::*;
use crate::blocks::Builtin;
use crate::weights::{layout, values};

type Training = Autodiff<Flex>;

const PLAIN: &str = r#"{"type": "plain", "heads": 2}"#;

fn block<B: Backend>(json: &str) -> BlockModule<B> {
    BlockModule::from_json(json, 8, &Default::default()).unwrap()
}

fn refusal(json: &str, dim: usize) -> String {
    BlockModule::<Flex>::from_json(json, dim, &Default::default()).unwrap_err().to_string()
}

fn stream<B: Backend>() -> Tensor<B, 3> {
    let values = Tensor::<B, 1, Int>::arange(0..2 * 5 * 8, &Default::default()).float();
    (values * 0.37).sin().reshape([2, 5, 8])
}

/// A module of somebody else's with a block in it.
#[derive(Module, Debug)]
struct Theirs<B: Backend> {
    gain: Param<Tensor<B, 1>>,
    block: BlockModule<B>,
}

impl<B: mixlab_ops::Backend> Theirs<B> {
    fn new() -> Self {
        let device = Default::default();
        Self { gain: crate::blocks::ones(8, &device), block: block(PLAIN) }
    }

    fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        self.block.forward(x * self.gain.val().unsqueeze())
    }
}

#[test]
fn a_block_does_what_the_same_block_does_in_a_model() {
    let json = format!(r#"{{"model_dim": 8, "vocab_size": 7, "blocks": [{PLAIN}]}}"#);
    let plan: Plan = Plan::parse(&json, "test.json", &[]).unwrap().plan;
    let device = Default::default();
    let model = plan.init::<Flex>(&device);
    let ids = Tensor::<Flex, 2, Int>::from_ints([[3, 1, 4, 1, 5], [2, 6, 5, 3, 0]], &device);
    let mut alone = plan.block::<Flex>(0, &device).unwrap();
    alone.weights = model.blocks[0].clone();
    let x = model.embed.val().select(0, ids.clone().flatten(0, 1)).reshape([2, 5, 8]);
    let found = alone.forward(x).reshape([10, 8]);
    found.into_data().assert_eq(&model.layers(ids)[0].to_data(), true);
}

/// One block of each type that reads the stream alone; `cross_attention` may.
const ALONE: [&str; 14] = [
    PLAIN,
    r#"{"type": "swiglu"}"#,
    r#"{"type": "mlp"}"#,
    r#"{"type": "mamba"}"#,
    r#"{"type": "legacy_mamba"}"#,
    r#"{"type": "mamba3"}"#,
    r#"{"type": "gated_linear_ssm"}"#,
    r#"{"type": "retnet", "heads": 2}"#,
    r#"{"type": "rwkv"}"#,
    r#"{"type": "perceiver", "heads": 2}"#,
    r#"{"type": "bottleneck", "heads": 2}"#,
    r#"{"type": "cross_attention", "heads": 2, "source_stream": "x"}"#,
    r#"{"type": "token_blend"}"#,
    r#"{"type": "custom", "name": "n", "weights": [{"name": "w", "shape": ["D", "D"]}],
        "ops": [{"op": "matmul", "inputs": ["x", "w"], "output": "x"}]}"#,
];

#[test]
fn every_builtin_block_that_reads_the_stream_alone_is_a_module() {
    for json in ALONE {
        let y = block::<Flex>(json).forward(stream());
        assert_eq!(y.dims(), [2, 5, 8], "{json}");
        let different = (y - stream()).abs().max().into_scalar();
        assert!(different > 0.0 && different.is_finite(), "{json} changes the stream: {different}");
    }
    for kind in Builtin::types() {
        assert!(ALONE.iter().any(|json| json.contains(&format!("\"{kind}\""))), "{kind}");
    }
}

#[test]
fn mistakes_in_the_json_name_place_and_way_out() {
    let message = refusal("{\"type\": \"plain\",\n \"heads\": 3}", 8);
    assert!(message.starts_with("block:2: blocks[0].heads: `3` does not divide"), "{message}");
    assert!(message.contains("hint: use one of 1, 2, 4, 8"), "{message}");
    let message = refusal(r#"{"type": "plane", "heads": 2}"#, 8);
    assert!(message.contains("did you mean `plain`?"), "{message}");
    assert!(refusal("[]", 8).starts_with("block:1:1: expected an object"), "{}", refusal("[]", 8));
    assert!(refusal(PLAIN, 0).starts_with("block: model_dim: "), "{}", refusal(PLAIN, 0));
}

#[test]
fn a_block_that_reads_more_than_the_stream_is_refused_by_name() {
    let cross = |source| {
        format!(r#"{{"type": "cross_attention", "heads": 2, "source_stream": "{source}"}}"#)
    };
    let message = refusal(&cross("x0"), 8);
    let expected = "block: blocks[0]: `cross_attention";
    assert!(message.starts_with(expected), "{message}");
    let expected =
        "cannot stand alone: it reads the embedding stream (`source_stream` is `x0`)\n  hint: ";
    assert!(message.contains(expected), "{message}");
    let message = refusal(&cross("low"), 8);
    assert!(message.contains("no earlier block publishes a stream `low`"), "{message}");
    let message = refusal(r#"{"type": "plain", "heads": 2, "kv_source": 1}"#, 8);
    assert!(
        message.contains("kv_source: block `1` is not an earlier block\n  hint: "),
        "{message}"
    );
}

#[test]
fn blocks_of_a_plan_that_read_each_other_are_refused_and_the_others_are_not() {
    let reads = |more: &str, index: usize| {
        let json = format!(
            r#"{{"model_dim": 8, "vocab_size": 7{more}, "blocks": [{{"type": "plain", "heads": 2}},
                {{"type": "swiglu"}}]}}"#
        );
        let plan: Plan = Plan::parse(&json, "test.json", &[]).unwrap().plan;
        plan.block::<Flex>(index, &Default::default()).err().map(|error| error.to_string())
    };
    assert_eq!(reads("", 0), None);
    assert_eq!(reads("", 1), None);
    let found = reads(r#", "resid_mix": true"#, 0).unwrap();
    assert!(found.contains("blocks[0]: `plain") && found.contains("`resid_mix`"), "{found}");
    let found = reads(r#", "parallel_residual": true"#, 1).unwrap();
    assert!(
        found.contains("blocks[1]: `swiglu") && found.contains("`parallel_residual`"),
        "{found}"
    );
    let found = reads("", 2).unwrap();
    let expected = "test.json: blocks[2]: there is no such block; the plan has `2`\n  hint: ";
    assert!(found.starts_with(expected), "{found}");
}

#[test]
fn weights_are_drawn_from_the_seed_of_the_device_within_their_bound() {
    let device = Default::default();
    let drawn = |seed| {
        Flex::seed(&device, seed);
        let block = block::<Flex>(r#"{"type": "mlp"}"#);
        values(&block)
    };
    // Other tests of the process draw from the same device, maybe in between.
    let twice = || [drawn(3), drawn(3)];
    let [first, _] =
        iter::repeat_with(twice).take(20).find(|[a, b]| a == b).expect("a seed repeats them");
    assert_ne!(first, drawn(4));
    for (weight, values) in layout(&block::<Flex>(r#"{"type": "mlp"}"#)).iter().zip(&first) {
        let [rows, columns] = weight.shape[..] else { continue };
        let limit = WeightInit::xavier_limit(rows, columns) as f32;
        let largest = values.iter().fold(0f32, |most, value| most.max(value.abs()));
        assert!(largest <= limit && largest > 0.8 * limit, "{}: {largest} {limit}", weight.name);
    }
}

#[test]
fn it_trains_inside_of_a_module_with_an_optimizer_of_burn() {
    let (mut theirs, mut optimizer) = (Theirs::<Training>::new(), SgdConfig::new().init());
    let loss = |theirs: &Theirs<Training>| (theirs.forward(stream()) - 1.0).square().mean();
    let before = loss(&theirs).into_scalar();
    for _ in 0..5 {
        let gradients = loss(&theirs).backward();
        let gradients = GradientsParams::from_grads(gradients, &theirs);
        assert_eq!(gradients.len(), layout(&theirs).len(), "every weight has a gradient");
        theirs = optimizer.step(0.1, theirs, gradients);
    }
    let after = loss(&theirs).into_scalar();
    assert!(after < 0.8 * before, "{before} {after}");
}

#[test]
fn records_carry_the_weights_of_a_module_with_a_block() {
    let recorder = NamedMpkBytesRecorder::<FullPrecisionSettings>::default();
    let [first, second] = [Theirs::<Flex>::new(), Theirs::new()];
    let expected = values(&first);
    assert_ne!(values(&second), expected);
    let bytes = recorder.record(first.into_record(), ()).unwrap();
    let second = second.load_record(recorder.load(bytes, &Default::default()).unwrap());
    assert_eq!(values(&second), expected);
}

#[test]
fn valid_fork_and_to_device_keep_weights_and_results() {
    let device = Default::default();
    let theirs = Theirs::<Training>::new();
    let expected = theirs.forward(stream()).into_data();
    theirs.valid().forward(stream()).into_data().assert_eq(&expected, true);
    let forked = theirs.clone().fork(&device);
    forked.forward(stream()).into_data().assert_eq(&expected, true);
    theirs.to_device(&device).forward(stream()).into_data().assert_eq(&expected, true);
}

#[test]
fn a_module_with_a_block_says_what_it_is_and_counts_its_parameters() {
    let theirs = Theirs::<Flex>::new();
    // Norm, four projections, two layers of the width that is the default; and the gain.
    assert_eq!(theirs.num_params(), 8 + 4 * 64 + 2 * 8 * 21 + 8);
    let text = theirs.to_string();
    assert!(text.contains("PlainWeights") && text.contains("wq"), "{text}");
}

#[test]
#[should_panic(expected = "a stream `[0, 2, 8]` has nothing to run on")]
fn a_stream_without_rows_is_refused() {
    block::<Flex>(PLAIN).forward(Tensor::zeros([0, 2, 8], &Default::default()));
}

#[test]
#[should_panic(expected = "a stream `[1, 2, 4]` for a block of width `8`")]
fn a_stream_of_another_width_is_refused() {
    block::<Flex>(PLAIN).forward(Tensor::zeros([1, 2, 4], &Default::default()));
}

#[test]
fn dropout_acts_in_training_alone() {
    let json = r#"{"model_dim": 8, "vocab_size": 7, "dropout": 0.5, "blocks": [{"type": "mlp"},
        {"type": "swiglu"}]}"#;
    let plan: Plan = Plan::parse(json, "test.json", &[]).unwrap().plan;
    let block = plan.block::<Flex>(1, &Default::default()).unwrap();
    let (kept, key) = (block.forward(stream()), DropoutKey { seed: 1, step: 2, row: 0 });
    kept.to_data().assert_eq(&block.forward(stream()).to_data(), true);
    let dropped = block.forward_with_dropout(stream(), key);
    let same = (dropped - stream()).equal_elem(0.0).int().sum().into_scalar();
    assert!((20..60).contains(&same), "about half of 80 elements keep what they were: {same}");
}
