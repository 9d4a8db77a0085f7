//! One or more cases for every row of the table, each with a naive form in 64 bits.

use serde_json::{Value as Json, json};

use super::numbers::{
    Host, attention, host, matmul, noise, positive, recurrence, rope, sigmoid, softmax, zip,
};

type Naive = Box<dyn Fn(&[Host]) -> Vec<f64>>;

/// An operation on inputs, and what it should give: all outputs in a row.
pub struct Case {
    pub op: &'static str,
    pub params: Json,
    pub inputs: Vec<Host>,
    pub naive: Naive,
    /// How many of the inputs have a gradient.
    pub differentiable: usize,
}

fn case(
    op: &'static str,
    params: Json,
    inputs: Vec<Host>,
    naive: impl Fn(&[Host]) -> Vec<f64> + 'static,
) -> Case {
    let differentiable = inputs.len();
    Case { op, params, inputs, naive: Box::new(naive), differentiable }
}

pub fn all() -> Vec<Case> {
    [unary(), binary(), lines(), norms(), layouts(), products(), sequences(), rotations()]
        .into_iter()
        .flatten()
        .collect()
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
    let inputs = vec![host(&[0.0, 1.0, -0.5], &[3, 1]), noise(&[3, 2], 4), noise(&[2], 5)];
    let choose = |v: &[f64]| if v[0] != 0.0 { v[1] } else { v[2] };
    let mut chosen = case("where", json!({}), inputs, move |x| zip(x, &[3, 2], choose));
    // The condition itself has no gradient.
    chosen.differentiable = 3;
    cases.push(chosen);
    cases
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

fn norms() -> Vec<Case> {
    let rms = |line: &[f64]| {
        let mean = line.iter().map(|v| v * v).sum::<f64>() / line.len() as f64;
        line.iter().map(|v| v / (mean + 1e-2f64).sqrt()).collect::<Vec<_>>()
    };
    let layer = |line: &[f64]| {
        let mean = line.iter().sum::<f64>() / line.len() as f64;
        let variance = line.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / line.len() as f64;
        line.iter().map(|v| (v - mean) / (variance + 1e-2f64).sqrt()).collect::<Vec<_>>()
    };
    let normed = |x: &[Host], f: &dyn Fn(&[f64]) -> Vec<f64>| {
        let last = x[0].shape.len() - 1;
        host(&x[0].along(last, f), &x[0].shape)
    };
    let eps = json!({"eps": 1e-2});
    let mut cases = Vec::new();
    let shapes: [[&[usize]; 3]; 4] = [
        [&[4, 3], &[1, 3], &[4, 3]],
        [&[2, 2, 3], &[3], &[2, 2, 3]],
        [&[4, 3], &[1, 1], &[4, 3]],
        [&[3], &[2, 3], &[2, 3]],
    ];
    for (op, [a, scale, shape]) in
        ["rmsnorm", "rms_norm"].into_iter().flat_map(|op| shapes.map(|s| (op, s)))
    {
        cases.push(case(op, eps.clone(), vec![noise(a, 7), noise(scale, 8)], move |x| {
            zip(&[normed(x, &rms), x[1].clone()], shape, |v| v[0] * v[1])
        }));
    }
    let inputs = [noise(&[4, 3], 9), noise(&[1, 3], 10), noise(&[1, 3], 11)];
    for count in 1..=3 {
        cases.push(case("layernorm", eps.clone(), inputs[..count].to_vec(), move |x| {
            let mut values = vec![normed(x, &layer), host(&[1.0], &[1]), host(&[0.0], &[1])];
            values[1..x.len()].clone_from_slice(&x[1..]);
            zip(&values, &[4, 3], |v| v[0] * v[1] + v[2])
        }));
    }
    cases
}

fn layouts() -> Vec<Case> {
    let a = || vec![noise(&[2, 3, 4], 12)];
    let same = |x: &[Host]| x[0].data.clone();
    let picked = |numbers: &'static [usize]| {
        move |x: &[Host]| x[0].along(1, |line| numbers.iter().map(|n| line[*n]).collect())
    };
    let swapped = |x: &[Host]| {
        let at = |n: usize| (n / 6, n / 2 % 3, n % 2); // of [4, 3, 2]
        (0..24)
            .map(|n| {
                let (k, j, i) = at(n);
                x[0].data[(i * 3 + j) * 4 + k]
            })
            .collect()
    };
    let rows = |x: &[Host]| {
        [4, 0, 2, 4].iter().flat_map(|n| x[0].data[n * 2..n * 2 + 2].to_vec()).collect()
    };
    let indices = host(&[-1.0, 0.9, 2.0, 99.0], &[2, 2]);
    let concat = |x: &[Host]| {
        x[0].data.chunks(2).zip(x[1].data.chunks(3)).flat_map(|(a, b)| [a, b].concat()).collect()
    };
    vec![
        case("reshape", json!({"shape": ["T", 8]}), a(), same),
        case("reshape", json!({"shape": [2, "-1", "T"]}), a(), same),
        case("reshape", json!({"axes": [-1]}), a(), same),
        case("transpose", json!({"axes": [2, 1, 0]}), a(), swapped),
        case("transpose", json!({"axes": [-1, "-2", -3]}), a(), swapped),
        case("slice", json!({"axis": 1, "start": 1, "end": "T"}), a(), picked(&[1, 2])),
        case("slice", json!({"axis": -2, "step": 2}), a(), picked(&[0, 2])),
        case("slice", json!({"axes": [-2, 9, 1, 1]}), a(), picked(&[1, 2])),
        case("slice", json!({"axis": 1, "end": -1}), a(), picked(&[0, 1])),
        case("concat", json!({}), vec![noise(&[1, 2], 13), noise(&[3, 2], 14)], |x| {
            [x[0].data.clone(), x[1].data.clone()].concat()
        }),
        case("concat", json!({"axis": -1}), vec![noise(&[3, 2], 13), noise(&[3, 3], 14)], concat),
        Case {
            differentiable: 1,
            ..case("embed", json!({}), vec![noise(&[5, 2], 15), indices], rows)
        },
        case("arange", json!({"end": "T"}), vec![], |_| vec![0.0, 1.0, 2.0]),
        case("arange", json!({"start": 5, "end": -2, "step": -3}), vec![], |_| {
            vec![5.0, 2.0, -1.0]
        }),
        case("arange", json!({"start": 1, "end": 6, "step": 2}), vec![], |_| vec![1.0, 3.0, 5.0]),
        case("full", json!({"shape": ["B", 2], "value": 0.5}), vec![], |_| vec![0.5; 4]),
    ]
}

fn products() -> Vec<Case> {
    let product =
        |a: &[usize], b: &[usize], sizes: [usize; 3], places: &'static [(usize, usize)]| {
            case("matmul", json!({}), vec![noise(a, 16), noise(b, 17)], move |x| {
                matmul(x, sizes, places)
            })
        };
    vec![
        product(&[4, 3], &[3, 2], [4, 3, 2], &[(0, 0)]),
        product(&[2, 2, 3], &[3, 2], [4, 3, 2], &[(0, 0)]),
        product(&[2, 1, 2, 3], &[2, 3, 2], [2, 3, 2], &[(0, 0), (0, 1), (1, 0), (1, 1)]),
        product(&[2, 3], &[2, 3, 2], [2, 3, 2], &[(0, 0), (0, 1)]),
        product(&[3], &[3, 2], [1, 3, 2], &[(0, 0)]),
        product(&[2, 3], &[3], [2, 3, 1], &[(0, 0)]),
        product(&[3], &[3], [1, 3, 1], &[(0, 0)]),
        case("outer", json!({}), vec![noise(&[2, 3], 18), noise(&[2, 4], 19)], |x| {
            (0..24).map(|n| x[0].data[n / 4] * x[1].data[n / 12 * 4 + n % 4]).collect()
        }),
        case("outer", json!({}), vec![noise(&[2], 18), noise(&[3], 19)], |x| {
            (0..6).map(|n| x[0].data[n / 3] * x[1].data[n % 3]).collect()
        }),
    ]
}

fn sequences() -> Vec<Case> {
    let masked = |x: &[Host]| {
        let value = |n: usize| if n % 4 > n / 4 % 3 { -1e9 } else { x[0].data[n] };
        (0..24).map(value).collect()
    };
    let convolved = |x: &[Host]| {
        let tap = |n: usize, k: usize| {
            let (time, channel) = (n / 2 % 3, n % 2);
            let back = 1 - k; // of the two taps the last is the present
            if time >= back { x[1].data[k * 2 + channel] * x[0].data[n - 2 * back] } else { 0.0 }
        };
        (0..12).map(|n| tap(n, 0) + tap(n, 1)).collect::<Vec<_>>()
    };
    let heads = |h: usize, seed: u64| noise(&[2, h, 3, 4], seed);
    let scanned = |x: &[Host]| {
        let gate = |c: usize| sigmoid(x[1].data[c]);
        let u = |[b, t, c]: [usize; 3]| (1.0 - gate(c)) * x[0].data[(b * 3 + t) * 2 + c];
        recurrence([2, 3, 2], |[_, _, c]| gate(c), u)
    };
    let gated = |x: &[Host]| {
        let at = |[b, t, c]: [usize; 3]| (b * 3 + t) * 2 + c;
        let gate = |p| x[1].data[at(p)];
        recurrence([2, 3, 2], gate, |p| (1.0 - gate(p)) * x[0].data[at(p)])
    };
    let matrices = |x: &[Host]| {
        let gate = |[b, t, c]: [usize; 3]| x[1].data[(b * 3 + t) * 2 + c / 3];
        recurrence([2, 3, 6], gate, |[b, t, c]| x[0].data[(b * 3 + t) * 6 + c])
    };
    let u = || noise(&[6, 2], 24);
    let sizes = json!({"B": "B", "T": "T", "D": 2});
    let named = json!({"B": 2, "T": "T", "Da": 2, "Db": 3});
    let updates = || vec![noise(&[6, 2, 3], 27), noise(&[6, 2], 28)];
    vec![
        case("causal_mask", json!({}), vec![noise(&[2, 3, 4], 20)], masked),
        case("attention", json!({}), vec![heads(2, 21), heads(2, 22), heads(2, 23)], |x| {
            attention(x, 0.5)
        }),
        case(
            "attention",
            json!({"scale": 2}),
            vec![heads(2, 21), heads(1, 22), heads(1, 23)],
            |x| attention(x, 2.0),
        ),
        case("conv1d", json!({}), vec![u(), noise(&[2, 2], 25)], convolved),
        case("conv1d", json!({}), vec![noise(&[2, 3, 2], 24), noise(&[2, 2], 25)], convolved),
        case("conv1d", json!({}), vec![u(), noise(&[1, 2], 25)], |x| {
            zip(x, &[6, 2], |v| v[0] * v[1])
        }),
        case("scan", sizes.clone(), vec![u(), noise(&[1, 2], 25)], scanned),
        case("scan", json!({"shape": ["B", "T", "2"]}), vec![u(), noise(&[1, 2], 25)], scanned),
        case("scan_tv", json!({}), vec![u(), noise(&[6, 2], 26)], gated),
        case("scan_tv", sizes, vec![noise(&[2, 3, 2], 24), noise(&[6, 2], 26)], gated),
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
