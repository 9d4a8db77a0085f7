//! Models whose weights and tokens follow a formula, against the numbers of mixlab 0.10.1: the
//! combinations of blocks and options that the trained cases do not have.

use std::sync::Arc;

use burn_flex::Flex;
use mixlab_burn::data::Batch;
use mixlab_burn::model::Model;
use mixlab_burn::plan::Plan;
use mixlab_burn::weights::{fill, layout, values};
use serde_json::{Map, Value, json};

/// A model and its numbers. In `model` and `blocks`, `key=value` is a field; `P` is a `plain` block
/// with 4 heads and `S` a `swiglu`.
struct Row {
    model: &'static str,
    blocks: &'static str,
    weights: usize,
    params: usize,
    loss: f64,
    first: f64,
    last: f64,
}

macro_rules! rows {
    ($($model:literal | $blocks:literal | $weights:literal / $params:literal
        => $loss:literal, $first:literal, $last:literal;)+) => {
        [$(Row {
            model: $model, blocks: $blocks, weights: $weights, params: $params,
            loss: $loss, first: $first, last: $last,
        }),+]
    };
}

const ROWS: [Row; 36] = rows! {
    "" | "P, S" | 14 / 5696 => 4.62571, 0.53042, 1.65495;
    "" | "P" | 10 / 3616 => 4.51305, -0.15424, 1.25726;
    "" | "P kv_heads=2, S" | 14 / 5440 => 4.28885, -0.25039, 0.93562;
    "" | "P qk_gain=2.5" | 11 / 3620 => 4.21589, -0.50867, 0.86428;
    "" | "P rope_dims=2" | 10 / 3616 => 4.50828, -0.15424, 1.20261;
    "" | "P xsa=true kv_heads=2" | 10 / 3360 => 4.12442, 0.74181, -1.21829;
    "" | "P kv_heads=2 rope_dims=2, S, P kv_heads=2 kv_source=1 qk_gain=1.5 xsa=true"
        | 20 / 7348 => 4.09485, -0.70096, -0.17039;
    "block_scales=true resid_mix=true" | "P qk_gain=1, S, P, S"
        | 34 / 10356 => 4.18870, -0.73275, -0.13441;
    "block_scales=true" | "P skip_attention=true qk_gain=1, S"
        | 18 / 5748 => 4.18761, 1.65516, 0.58689;
    "" | "mlp" | 6 / 2592 => 4.11385, -0.58651, 1.58553;
    "block_scales=true" | "mlp" | 6 / 2592 => 4.11385, -0.58651, 1.58553;
    "" | "mlp activation=\"gelu\"" | 6 / 2592 => 4.16427, -0.36464, 1.67748;
    "" | "mlp activation=\"relu\"" | 6 / 2592 => 4.22313, 0.13680, 1.65590;
    "" | "mlp activation=\"leaky_relu_sq\" leaky_slope=0.25"
        | 6 / 2592 => 4.15562, -0.39777, 1.40011;
    "" | "mlp activation=\"leaky_relu_sq\" leaky_slope=0"
        | 6 / 2592 => 4.20409, 0.10364, 1.48280;
    "" | "mamba inner_dim=10" | 7 / 1790 => 4.08470, 1.81788, 0.65538;
    "seq_len=48 batch_tokens=96" | "mamba" | 7 / 2240 => 3.96063, 1.87846, -1.14949;
    "" | "mamba3 inner_dim=10" | 9 / 1866 => 4.10683, 1.70196, 0.92835;
    "seq_len=48 batch_tokens=96" | "mamba3" | 9 / 2256 => 4.03810, 1.62582, -1.25087;
    "" | "rwkv" | 13 / 3040 => 4.06825, 1.48654, 0.64063;
    "seq_len=48 batch_tokens=96" | "rwkv" | 13 / 3040 => 3.96854, 1.48654, -1.21303;
    "" | "retnet heads=4" | 11 / 3268 => 3.91935, 0.73262, 0.72990;
    "" | "perceiver heads=4 num_latents=5" | 18 / 5376 => 3.91863, -0.48849, -1.17530;
    "batch_tokens=36" | "bottleneck heads=4" | 18 / 5360 => 3.96955, -0.61514, -1.06000;
    "" | "P, cross_attention heads=4 source_stream=\"x\"" | 17 / 6032 => 4.37488, 1.70942, 1.17575;
    "" | "token_blend" | 4 / 1456 => 4.06397, 1.86864, 1.10369;
    "tie_embeddings=true bigram_vocab_size=19 bigram_dim=6 logit_softcap=3" | "P"
        | 12 / 3235 => 4.47158, 0.61027, 1.28307;
    "bigram_vocab_size=19" | "P" | 12 / 3921 => 4.17700, -0.22541, 0.64253;
    "unet=true resid_mix=true" | "P, S, P, S" | 29 / 10288 => 4.12126, -0.93702, -0.54502;
    "unet=true" | "P, S, P, S, P" | 34 / 12640 => 4.08142, -0.61047, -0.46767;
    "unet=true recurrence=[0,1,0,1]" | "P, S, P, S" | 16 / 5728 => 4.47941, 0.00019, 1.88346;
    "unet=true" | "P, P kv_source=1" | 16 / 5536 => 4.53030, 0.27494, 1.54077;
    "parallel_residual=true block_scales=true resid_mix=true"
        | "P kv_heads=2 qk_gain=1.5 xsa=true rope_dims=2 skip_attention=true, S, P, S"
        | 32 / 10068 => 4.58040, 2.12535, 0.71199;
    "parallel_residual=true block_scales=true resid_mix=true recurrence=[0,1,2,3,2,3]"
        | "P, S, P, S, P, S" | 31 / 10320 => 4.00991, -1.36843, -0.32366;
    "recurrence=[0,1,0,1]" | "P, S, P xsa=true, S" | 14 / 5696 => 4.67025, -0.01598, 2.08374;
    "" | "P weight_group=\"a\", S weight_group=\"b\", P weight_group=\"a\", S weight_group=\"b\""
        | 14 / 5696 => 4.48679, 0.38448, 2.13505;
};

fn fields(text: &str, into: &mut Map<String, Value>) {
    for field in text.split_whitespace() {
        let (key, value) = field.split_once('=').unwrap();
        into.insert(key.into(), serde_json::from_str(value).unwrap());
    }
}

fn block(text: &str) -> Value {
    let (kind, options) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    let start = match kind {
        "P" => json!({"type": "plain", "heads": 4}),
        "S" => json!({"type": "swiglu"}),
        kind => json!({"type": kind}),
    };
    let Value::Object(mut block) = start else { unreachable!() };
    fields(options, &mut block);
    Value::Object(block)
}

fn plan(row: &Row) -> Plan {
    let Value::Object(mut model) = json!({"model_dim": 16, "vocab_size": 37, "seq_len": 12}) else {
        unreachable!()
    };
    fields(row.model, &mut model);
    let batch_tokens = model.remove("batch_tokens").unwrap_or(24.into());
    model.insert("training".into(), json!({"batch_tokens": batch_tokens}));
    model.insert("blocks".into(), row.blocks.split(',').map(block).collect());
    Plan::parse(&Value::Object(model).to_string(), "recipe", &[]).unwrap().plan
}

/// Element `j` of weight `i` is a remainder; those of vectors that start above 0 are around 1.
fn model(plan: Plan) -> Model<Flex> {
    let model = Model::new(Arc::new(plan), &Default::default());
    let start = values(&model);
    fill(model, |i, weight| {
        let element = |j: usize| {
            let u = ((31 * j * j + 7919 * j + 104_729 * i + 13) % 1009) as f64 / 1009.0 - 0.5;
            match weight.shape.len() {
                1 if start[i][j] > 0.0 => (1.2 * u + 1.0) as f32,
                1 => (1.2 * u) as f32,
                _ => (0.9 * u) as f32,
            }
        };
        Some((0..weight.len()).map(element).collect())
    })
}

fn batch(plan: &Plan) -> Batch {
    let (rows, seq) = (plan.batch(), plan.seq_len);
    let token = |k: usize| ((3 * k * k + 7 * k + 3) % plan.vocab) as i32;
    let x: Vec<i32> = (0..rows * seq).map(token).collect();
    let prev = (0..rows).map(|row| if row == 0 { -1 } else { token(row * seq - 1) }).collect();
    Batch { batch: rows, seq, y: (1..=rows * seq).map(token).collect(), x, prev }
}

fn problem(row: &Row) -> Option<String> {
    let plan = plan(row);
    let batch = batch(&plan);
    let model = model(plan);
    let weights = layout(&model);
    let params: usize = weights.iter().map(|weight| weight.len()).sum();
    let (tokens, targets) = model.upload(batch, &Default::default());
    let loss = model.losses(tokens.clone(), targets, None).mean().into_scalar();
    let logits = model.forward(tokens).into_data().to_vec::<f32>().unwrap();
    let ends = [logits[0], logits[logits.len() - 1]];
    if (weights.len(), params) != (row.weights, row.params) {
        return Some(format!("{} weights, {params} parameters", weights.len()));
    }
    let found = [loss, ends[0], ends[1]].map(f64::from);
    let close =
        found.iter().zip([row.loss, row.first, row.last]).all(|(a, b)| (a - b).abs() <= 2e-5);
    (!close).then(|| format!("loss {}, logits {} and {}", found[0], found[1], found[2]))
}

#[test]
fn every_row_of_the_recipe_has_its_numbers() {
    let wrong: Vec<String> = ROWS
        .iter()
        .filter_map(|row| Some(format!("{} | {}: {}", row.model, row.blocks, problem(row)?)))
        .collect();
    assert!(wrong.is_empty(), "{} rows differ:\n{}", wrong.len(), wrong.join("\n"));
}
