//! Element by element, and along one axis.

use serde_json::{Value as Json, json};

use super::super::numbers::{Host, host, noise, positive, sigmoid, softmax, zip};
use super::{Case, case};

pub fn all() -> Vec<Case> {
    let groups = [unary(), binary(), choice(), lines(), rms_norms(), layer_norms()];
    groups.into_iter().flatten().collect()
}

fn unary() -> Vec<Case> {
    type Row = (&'static str, Json, bool, fn(f64) -> f64);
    let rows: [Row; 20] = [
        ("scalar_mul", json!({"scalar": "0.3"}), false, |a| a * f64::from(0.3f32)),
        ("neg", json!({}), false, |a| -a),
        ("square", json!({}), false, |a| a * a),
        ("sqrt", json!({}), true, f64::sqrt),
        ("rsqrt", json!({}), true, |a| 1.0 / a.sqrt()),
        ("pow", json!({"exponent": 1.5}), true, |a| a.powf(1.5)),
        ("pow", json!({"exponent": 3}), false, |a| a * a * a),
        ("exp", json!({}), false, f64::exp),
        ("log", json!({}), true, f64::ln),
        ("abs", json!({}), false, f64::abs),
        ("clamp", json!({"min": -0.25, "max": 0.5}), false, |a| a.clamp(-0.25, 0.5)),
        ("clamp", json!({"min": -0.25}), false, |a| a.max(-0.25)),
        ("clamp", json!({"max": 0.5}), false, |a| a.min(0.5)),
        ("tanh", json!({}), false, f64::tanh),
        ("sigmoid", json!({}), false, sigmoid),
        ("relu", json!({}), false, |a| a.max(0.0)),
        ("silu", json!({}), false, |a| a * sigmoid(a)),
        ("gelu", json!({}), false, |a| {
            0.5 * a * (1.0 + (0.797_884_560_8 * (a + 0.044_715 * a * a * a)).tanh())
        }),
        ("softplus", json!({}), false, |a| a.exp().ln_1p()),
        ("dropout", json!({"rate": 0.5}), false, |a| a),
    ];
    let make = |(op, params, above_zero, f): Row| {
        let input = if above_zero { positive(&[2, 3, 4], 1) } else { noise(&[2, 3, 4], 1) };
        case(op, params, vec![input], move |x| x[0].map(f))
    };
    rows.into_iter().map(make).collect()
}

fn binary() -> Vec<Case> {
    type Row = (&'static str, bool, fn(f64, f64) -> f64);
    let rows: [Row; 11] = [
        ("add", true, |a, b| a + b),
        ("sub", true, |a, b| a - b),
        ("mul", true, |a, b| a * b),
        ("div", true, |a, b| a / b),
        ("maximum", true, f64::max),
        ("minimum", true, f64::min),
        ("greater", false, |a, b| f64::from(a > b)),
        ("greater_equal", false, |a, b| f64::from(a >= b)),
        ("less", false, |a, b| f64::from(a < b)),
        ("less_equal", false, |a, b| f64::from(a <= b)),
        ("equal", false, |a, b| f64::from(a == b)),
    ];
    let shapes: [[&[usize]; 3]; 3] = [
        [&[2, 3], &[2, 3], &[2, 3]],
        [&[4, 3], &[1, 3], &[4, 3]],
        [&[3, 1], &[2, 1, 4], &[2, 3, 4]],
    ];
    let mut cases = Vec::new();
    for (op, differentiable, f) in rows {
        for [a, b, shape] in shapes {
            let (a, mut b) = (noise(a, 2), positive(b, 3));
            b.data[0] = a.data[0]; // one equal pair
            if differentiable && op.ends_with("imum") {
                b.data[0] += 0.5; // no gradient exists at a tie
            }
            let mut made =
                case(op, json!({}), vec![a, b], move |x| zip(x, shape, |v| f(v[0], v[1])));
            made.differentiable = if differentiable { 2 } else { 0 };
            cases.push(made);
        }
    }
    cases
}

fn choice() -> Vec<Case> {
    let inputs = vec![host(&[0.0, 1.0, -0.5], &[3, 1]), noise(&[3, 2], 4), noise(&[2], 5)];
    let choose = |v: &[f64]| if v[0] != 0.0 { v[1] } else { v[2] };
    vec![case("where", json!({}), inputs, move |x| zip(x, &[3, 2], choose))]
}

/// Operations along an axis, each along the first, the middle and (by default) the last.
fn lines() -> Vec<Case> {
    type Row = (&'static str, fn(&[f64]) -> Vec<f64>);
    let rows: [Row; 6] = [
        ("sum", |l| vec![l.iter().sum()]),
        ("mean", |l| vec![l.iter().sum::<f64>() / l.len() as f64]),
        ("max", |l| vec![l.iter().copied().fold(f64::MIN, f64::max)]),
        ("min", |l| vec![l.iter().copied().fold(f64::MAX, f64::min)]),
        ("softmax", softmax),
        ("cumsum", |l| {
            l.iter()
                .scan(0.0, |sum, v| {
                    *sum += v;
                    Some(*sum)
                })
                .collect()
        }),
    ];
    let axes = [(json!({"axis": 0}), 0), (json!({"axis": "-2"}), 1), (json!({}), 2)];
    let make = |(op, f): Row| {
        axes.clone().map(|(params, axis)| {
            case(op, params, vec![noise(&[2, 3, 4], 6)], move |x| x[0].along(axis, f))
        })
    };
    rows.into_iter().flat_map(make).collect()
}

const EPS: f64 = 1e-2;

fn rms(line: &[f64]) -> Vec<f64> {
    let mean = line.iter().map(|v| v * v).sum::<f64>() / line.len() as f64;
    line.iter().map(|v| v / (mean + EPS).sqrt()).collect()
}

fn centered(line: &[f64]) -> Vec<f64> {
    let mean = line.iter().sum::<f64>() / line.len() as f64;
    line.iter().map(|v| v - mean).collect()
}

fn over_last(x: &Host, f: impl Fn(&[f64]) -> Vec<f64>) -> Host {
    host(&x.along(x.shape.len() - 1, f), &x.shape)
}

fn rms_norms() -> Vec<Case> {
    let shapes: [[&[usize]; 3]; 4] = [
        [&[4, 3], &[1, 3], &[4, 3]],
        [&[2, 2, 3], &[3], &[2, 2, 3]],
        [&[4, 3], &[1, 1], &[4, 3]],
        [&[3], &[2, 3], &[2, 3]],
    ];
    let make = |op, [a, scale, shape]: [&'static [usize]; 3]| {
        case(op, json!({"eps": EPS}), vec![noise(a, 7), noise(scale, 8)], move |x| {
            zip(&[over_last(&x[0], rms), x[1].clone()], shape, |v| v[0] * v[1])
        })
    };
    let both = |op| shapes.map(|shapes| make(op, shapes));
    ["rmsnorm", "rms_norm"].into_iter().flat_map(both).collect()
}

fn layer_norms() -> Vec<Case> {
    let inputs = [noise(&[4, 3], 9), noise(&[1, 3], 10), noise(&[1, 3], 11)];
    let make = |count: usize| {
        case("layernorm", json!({"eps": EPS}), inputs[..count].to_vec(), |x| {
            let normed = over_last(&x[0], |line| rms(&centered(line)));
            let mut values = vec![normed, host(&[1.0], &[1]), host(&[0.0], &[1])];
            values[1..x.len()].clone_from_slice(&x[1..]);
            zip(&values, &[4, 3], |v| v[0] * v[1] + v[2])
        })
    };
    (1..=3).map(make).collect()
}
