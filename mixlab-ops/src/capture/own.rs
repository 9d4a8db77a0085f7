//! What a node remembers of an op of ours: the op itself, so that nothing has to be read back out of
//! its text.

use core::any::Any;
use core::fmt::Debug;
use std::sync::Arc;

use burn::tensor::TensorMetadata;
use burn_ir::{CustomOpIr, OperationIr, TensorIr};
use burn_router::{RouterTensor, RunnerClient};

use super::client::{Capture, CaptureClient};
use super::{CaptureError, Node, Program, Session};
use crate::{Op, Spec};

/// A tensor of [`Capture`] of any rank and type.
pub(super) type Primitive = RouterTensor<CaptureClient>;

/// The op of a node, whatever its type and number of inputs.
#[derive(Clone, Debug)]
pub struct OwnOp(Arc<dyn Erased>);

impl OwnOp {
    /// The op itself, if it is an `O`: its fields are the attributes.
    pub fn downcast<O: 'static>(&self) -> Option<&O> {
        self.0.op().downcast_ref()
    }

    /// [`Op::IN_PLACE`].
    pub(super) fn is_in_place(&self) -> bool {
        self.0.is_in_place()
    }

    /// The results of the op's reference on `inputs`, the floats first: Burn's operations in its
    /// place.
    ///
    /// # Panics
    /// If the reference does, or gives other shapes or types than the op declares as `expected`.
    pub(super) fn expand(&self, inputs: Vec<Primitive>, expected: &[Spec]) -> Vec<Primitive> {
        let outputs = self.0.expand(inputs);
        let found: Vec<Spec> = outputs.iter().map(spec).collect();
        assert!(
            found == expected,
            "the reference of `{}` gives {found:?}, and its shape rule says {expected:?}",
            self.0.name()
        );
        outputs
    }
}

/// Equal attributes make equal ops: those that the op prints, so that none is left out.
impl PartialEq for OwnOp {
    fn eq(&self, other: &Self) -> bool {
        self.0.name() == other.0.name() && format!("{:?}", self.0) == format!("{:?}", other.0)
    }
}

impl Node {
    /// The op that this node was recorded from, if it is an `O` of ours.
    pub fn op<O: 'static>(&self) -> Option<&O> {
        self.own.as_ref()?.downcast()
    }
}

impl Program {
    /// What `own` does to inputs like those of `node`, in Burn's operations alone.
    pub(super) fn reference(&self, node: &Node, own: &OwnOp) -> Result<Program, CaptureError> {
        let specs = |ids: &[super::ValueId]| -> Vec<Spec> {
            ids.iter().map(|id| self.value(*id).spec()).collect()
        };
        let (inputs, outputs) = (specs(&node.inputs), specs(&node.outputs));
        Session::new()?.complete(|session| {
            let input = |(place, spec): (usize, Spec)| {
                session.input(&place.to_string(), spec.shape, spec.dtype)
            };
            let inputs = inputs.into_iter().enumerate().map(input).collect();
            for (place, output) in own.expand(inputs, &outputs).into_iter().enumerate() {
                session.output(&place.to_string(), output);
            }
        })
    }
}

/// An [`Op`] without its number of inputs in its type.
trait Erased: Debug + Send + Sync {
    fn name(&self) -> &'static str;
    fn is_in_place(&self) -> bool;
    fn op(&self) -> &dyn Any;
    fn expand(&self, inputs: Vec<Primitive>) -> Vec<Primitive>;
}

#[derive(Debug)]
struct Counted<O, const N: usize>(O);

impl<O: Op<N>, const N: usize> Erased for Counted<O, N> {
    fn name(&self) -> &'static str {
        O::NAME
    }

    fn is_in_place(&self) -> bool {
        O::IN_PLACE
    }

    fn op(&self) -> &dyn Any {
        &self.0
    }

    fn expand(&self, mut inputs: Vec<Primitive>) -> Vec<Primitive> {
        let ints = inputs.split_off(N);
        self.0.reference::<Capture>(crate::all(inputs), &ints)
    }
}

/// Shape and type of `tensor`.
fn spec(tensor: &Primitive) -> Spec {
    Spec { shape: tensor.shape(), dtype: tensor.dtype() }
}

/// Records `op` as one node with its name and attributes, and returns a tensor for each of `outputs`.
///
/// # Panics
/// If there are no inputs: they say which session it is. If the op's name contains a `{` or its
/// attributes do not begin with one, since nothing could tell them apart again. And like every
/// operation, if an input is of another session or of one that is over.
pub(crate) fn record<O: Op<N>, const N: usize>(
    op: &O,
    inputs: Vec<Primitive>,
    outputs: &[Spec],
) -> Vec<Primitive> {
    let (name, attributes) = (O::NAME, op.attributes());
    assert!(!name.contains('{'), "the name `{name}` of an operation contains a brace");
    assert!(
        attributes.starts_with('{'),
        "attributes `{attributes}` of `{name}` are no JSON object"
    );
    let first = inputs.first().unwrap_or_else(|| panic!("`{name}` was recorded without an input"));
    let client = first.client.clone();
    let ir = |s: &Spec| TensorIr::uninit(client.create_empty_handle(), s.shape.clone(), s.dtype);
    let operation = OperationIr::Custom(CustomOpIr {
        id: format!("{name}{attributes}"),
        inputs: inputs.into_iter().map(RouterTensor::into_ir).collect(),
        outputs: outputs.iter().map(ir).collect(),
    });
    client.own(operation, OwnOp(Arc::new(Counted::<O, N>(op.clone()))))
}
