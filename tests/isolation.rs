//! What must not influence what: batch rows each other, and tokens those before them. Checked on
//! the example of every block's documentation, which thereby runs, and is described.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use burn_flex::Flex;
use mixlab_burn::blocks::{Block, Builtin};
use mixlab_burn::data::Batch;
use mixlab_burn::model::Model;
use mixlab_burn::plan::Plan;
use mixlab_burn::program::describe;
use mixlab_burn::weights::{fill, values};

const VOCAB: usize = 31;
const SEQ: usize = 9;

/// All ```` ```json ```` examples in the module documentation below `folder`.
fn examples(folder: &Path, found: &mut Vec<String>) {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            examples(&path, found);
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let docs = text.lines().filter_map(|line| line.strip_prefix("//!"));
        let docs = docs.collect::<Vec<_>>().join("\n");
        let fenced = docs.split("```json").skip(1).map(|rest| rest.split("```").next().unwrap());
        found.extend(fenced.map(str::to_owned));
    }
}

/// Models to check: every example by itself, and what takes more than one block.
fn models() -> Vec<(String, Plan)> {
    let mut blocks = Vec::new();
    examples(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../mixlab-burn/src/blocks"), &mut blocks);
    assert!(blocks.len() >= 11, "{} examples", blocks.len());
    let more = [
        r#"{"type": "mlp", "stream": "low"}, {"type": "token_blend"},
           {"type": "cross_attention", "heads": 2, "source_stream": "low"}"#,
        r#"{"type": "plain", "heads": 4}, {"type": "plain", "heads": 4, "kv_source": 1}"#,
    ];
    let pair = r#"{"type": "plain", "heads": 4}, {"type": "swiglu"}"#;
    let alone = blocks.into_iter().chain(more.map(str::to_owned)).map(|b| (b, false));
    let models = alone.chain([(pair.to_owned(), true)]).map(|(blocks, parallel)| {
        let json = format!(
            r#"{{"model_dim": 128, "vocab_size": {VOCAB}, "seq_len": {SEQ}, "mlp_mult": 1,
                "parallel_residual": {parallel}, "training": {{"batch_tokens": {SEQ}}},
                "blocks": [{blocks}]}}"#
        );
        let plan = Plan::parse(&json, "example", &[]).unwrap_or_else(|e| panic!("{blocks}\n{e}"));
        (blocks, plan.plan)
    });
    models.collect()
}

/// A model with every weight off its start value, so that all of them act.
pub(crate) fn model(plan: &Plan) -> Model<Flex> {
    let model = Model::new(Arc::new(plan.clone()), &Default::default());
    let start = values(&model);
    let mut state = 1u64;
    fill(model, |i, _| {
        let moved = start[i].iter().map(|value| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            value + ((state >> 40) as f32 / 8_388_608.0 - 1.0) * 0.2
        });
        Some(moved.collect())
    })
}

/// Logits of each token of each row.
fn logits(model: &Model<Flex>, rows: &[Vec<i32>]) -> Vec<Vec<Vec<f32>>> {
    let seq = rows[0].len();
    let x = rows.concat();
    let batch = Batch { batch: rows.len(), seq, y: x.clone(), x, prev: vec![-1; rows.len()] };
    let (tokens, _) = model.upload(batch, &Default::default());
    let flat = model.forward(tokens).into_data().to_vec::<f32>().unwrap();
    assert!(flat.iter().all(|z| z.is_finite()));
    let tokens: Vec<Vec<f32>> = flat.chunks(VOCAB).map(<[f32]>::to_vec).collect();
    tokens.chunks(seq).map(<[_]>::to_vec).collect()
}

fn row(seed: usize) -> Vec<i32> {
    (0..SEQ).map(|k| ((seed * 7 + k * k * 3 + k * 5 + 2) % VOCAB) as i32).collect()
}

#[test]
fn every_block_type_has_an_example() {
    let models = models();
    let shown =
        |kind: &str| models.iter().any(|(json, _)| json.contains(&format!("\"type\": \"{kind}\"")));
    let aliases = ["legacy_mamba", "gated_linear_ssm"];
    let hidden: Vec<_> =
        Builtin::types().into_iter().filter(|k| !aliases.contains(k) && !shown(k)).collect();
    assert_eq!(hidden, [""; 0]);
}

#[test]
fn a_row_of_the_batch_never_influences_another() {
    for (name, plan) in models() {
        let model = model(&plan);
        let [a, b, c] = logits(&model, &[row(1), row(2), row(3)]).try_into().unwrap();
        let permuted = logits(&model, &[row(3), row(1), row(2)]);
        assert_eq!(permuted, [c.clone(), a.clone(), b.clone()], "permuted rows: {name}");
        let replaced = logits(&model, &[row(1), row(9), row(3)]);
        assert_eq!((&replaced[0], &replaced[2]), (&a, &c), "another second row: {name}");
        assert_ne!(replaced[1], b, "{name}");
        assert_eq!(logits(&model, &[row(2)]), [b], "a row alone: {name}");
    }
}

#[test]
fn only_three_block_types_see_the_future() {
    let mut seeing = Vec::new();
    for (name, plan) in models() {
        let model = model(&plan);
        let [before] = logits(&model, &[row(1)]).try_into().unwrap();
        for t in 1..SEQ {
            let mut changed = row(1);
            changed[t] = (changed[t] + 1) % VOCAB as i32;
            let [after] = logits(&model, &[changed]).try_into().unwrap();
            assert_ne!(after[t], before[t], "token {t} has an effect on itself: {name}");
            assert_eq!(after[..t] == before[..t], plan.is_causal(), "token {t}: {name}");
        }
        if !plan.is_causal() {
            let last = plan.steps.last().unwrap();
            seeing.push(format!("{:?}", last.block).split('(').next().unwrap().to_owned());
        }
    }
    seeing.sort();
    seeing.dedup();
    assert_eq!(seeing, ["Bottleneck", "CrossAttention", "Perceiver"]);
}

#[test]
fn a_row_of_one_token_works() {
    for (name, plan) in models() {
        let model = model(&plan);
        let [long] = logits(&model, &[row(1)]).try_into().unwrap();
        let [short] = logits(&model, &[row(1)[..1].to_vec()]).try_into().unwrap();
        if plan.is_causal() {
            let error = short[0].iter().zip(&long[0]).map(|(a, b)| (a - b).abs());
            assert!(error.fold(0.0, f32::max) < 1e-5, "{name}");
        }
    }
}

#[test]
fn attentions_and_scans_are_single_nodes_of_a_captured_program() {
    let expected = [
        ("mixlab.attention", 1, "plain"),
        ("mixlab.attention", 3, "perceiver"),
        ("mixlab.attention", 3, "bottleneck"),
        ("mixlab.attention", 1, "cross_attention"),
        ("mixlab.retention", 1, "retnet"),
        ("mixlab.scan", 1, "mamba"),
        ("mixlab.scan", 1, "mamba3"),
        ("mixlab.matrix_scan", 2, "rwkv"),
    ];
    let models = models();
    for (node, count, kind) in expected {
        let kind = format!("\"type\": \"{kind}\"");
        let (name, plan) = models.iter().find(|(json, _)| json.contains(&kind)).unwrap();
        let program = describe(&Arc::new(plan.clone()), [plan.batch(), plan.seq_len]).unwrap();
        let found = program.nodes().iter().filter(|n| n.name == node).count();
        assert_eq!(found, count, "{node} in {name}");
    }
    for (name, plan) in &models {
        let described = describe(&Arc::new(plan.clone()), [plan.batch(), plan.seq_len]);
        let expanded = described.and_then(|program| program.expanded());
        let expanded = expanded.unwrap_or_else(|error| panic!("{name}: {error}"));
        let ours = expanded.nodes().iter().find(|node| node.own.is_some());
        assert!(ours.is_none(), "{name}: {ours:?}");
    }
}
