//! Ops in programs: one node each, which gives the op back, and Burn's operations in its place.

use burn::tensor::{DType, Tensor};
use burn_backend::tensor::{FloatTensor, IntTensor};

use super::super::{Capture, CaptureError, Session};
use super::programs::forward;
use super::{check, names};
use crate::{Backend, Mismatch, Op, Spec, lift, lower};

/// An op of another crate, of `N` inputs, with nothing but a reference: `factor · (x + …)`.
#[derive(Clone, Debug, PartialEq)]
struct Scaled {
    factor: f32,
    /// How many rows the shape rule leaves out; 0 is right.
    wrong: usize,
}

impl Scaled {
    const DOUBLE: Self = Self { factor: 2.0, wrong: 0 };
}

impl<const N: usize> Op<N> for Scaled {
    const NAME: &'static str = "other.scaled";

    fn attributes(&self) -> String {
        format!(r#"{{"factor":{:e}}}"#, self.factor)
    }

    fn outputs(&self, inputs: &[Spec; N], _: &[Spec]) -> Result<Vec<Spec>, Mismatch> {
        let [rows, columns] = inputs[0].shape.dims();
        Ok(vec![Spec { shape: [rows - self.wrong, columns].into(), dtype: inputs[0].dtype }])
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        inputs: [FloatTensor<B>; N],
        _: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let sum = inputs.map(lift::<B, 2>).into_iter().reduce(|a, b| a + b);
        vec![lower(sum.expect("at least one input") * self.factor)]
    }
}

fn input(session: &Session, name: &str) -> FloatTensor<Capture> {
    session.input(name, [2, 3], DType::F32)
}

fn only(outputs: Vec<FloatTensor<Capture>>) -> FloatTensor<Capture> {
    let [output] = outputs.try_into().expect("one output");
    output
}

/// `y = exp(2 (x + w))`, in part 7, with a name for what is in the middle.
fn example(session: &Session) {
    let [x, w] = ["x", "w"].map(|name| input(session, name));
    Capture::enter(session.device(), 7);
    let middle = only(Capture::execute(&Scaled::DOUBLE, [x, w], vec![]));
    Capture::label(&middle, "middle");
    Capture::enter(session.device(), 8);
    session.output("y", lift::<Capture, 2>(middle).exp());
}

#[test]
fn an_op_is_one_node_that_gives_it_back() {
    let program = forward(example);
    let expected = "\
        input %0 x: f32[2, 3]\n\
        input %1 w: f32[2, 3]\n\
        %2 middle: f32[2, 3] = other.scaled(%0, %1) {\"factor\":2e0}\n\
        %3: f32[2, 3] = exp(%2)\n\
        output y = %3\n";
    assert_eq!(program.to_string(), expected);
    assert_eq!(program.nodes()[0].op(), Some(&Scaled::DOUBLE));
    assert!(program.nodes()[0].op::<crate::Linear>().is_none());
    assert_eq!(program.nodes()[1].op::<Scaled>(), None);
    assert_eq!(program.nodes().iter().map(|n| n.scope).collect::<Vec<_>>(), [Some(7), Some(8)]);
}

#[test]
fn its_reference_takes_its_place() {
    let program = forward(example).expanded().unwrap();
    check(&program);
    let expected = "\
        input %0 x: f32[2, 3]\n\
        input %1 w: f32[2, 3]\n\
        %2: f32[2, 3] = add(%0, %1)\n\
        %3 middle: f32[2, 3] = mul_scalar(%2) {rhs: Float(2.0)}\n\
        %4: f32[2, 3] = exp(%3)\n\
        output y = %4\n";
    assert_eq!(program.to_string(), expected);
    let scopes: Vec<_> = program.nodes().iter().map(|node| node.scope).collect();
    assert_eq!(scopes, [Some(7), Some(7), Some(8)]);
    assert_eq!(program.expanded().unwrap(), program);
}

#[test]
fn some_can_stay_and_keep_their_op() {
    let program = forward(example);
    let same = program.expanded_where(|node| node.name != "other.scaled").unwrap();
    assert_eq!(same, program);
    assert_eq!(same.nodes()[0].op(), Some(&Scaled::DOUBLE));
}

#[test]
fn ops_of_other_attributes_differ() {
    let with = |factor| {
        forward(|session| {
            let op = Scaled { factor, wrong: 0 };
            session.output("y", only(Capture::execute(&op, [input(session, "x")], vec![])));
        })
    };
    assert_eq!(with(2.0), with(2.0));
    assert_ne!(with(2.0).nodes()[0].own, with(3.0).nodes()[0].own);
}

#[test]
fn what_nothing_needs_is_not_expanded_into() {
    let program = forward(|session| {
        let x = input(session, "x");
        Capture::execute(&Scaled::DOUBLE, [x.clone()], vec![]);
        session.output("y", lift::<Capture, 2>(x).exp());
    });
    assert_eq!(names(&program), ["other.scaled", "exp"]);
    assert_eq!(names(&program.expanded().unwrap()), ["exp"]);
}

#[test]
fn a_reference_unlike_its_shape_rule_is_an_error_that_names_the_op() {
    let program = forward(|session| {
        let op = Scaled { factor: 1.0, wrong: 1 };
        session.output("y", only(Capture::execute(&op, [input(session, "x")], vec![])));
    });
    let Err(CaptureError::Panicked { message }) = program.expanded() else { panic!("{program}") };
    assert!(message.starts_with("the reference of `other.scaled` gives ["), "{message}");
}

#[test]
fn parameters_and_constants_stay_what_they_are() {
    use burn::nn::LinearConfig;

    let program = super::super::capture(
        |device| LinearConfig::new(3, 3).init::<Capture>(device),
        |layer, session| {
            let x = only(Capture::execute(&Scaled::DOUBLE, [input(session, "x")], vec![]));
            let table = Tensor::<Capture, 2>::from_floats([[1.5, 2.5, 3.5]], session.device());
            session.output("y", layer.forward(lift::<Capture, 2>(x)) + table);
        },
    );
    let program = program.unwrap();
    let expanded = program.expanded().unwrap();
    check(&expanded);
    assert_eq!(expanded.parameters(), program.parameters());
    assert_eq!(expanded.constants(), program.constants());
    assert_eq!(names(&expanded), ["mul_scalar", "linear", "add"]);
}

#[test]
#[should_panic(expected = "`other.scaled` was recorded without an input")]
fn an_op_needs_an_input() {
    super::super::record::<Scaled, 0>(&Scaled::DOUBLE, vec![], &[]);
}
