//! What an export says about itself and about what it cannot do.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::backend::Backend;
use burn::tensor::{IndexingUpdateOp, Int, Tensor};

use super::{Dim, OnnxError, Options, Traced, trace};
use crate::model::Part;

#[derive(Module, Debug)]
struct Inner<B: Backend> {
    up: Linear<B>,
}

/// Adds to some rows of what `inner` computes, which no lowering is written for.
#[derive(Module, Debug)]
struct Outer<B: Backend> {
    inner: Inner<B>,
}

fn traced() -> Traced {
    let traced = trace(
        &["batch"],
        |device| Outer { inner: Inner { up: LinearConfig::new(3, 4).init(device) } },
        |module, trace| {
            let x = trace.float("x", [Dim::from("batch"), Dim::from(3)]);
            let rows = trace.int::<1>("rows", [Dim::from(2)]);
            let y = module.inner.up.forward(x);
            let more = Tensor::ones([2, 4], &y.device());
            trace.output("y", added(y, rows, more));
        },
    );
    traced.unwrap()
}

fn added<B: Backend>(y: Tensor<B, 2>, rows: Tensor<B, 1, Int>, more: Tensor<B, 2>) -> Tensor<B, 2> {
    y.select_assign(0, rows, more, IndexingUpdateOp::Add)
}

fn module() -> Outer<burn_flex::Flex> {
    let device = Default::default();
    Outer { inner: Inner { up: LinearConfig::new(3, 4).init(&device) } }
}

#[test]
fn an_operation_without_counterpart_is_named_with_its_shapes_and_the_weight_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m.onnx");
    let error = traced().write(&module(), &file, &Options::default()).unwrap_err();
    assert!(matches!(error, OnnxError::Unsupported { .. }));
    let message = error.to_string();
    for part in ["select_assign", "i64[2]", "f32[2, 4] to f32[", "`inner.up.bias`", "hint: "] {
        assert!(message.contains(part), "{part} is missing: {message}");
    }
    assert!(!file.exists());
}

#[test]
fn places_name_the_part_of_a_model() {
    let program = traced();
    let mut node = program.program().nodes()[0].clone();
    node.scope = Some(4);
    assert_eq!(Part::of(4), Part::Block(2));
    let place = super::place::place(program.program(), &node);
    assert!(place.starts_with("blocks[2], after the weight `inner.up."), "{place}");
}
