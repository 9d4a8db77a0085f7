//! Every row of the table against the naive forms of [`super::cases`].

use burn::backend::Autodiff;
use burn::tensor::{Tensor, TensorData};
use burn_backend::tensor::FloatTensor;
use burn_flex::Flex;
use mixlab_ops::capture::{Capture, capture};
use mixlab_ops::{lift, lower};
use serde_json::{Value as Json, json};

use super::cases::{Case, all};
use super::numbers::{Host, noise};
use crate::blocks::custom::ops::{Call, ROWS, Row, run};
use crate::blocks::custom::params::{Params, Site};
use crate::blocks::custom::shape::{Extent, Symbols};
use crate::blocks::custom::{CustomWeights, NamedParam};
use crate::blocks::{DropoutKey, Flow};

type Train = Autodiff<Flex>;

/// What the symbols in the cases stand for.
const SYMBOLS: Symbols = Symbols { dim: 8, vocab: 37, heads: 2 };
const EXTENT: Extent = Extent { batch: 2, seq: 3 };

fn params(row: &'static Row, written: &Json) -> Params {
    let map = written.as_object().expect("params are an object");
    Params::read(row.params, map, &SYMBOLS).unwrap_or_else(|e| panic!("{}: {e:?}", row.name()))
}

fn tensor<B: mixlab_ops::Backend>(data: &[f64], shape: &[usize]) -> Tensor<B, 1> {
    let data: Vec<f32> = data.iter().map(|v| *v as f32).collect();
    let count: usize = shape.iter().product();
    Tensor::from_data(TensorData::new(data, [count]), &Default::default())
}

/// All outputs of an operation in a row. The inputs are flat.
fn outputs<B: mixlab_ops::Backend>(
    case: &Case,
    inputs: &[Tensor<B, 1>],
    training: bool,
    device: &B::Device,
) -> Tensor<B, 1> {
    let row = Row::find(case.op).expect("a row of the table");
    let params = params(row, &case.params);
    let site = Site { params: &params, extent: EXTENT };
    let shapes: Vec<_> = case.inputs.iter().map(|x| x.shape.clone()).collect();
    let shapes = (row.shapes)(&site, &shapes).unwrap_or_else(|e| panic!("{}: {e}", case.op));
    let shaped = |(x, host): (&Tensor<B, 1>, &Host)| -> FloatTensor<B> {
        B::float_reshape(lower(x.clone()), host.shape.clone().into())
    };
    let inputs = inputs.iter().zip(&case.inputs).map(shaped).collect();
    let mut flow = Flow::new(EXTENT.batch, EXTENT.seq);
    flow.dropout_key = training.then_some(DropoutKey { seed: 1, step: 0, row: 0 });
    let call = Call { site, inputs, shapes: &shapes, flow: &mut flow, remembers: false, device };
    let found = run::<B>(Row::number(case.op).expect("a row of the table"), call);
    assert_eq!(found.len(), row.outputs);
    let flat = found.into_iter().zip(shapes).map(|(y, shape)| {
        use burn::tensor::TensorMetadata;
        assert_eq!(y.shape().to_vec(), shape, "{}: the shape of the rule", case.op);
        lift::<B, 1>(B::float_reshape(y, vec![shape.iter().product::<usize>()].into()))
    });
    Tensor::cat(flat.collect(), 0)
}

fn compare(what: &str, got: &[f32], expected: &[f64]) {
    assert_eq!(got.len(), expected.len(), "{what}: length");
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        let error = (f64::from(*g) - e).abs() / e.abs().max(1.0);
        assert!(error <= 1e-5, "{what}[{i}]: got {g}, expected {e}");
    }
}

fn leaves<B: mixlab_ops::Backend>(case: &Case) -> Vec<Tensor<B, 1>> {
    case.inputs.iter().map(|x| tensor(&x.data, &x.shape)).collect()
}

#[test]
fn every_operation_has_the_values_of_its_naive_form() {
    for case in all() {
        let got = outputs::<Flex>(&case, &leaves(&case), false, &Default::default())
            .into_data()
            .to_vec::<f32>()
            .unwrap();
        compare(&format!("{} {}", case.op, case.params), &got, &(case.naive)(&case.inputs));
    }
}

#[test]
fn every_gradient_is_that_of_finite_differences() {
    const STEP: f64 = 1e-5;
    for case in all().into_iter().filter(|case| case.differentiable > 0) {
        let leaves: Vec<_> = leaves::<Train>(&case).into_iter().map(Tensor::require_grad).collect();
        let y = outputs(&case, &leaves, false, &Default::default());
        let weights = noise(&y.dims(), 99);
        let grads = (y * tensor(&weights.data, &weights.shape)).sum().backward();
        for (n, leaf) in leaves.iter().enumerate().take(case.differentiable) {
            let slope = |i: usize| {
                let at = |delta: f64| {
                    let mut moved = case.inputs.clone();
                    moved[n].data[i] += delta;
                    (case.naive)(&moved)
                };
                let terms = at(STEP).into_iter().zip(at(-STEP)).zip(&weights.data);
                terms.map(|((a, b), w)| (a - b) * w).sum::<f64>() / (2.0 * STEP)
            };
            // A condition is a number to the naive form, and has no slope away from 0.
            let skipped = |i: usize| case.op == "where" && n == 0 && case.inputs[0].data[i] == 0.0;
            let expected: Vec<_> = (0..case.inputs[n].data.len())
                .map(|i| if skipped(i) { 0.0 } else { slope(i) })
                .collect();
            let got = match leaf.grad(&grads) {
                Some(grad) => grad.into_data().to_vec::<f32>().unwrap(),
                None => vec![0.0; expected.len()],
            };
            compare(&format!("gradient {n} of {} {}", case.op, case.params), &got, &expected);
        }
    }
}

#[test]
fn every_operation_can_be_captured() {
    for case in all() {
        let params = |device: &_| {
            let param = |x: &Host| NamedParam::zeros("input", &[x.data.len()], device);
            CustomWeights::<Capture> { params: case.inputs.iter().map(param).collect() }
        };
        let program = capture(params, |weights, session| {
            let input = |param: &NamedParam<Capture>| lift::<_, 2>(param.matrix()).flatten(0, 1);
            let inputs: Vec<_> = weights.params.iter().map(input).collect();
            let device = session.device().clone();
            session.output("y", outputs(&case, &inputs, false, &device));
        });
        let program = program.unwrap_or_else(|e| panic!("{}: {e}", case.op));
        let found = program.value(program.outputs()[0].value).shape.num_elements();
        assert_eq!(found, (case.naive)(&case.inputs).len(), "{}", case.op);
    }
}

#[test]
fn every_row_of_the_table_has_a_case() {
    let tested: Vec<_> = all().iter().map(|case| case.op).collect();
    let missing: Vec<_> =
        ROWS.iter().filter(|row| !row.names.iter().any(|name| tested.contains(name))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn no_name_means_two_operations() {
    let mut names: Vec<_> = ROWS.iter().flat_map(|row| row.names).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn softplus_keeps_its_slope_at_zero_and_far_away() {
    let case = all().into_iter().find(|case| case.op == "softplus").unwrap();
    let inputs = vec![super::numbers::host(&[0.0, 90.0, -90.0], &[3])];
    let case = Case { inputs, ..case };
    let leaf = tensor::<Train>(&case.inputs[0].data, &[3]).require_grad();
    let y = outputs(&case, std::slice::from_ref(&leaf), false, &Default::default());
    compare("softplus", &y.to_data().to_vec::<f32>().unwrap(), &[2f64.ln(), 90.0, 0.0]);
    let grads = y.sum().backward();
    let slopes = leaf.grad(&grads).unwrap().into_data().to_vec::<f32>().unwrap();
    compare("slope", &slopes, &[0.5, 1.0, 0.0]);
}

#[test]
fn dropout_in_training_keeps_or_drops_whole_elements() {
    let ones = Host { data: vec![1.0; 4000], shape: vec![4000] };
    let params = json!({"rate": 0.25});
    let case = Case {
        op: "dropout",
        params,
        inputs: vec![ones],
        naive: Box::new(|x| x[0].data.clone()),
        differentiable: 0,
    };
    let got = outputs::<Flex>(&case, &leaves(&case), true, &Default::default())
        .into_data()
        .to_vec::<f32>()
        .unwrap();
    let kept = got.iter().filter(|v| **v != 0.0).count();
    assert!(got.iter().all(|v| *v == 0.0 || (v - 1.0 / 0.75).abs() < 1e-6));
    assert!((2850..3150).contains(&kept), "{kept} of 4000 kept");
}
