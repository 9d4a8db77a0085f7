//! What is refused, where, and what is only warned about.

use serde_json::{Value as Json, json};

use super::{block, plan};

/// All errors of a config with one block, without file and hints.
fn errors(block: Json) -> Vec<String> {
    let error = plan(json!([block])).expect_err("the block is refused");
    error.problems().map(|p| format!("{}: {}", p.path, p.message)).collect()
}

/// The errors of a block with weights `w` `[D, D]` and `v` `[D]` and the given operations.
fn op_errors(ops: &[(&str, Json, Json, Json)]) -> Vec<String> {
    let errors = errors(block(&[("w", json!(["D", "D"])), ("v", json!(["D"]))], ops));
    let place = "blocks[0].";
    errors.into_iter().map(|e| e.strip_prefix(place).unwrap_or(&e).to_owned()).collect()
}

/// The one error of an operation that reads `inputs`.
fn op_error(op: &str, inputs: Json, params: Json) -> String {
    let copy = ("scalar_mul", json!(["x"]), json!("x"), json!({"scalar": 1}));
    let found = op_errors(&[(op, inputs, json!("y"), params), copy]);
    let [only] = found.as_slice() else { panic!("{found:?}") };
    only.clone()
}

fn warnings(blocks: Json) -> Vec<String> {
    let found = plan(blocks).unwrap_or_else(|e| panic!("{e}")).warnings;
    found.into_iter().map(|f| format!("{}: {}", f.problem.path, f.problem.message)).collect()
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
fn shapes_that_do_not_fit_are_shown() {
    let cases = [
        (
            "matmul",
            json!(["x", "v"]),
            none(),
            "[24, 16] and [1, 16]: the inner lengths `16` and `1` differ",
        ),
        (
            "concat",
            json!(["x", "w"]),
            json!({"axis": 1}),
            "[24, 16] and [16, 16]: the inputs do not match beside axis `1`",
        ),
        (
            "add",
            json!(["x", "w"]),
            none(),
            "[24, 16] and [16, 16]: lengths `24` and `16` do not match",
        ),
        (
            "outer",
            json!(["x", "w"]),
            none(),
            "[24, 16] and [16, 16]: lengths `24` and `16` do not match",
        ),
        ("softmax", json!(["x"]), json!({"axis": 2}), "[24, 16]: there is no axis `2`"),
        ("sum", json!(["x"]), json!({"axis": -3}), "[24, 16]: there is no axis `-3`"),
        ("reshape", json!(["x"]), none(), "[24, 16]: `shape` is missing"),
        (
            "reshape",
            json!(["x"]),
            json!({"shape": ["T", "D"]}),
            "[24, 16]: `384` elements do not make [12, 16]",
        ),
        (
            "reshape",
            json!(["x"]),
            json!({"shape": [-1, -1]}),
            "[24, 16]: `384` elements do not make [-1, -1]",
        ),
        ("reshape", json!(["x"]), json!({"shape": []}), "[24, 16]: `384` elements do not make []"),
        (
            "reshape",
            json!(["x"]),
            json!({"shape": [0, "D"]}),
            "[24, 16]: a size is not positive or too large",
        ),
        (
            "reshape",
            json!(["x"]),
            json!({"shape": [-1], "axes": [-1]}),
            "[24, 16]: has both `shape` and `axes`",
        ),
        (
            "transpose",
            json!(["x"]),
            json!({"axes": [0, 0]}),
            "[24, 16]: `axes` [0, 0] is not an order of `2` axes",
        ),
        (
            "slice",
            json!(["x"]),
            json!({"axis": 1, "start": 16}),
            "[24, 16]: there is nothing from `16` to before `16` in an axis of `16`",
        ),
        ("slice", json!(["x"]), json!({"step": 0}), "[24, 16]: `step` is `0`"),
        ("clamp", json!(["x"]), none(), "[24, 16]: there is no bound"),
        (
            "clamp",
            json!(["x"]),
            json!({"min": 1, "max": 0}),
            "[24, 16]: `min` is `1` and `max` is `0`",
        ),
        ("dropout", json!(["x"]), json!({"rate": 1.5}), "[24, 16]: `rate` is `1.5`"),
        (
            "attention",
            json!(["x", "x", "x"]),
            none(),
            "[24, 16], [24, 16] and [24, 16]: these are not queries, keys and values",
        ),
        (
            "conv1d",
            json!(["w", "w"]),
            none(),
            "[16, 16] and [16, 16]: these are not a sequence and its taps",
        ),
        (
            "scan",
            json!(["x", "w"]),
            none(),
            "[24, 16] and [16, 16]: `decay` cannot be viewed as [16]",
        ),
        (
            "scan",
            json!(["x", "v"]),
            json!({"T": "D"}),
            "[24, 16] and [1, 16]: `384` elements cannot be viewed as [B, T, D] = [2, 16, 16]",
        ),
        (
            "scan_tv",
            json!(["x", "w"]),
            none(),
            "[24, 16] and [16, 16]: `g` cannot be viewed as [2, 12, 16]",
        ),
        (
            "matrix_scan",
            json!(["x", "x"]),
            none(),
            "[24, 16] and [24, 16]: `384` elements cannot be viewed as [B, T, Da, Db] = [2, 12, 24, 16]",
        ),
    ];
    for (op, inputs, params, shown) in cases {
        assert_eq!(op_error(op, inputs, params), format!("ops[0]: `{op}` of {shown}"));
    }
    let range = "there is nothing from `0` to before `0` in steps of `1`";
    assert_eq!(
        op_error("arange", json!([]), json!({"end": 0})),
        format!("ops[0]: `arange`: {range}")
    );
    let full = op_error("full", json!([]), json!({"shape": [], "value": 1}));
    assert_eq!(full, "ops[0]: `full`: `shape` is empty");
}

#[test]
fn a_rotation_needs_pairs_and_matching_sizes() {
    let heads = |shape: Json| ("reshape", json!(["x"]), json!("q"), json!({"shape": shape}));
    let copy = ("scalar_mul", json!(["x"]), json!("x"), json!({"scalar": 1}));
    let cases = [
        (
            json!(["B", 1, "T", "D"]),
            json!({"T": 16, "head_dim": 12}),
            "`T` is `16`, and the inputs have `12`",
        ),
        (
            json!(["B", 1, "T", "D"]),
            json!({"head_dim": 12}),
            "`head_dim` is `12`, and the inputs have `16`",
        ),
        (json!(["B", 16, "T", 1]), none(), "`1` channels do not make pairs"),
        (json!(["B", 1, "T", "D"]), json!({"rope_dims": 3}), "`3` channels do not make pairs"),
        (json!(["B", 1, "T", "D"]), json!({"base": 0}), "`base` is `0`, and must be positive"),
    ];
    for (shape, params, message) in cases {
        let found = op_errors(&[
            heads(shape),
            ("rope", json!(["q", "q"]), json!(["q", "k"]), params),
            copy.clone(),
        ]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].ends_with(message), "{found:?}");
    }
    let shape = json!(["B", 1, "T", "D"]);
    let found = op_errors(&[
        heads(shape),
        ("rope", json!(["q", "q", "v"]), json!(["q", "k"]), none()),
        copy,
    ]);
    assert!(found[0].ends_with("`16` positions for `12` tokens"), "{found:?}");
}

#[test]
fn params_are_reported_at_their_own_place() {
    let cases = [
        ("scalar_mul", none(), "ops[0].params: `scalar_mul`: `scalar` is missing"),
        ("softmax", json!({"axis": "Q"}), "ops[0].params.axis: `softmax`: `Q` is not a size"),
        (
            "silu",
            json!({"eps": 1}),
            "ops[0].params.eps: `silu`: this operation has no parameter `eps`",
        ),
        (
            "slice",
            json!({"axes": [0, 1, 1, 0], "axis": 1}),
            "ops[0].params.axes: `slice`: gives the integers of this operation by position, and `axis` gives one again",
        ),
    ];
    for (op, params, expected) in cases {
        assert_eq!(op_error(op, json!(["x"]), params), expected);
    }
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
fn what_is_legal_and_odd_is_warned_about() {
    let w = || json!(["D", "D"]);
    let ops = [
        ("matmul", json!(["x", "w"]), json!("a"), none()),
        ("silu", json!(["a"]), json!("a"), none()),
        ("matmul", json!(["x", "w"]), json!("x"), none()),
    ];
    let found = warnings(json!([block(&[("w", w()), ("x", w()), ("w", w())], &ops)]));
    let expected = [
        "blocks[0].weights[1].name: a weight called `x` cannot be read: `x` is the residual stream",
        "blocks[0].weights[2].name: `w` is declared again: operations see only the last one",
        "blocks[0].ops: these operations never reach `x` and are not run: ops[0] `matmul`, ops[1] `silu`",
    ];
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(expected.iter().all(|e| found.iter().any(|f| f == e)), "{found:?}");

    let found = warnings(json!([block(&[("w", w())], &ops[..1])]));
    assert!(found[0].ends_with("no operation writes `x`: this block has no effect"), "{found:?}");
}

#[test]
fn four_names_that_the_original_read_otherwise_are_warned_about() {
    let sliced = |params: Json| {
        let ops = [
            ("slice", json!(["x"]), json!("a"), params),
            ("add", json!(["x", "a"]), json!("x"), none()),
        ];
        warnings(json!([block(&[("w", json!(["D"]))], &ops)]))
    };
    let found = sliced(json!({"axis": 1, "start": 3, "end": 4, "step": 1}));
    assert!(found[0].contains("`slice` reads these four by name"), "{found:?}");
    assert!(sliced(json!({"axis": 1, "start": 3, "end": 4})).is_empty());
    assert!(sliced(json!({"axis": 1, "start": 0, "end": 16, "step": 1})).is_empty());
}
