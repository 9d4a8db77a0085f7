//! What is in a program and what is not.

use std::time::{Duration, Instant};

use burn::module::{Initializer, Module, Param};
use burn::nn::LinearConfig;
use burn::tensor::{Bool, DType, Int, Tensor, TensorData, backend::Backend, s};
use burn_backend::ops::FloatTensorOps;
use burn_ir::{OperationIr, TensorId, UnaryOpIr};
use burn_router::RouterTensor;

use super::super::{
    Capture, CaptureClient, CaptureDevice, CaptureError, Program, Session, capture,
};
use super::{check, names};

type Vector = Tensor<Capture, 1>;

/// Captures a forward that needs no module.
pub(super) fn forward(run: impl FnOnce(&Session)) -> Program {
    let program = capture(|_| Vec::<Param<Vector>>::new(), |_, session| run(session)).unwrap();
    check(&program);
    program
}

fn failure(run: impl FnOnce(&Session)) -> CaptureError {
    capture(|_| Vec::<Param<Vector>>::new(), |_, session| run(session)).unwrap_err()
}

fn floats(values: &[f32], device: &CaptureDevice) -> Vector {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), device)
}

#[test]
fn a_billion_parameters_take_no_time_and_no_room() {
    let start = Instant::now();
    let build = |device: &CaptureDevice| {
        let layer = || LinearConfig::new(10_000, 10_000).init::<Capture>(device);
        (0..10).map(|_| layer()).collect::<Vec<_>>()
    };
    let program = capture(build, |layers, session| {
        let x = session.input_float("x", [1, 10_000]);
        session.output("y", layers.iter().fold(x, |x, layer| layer.forward(x)));
    });
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    let program = program.unwrap();
    let size = |p: &super::super::Parameter| program.value(p.value).shape.num_elements();
    assert_eq!(program.parameters().iter().map(size).sum::<usize>(), 1_000_100_000);
    assert_eq!(names(&program), ["linear"; 10]);
    assert!(program.constants().is_empty());
}

#[test]
fn initializers_leave_no_nodes() {
    let initializers = [
        Initializer::Zeros,
        Initializer::Constant { value: 0.5 },
        Initializer::Normal { mean: 0.0, std: 0.02 },
        Initializer::KaimingUniform { gain: 1.0, fan_out_only: false },
        Initializer::XavierNormal { gain: 1.0 },
        Initializer::Orthogonal { gain: 1.0 },
    ];
    for initializer in initializers {
        let build = |device: &CaptureDevice| {
            let lazy: Param<Tensor<Capture, 2>> =
                initializer.init_with([4, 4], Some(4), Some(4), device);
            lazy.init_mapper(|weight| weight.mul_scalar(0.5))
        };
        let program = capture(build, |weight, session| session.output("w", weight.val().exp()));
        let program = program.unwrap();
        check(&program);
        assert_eq!(names(&program), ["exp"], "{initializer:?}");
    }
}

#[test]
fn parameters_may_be_named_after_the_forward_and_more_than_once() {
    let session = Session::new().unwrap();
    let layer = LinearConfig::new(2, 3).init(session.device());
    session.output("y", layer.forward(session.input_float("x", [1, 2])));
    session.params(&layer);
    session.params(&layer);
    let program = session.finish().unwrap();
    check(&program);
    assert_eq!(names(&program), ["linear"]);
    assert_eq!(program.parameters().len(), 2);
}

#[test]
fn parameters_made_from_data_are_no_constants() {
    let build = |device: &CaptureDevice| vec![Param::from_tensor(floats(&[1.0, 2.0], device))];
    let program = capture(build, |weights, session| {
        let x = session.input_float("x", [2]);
        session.output("y", x * weights[0].val() + floats(&[1.0, 2.0], session.device()));
    });
    let program = program.unwrap();
    check(&program);
    let expected = "\
        input %0 x: f32[2]\n\
        parameter %1 0: f32[2]\n\
        constant %2: f32[2]\n\
        %3: f32[2] = mul(%0, %1)\n\
        %4: f32[2] = add(%3, %2)\n\
        output y = %4\n";
    assert_eq!(program.to_string(), expected);
}

#[derive(Module, Debug)]
struct Tied<B: Backend> {
    embed: Param<Tensor<B, 2>>,
    heads: Vec<Param<Tensor<B, 2>>>,
}

#[test]
fn a_parameter_in_two_fields_is_one_with_two_paths() {
    let build = |device: &CaptureDevice| {
        let embed: Param<Tensor<Capture, 2>> = Initializer::Zeros.init([3, 3], device);
        embed.val();
        let heads = vec![Initializer::Zeros.init([3, 3], device), embed.clone()];
        Tied { embed, heads }
    };
    let program = capture(build, |model, session| {
        let x = session.input_float("x", [1, 3]).matmul(model.embed.val());
        session.output("y", x.matmul(model.heads[1].val()).matmul(model.embed.val()));
    });
    let program = program.unwrap();
    check(&program);
    assert_eq!(program.parameters().len(), 2);
    assert_eq!(program.parameters()[0].paths, ["embed", "heads.1"]);
    assert!(program.nodes().iter().all(|n| n.inputs[1] == program.parameters()[0].value));
    assert!(program.to_string().contains("parameter %1 embed = heads.1: f32[3, 3]\n"));
}

#[test]
fn parameters_may_be_integers_and_booleans() {
    let build = |device: &CaptureDevice| {
        let ids = Tensor::<Capture, 1, Int>::zeros([3], device);
        (
            vec![Param::initialized(Default::default(), ids)],
            Tensor::<Capture, 1, Bool>::full([3], true, device),
        )
    };
    let program = capture(build, |(ids, mask), session| {
        session.output("ids", ids[0].val());
        session.output("mask", mask.clone());
    });
    let program = program.unwrap();
    check(&program);
    assert_eq!(program.parameters()[0].paths, ["0.0"]);
    let dtype = |place: usize| program.value(program.outputs()[place].value).dtype;
    assert_eq!((dtype(0), dtype(1).is_bool()), (DType::I64, true));
}

#[test]
fn equal_constants_are_kept_once() {
    let program = forward(|session| {
        let device = session.device();
        let x = session.input_float("x", [2]);
        let x = x + floats(&[1.0, 2.0], device) + floats(&[3.0, 4.0], device);
        let bits = Tensor::<Capture, 1, Int>::from_data(
            TensorData::new(vec![0x4000_0000_3f80_0000_i64], [1]),
            device,
        );
        floats(&[9.0], device);
        session.output("bits", bits);
        session.output("y", x * floats(&[1.0, 2.0], device));
    });
    let data: Vec<_> = program.constants().iter().map(|constant| &constant.data).collect();
    assert_eq!(data.len(), 3, "unread data is left out");
    assert_eq!(data[0].to_vec::<f32>().unwrap(), [1.0, 2.0]);
    assert_eq!(data[1].to_vec::<f32>().unwrap(), [3.0, 4.0]);
    assert_eq!(data[0].as_bytes(), data[2].as_bytes(), "same bytes, another type");
    assert_eq!(program.nodes()[0].inputs[1], program.nodes()[2].inputs[1]);
}

#[test]
fn dead_nodes_stay_until_they_are_removed() {
    let build = |device: &CaptureDevice| {
        Tensor::<Capture, 1>::zeros([2], device);
        Tensor::<Capture, 1>::ones([2], device)
    };
    let program = capture(build, |table, session| {
        let x = session.input_float("x", [2]);
        session.input_float::<1>("unused", [2]);
        let _ = (x.clone() + floats(&[1.0, 2.0], session.device())).exp();
        session.output("y", x.log() * table.clone());
    });
    let program = program.unwrap();
    check(&program);
    assert_eq!(names(&program), ["ones", "add", "exp", "log", "mul"], "unread zeros are gone");
    assert_eq!(program.constants().len(), 1);
    let program = program.without_dead_nodes();
    check(&program);
    assert_eq!(names(&program), ["ones", "log", "mul"]);
    assert_eq!((program.inputs().len(), program.constants().len()), (2, 0));
}

#[test]
fn last_uses_and_updates_in_place_read_the_right_values() {
    let run = |session: &Session, clone_first: bool| {
        let x = session.input_float("x", [4]);
        let kept = clone_first.then(|| x.clone());
        let mut y = x.clone() + 1.0;
        y = y.slice_assign(s![0..2], x.slice(s![2..4]));
        y = y.clone() * y;
        y = y.reshape([2, 2]).reshape([4]);
        session.output("y", y);
        drop(kept);
    };
    let program = forward(|session| run(session, false));
    assert_eq!(program, forward(|session| run(session, true)));
    let expected = "\
        input %0 x: f32[4]\n\
        %1: f32[4] = add_scalar(%0) {rhs: Float(1.0)}\n\
        %2: f32[2] = slice(%0) {ranges: [Slice { start: 2, end: Some(4), step: 1 }]}\n\
        %3: f32[4] = slice_assign(%1, %2) {ranges: [Slice { start: 0, end: Some(2), step: 1 }]}\n\
        %4: f32[4] = mul(%3, %3)\n\
        %5: f32[2, 2] = reshape(%4)\n\
        %6: f32[4] = reshape(%5)\n\
        output y = %6\n";
    assert_eq!(program.to_string(), expected);
}

#[test]
fn names_must_differ() {
    let inputs = failure(|session| {
        session.input_float::<1>("x", [1]);
        session.input_int::<1>("x", [1]);
    });
    assert_eq!(inputs, CaptureError::DuplicateName { role: "input", name: "x".into() });
    let outputs = failure(|session| {
        let x = session.input_float::<1>("x", [1]);
        session.output("y", x.clone());
        session.output("y", x);
    });
    assert_eq!(outputs, CaptureError::DuplicateName { role: "output", name: "y".into() });
    let parameters = failure(|session| {
        for _ in 0..2 {
            session.params(&LinearConfig::new(1, 1).init(session.device()));
        }
    });
    let name = "weight".into();
    assert_eq!(parameters, CaptureError::DuplicateName { role: "parameter", name });
}

/// A tensor with an id that is made up.
fn forged(of: &RouterTensor<CaptureClient>, offset: u64) -> RouterTensor<CaptureClient> {
    let id = of.clone().into_ir().id.value() + offset;
    RouterTensor::new(TensorId::new(id), [1].into(), DType::F32, of.client.clone())
}

#[test]
fn reading_what_nothing_made_is_an_error() {
    let error = failure(|session| {
        let x = session.input("x", [1], DType::F32);
        Capture::float_exp(forged(&x, 7));
    });
    assert_eq!(error, CaptureError::Undefined { place: "exp".into() });
}

#[test]
fn making_what_exists_is_an_error() {
    use burn_router::RunnerClient;
    let error = failure(|session| {
        let x = session.input("x", [1], DType::F32);
        let (client, input) = (x.client.clone(), x.into_ir());
        let operation = UnaryOpIr { out: input.clone(), input };
        let operation = burn_ir::FloatOperationIr::Exp(operation);
        client.register_op(OperationIr::Float(DType::F32, operation));
    });
    assert_eq!(error, CaptureError::DefinedTwice { operation: "exp".into() });
}
