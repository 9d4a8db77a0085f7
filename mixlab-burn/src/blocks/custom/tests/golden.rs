//! Losses and logits of mixlab 0.10.1 for single blocks with weights that a formula gives.

use std::sync::Arc;

use burn::tensor::{Int, Tensor, TensorData};
use burn_flex::Flex;
use serde_json::{Value as Json, json};

use super::{block, plan};
use crate::model::{Model, Tokens};
use crate::weights::fill;

const VOCAB: i64 = 37;

/// A number in [0, 1) for each element of each weight.
fn formula(weight: usize, element: usize) -> f64 {
    let (i, j) = (weight as i64, element as i64);
    ((31 * j * j + 7919 * j + 104_729 * i + 13) % 1009) as f64 / 1009.0
}

fn tokens(ahead: i64) -> Vec<i32> {
    let token = |k: i64| ((3 * k * k + 7 * k + 3) % VOCAB) as i32;
    (ahead..24 + ahead).map(token).collect()
}

/// Loss, first logit and last logit.
fn run(blocks: Json) -> [f64; 3] {
    let device = Default::default();
    let planned = plan(blocks).unwrap_or_else(|e| panic!("{e}"));
    let model = fill(Model::<Flex>::new(Arc::new(planned.plan), &device), |i, weight| {
        let ones = if weight.name == "final_norm" { 1.0 } else { 0.0 };
        let value = |j| match weight.shape.len() {
            1 => 1.2 * (formula(i, j) - 0.5) + ones,
            _ => 0.9 * (formula(i, j) - 0.5),
        };
        Some((0..weight.len()).map(|j| value(j) as f32).collect())
    });
    let ids = Tensor::<Flex, 2, Int>::from_data(TensorData::new(tokens(0), [2, 12]), &device);
    let targets = Tensor::<Flex, 1, Int>::from_data(TensorData::new(tokens(1), [24]), &device);
    let tokens = || Tokens { ids: ids.clone(), bigrams: None };
    let logits = model.forward(tokens()).into_data().to_vec::<f32>().unwrap();
    let loss: f32 = model.losses(tokens(), targets, None).mean().into_scalar();
    [loss, logits[0], logits[logits.len() - 1]].map(f64::from)
}

fn assert_values(blocks: Json, expected: [f64; 3]) {
    let got = run(blocks);
    for (got, expected) in got.iter().zip(expected) {
        assert!((got - expected).abs() <= 2e-5, "{got} instead of {expected}");
    }
}

fn none() -> Json {
    json!({})
}

/// Adds `y` to the stream.
fn residual(y: &str) -> (&'static str, Json, Json, Json) {
    ("add", json!(["x", y]), json!("x"), none())
}

fn matmul(a: &str, b: &str, y: &str) -> (&'static str, Json, Json, Json) {
    ("matmul", json!([a, b]), json!(y), none())
}

fn unary(op: &'static str, a: &str, y: &str) -> (&'static str, Json, Json, Json) {
    (op, json!([a]), json!(y), none())
}

#[test]
fn a_gated_feed_forward_layer() {
    let weights =
        [("g", json!(["D", "FFN"])), ("u", json!(["D", "FFN"])), ("d", json!(["FFN", "D"]))];
    let ops = [
        matmul("x", "g", "a"),
        unary("silu", "a", "a"),
        matmul("x", "u", "b"),
        ("mul", json!(["a", "b"]), json!("f"), none()),
        matmul("f", "d", "o"),
        residual("o"),
    ];
    assert_values(json!([block(&weights, &ops)]), [4.08257, 1.78462, 0.40050]);
}

#[test]
fn a_chain_of_elementwise_operations() {
    let ops = [
        unary("tanh", "x", "a"),
        unary(" GELU ", "a", "b"),
        unary("relu", "b", "c"),
        unary("exp", "c", "d"),
        unary("square", "d", "e"),
        ("scalar_mul", json!(["e"]), json!("f"), json!({"scalar": 0.25})),
        unary("softmax", "f", "g"),
        ("sub", json!(["x", "g"]), json!("h"), none()),
        ("div", json!(["h", "d"]), json!("i"), none()),
        ("mul", json!(["i", "v"]), json!("j"), none()),
        ("rms_norm", json!(["j", "v"]), json!("x"), json!({"eps": 1e-5})),
    ];
    assert_values(json!([block(&[("v", json!(["D"]))], &ops)]), [3.82851, 0.85017, 0.45081]);
}

#[test]
fn a_slice_by_position_and_the_same_by_name() {
    let weights = [("v", json!(["D", "2D"]))];
    for params in [json!({"axes": [16, 32, 1, 1]}), json!({"axis": 1, "start": "D", "end": 32})] {
        let ops =
            [matmul("x", "v", "a"), ("slice", json!(["a"]), json!("b"), params), residual("b")];
        assert_values(json!([block(&weights, &ops)]), [4.42846, 0.51256, 1.53823]);
    }
}

#[test]
fn rotated_queries_and_keys() {
    let weights = [("wq", json!(["D", "D"])), ("wk", json!(["D", "D"]))];
    for sizes in [
        json!({"shape": ["T", "HD"], "base": 500}),
        json!({"head_dim": "HD", "T": "T", "base": 500}),
    ] {
        let mut ops = vec![matmul("x", "wq", "q"), matmul("x", "wk", "k")];
        for name in ["q", "k"] {
            let heads = json!({"shape": ["B", "T", "H", "HD"]});
            ops.push(("reshape", json!([name]), json!(name), heads));
            ops.push(("transpose", json!([name]), json!(name), json!({"axes": [0, 2, 1, 3]})));
        }
        ops.push(("rope", json!(["q", "k"]), json!(["q", "k"]), sizes));
        ops.push(("add", json!(["q", "k"]), json!("s"), none()));
        ops.push(("transpose", json!(["s"]), json!("s"), json!({"axes": [0, 2, 1, 3]})));
        ops.push(("reshape", json!(["s"]), json!("s"), json!({"shape": ["BT", "D"]})));
        ops.push(residual("s"));
        let mut block = block(&weights, &ops);
        block["heads"] = json!(4);
        assert_values(json!([block]), [4.14542, 0.70815, 0.82759]);
    }
}

#[test]
fn a_scan_and_a_scan_with_a_gate() {
    let sizes = json!({"B": "B", "T": "T", "D": "D"});
    let weights = [("decay", json!(["D"])), ("m", json!(["D", "D"]))];
    let ops = [
        ("scan", json!(["x", "decay"]), json!("s"), sizes.clone()),
        matmul("s", "m", "s"),
        residual("s"),
    ];
    assert_values(json!([block(&weights, &ops)]), [4.14810, 1.37126, 0.58219]);
    let ops = [
        matmul("x", "g", "g2"),
        unary("sigmoid", "g2", "g2"),
        ("scan_tv", json!(["x", "g2"]), json!("s"), sizes),
        residual("s"),
    ];
    assert_values(json!([block(&[("g", json!(["D", "D"]))], &ops)]), [4.08037, 1.85100, 0.70668]);
}

#[test]
fn a_scan_of_matrices() {
    let weights = ["k", "v", "g"].map(|name| (name, json!(["D", "HD"])));
    let ops = [
        matmul("x", "k", "xk"),
        matmul("x", "v", "xv"),
        ("outer", json!(["xk", "xv"]), json!("kv"), none()),
        matmul("x", "g", "xg"),
        unary("sigmoid", "xg", "xg"),
        (
            "matrix_scan",
            json!(["kv", "xg"]),
            json!("st"),
            json!({"B": "B", "T": "T", "Da": "HD", "Db": "HD"}),
        ),
        ("reshape", json!(["st"]), json!("st"), json!({"shape": ["BT", "D"]})),
        residual("st"),
    ];
    let mut block = block(&weights, &ops);
    block["heads"] = json!(4);
    assert_values(json!([block]), [4.13842, 1.81701, 1.12606]);
}

#[test]
fn two_halves_put_together() {
    let weights = [("p", json!(["D", "8"])), ("q", json!(["D", "0.5D"]))];
    for params in [json!({"axis": 1}), json!({"axes": [1]})] {
        let ops = [
            matmul("x", "p", "a"),
            matmul("x", "q", "b"),
            ("concat", json!(["a", "b"]), json!("x"), params),
        ];
        assert_values(json!([block(&weights, &ops)]), [4.10020, 0.96444, -0.09335]);
    }
}

#[test]
fn a_vector_is_seen_as_one_row() {
    let ops = [
        ("transpose", json!(["p"]), json!("c"), json!({"axes": [1, 0]})),
        matmul("x", "c", "c"),
        residual("c"),
    ];
    assert_values(json!([block(&[("p", json!(["D"]))], &ops)]), [3.74167, 0.63853, 0.57526]);
}

#[test]
fn a_weight_that_was_written_is_read_by_a_block_that_shares_it() {
    let weights = [("p", json!(["D"]))];
    let scaled = ("mul", json!(["x", "p"]), json!("x"), none());
    let mut first = block(&weights, &[unary("exp", "p", "p"), scaled.clone()]);
    let mut second = block(&weights, &[scaled]);
    first["weight_group"] = json!("g");
    second["weight_group"] = json!("g");
    assert_values(json!([first, second]), [4.00216, 2.28275, 0.00990]);
}

#[test]
fn of_two_weights_with_one_name_the_last_is_read() {
    let weights = [("p", json!(["D", "D"])), ("p", json!(["D", "D"]))];
    assert_values(
        json!([block(&weights, &[matmul("x", "p", "x")])]),
        [3.96433, -2.00503, -0.59687],
    );
}

#[test]
fn a_softmax_over_the_batch() {
    for params in [json!({"axis": 0}), json!({"axes": [0]})] {
        let ops = [("softmax", json!(["x"]), json!("s"), params), residual("s")];
        assert_values(json!([block(&[("v", json!(["D"]))], &ops)]), [4.08073, 1.67379, 0.59671]);
    }
}

#[test]
fn a_weight_of_three_axes_is_one_row() {
    let ops = [("mul", json!(["x", "p_scale"]), json!("x"), none())];
    let weights = [("p_scale", json!(["2", "4", "2"]))];
    assert_values(json!([block(&weights, &ops)]), [3.91595, 0.21814, -1.01007]);
}
