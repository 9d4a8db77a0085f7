//! What is legal and odd.

use serde_json::{Value as Json, json};

use super::{block, plan};

fn warnings(blocks: Json) -> Vec<String> {
    let found = plan(blocks).unwrap_or_else(|e| panic!("{e}")).warnings;
    found.into_iter().map(|f| format!("{}: {}", f.problem.path, f.problem.message)).collect()
}

fn none() -> Json {
    json!({})
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

#[test]
fn a_parameter_without_effect_is_warned_about() {
    let ops = [
        ("div", json!(["x", "v"]), json!("y"), json!({"eps": 1e-5})),
        ("add", json!(["x", "y"]), json!("x"), none()),
    ];
    let found = warnings(json!([block(&[("v", json!(["D"]))], &ops)]));
    let expected = "blocks[0].ops[0].params.eps: `div` has no parameter `eps`, which has no effect";
    assert_eq!(found, [expected]);
}
