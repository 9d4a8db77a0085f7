//! What programs do along T: as the analysis says, and as a change of one token shows.

mod programs;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use burn_flex::Flex;
use serde_json::{Value as Json, json};

use self::programs::{AHEAD, STREAMING, UNKNOWN, WHOLE_ROWS};
use super::{config, first};
use crate::blocks::custom::Outlook;
use crate::blocks::{Block, Builtin};
use crate::data::Batch;
use crate::model::Model;
use crate::plan::{Plan, Planned};
use crate::weights::fill;

/// A block of width 16 with 4 heads from lines such as `y, z = rope q k {"start": 1}`; its weights
/// are `w` `[D, D]`, `v` `[D]`, `taps` `[3, D]` and `short` `[3, HD]`.
fn block(lines: &str) -> Json {
    let ops = lines.trim().lines().map(|line| {
        let (line, params) = line.split_once('{').unwrap_or((line, "}"));
        let (outputs, call) = line.split_once('=').expect("an operation");
        let mut words = call.split_whitespace();
        let params: Json = serde_json::from_str(&format!("{{{params}")).expect("params");
        json!({
            "op": words.next(), "inputs": words.collect::<Vec<_>>(), "params": params,
            "outputs": outputs.split(',').map(str::trim).collect::<Vec<_>>(),
        })
    });
    let weight = |name: &str, shape: Json| json!({"name": name, "shape": shape});
    json!({
        "type": "custom", "name": "probe", "heads": 4, "ops": ops.collect::<Vec<_>>(),
        "weights": [
            weight("w", json!(["D", "D"])), weight("v", json!(["D"])),
            weight("taps", json!(["3", "D"])),
            weight("short", json!(["3", "HD"])),
        ],
    })
}

fn planned(lines: &str) -> Planned {
    let config = config(json!([block(lines)])).to_string();
    Plan::parse(&config, "test.json", &[]).unwrap_or_else(|e| panic!("{lines}\n{e}"))
}

/// A model with every weight off its start value.
fn model(plan: &Plan) -> Model<Flex> {
    fill(Model::new(Arc::new(plan.clone()), &Default::default()), |i, weight| {
        let value = |j: usize| ((31 * j * j + 7919 * j + 104_729 * i + 13) % 1009) as f32 / 1009.0;
        Some((0..weight.len()).map(|j| value(j) - 0.4).collect())
    })
}

/// Logits of each token of two rows.
fn logits(model: &Model<Flex>, ids: &[i32]) -> Vec<Vec<f32>> {
    let (x, y) = (ids.to_vec(), ids.to_vec());
    let batch = Batch { batch: 2, seq: ids.len() / 2, x, y, prev: vec![-1; 2] };
    let (tokens, _) = model.upload(batch, &Default::default());
    let flat = model.forward(tokens).into_data().to_vec::<f32>().unwrap();
    assert!(flat.iter().all(|z| z.is_finite()));
    flat.chunks(model.plan().vocab).map(<[f32]>::to_vec).collect()
}

/// Whether a change of a token never moves what stands before it.
fn is_causal(plan: &Plan) -> bool {
    let (model, seq, vocab) = (model(plan), plan.seq_len, plan.vocab as i32);
    let ids: Vec<i32> = (0..2 * seq as i32).map(|k| (k * k * 3 + k * 5 + 2) % vocab).collect();
    let before = logits(&model, &ids);
    (1..seq).all(|t| {
        let mut changed = ids.clone();
        [t, seq + t].into_iter().for_each(|n| changed[n] = (changed[n] + 1) % vocab);
        let after = logits(&model, &changed);
        [0, seq].into_iter().all(|row| before[row..row + t] == after[row..row + t])
    })
}

/// Logits of two rows, each token by token, in pieces of these lengths and the rest.
fn in_pieces(model: &Model<Flex>, ids: &[i32], lengths: &[usize]) -> Vec<Vec<f32>> {
    let seq = ids.len() / 2;
    let mut memory = model.memory().expect("a plan that streams");
    let mut rows = [Vec::new(), Vec::new()];
    let mut at = 0;
    for length in lengths.iter().copied().chain([seq]) {
        let end = (at + length).min(seq);
        if at == end {
            break;
        }
        let x: Vec<i32> =
            [0, seq].iter().flat_map(|row| ids[row + at..row + end].to_vec()).collect();
        let prev = [0, seq].map(|row| if at == 0 { -1 } else { ids[row + at - 1] }).to_vec();
        let batch = Batch { batch: 2, seq: end - at, y: x.clone(), x, prev };
        let (tokens, _) = model.upload(batch, &Default::default());
        let (hidden, after) = model.advance(tokens, memory);
        let flat = model.logits(hidden).into_data().to_vec::<f32>().unwrap();
        let mut tokens = flat.chunks(model.plan().vocab).map(<[f32]>::to_vec);
        rows.iter_mut().for_each(|row| row.extend(tokens.by_ref().take(end - at)));
        (memory, at) = (after, end);
    }
    rows.concat()
}

/// Fails unless a model gives the same whole as in pieces.
fn assert_streams(plan: &Plan, name: &str) {
    let (model, seq) = (model(plan), plan.seq_len);
    let ids: Vec<i32> = (0..2 * seq as i32).map(|k| (k * k + 3 * k + 1) % 31).collect();
    let whole = logits(&model, &ids).concat();
    let scale = whole.iter().fold(0f32, |most, z| most.max(z.abs()));
    for lengths in [&[1; 64][..], &[3, 3, 3, 3, 3], &[seq - 1], &[1], &[2, 1, 5]] {
        let pieces = in_pieces(&model, &ids, lengths).concat();
        assert_eq!(pieces.len(), whole.len());
        let error = whole.iter().zip(&pieces).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        assert!(error <= 1e-5 * scale, "{error:e} of {scale} in pieces of {lengths:?}: {name}");
    }
}

#[test]
fn programs_that_stream_go_on_where_they_stopped() {
    let more = [
        // Positions that start late and go in steps, and groups of heads.
        "q = reshape x {\"shape\": [\"B\", \"T\", \"H\", \"HD\"]}
         q = transpose q {\"axes\": [0, 2, 1, 3]}\nr, k = rope q q {\"start\": -3, \"step\": 2}
         k = slice k {\"axis\": 1, \"end\": 2}\ny = attention r k k
         y = transpose y {\"axes\": [0, 2, 1, 3]}\nx = reshape y {\"shape\": [\"BT\", \"D\"]}",
        // Positions of heads, which are no tokens.
        "q = reshape x {\"shape\": [\"BT\", 1, \"H\", \"HD\"]}\nq, k = rope q q {\"start\": 5}
         x = reshape q {\"shape\": [\"BT\", \"D\"]}",
        // Sums and recurrences over channels, and over tokens with heads as rows.
        "x = cumsum x {\"axis\": 1}",
        "y = reshape x {\"shape\": [\"B\", \"T\", \"H\", \"HD\"]}
         y = transpose y {\"axes\": [0, 2, 1, 3]}\ny = conv1d y short
         y = transpose y {\"axes\": [0, 2, 1, 3]}\nx = reshape y {\"shape\": [\"BT\", \"D\"]}",
        // More taps than tokens in a piece, or in a row.
        "y = conv1d x w\nx = add x y",
        // Time beside heads in one axis.
        "y = reshape x {\"shape\": [\"B\", -1, \"HD\"]}\ny = cumsum y {\"axis\": 1}
         x = reshape y {\"shape\": [\"BT\", \"D\"]}",
        "y = reshape x {\"shape\": [\"B\", -1, \"HD\"]}\ny = conv1d y short
         x = reshape y {\"shape\": [\"BT\", \"D\"]}",
    ];
    for lines in STREAMING.iter().chain(&more) {
        let planned = planned(lines);
        assert_eq!(outlook(&planned).rows, None, "{lines}");
        assert_streams(&planned.plan, lines);
    }
}

fn outlook(planned: &Planned) -> &Outlook {
    first(planned).outlook()
}

#[test]
fn programs_that_stream_are_known() {
    for lines in STREAMING {
        let planned = planned(lines);
        let Outlook { ahead, rows, .. } = outlook(&planned);
        assert_eq!((ahead, rows), (&None, &None), "{lines}");
        assert!(is_causal(&planned.plan), "{lines}");
        assert!((1..20).all(|seq| planned.plan.supports(seq).is_ok()), "{lines}");
        assert!(planned.warnings.is_empty(), "{lines}: {:?}", planned.warnings);
    }
}

#[test]
fn programs_that_take_whole_rows_are_known_with_the_operation() {
    for (lines, reason) in WHOLE_ROWS {
        let planned = planned(lines);
        let Outlook { ahead, rows, .. } = outlook(&planned);
        assert_eq!((ahead, rows.as_deref()), (&None, Some(*reason)), "{lines}");
        assert!(is_causal(&planned.plan), "{lines}");
    }
}

#[test]
fn programs_that_look_ahead_are_known_with_the_operation() {
    for (lines, place) in AHEAD {
        let planned = planned(lines);
        assert_eq!(outlook(&planned).ahead.as_deref(), Some(*place), "{lines}");
        assert!(!is_causal(&planned.plan), "{lines}");
        let warned = planned.warnings.iter().map(|w| w.problem.message.as_str());
        let expected = format!(
            "in a `custom` block every position sees the tokens after it through {place}: the loss is not that of a language model"
        );
        assert!(warned.into_iter().any(|message| message == expected), "{:?}", planned.warnings);
    }
}

#[test]
fn where_the_analysis_does_not_know_it_assumes_the_worst() {
    for (lines, place) in UNKNOWN {
        let planned = planned(lines);
        assert_eq!(outlook(&planned).ahead.as_deref(), Some(*place), "{lines}");
        assert!(is_causal(&planned.plan), "{lines}: the rules could know better");
    }
}

#[test]
fn the_examples_stream() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let sizes = ["model_dim=32", "seq_len=9", "training.batch_tokens=18", "vocab_size=31"];
    let sizes = sizes.map(str::to_owned);
    let mut found = 0;
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let text = fs::read_to_string(&path).unwrap_or_default();
        if path.extension().is_none_or(|e| e != "json") || !text.contains("\"custom\"") {
            continue;
        }
        let planned = Plan::<Builtin>::parse(&text, "example.json", &sizes).unwrap();
        let customs = planned.plan.steps.iter().filter_map(|step| match &step.block {
            Builtin::Custom(custom) => Some(custom.outlook()),
            _ => None,
        });
        assert!(customs.into_iter().all(|o| o.ahead.is_none() && o.rows.is_none()), "{path:?}");
        assert!(is_causal(&planned.plan), "{path:?}");
        assert_streams(&planned.plan, &path.display().to_string());
        found += 1;
    }
    assert!(found >= 3, "{found} examples");
}

#[test]
fn a_length_that_does_not_fit_is_refused_before_it_runs() {
    let mut fixed = block(
        "y = reshape x {\"shape\": [\"B\", \"T\", \"D\"]}\ny = add y p
         x = reshape y {\"shape\": [\"BT\", \"D\"]}",
    );
    fixed["weights"][1] = json!({"name": "p", "shape": ["T", "D"]});
    let config = config(json!([fixed])).to_string();
    let planned = Plan::<Builtin>::parse(&config, "test.json", &[]).unwrap();
    let Outlook { ahead, rows, .. } = outlook(&planned);
    assert_eq!(*ahead, None);
    assert_eq!(rows.as_deref(), Some("ops[2] `reshape` does not fit rows of any length"));
    assert!(planned.plan.supports(12).is_ok());
    let error = planned.plan.supports(5).unwrap_err().to_string();
    let expected = "block `0` cannot run on rows of `5` tokens: ops[1]: `add` of [1, 5, 16] and [12, 16]: lengths `5` and `12` do not match\n  hint: use rows of `12` tokens";
    assert!(error.starts_with(expected), "{error}");
    assert!(planned.plan.steps[0].block.supports(12).is_ok());
}

#[test]
fn the_first_rows_of_a_table_of_positions_are_for_shorter_rows_only() {
    let mut learned = block(
        "y = reshape x {\"shape\": [\"B\", \"T\", \"D\"]}\nq = slice p {\"end\": \"T\"}\ny = add y q
         x = reshape y {\"shape\": [\"BT\", \"D\"]}",
    );
    learned["weights"][1] = json!({"name": "p", "shape": ["T", "D"]});
    let config = config(json!([learned])).to_string();
    let planned = Plan::<Builtin>::parse(&config, "test.json", &[]).unwrap();
    assert_eq!(outlook(&planned).rows.as_deref(), Some("ops[1] `slice` takes whole rows"));
    assert!(is_causal(&planned.plan));
    assert!((1..=12).all(|seq| planned.plan.supports(seq).is_ok()));
    assert!(planned.plan.supports(13).is_err());
}
