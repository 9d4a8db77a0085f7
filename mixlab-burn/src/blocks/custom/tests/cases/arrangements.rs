//! What arranges, selects or makes elements, and products.

use serde_json::json;

use super::super::numbers::{Host, host, matmul, noise};
use super::{Case, case};

pub fn all() -> Vec<Case> {
    [layouts(), selections(), makers(), products()].into_iter().flatten().collect()
}

fn layouts() -> Vec<Case> {
    let a = || vec![noise(&[2, 3, 4], 12)];
    let same = |x: &[Host]| x[0].data.clone();
    let swapped = |x: &[Host]| {
        let at = |n: usize| (n / 6, n / 2 % 3, n % 2); // of [4, 3, 2]
        let element = |(k, j, i): (usize, usize, usize)| x[0].data[(i * 3 + j) * 4 + k];
        (0..24).map(|n| element(at(n))).collect()
    };
    let concat = |x: &[Host]| {
        x[0].data.chunks(2).zip(x[1].data.chunks(3)).flat_map(|(a, b)| [a, b].concat()).collect()
    };
    vec![
        case("reshape", json!({"shape": ["T", 8]}), a(), same),
        case("reshape", json!({"shape": [2, "-1", "T"]}), a(), same),
        case("reshape", json!({"axes": [-1]}), a(), same),
        case("transpose", json!({"axes": [2, 1, 0]}), a(), swapped),
        case("transpose", json!({"axes": [-1, "-2", -3]}), a(), swapped),
        case("concat", json!({}), vec![noise(&[1, 2], 13), noise(&[3, 2], 14)], |x| {
            [x[0].data.clone(), x[1].data.clone()].concat()
        }),
        case("concat", json!({"axis": -1}), vec![noise(&[3, 2], 13), noise(&[3, 3], 14)], concat),
    ]
}

fn selections() -> Vec<Case> {
    let a = || vec![noise(&[2, 3, 4], 12)];
    let picked = |numbers: &'static [usize]| {
        move |x: &[Host]| x[0].along(1, |line| numbers.iter().map(|n| line[*n]).collect())
    };
    let rows = |x: &[Host]| {
        [4, 0, 2, 4].iter().flat_map(|n| x[0].data[n * 2..n * 2 + 2].to_vec()).collect()
    };
    let indices = host(&[-1.0, 0.9, 2.0, 99.0], &[2, 2]);
    let embed = case("embed", json!({}), vec![noise(&[5, 2], 15), indices], rows);
    vec![
        case("slice", json!({"axis": 1, "start": 1, "end": "T"}), a(), picked(&[1, 2])),
        case("slice", json!({"axis": -2, "step": 2}), a(), picked(&[0, 2])),
        case("slice", json!({"axes": [-2, 9, 1, 1]}), a(), picked(&[1, 2])),
        case("slice", json!({"axis": 1, "end": -1}), a(), picked(&[0, 1])),
        Case { differentiable: 1, ..embed },
    ]
}

fn makers() -> Vec<Case> {
    let numbers = |start: i64, end: i64, step: i64, made: &'static [f64]| {
        let params = json!({"start": start, "end": end, "step": step});
        case("arange", params, vec![], |_| made.to_vec())
    };
    vec![
        case("arange", json!({"end": "T"}), vec![], |_| vec![0.0, 1.0, 2.0]),
        numbers(5, -2, -3, &[5.0, 2.0, -1.0]),
        numbers(1, 6, 2, &[1.0, 3.0, 5.0]),
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
