//! Shapes and parameters that do not fit, and how that is said.

use serde_json::{Map, Value as Json, json};

use super::errors::op_errors;

/// Each line: an operation with its inputs and parameters, and what is said about it. `x` is
/// `[24, 16]`, `w` `[16, 16]`, `v` `[16]`.
const REFUSED: &str = "
matmul x v {} -> of [24, 16] and [1, 16]: the inner lengths `16` and `1` differ
concat x w {'axis': 1} -> of [24, 16] and [16, 16]: the inputs do not match beside axis `1`
add x w {} -> of [24, 16] and [16, 16]: lengths `24` and `16` do not match
outer x w {} -> of [24, 16] and [16, 16]: lengths `24` and `16` do not match
softmax x {'axis': 2} -> of [24, 16]: there is no axis `2`
sum x {'axis': -3} -> of [24, 16]: there is no axis `-3`
reshape x {} -> of [24, 16]: `shape` is missing
reshape x {'shape': ['T', 'D']} -> of [24, 16]: `384` elements do not make [12, 16]
reshape x {'shape': [-1, -1]} -> of [24, 16]: `384` elements do not make [-1, -1]
reshape x {'shape': []} -> of [24, 16]: `384` elements do not make []
reshape x {'shape': [0, 'D']} -> of [24, 16]: `0` is not a size
reshape x {'shape': [-1], 'axes': [-1]} -> of [24, 16]: has both `shape` and `axes`
transpose x {'axes': [0, 0]} -> of [24, 16]: `axes` [0, 0] is not an order of `2` axes
slice x {'axis': 1, 'start': 16} -> of [24, 16]: there is nothing from `16` to before `16` in an axis of `16`
slice x {'step': 0} -> of [24, 16]: `step` is `0`
clamp x {} -> of [24, 16]: there is no bound
clamp x {'min': 1, 'max': 0} -> of [24, 16]: `min` is `1` and `max` is `0`
dropout x {'rate': 1.5} -> of [24, 16]: `rate` is `1.5`
attention x x x {} -> of [24, 16], [24, 16] and [24, 16]: these are not queries, keys and values
conv1d w w {} -> of [16, 16] and [16, 16]: these are not a sequence and its taps
scan x w {} -> of [24, 16] and [16, 16]: `decay` cannot be viewed as [16]
scan x v {'T': 'D'} -> of [24, 16] and [1, 16]: `384` elements cannot be viewed as [B, T, D] = [2, 16, 16]
scan_tv x w {} -> of [24, 16] and [16, 16]: `g` cannot be viewed as [2, 12, 16]
matrix_scan x x {} -> of [24, 16] and [24, 16]: `384` elements cannot be viewed as [B, T, Da, Db] = [2, 12, 24, 16]
arange {'end': 0} -> : there is nothing from `0` to before `0` in steps of `1`
full {'shape': [], 'value': 1} -> : `shape` is empty
full {'shape': [-1], 'value': 1} -> : `-1` is not a size
";

fn copy() -> (&'static str, Json, Json, Json) {
    ("scalar_mul", json!(["x"]), json!("x"), json!({"scalar": 1}))
}

/// The one error of an operation that reads `inputs`.
fn op_error(op: &str, inputs: Json, params: Json) -> String {
    let found = op_errors(&[(op, inputs, json!("y"), params), copy()]);
    let [only] = found.as_slice() else { panic!("{op}: {found:?}") };
    only.clone()
}

#[test]
fn shapes_that_do_not_fit_are_shown() {
    for line in REFUSED.trim().lines() {
        let (call, said) = line.split_once(" -> ").unwrap();
        let (words, params) = call.split_once(" {").unwrap();
        let mut words = words.split(' ');
        let op = words.next().unwrap();
        let params = format!("{{{params}").replace('\'', "\"");
        let params: Map<String, Json> = serde_json::from_str(&params).unwrap();
        let space = if said.starts_with(':') { "" } else { " " };
        let found = op_error(op, words.collect(), params.into());
        assert_eq!(found, format!("ops[0]: `{op}`{space}{said}"));
    }
}

#[test]
fn a_rotation_needs_pairs_and_matching_sizes() {
    let heads = |shape: Json| ("reshape", json!(["x"]), json!("q"), json!({"shape": shape}));
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
        (json!(["B", 16, "T", 1]), json!({}), "`1` channels do not make pairs"),
        (json!(["B", 1, "T", "D"]), json!({"rope_dims": 3}), "`3` channels do not make pairs"),
        (json!(["B", 1, "T", "D"]), json!({"base": 0}), "`base` is `0`, and must be positive"),
    ];
    for (shape, params, message) in cases {
        let found = op_errors(&[
            heads(shape),
            ("rope", json!(["q", "q"]), json!(["q", "k"]), params),
            copy(),
        ]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].ends_with(message), "{found:?}");
    }
    let shape = json!(["B", 1, "T", "D"]);
    let found = op_errors(&[
        heads(shape),
        ("rope", json!(["q", "q", "v"]), json!(["q", "k"]), json!({})),
        copy(),
    ]);
    assert!(found[0].ends_with("`16` positions for `12` tokens"), "{found:?}");
}

#[test]
fn params_are_reported_at_their_own_place() {
    let cases = [
        ("scalar_mul", json!({}), "ops[0].params: `scalar_mul`: `scalar` is missing"),
        ("softmax", json!({"axis": "Q"}), "ops[0].params.axis: `softmax`: `Q` is not a size"),
        (
            "softmax",
            json!({"axs": 1}),
            "ops[0].params.axs: `softmax`: this operation has no parameter `axs`",
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
