//! Numbers of any size: they are refused where they do not fit, and planning takes no longer.

use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use super::errors::op_errors;
use super::{block, plan};

fn copy() -> (&'static str, Json, Json, Json) {
    ("scalar_mul", json!(["x"]), json!("x"), json!({"scalar": 1}))
}

/// The errors of operations that lead nowhere, found at once.
fn refused(ops: &[(&str, Json, Json, Json)]) -> Vec<String> {
    let start = Instant::now();
    let found = op_errors(&[ops, &[copy()]].concat());
    assert!(start.elapsed() < Duration::from_secs(1), "{ops:?} takes {:?}", start.elapsed());
    found
}

fn full(shape: Json, name: &str) -> (&'static str, Json, Json, Json) {
    ("full", json!([]), json!(name), json!({"shape": shape, "value": 0}))
}

#[test]
fn a_range_counts_its_numbers_without_making_them() {
    const MAX: i64 = i64::MAX;
    let most = "elements";
    let cases = [
        (json!({"end": 9_000_000_000_000_000i64}), "[9000000000000000]"),
        (json!({"end": 4_000_000_000_000_000_000i64}), "[4000000000000000000]"),
        (json!({"start": -MAX, "end": MAX}), "[18446744073709551614]"),
        (json!({"start": MAX, "end": i64::MIN, "step": -1}), "[18446744073709551615]"),
        (json!({"end": 2_147_483_648i64}), "[2147483648]"),
    ];
    for (params, shape) in cases {
        let found = refused(&[("arange", json!([]), json!("y"), params)]);
        let expected =
            format!("ops[0]: `arange`: the result {shape} has more than `2147483647` {most}");
        assert_eq!(found, [expected]);
    }
}

#[test]
fn a_range_of_few_large_numbers_is_none_too_large() {
    let far = json!({"start": i64::MIN, "end": i64::MAX, "step": i64::MAX});
    let ops = [
        ("arange", json!([]), json!("y"), far),
        ("arange", json!([]), json!("z"), json!({"start": 5, "end": i64::MIN, "step": i64::MIN})),
        ("arange", json!([]), json!("n"), json!({"end": 2_147_483_647i64})),
        copy(),
    ];
    assert!(plan(json!([block(&[("w", json!(["D"]))], &ops)])).is_ok());
}

#[test]
fn values_have_the_bound_of_weights() {
    let n = 65_536;
    let one = |op: &'static str, inputs: Json, params: Json| vec![(op, inputs, json!("y"), params)];
    let line = vec![full(json!([n]), "a")];
    let cross = vec![full(json!([n, 1]), "a"), full(json!([1, n]), "b")];
    let table = vec![full(json!([1, n]), "a"), full(json!([n]), "b")];
    let half = vec![full(json!([1 << 30]), "a")];
    let cases = [
        (vec![], one("full", json!([]), json!({"shape": [n, n], "value": 1})), "[65536, 65536]"),
        (
            vec![],
            one("full", json!([]), json!({"shape": [i64::MAX, i64::MAX], "value": 1})),
            "[9223372036854775807, 9223372036854775807]",
        ),
        (vec![], one("full", json!([]), json!({"shape": ["1e30D"], "value": 1})), "775807]"),
        (line, one("outer", json!(["a", "a"]), json!({})), "[65536, 65536]"),
        (cross.clone(), one("add", json!(["a", "b"]), json!({})), "[65536, 65536]"),
        (cross, one("matmul", json!(["a", "b"]), json!({})), "[65536, 65536]"),
        (table, one("embed", json!(["a", "b"]), json!({})), "[65536, 65536]"),
        (half, one("concat", json!(["a", "a"]), json!({})), "[2147483648]"),
    ];
    for (makers, op, shape) in cases {
        let place = format!("ops[{}]: `{}`", makers.len(), op[0].0);
        let [found] = refused(&[makers, op].concat()).try_into().unwrap();
        let expected = format!("{shape} has more than `2147483647` elements");
        assert!(found.starts_with(&place) && found.ends_with(&expected), "{found}");
    }
}

#[test]
fn products_of_sizes_do_not_wrap() {
    let n = 1i64 << 32;
    let heads = ("reshape", json!(["x"]), json!("q"), json!({"shape": ["B", 1, "T", "D"]}));
    let rope = |params: Json| ("rope", json!(["q", "q"]), json!(["r", "s"]), params);
    let cases = [
        (
            vec![("reshape", json!(["x"]), json!("y"), json!({"shape": [n, n]}))],
            "`384` elements do not make [4294967296, 4294967296]",
        ),
        (
            vec![("reshape", json!(["x"]), json!("y"), json!({"shape": [n, n, -1]}))],
            "`384` elements do not make [4294967296, 4294967296, -1]",
        ),
        (
            vec![("scan_tv", json!(["x", "x"]), json!("y"), json!({"B": n, "T": n, "D": n}))],
            "[B, T, D] = [4294967296, 4294967296, 4294967296]",
        ),
        (
            vec![heads.clone(), rope(json!({"start": i64::MAX}))],
            "positions from `9223372036854775807` in steps of `1` cannot be counted",
        ),
        (
            vec![heads, rope(json!({"step": i64::MIN}))],
            "positions from `0` in steps of `-9223372036854775808` cannot be counted",
        ),
    ];
    for (ops, expected) in cases {
        let [found] = refused(&ops).try_into().unwrap();
        assert!(found.ends_with(expected), "{found}");
    }
}

#[test]
fn axes_and_bounds_may_be_any_numbers() {
    let cases = [
        ("sum", json!({"axis": i64::MIN}), "there is no axis `-9223372036854775808`"),
        ("sum", json!({"axis": i64::MAX}), "there is no axis `9223372036854775807`"),
        ("transpose", json!({"axes": [i64::MIN, i64::MAX]}), "is not an order of `2` axes"),
        ("slice", json!({"start": i64::MAX}), "in an axis of `24`"),
        ("slice", json!({"end": i64::MIN}), "in an axis of `24`"),
    ];
    for (op, params, expected) in cases {
        let [found] = refused(&[(op, json!(["x"]), json!("y"), params)]).try_into().unwrap();
        assert!(found.ends_with(expected), "{found}");
    }
    let all = json!({"start": i64::MIN, "end": i64::MAX, "step": i64::MAX});
    let ops = [("slice", json!(["x"]), json!("y"), all), copy()];
    assert!(plan(json!([block(&[("w", json!(["D"]))], &ops)])).is_ok());
}

#[test]
fn a_result_that_is_too_large_has_a_way_out() {
    let ops = [full(json!([i64::MAX]), "a"), copy()];
    let error = plan(json!([block(&[("w", json!(["D"]))], &ops)])).unwrap_err();
    let problem = error.problems().next().unwrap();
    assert_eq!(problem.path, "blocks[0].ops[0]");
    let hint = "use smaller sizes, or a smaller training.batch_tokens if they depend on the batch";
    assert_eq!(problem.hint.as_deref(), Some(hint));
}
