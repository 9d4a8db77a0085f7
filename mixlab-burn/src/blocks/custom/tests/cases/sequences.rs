//! Along the sequence.

use serde_json::json;

use super::super::numbers::{Host, attention, host, noise, recurrence, rope, sigmoid, zip};
use super::{Case, case};

pub fn all() -> Vec<Case> {
    [attentions(), convolutions(), scans(), rotations()].into_iter().flatten().collect()
}

fn attentions() -> Vec<Case> {
    let masked = |x: &[Host]| {
        let value = |n: usize| if n % 4 > n / 4 % 3 { -1e9 } else { x[0].data[n] };
        (0..24).map(value).collect()
    };
    let heads = |shared: usize| {
        vec![noise(&[2, 2, 3, 4], 21), noise(&[2, shared, 3, 4], 22), noise(&[2, shared, 3, 4], 23)]
    };
    vec![
        case("causal_mask", json!({}), vec![noise(&[2, 3, 4], 20)], masked),
        case("attention", json!({}), heads(2), |x| attention(x, 0.5)),
        case("attention", json!({"scale": 2}), heads(1), |x| attention(x, 2.0)),
    ]
}

fn convolutions() -> Vec<Case> {
    let convolved = |x: &[Host]| {
        let taps = x[1].shape[0];
        let tap = |n: usize, k: usize| {
            let (time, channel) = (n / 2 % 3, n % 2);
            let back = taps - 1 - k; // the last tap is for the present
            if time >= back { x[1].data[k * 2 + channel] * x[0].data[n - 2 * back] } else { 0.0 }
        };
        (0..12).map(|n| (0..taps).map(|k| tap(n, k)).sum()).collect::<Vec<_>>()
    };
    let inputs = |shape: &[usize], taps: usize| vec![noise(shape, 24), noise(&[taps, 2], 25)];
    vec![
        case("conv1d", json!({}), inputs(&[6, 2], 2), convolved),
        case("conv1d", json!({}), inputs(&[2, 3, 2], 2), convolved),
        case("conv1d", json!({}), inputs(&[2, 3, 2], 5), convolved),
        case("conv1d", json!({}), inputs(&[6, 2], 1), |x| zip(x, &[6, 2], |v| v[0] * v[1])),
    ]
}

fn scanned(x: &[Host]) -> Vec<f64> {
    let gate = |c: usize| sigmoid(x[1].data[c]);
    let u = |[b, t, c]: [usize; 3]| (1.0 - gate(c)) * x[0].data[(b * 3 + t) * 2 + c];
    recurrence([2, 3, 2], |[_, _, c]| gate(c), u)
}

fn gated(x: &[Host]) -> Vec<f64> {
    let at = |[b, t, c]: [usize; 3]| (b * 3 + t) * 2 + c;
    let gate = |p| x[1].data[at(p)];
    recurrence([2, 3, 2], gate, |p| (1.0 - gate(p)) * x[0].data[at(p)])
}

fn matrices(x: &[Host]) -> Vec<f64> {
    let gate = |[b, t, c]: [usize; 3]| x[1].data[(b * 3 + t) * 2 + c / 3];
    recurrence([2, 3, 6], gate, |[b, t, c]| x[0].data[(b * 3 + t) * 6 + c])
}

fn scans() -> Vec<Case> {
    let sizes = json!({"B": "B", "T": "T", "D": 2});
    let named = json!({"B": 2, "T": "T", "Da": 2, "Db": 3});
    let decayed = || vec![noise(&[6, 2], 24), noise(&[1, 2], 25)];
    let streams = |shape: &[usize]| vec![noise(shape, 24), noise(&[6, 2], 26)];
    let updates = || vec![noise(&[6, 2, 3], 27), noise(&[6, 2], 28)];
    vec![
        case("scan", sizes.clone(), decayed(), scanned),
        case("scan", json!({"shape": ["B", "T", "2"]}), decayed(), scanned),
        case("scan_tv", json!({}), streams(&[6, 2]), gated),
        case("scan_tv", sizes, streams(&[2, 3, 2]), gated),
        case("matrix_scan", named, updates(), matrices),
        case("matrix_scan", json!({}), updates(), matrices),
    ]
}

fn rotations() -> Vec<Case> {
    let heads = || vec![noise(&[2, 2, 3, 4], 29), noise(&[2, 1, 3, 4], 30)];
    let rotated = |dims: usize, base: f64, positions: [f64; 3]| {
        move |x: &[Host]| {
            [rope(&x[0], dims, base, &positions), rope(&x[1], dims, base, &positions)].concat()
        }
    };
    let from_zero = [0.0, 1.0, 2.0];
    let places = host(&[0.0, 5.9, 2.0], &[1, 3]);
    let placed = [heads(), vec![places]].concat();
    vec![
        case("rope", json!({}), heads(), rotated(4, 1e4, from_zero)),
        case(
            "rope",
            json!({"T": "T", "head_dim": "HD", "base": 500}),
            heads(),
            rotated(4, 500.0, from_zero),
        ),
        case("rope", json!({"shape": ["T", "HD", 2]}), heads(), rotated(2, 1e4, from_zero)),
        case("rope", json!({"axes": ["T", 4, 4, 5, 2]}), heads(), rotated(4, 1e4, [5.0, 7.0, 9.0])),
        case(
            "rope",
            json!({"rope_dims": 2, "start": 3}),
            heads(),
            rotated(2, 1e4, [3.0, 4.0, 5.0]),
        ),
        Case {
            differentiable: 2,
            ..case("rope", json!({}), placed, rotated(4, 1e4, [0.0, 5.0, 2.0]))
        },
    ]
}
