//! What is refused, and where.

use serde_json::{Value as Json, json};

use super::{block, plan};

/// All errors of a config with one block, without file and hints.
pub fn errors(block: Json) -> Vec<String> {
    let error = plan(json!([block])).expect_err("the block is refused");
    error.problems().map(|p| format!("{}: {}", p.path, p.message)).collect()
}

/// The errors of a block with weights `w` `[D, D]` and `v` `[D]` and the given operations.
pub fn op_errors(ops: &[(&str, Json, Json, Json)]) -> Vec<String> {
    let errors = errors(block(&[("w", json!(["D", "D"])), ("v", json!(["D"]))], ops));
    let place = "blocks[0].";
    errors.into_iter().map(|e| e.strip_prefix(place).unwrap_or(&e).to_owned()).collect()
}

fn none() -> Json {
    json!({})
}

#[test]
fn a_block_needs_a_name_weights_and_operations() {
    let expected = ["name", "weights", "ops"]
        .map(|field| format!("blocks[0].{field}: a `custom` block needs `{field}`"));
    assert_eq!(errors(json!({"type": "custom"})), expected);
    let wrong = json!({"type": "custom", "name": "n", "weights": 3, "ops": "add"});
    let found = errors(wrong);
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn names_and_numbers_of_inputs_and_outputs_are_checked() {
    let copy = ("scalar_mul", json!(["x"]), json!("x"), json!({"scalar": 1}));
    let found = op_errors(&[
        ("matmull", json!(["x", "w"]), json!("a"), none()),
        ("matmul", json!(["x"]), json!("b"), none()),
        ("add", json!(["x", "y", "late"]), json!("late"), none()),
        ("silu", json!(["x"]), json!(["p", "q"]), none()),
        ("rope", json!(["x", "x"]), json!("r"), none()),
        ("silu", json!(["x"]), json!(""), none()),
        ("silu", json!(["x"]), json!(["x", ""]), none()),
        copy,
    ]);
    let expected = [
        "ops[0].op: there is no operation `matmull`",
        "ops[1].inputs: `matmul` has `1` inputs",
        "ops[2].inputs[1]: nothing is called `y` at this point",
        "ops[2].inputs[2]: nothing is called `late` at this point",
        "ops[2].inputs: `add` has `3` inputs",
        "ops[3].outputs: `silu` names `2` outputs and has `1`",
        "ops[4].output: `rope` names `1` outputs and has `2`",
        "ops[4]: `rope` of [24, 16] and [24, 16]: the inputs do not have four axes",
        "ops[5].output: `silu` names `0` outputs and has `1`",
        "ops[6].outputs: `silu` has an output without a name",
    ];
    let mut found = found;
    let mut expected = expected.map(str::to_owned).to_vec();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn hints_name_the_way_out() {
    let ops = [
        ("matmul", json!(["x", "W"]), json!("a"), none()),
        ("add", json!(["b", "x"]), json!("b"), none()),
        ("zzz", json!(["x"]), json!("x"), none()),
    ];
    let error = plan(json!([block(&[("w", json!(["D", "D"]))], &ops)])).unwrap_err();
    let hints: Vec<_> = error.problems().filter_map(|p| p.hint.clone()).collect();
    assert!(hints.iter().any(|h| h == "did you mean `w`?"), "{hints:?}");
    assert!(hints.iter().any(|h| h == "`ops[1]` writes it, which comes later"), "{hints:?}");
    assert!(hints.iter().any(|h| h.starts_with("known operations: `matmul`, `add`")), "{hints:?}");
}

#[test]
fn the_stream_must_leave_as_it_came() {
    let found = op_errors(&[("matmul", json!(["v", "w"]), json!("x"), none())]);
    assert_eq!(found, ["ops: `x` ends with shape [1, 16] instead of [24, 16]"]);
}

#[test]
fn a_weight_keeps_its_shape_when_it_is_written() {
    let copy = ("scalar_mul", json!(["x"]), json!("x"), json!({"scalar": 1}));
    let found = op_errors(&[("matmul", json!(["x", "w"]), json!("v"), none()), copy]);
    assert_eq!(found, ["ops: `v` is a weight of shape [1, 16], and is written as [24, 16]"]);
}

#[test]
fn weights_have_usable_sizes_and_ranks() {
    let weights = [
        ("a", json!(["Q", "0.01D"])),
        ("b", json!(["HD"])),
        ("c", json!(["2", "2", "2"])),
        ("d_scale", json!(["1", "1", "1", "1", "1"])),
        ("e", json!(["1e6D", "1e6D"])),
        ("f", json!([])),
        ("g", json!([16])),
        ("h", json!(["-1"])),
    ];
    let ops = [("scalar_mul", json!(["x"]), json!("x"), json!({"scalar": 1}))];
    let mut block = block(&weights, &ops);
    block["heads"] = json!(3);
    let found = errors(block);
    let expected = [
        "[0].shape[0]: `Q` is not a size",
        "[0].shape[1]: `0.01D` is `0`",
        "[1].shape[0]: `HD` is not whole: heads `3` does not divide model_dim `16`",
        "[2].shape: `c` has `3` axes, and no optimizer group takes it",
        "[3].shape: `d_scale` has `5` axes",
        "[4].shape: `e` has more than `2147483647` elements",
        "[5].shape: expected at least one entry, found an empty list",
        "[6].shape[0]: expected a string, found `16`",
        "[7].shape[0]: `-1` is `-1`",
    ];
    let mut found: Vec<_> = found.iter().map(|e| e.replace("blocks[0].weights", "")).collect();
    found.sort();
    assert_eq!(found, expected);
}

#[test]
fn a_shape_for_one_batch_size_only_is_refused() {
    let found = op_errors(&[
        ("reshape", json!(["x"]), json!("y"), json!({"shape": [2, "T", "D"]})),
        ("reshape", json!(["y"]), json!("x"), json!({"shape": ["BT", "D"]})),
    ]);
    let expected = "ops[0]: fits the training batch of `2` rows, but none of `1`: `reshape` of [12, 16]: `192` elements do not make [2, 12, 16]";
    assert_eq!(found, [expected]);
}

#[test]
fn nothing_follows_from_sizes_that_are_wrong_themselves() {
    let mut config = super::config(json!([block(&[("w", json!(["HD", "Q"]))], &[])]));
    config["model_dim"] = json!(-1);
    let planned: Result<crate::plan::Planned, _> =
        crate::plan::Plan::parse(&config.to_string(), "test.json", &[]);
    let error = planned.unwrap_err();
    let paths: Vec<_> = error.problems().map(|p| p.path.as_str()).collect();
    assert_eq!(paths, ["model_dim"]);
}

#[test]
fn a_value_of_a_wrong_type_is_reported_once() {
    let mut wrong = block(&[("w", json!(["D"]))], &[]);
    wrong["ops"] = json!([
        {"op": "add", "inputs": "x", "output": "a"},
        {"op": "add", "inputs": ["x", 1], "output": "b"},
        {"op": "scalar_mul", "inputs": ["x"], "output": "c", "params": 3},
        {"op": "silu", "inputs": ["x"], "output": 4},
        {"inputs": ["x"], "output": "x"},
    ]);
    let found: Vec<_> =
        errors(wrong).iter().map(|e| e.split(": ").next().unwrap().to_owned()).collect();
    let expected = ["[0].inputs", "[1].inputs[1]", "[2].params", "[3].output", "[4].op"];
    let mut found: Vec<_> = found.iter().map(|e| e.replace("blocks[0].ops", "")).collect();
    found.sort();
    assert_eq!(found, expected);
}
