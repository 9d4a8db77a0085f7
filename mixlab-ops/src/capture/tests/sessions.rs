//! Sessions on many threads, one after another, mixed up and broken.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use burn::module::Param;
use burn::tensor::{
    FloatDType, Int, IntDType, Tensor, TensorPrimitive, backend::Backend, set_default_dtypes,
};
use burn_backend::ops::FloatTensorOps;

use super::super::slot::POOL;
use super::super::{Capture, CaptureDevice, CaptureError, Program, Session, capture};
use super::{check, names};

type Weight = Param<Tensor<Capture, 2>>;

fn weight(device: &CaptureDevice) -> Weight {
    Param::from_tensor(Tensor::zeros([4, 4], device))
}

/// `steps` matrix products with rows of `x`.
fn chain(rows: usize, steps: usize) -> Program {
    let program = capture(weight, |w: &Weight, session| {
        let mut x = session.input_float("x", [rows, 4]);
        for _ in 0..steps {
            x = x.matmul(w.val()) + 1.0;
            thread::yield_now();
        }
        session.output("y", x);
    });
    program.unwrap()
}

/// The text of the panic that `run` ends with.
fn panic_text<R>(run: impl FnOnce() -> R) -> String {
    let panic = catch_unwind(AssertUnwindSafe(run)).err().expect("did not panic");
    *panic.downcast::<String>().expect("a panic with a formatted text")
}

/// An operation whose operands Burn does not compare.
fn gather(x: Tensor<Capture, 1>, indices: Tensor<Capture, 1, Int>) -> Tensor<Capture, 1> {
    let x = x.into_primitive().tensor();
    let gathered = Capture::float_gather(0, x, indices.into_primitive());
    Tensor::from_primitive(TensorPrimitive::Float(gathered))
}

/// A session on the same device id as one that is over.
fn successor(device: &CaptureDevice) -> Session {
    // Other tests run at the same time and may have taken the id.
    let mut others = Vec::new();
    loop {
        let session = Session::new().unwrap();
        if session.device().index() == device.index() {
            return session;
        }
        others.push(session);
        if others.len() == 100 {
            others.clear();
        }
    }
}

#[test]
fn threads_that_capture_at_once_get_their_own_programs() {
    let expected: Vec<Program> = (1..=16).map(|n| chain(n, 10 * n)).collect();
    thread::scope(|scope| {
        for (n, expected) in (1..=16).zip(&expected) {
            scope.spawn(move || {
                for _ in 0..20 {
                    assert_eq!(&chain(n, 10 * n), expected);
                }
            });
        }
    });
}

#[test]
fn one_session_can_be_used_from_many_threads() {
    let session = Session::new().unwrap();
    let x = session.input_float("x", [2]);
    thread::scope(|scope| {
        for name in ["a", "b", "c", "d"] {
            let (x, session) = (x.clone(), &session);
            scope.spawn(move || session.output(name, x.exp().log()));
        }
    });
    let program = session.finish().unwrap();
    check(&program);
    assert_eq!((program.nodes().len(), program.outputs().len()), (8, 4));
}

#[test]
fn ten_thousand_sessions_use_few_devices_and_leave_nothing() {
    let mut used = BTreeSet::new();
    for _ in 0..10_000 {
        let session = Session::new().unwrap();
        let device = session.device().clone();
        session.output("y", session.input_float("x", [1]).exp());
        assert_eq!(session.finish().unwrap().nodes().len(), 1);
        used.insert(device.index());
        // Another test may have the slot by now, but never this session.
        assert_eq!(burn_std::device::Device::to_id(&device).index_id, 0);
    }
    // One for each test that runs at the same time, and not one for each session.
    assert!(used.len() < 150, "{} device ids", used.len());
}

#[test]
fn a_dropped_session_frees_its_device_and_recording() {
    let session = Session::new().unwrap();
    let device = session.device().clone();
    let number = POOL.slot(device.index()).session().unwrap();
    let x: Tensor<Capture, 1> = session.input_float("x", [1]);
    drop(session);
    assert_ne!(POOL.slot(device.index()).session(), Some(number));
    assert!(panic_text(|| x.exp()).contains("has no open session"));
}

#[test]
fn tensors_that_outlive_their_session_cannot_touch_the_next_one() {
    let first = Session::new().unwrap();
    let device = first.device().clone();
    let (x, y) = (first.input_float("x", [3]), first.input_float("y", [3]));
    first.output("z", x.clone());
    first.finish().unwrap();

    let second = successor(&device);
    let fresh = second.input_float("x", [3]);
    assert!(panic_text(|| x.clone().exp()).contains("has no open session"));
    assert!(panic_text(|| x.clone() + fresh.clone()).contains("not on the same device"));
    let zeros = |device: &CaptureDevice| Tensor::<Capture, 1>::zeros([3], device);
    assert!(panic_text(|| zeros(&x.device())).contains("has no open session"));
    assert!(panic_text(|| zeros(&device)).contains("has no open session"));
    assert_ne!(x.device(), fresh.device());
    drop((x, y));
    second.output("y", fresh.exp());
    let program = second.finish().unwrap();
    check(&program);
    assert_eq!(program.to_string(), "input %0 x: f32[3]\n%1: f32[3] = exp(%0)\noutput y = %1\n");
}

#[test]
fn an_operation_on_tensors_of_two_sessions_spoils_the_one_that_runs_it() {
    let (first, second) = (Session::new().unwrap(), Session::new().unwrap());
    let (a, b) = (first.input_float("a", [3]), second.input_int("b", [3]));
    // Burn compares devices where it can, and then it speaks first.
    let text = panic_text(|| a.clone() + b.clone().float());
    assert!(text.contains("not on the same device"), "{text}");
    let text = panic_text(|| gather(a, b.clone()));
    assert!(text.contains("`gather` got a tensor of another capture session"), "{text}");
    second.output("y", b.float().exp());
    let place = "gather".into();
    assert_eq!(first.finish(), Err(CaptureError::ForeignTensor { place }));
    assert_eq!(names(&second.finish().unwrap()), ["into_float", "into_float", "exp"]);
}

#[test]
fn an_output_of_another_session_is_an_error() {
    let other = Session::new().unwrap();
    let foreign: Tensor<Capture, 1> = other.input_float("x", [3]);
    let result = capture(weight, |_, session| session.output("y", foreign));
    assert_eq!(result, Err(CaptureError::ForeignTensor { place: "y".into() }));
}

#[test]
fn a_parameter_of_another_session_is_an_error() {
    let other = Session::new().unwrap();
    let result = capture(|_| vec![weight(other.device())], |_, _| {});
    assert_eq!(result, Err(CaptureError::ForeignTensor { place: "0".into() }));
}

#[test]
fn a_foreign_tensor_inside_of_capture_is_told_as_such() {
    let other = Session::new().unwrap();
    let foreign = other.input_int("x", [3]);
    let result = capture(weight, |_, session| {
        session.output("y", gather(session.input_float("x", [3]), foreign));
    });
    assert_eq!(result, Err(CaptureError::ForeignTensor { place: "gather".into() }));
}

#[test]
fn tensors_do_not_move_between_sessions() {
    let (first, second) = (Session::new().unwrap(), Session::new().unwrap());
    let x: Tensor<Capture, 1> = first.input_float("x", [3]);
    let same = x.clone().to_device(first.device());
    assert!(panic_text(|| x.to_device(second.device())).contains("another capture session"));
    first.output("y", same);
    assert_eq!(first.finish().unwrap().nodes().len(), 0);
}

#[test]
fn the_default_device_has_no_session() {
    let result = capture(weight, |_, session| {
        let table = Tensor::<Capture, 1>::from_floats([1.0, 2.0], &Default::default());
        session.output("y", session.input_float("x", [2]) + table);
    });
    let Err(CaptureError::Panicked { message }) = result else { panic!("{result:?}") };
    assert!(message.contains("not on the default device"), "{message}");
}

#[test]
fn a_panic_in_the_forward_frees_the_session() {
    let mut used = None;
    let result = capture(weight, |w, session| {
        used = Some(session.device().clone());
        session.output("y", session.input_float("x", [2, 3]).matmul(w.val()));
    });
    let Err(CaptureError::Panicked { message }) = result else { panic!("{result:?}") };
    assert!(message.contains("Matmul"), "{message}");
    drop(successor(&used.unwrap()));
    check(&chain(2, 3));
}

#[test]
fn a_panic_in_the_build_is_an_error_with_its_text() {
    let build = |_: &CaptureDevice| -> Weight { panic!("no such block") };
    let message = "no such block".into();
    assert_eq!(capture(build, |_, _| {}), Err(CaptureError::Panicked { message }));
}

#[test]
fn reading_data_is_an_error_that_says_so() {
    let by_data = capture(weight, |_, session| {
        session.input_float("x", [2]).into_data();
    });
    let by_sort = capture(weight, |w, session| {
        let x = session.input_float("x", [3, 4]).matmul(w.val()).exp();
        session.output("y", x.sort(1));
    });
    let error = by_sort.unwrap_err().to_string();
    for part in ["f32[3, 4]", "`exp` of f32[3, 4]", "`topk`"] {
        assert!(error.contains(part), "{part} is missing: {error}");
    }
    let by_value = capture(weight, |_, session| {
        let x = session.input_int("x", [2]);
        let x = if x.clone().max().into_scalar() > 0 { x } else { -x };
        session.output("y", x);
    });
    for result in [by_data, by_value] {
        let error = result.unwrap_err();
        assert!(matches!(error, CaptureError::DataRead { .. }), "{error}");
        assert!(error.to_string().contains("control flow must not depend on values"), "{error}");
    }
}

#[test]
fn printing_a_tensor_does_not_end_the_capture() {
    let program = capture(weight, |w, session| {
        assert!(w.val().to_string().contains("[4, 4]"));
        session.output("y", session.input_float("x", [1, 4]).matmul(w.val()));
    });
    assert_eq!(names(&program.unwrap().without_dead_nodes()), ["matmul"]);
}

#[test]
fn no_session_can_set_the_default_types_of_later_ones() {
    // Enough for the last one to be on a device that had no session before.
    let sessions: Vec<_> = (0..200).map(|_| Session::new().unwrap()).collect();
    let session = sessions.last().unwrap();
    let set = set_default_dtypes::<Capture>(session.device(), FloatDType::F16, IntDType::I32);
    assert!(set.is_err());
    Capture::sync(session.device()).unwrap();
}
