//! A pass that goes on from a memory gives what one over the whole row gives, however the row is cut.

#[cfg(any(feature = "vulkan", feature = "cuda"))]
mod devices;
mod lengths;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::Tensor;
use burn_flex::Flex;
use mixlab_burn::blocks::Memory;
use mixlab_burn::data::Batch;
use mixlab_burn::model::Model;
use mixlab_burn::ops::Backend;
use mixlab_burn::plan::Plan;

use crate::isolation::model;

const VOCAB: usize = 31;
const SEQ: usize = 17;
const ROWS: usize = 2;
/// Prompts of 1, 2, 7 and all but one token, and then one by one or three by three; and others.
const CUTS: [&[usize]; 11] = [
    &[1],
    &[1, 3],
    &[2, 1],
    &[2, 3],
    &[7, 1],
    &[7, 3],
    &[SEQ - 1, 1],
    &[3],
    &[1, SEQ - 1],
    &[5, 1, 7, 2],
    &[SEQ],
];

fn plan(blocks: &str, options: &str) -> Plan {
    let json = format!(
        r#"{{"model_dim": 16, "vocab_size": {VOCAB}, "seq_len": {SEQ}, "mlp_mult": 1.5, {options}
            "training": {{"batch_tokens": {SEQ}, "compute_dtype": "f32"}}, "blocks": [{blocks}]}}"#
    );
    Plan::parse(&json, "streaming.json", &[]).unwrap_or_else(|e| panic!("{blocks}\n{e}")).plan
}

/// The tokens from `range` of all rows, and the token before each.
fn piece(range: std::ops::Range<usize>) -> Batch {
    let token = |row: usize, k: usize| ((row * 7 + k * k * 3 + k * 5 + 2) % VOCAB) as i32;
    let rows = |shift: usize| -> Vec<i32> {
        (0..ROWS).flat_map(|row| range.clone().map(move |k| token(row, k + shift))).collect()
    };
    let before = |row| range.start.checked_sub(1).map_or(-1, |k| token(row, k));
    let prev = (0..ROWS).map(before).collect();
    Batch { batch: ROWS, seq: range.len(), x: rows(0), y: rows(1), prev }
}

fn numbers<B: Backend>(x: Tensor<B, 3>) -> Vec<f32> {
    x.into_data().to_vec().unwrap()
}

/// Logits `[B, T, V]` of whole rows.
fn whole<B: Backend>(model: &Model<B>) -> Vec<f32> {
    let (tokens, _) = model.upload(piece(0..SEQ), &Default::default());
    numbers(model.forward(tokens).reshape([ROWS, SEQ, model.plan().vocab]))
}

/// The same in pieces of these lengths, the last one repeated until the row is over.
fn in_pieces<B: Backend>(model: &Model<B>, lengths: &[usize], mut memory: Memory<B>) -> Vec<f32> {
    let mut lengths = lengths.iter().copied();
    let (mut at, mut length, mut parts) = (0, 1, Vec::new());
    while at < SEQ {
        length = lengths.next().unwrap_or(length).min(SEQ - at);
        let (tokens, _) = model.upload(piece(at..at + length), &Default::default());
        let (hidden, after) = model.advance(tokens, memory);
        parts.push(model.logits(hidden).reshape([ROWS, length, model.plan().vocab]));
        (memory, at) = (after, at + length);
        assert_eq!(memory.past(), at);
    }
    numbers(Tensor::cat(parts, 1))
}

fn check(blocks: &str, options: &str) {
    check_plan(&format!("{options} {blocks}"), &plan(blocks, options));
}

fn check_plan(name: &str, plan: &Plan) {
    check_model(name, &model(plan), &CUTS, 1e-5);
}

/// Compares pieces of these lengths with whole rows, to `most` of the largest logit.
fn check_model<B: Backend>(name: &str, model: &Model<B>, cuts: &[&[usize]], most: f32) {
    let expected = whole(model);
    let largest = expected.iter().fold(0f32, |most, z| most.max(z.abs()));
    assert!(largest > 1e-3, "{name}");
    let memory = || model.memory().expect("a model whose blocks stream");
    for lengths in cuts {
        for memory in [memory(), memory().with_room()] {
            let got = in_pieces(model, lengths, memory);
            let error = got.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
            let error = error / largest;
            assert!(error <= most, "pieces of {lengths:?}: off by {error:e} in {name}");
        }
    }
}

#[test]
fn every_block_alone_goes_on_where_it_stopped() {
    for block in [
        r#"{"type": "plain", "heads": 4}"#,
        r#"{"type": "plain", "heads": 4, "kv_heads": 2}"#,
        r#"{"type": "plain", "heads": 4, "kv_heads": 1, "rope_dims": 2}"#,
        r#"{"type": "plain", "heads": 2, "xsa": true}"#,
        r#"{"type": "plain", "heads": 2, "kv_heads": 1, "qk_gain": 1.5, "xsa": true}"#,
        r#"{"type": "plain", "heads": 2, "skip_attention": true}"#,
        r#"{"type": "swiglu"}"#,
        r#"{"type": "mlp", "activation": "gelu"}"#,
        r#"{"type": "mamba", "inner_dim": 12}"#,
        r#"{"type": "mamba3"}"#,
        r#"{"type": "retnet", "heads": 4, "initial_decay": 0.9}"#,
        r#"{"type": "rwkv"}"#,
        r#"{"type": "token_blend"}"#,
    ] {
        check(block, "");
    }
}

#[test]
fn blocks_together_go_on_where_they_stopped() {
    let source = r#"{"type": "plain", "heads": 4, "kv_heads": 2},
        {"type": "plain", "heads": 4, "kv_heads": 2, "kv_source": 1, "xsa": true, "qk_gain": 2.0}"#;
    check(source, "");
    let mixed = r#"{"type": "plain", "heads": 2}, {"type": "mamba"}, {"type": "rwkv"},
        {"type": "retnet", "heads": 2}, {"type": "token_blend"}, {"type": "mamba3"}"#;
    check(mixed, "");
    check(mixed, r#""unet": true,"#);
    check(mixed, r#""bigram_vocab_size": 50, "bigram_dim": 8, "tie_embeddings": true,"#);
    let pairs = r#"{"type": "plain", "heads": 2}, {"type": "swiglu"},
        {"type": "plain", "heads": 4}, {"type": "swiglu"}"#;
    check(pairs, r#""parallel_residual": true,"#);
    check(pairs, r#""resid_mix": true, "block_scales": true, "logit_softcap": 10,"#);
}

#[test]
fn every_golden_config_goes_on_where_it_stopped() {
    let mut count = 0;
    for case in crate::golden::cases() {
        let file = format!("{}/golden/cases/{case}/config.json", env!("CARGO_MANIFEST_DIR"));
        let plan = Plan::read(&file, &[]).unwrap().plan;
        if plan.is_streaming() {
            check_plan(&case, &plan);
            count += 1;
        }
    }
    assert!(count > 20, "{count} of them stream");
}

#[test]
fn runs_of_shared_weights_have_a_memory_each() {
    let twice = r#"{"type": "rwkv"}, {"type": "plain", "heads": 2}"#;
    check(&format!("{twice}, {twice}"), r#""recurrence": [0, 1, 0, 1],"#);
    let group = r#"{"type": "mamba", "weight_group": "a"}"#;
    check(&format!("{group}, {group}, {group}"), "");
}

#[test]
fn a_named_stream_may_pass_between_pieces() {
    let blocks = r#"{"type": "mlp", "stream": "low"}, {"type": "token_blend", "stream": "high"},
        {"type": "mamba"}"#;
    check(blocks, "");
}

#[test]
fn a_clone_of_a_memory_is_a_fork() {
    let blocks = r#"{"type": "plain", "heads": 2}, {"type": "rwkv"}, {"type": "mamba"}"#;
    let model = model(&plan(blocks, ""));
    let device = Default::default();
    let upload = |range| model.upload(piece(range), &device).0;
    let (_, memory) = model.advance(upload(0..9), model.memory().unwrap());
    let on = |memory| model.advance(upload(9..12), memory).0.into_data().to_vec::<f32>().unwrap();
    let before = on(memory.clone());
    model.advance(upload(3..8), memory.clone());
    assert_eq!(on(memory), before);
    // With room for more, two forks write to the same place.
    let (_, memory) = model.advance(upload(0..9), model.memory().unwrap().with_room());
    let (_, other) = model.advance(upload(3..8), memory.clone());
    let before = on(other.clone());
    on(memory.clone());
    assert_eq!(on(other), before);
    model.advance(upload(3..8), memory.clone());
    let exact = model.advance(upload(0..9), model.memory().unwrap()).1;
    assert_eq!(on(memory), on(exact));
}

#[test]
fn a_model_that_sees_the_future_has_no_memory() {
    let perceiver = r#"{"type": "plain", "heads": 2}, {"type": "perceiver", "heads": 2}"#;
    let plan = plan(perceiver, "");
    assert!(!plan.is_streaming() && !plan.is_causal());
    assert!(Model::<Flex>::new(Arc::new(plan), &Default::default()).memory().is_none());
}

#[test]
#[should_panic(expected = "rows of the memory and rows of the batch")]
fn a_memory_of_other_rows_is_refused() {
    let model = model(&plan(r#"{"type": "mamba"}"#, ""));
    let device = Default::default();
    let (_, memory) = model.advance(model.upload(piece(0..3), &device).0, model.memory().unwrap());
    let one = Batch { batch: 1, seq: 1, x: vec![1], y: vec![2], prev: vec![0] };
    model.advance(model.upload(one, &device).0, memory);
}

/// Operations that look along the row.
const ALONG_TIME: [&str; 11] = [
    "attention",
    "full_attention",
    "retention",
    "rope",
    "scan",
    "scan_tv",
    "matrix_scan",
    "scan_from",
    "scan_tv_from",
    "matrix_scan_from",
    "fading_max",
];

/// The names that `text` takes from `mixlab_ops`.
fn taken(text: &str) -> Vec<&str> {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let after = text.split("mixlab_ops::").skip(1).map(|rest| match rest.strip_prefix('{') {
        Some(list) => list.split('}').next().unwrap(),
        None => rest.split(|c| !word(c)).next().unwrap(),
    });
    after.flat_map(move |list| list.split(move |c| !word(c))).collect()
}

#[test]
fn blocks_look_along_the_row_through_the_doors_of_flow_alone() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mixlab-burn/src/blocks");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<_> = files.filter(|path| path.is_file()).collect();
    assert!(files.len() > 12);
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let past: Vec<_> = taken(&text).into_iter().filter(|n| ALONG_TIME.contains(n)).collect();
        assert!(past.is_empty(), "{} takes {past:?} from mixlab_ops", path.display());
    }
    let doors = "use mixlab_ops::{\n    Activation, attention, rope};\nmixlab_ops::scan(x)";
    assert_eq!(taken(doors).iter().filter(|n| ALONG_TIME.contains(n)).count(), 3);
}
