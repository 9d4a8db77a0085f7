//! Every op of this crate, taken apart: what comes out computes the same, and its products count.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use burn::tensor::{DType, Int, Shape, Tensor, TensorData, Tolerance, try_read_sync};
use burn_backend::ops::FloatTensorOps;
use burn_flex::Flex;
use burn_ir::{OperationIr, TensorId, TensorIr, TensorStatus};
use burn_router::{Runner, RunnerClient};

use super::super::{Capture, Program, ValueId};
use super::check;
use super::programs::forward;
use crate::testing::noise;
use crate::*;

/// What is done with an op, given the shapes of its inputs and the numbers of its indices.
trait Each {
    fn op<O: Op<N>, const N: usize>(&mut self, op: O, shapes: [&[usize]; N], ints: &[i64]);
}

/// A small example of every op.
fn every_op(each: &mut impl Each) {
    let [x, row, flat]: [&[usize]; 3] = [&[5, 6], &[6], &[5]];
    let kinds = [
        Activation::Sigmoid,
        Activation::Silu,
        Activation::Gelu,
        Activation::Relu,
        Activation::LeakyReluSquared { slope: 0.5 },
        Activation::Softcap { cap: 2.0 },
    ];
    for kind in kinds {
        each.op(Activate { kind }, [x], &[]);
        each.op(ActivateGradient { kind }, [x, x], &[]);
        each.op(Gate { kind }, [x, x], &[]);
        each.op(GateGradient { kind }, [x, x, x], &[]);
    }
    each.op(RmsNorm { eps: 1e-5, dtype: None }, [x, row], &[]);
    each.op(RmsNormGradient { eps: 1e-5 }, [x, row, x], &[]);
    for softcap in [None, Some(2.0)] {
        each.op(CrossEntropy { softcap, ahead: Some(0.2) }, [x], &[5, 0, 1, 3, 3]);
    }
    each.op(CrossEntropyGradient { ahead: 0.2 }, [x, flat], &[]);
    each.op(Embedding, [x], &[4, 0, 4, 1]);
    each.op(EmbeddingGradient, [x, &[4, 6]], &[4, 0, 4, 1]);
    each.op(Dropout { rate: 0.5, seed: 1, step: 2, site: 3, row: 4 }, [x], &[]);
    products(each);
    scans(each);
    updates(each);
}

fn products(each: &mut impl Each) {
    let precision = Precision::F32;
    let [x, w, y]: [&[usize]; 3] = [&[5, 6], &[6, 7], &[5, 7]];
    each.op(Linear { precision, output: None }, [x, w], &[]);
    each.op(Linear { precision: Precision::Tf32, output: Some(DType::F32) }, [x, w], &[]);
    each.op(LinearGradient { precision }, [x, w, y], &[]);
    each.op(Orthogonalize { steps: 3, precision }, [&[2, 4, 6]], &[]);
    let [q, k, lse, decay]: [&[usize]; 4] = [&[2, 4, 5, 6], &[2, 2, 5, 6], &[2, 4, 5, 1], &[4]];
    for causal in [true, false] {
        let of = Attention { causal, scale: 0.4, precision };
        each.op(of.clone(), [q, k, k], &[]);
        each.op(AttentionGradient { of }, [q, k, k, q, lse, q], &[]);
    }
    let of = Retention { scale: 0.4, precision };
    each.op(of.clone(), [q, q, q, decay], &[]);
    each.op(RetentionGradient { of }, [q, q, q, decay, q, lse, q], &[]);
    for inverse in [false, true] {
        each.op(Rope { dims: 4, base: 1e4, start: 2, inverse }, [q], &[]);
    }
    each.op(Insert { start: 2 }, [q, &[2, 4, 3, 6]], &[]);
    each.op(Leading { steps: 3 }, [q], &[]);
    each.op(Xsa, [q, k], &[]);
    each.op(XsaGradient, [q, k, q], &[]);
}

fn scans(each: &mut impl Each) {
    let [u, channel]: [&[usize]; 2] = [&[2, 5, 3], &[3]];
    each.op(Scan, [u, channel], &[]);
    each.op(ScanGradient, [u, channel, u, u], &[]);
    each.op(ScanTv, [u, u], &[]);
    each.op(ScanTvGradient, [u, u, u, u], &[]);
    let state: &[usize] = &[2, 5, 3, 4];
    each.op(MatrixScan, [state, u], &[]);
    each.op(MatrixScanGradient, [u, state, state], &[]);
    each.op(FadingMax, [u, channel], &[]);
    let [first, first_state]: [&[usize]; 2] = [&[2, 3], &[2, 3, 4]];
    for (of, u, gate, first) in [
        (Recurrence::Scan, u, channel, first),
        (Recurrence::ScanTv, u, u, first),
        (Recurrence::MatrixScan, state, u, first_state),
    ] {
        each.op(ScanFrom { of }, [u, gate, first], &[]);
        each.op(ScanFromGradient { of }, [u, gate, first, u, u], &[]);
    }
}

fn updates(each: &mut impl Each) {
    let [parts, factor, w, batch]: [&[usize]; 4] = [&[128], &[2], &[3, 4], &[2, 3, 4]];
    each.op(SquareSum, [parts, w], &[]);
    each.op(ClipFactor { bound: 1.0 }, [parts], &[]);
    let rates = vec![Rates { lr: 0.1, decay: 0.01, beta1: 0.9, bias: 1 }];
    let bias = factor;
    each.op(AdamW { rates, beta2: 0.99, epsilon: 1e-8 }, [factor, bias, w, w, w, w], &[]);
    each.op(Momentum { momentum: 0.9, nesterov: true, index: 1 }, [factor, batch, w, w], &[]);
    each.op(MuonStep { lr: 0.1, decay: 0.01, index: 1 }, [factor, batch, w], &[]);
}

/// The program of `op` alone.
fn recorded<O: Op<N>, const N: usize>(op: &O, shapes: [&[usize]; N], ints: &[i64]) -> Program {
    forward(|session| {
        let float = |i: usize| session.input(&format!("x{i}"), shapes[i].to_vec(), DType::F32);
        let floats = core::array::from_fn(float);
        let ints = (!ints.is_empty()).then(|| session.input("ids", [ints.len()], DType::I64));
        let outputs = Capture::execute(op, floats, ints.into_iter().collect());
        for (place, output) in outputs.into_iter().enumerate() {
            session.output(&place.to_string(), output);
        }
    })
}

/// The outputs of `program`, computed by burn-flex from the operations that it lists.
fn replay(program: &Program, inputs: Vec<TensorData>) -> Vec<TensorData> {
    let runner = Runner::<Flex>::new(Default::default());
    let id = |id: ValueId| TensorId::new(id.index() as u64);
    for (port, data) in program.inputs().iter().zip(inputs) {
        runner.register_tensor_data_id(id(port.value), data);
    }
    for constant in program.constants() {
        runner.register_tensor_data_id(id(constant.value), constant.data.clone());
    }
    for node in program.nodes() {
        runner.register_op(node.operation.clone());
    }
    let read = |value: ValueId| {
        let Spec { shape, dtype } = program.value(value).spec();
        let status = TensorStatus::ReadOnly;
        let tensor = TensorIr { id: id(value), shape, status, dtype };
        try_read_sync(runner.read_tensor_async(tensor)).unwrap().unwrap()
    };
    program.outputs().iter().map(|port| read(port.value)).collect()
}

/// Numbers in `[0, 1)`: second moments must not be negative.
fn data(shape: &[usize], seed: u64) -> TensorData {
    let numbers: Vec<f32> = noise(shape, seed).data.iter().map(|v| v.abs() as f32).collect();
    TensorData::new(numbers, Shape::from(shape.to_vec()))
}

#[test]
fn a_reference_in_place_of_an_op_computes_the_same() {
    struct Same;
    impl Each for Same {
        fn op<O: Op<N>, const N: usize>(&mut self, op: O, shapes: [&[usize]; N], ints: &[i64]) {
            let program = recorded(&op, shapes, ints).expanded().unwrap();
            check(&program);
            let custom =
                |node: &super::super::Node| matches!(node.operation, OperationIr::Custom(_));
            assert!(!program.nodes().iter().any(custom), "{program}");

            let device = Default::default();
            let floats: Vec<TensorData> = (0..N).map(|i| data(shapes[i], i as u64)).collect();
            let float = |i: usize| Flex::float_from_data(floats[i].clone(), &device);
            let int = Tensor::<Flex, 1, Int>::from_ints(ints, &device).into_primitive();
            let expected = op.reference::<Flex>(core::array::from_fn(float), &[int]);
            let ids = (!ints.is_empty()).then(|| TensorData::new(ints.to_vec(), [ints.len()]));
            let found = replay(&program, floats.into_iter().chain(ids).collect());
            assert_eq!(found.len(), expected.len(), "{}", O::NAME);
            for (found, expected) in found.into_iter().zip(expected) {
                let expected = try_read_sync(Flex::float_into_data(expected)).unwrap().unwrap();
                found.assert_approx_eq::<f32>(&expected, Tolerance::absolute(1e-6));
            }
        }
    }
    every_op(&mut Same);
}

/// Operations of each op's example that has products, and the names of the other ops.
fn counted() -> (BTreeMap<&'static str, u64>, BTreeSet<&'static str>) {
    struct Counted(BTreeMap<&'static str, u64>, BTreeSet<&'static str>);
    impl Each for Counted {
        fn op<O: Op<N>, const N: usize>(&mut self, op: O, shapes: [&[usize]; N], ints: &[i64]) {
            let program = recorded(&op, shapes, ints);
            let [node] = program.nodes() else { panic!("{program}") };
            match program.flops(node).unwrap() {
                0 => drop(self.1.insert(O::NAME)),
                flops => drop(self.0.insert(O::NAME, flops)),
            }
        }
    }
    let mut counted = Counted(BTreeMap::new(), BTreeSet::new());
    every_op(&mut counted);
    (counted.0, counted.1)
}

#[test]
fn every_op_has_an_example() {
    let (products, others) = counted();
    let seen: BTreeSet<String> = products.into_keys().chain(others).map(str::to_owned).collect();
    let mut declared = BTreeSet::new();
    names_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut declared);
    assert_eq!(seen, declared);
}

/// The names of the ops that the source files in `folder` declare.
fn names_in(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            names_in(&path, names);
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let lines = text.lines().filter_map(|line| line.trim().strip_prefix("const NAME: "));
        let quoted = lines.filter_map(|line| line.split('"').nth(1));
        names.extend(quoted.filter(|name| name.starts_with("mixlab.")).map(str::to_owned));
    }
}

#[test]
fn products_count_two_operations_for_each_multiply_add() {
    let (products, _) = counted();
    let (b, h, t, hd) = (2, 4, 5, 6);
    let scores = 2 * b * h * t * t * hd;
    let newton_schulz = 3 * 2 * (2 * 4 * 6 * 4 + 2 * 4 * 4 * 4 + 2 * 4 * 4 * 6);
    let expected = [
        ("mixlab.linear", 2 * 5 * 6 * 7),
        ("mixlab.linear_gradient", 2 * (2 * 5 * 6 * 7)),
        ("mixlab.attention", 2 * scores),
        ("mixlab.attention_gradient", 5 * scores),
        ("mixlab.retention", 2 * scores),
        ("mixlab.retention_gradient", 5 * scores),
        ("mixlab.orthogonalize", newton_schulz),
    ];
    assert_eq!(products, BTreeMap::from(expected));
}

#[test]
fn ops_without_a_product_are_these() {
    let (_, others) = counted();
    let expected = [
        "mixlab.activate",
        "mixlab.activate_gradient",
        "mixlab.adamw",
        "mixlab.clip_factor",
        "mixlab.cross_entropy",
        "mixlab.cross_entropy_gradient",
        "mixlab.dropout",
        "mixlab.embedding",
        "mixlab.embedding_gradient",
        "mixlab.fading_max",
        "mixlab.gated",
        "mixlab.gated_gradient",
        "mixlab.insert",
        "mixlab.leading",
        "mixlab.matrix_scan",
        "mixlab.matrix_scan_gradient",
        "mixlab.momentum",
        "mixlab.muon_step",
        "mixlab.rms_norm",
        "mixlab.rms_norm_gradient",
        "mixlab.rope",
        "mixlab.scan",
        "mixlab.scan_from",
        "mixlab.scan_from_gradient",
        "mixlab.scan_gradient",
        "mixlab.scan_tv",
        "mixlab.scan_tv_gradient",
        "mixlab.square_sum",
        "mixlab.xsa",
        "mixlab.xsa_gradient",
    ];
    assert_eq!(others, BTreeSet::from(expected));
}
