//! Ops taken apart: a program in which references stand in place of ops.

use burn_router::{RouterTensor, RunnerClient};

use super::client::CaptureClient;
use super::operations::for_each_tensor;
use super::own::{OwnOp, Primitive};
use super::session::Session;
use super::{CaptureError, Node, Program, ValueId};
use crate::Spec;

impl Program {
    /// The same computation in Burn's operations alone: the reference of each op in its place.
    ///
    /// Inputs, parameters and outputs keep their names, values theirs, and the operations of an op
    /// belong to the part of the model that it belonged to. Nothing that no output depends on stays.
    ///
    /// # Errors
    /// [`CaptureError::DataRead`] or [`CaptureError::Panicked`] if a reference reads data, panics or
    /// gives other shapes than its op declares; [`CaptureError::Exhausted`] as in [`Session::new`].
    pub fn expanded(&self) -> Result<Self, CaptureError> {
        self.expanded_where(|_| true)
    }

    /// [`Program::expanded`], for the nodes that `which` picks; other ops stay one node each.
    ///
    /// # Errors
    /// As [`Program::expanded`].
    pub fn expanded_where(&self, which: impl Fn(&Node) -> bool) -> Result<Self, CaptureError> {
        let again = Session::new()?.complete(|session| {
            let mut replay = Replay::new(self, session);
            for node in &self.nodes {
                match &node.own {
                    Some(own) if which(node) => replay.expand(node, own),
                    _ => replay.copy(node),
                }
            }
            for port in &self.outputs {
                session.output(&port.name, replay.tensor(port.value));
            }
        });
        Ok(again?.without_dead_nodes())
    }
}

/// A program that is recorded again.
struct Replay<'a> {
    program: &'a Program,
    client: CaptureClient,
    /// What stands for each value so far, by its id.
    tensors: Vec<Option<Primitive>>,
}

impl<'a> Replay<'a> {
    fn new(program: &'a Program, session: &Session) -> Self {
        let client = session.client().clone();
        let mut replay = Self { program, client, tensors: vec![None; program.values.len()] };
        for port in &program.inputs {
            let Spec { shape, dtype } = program.value(port.value).spec();
            replay.set(port.value, session.input(&port.name, shape, dtype));
        }
        for parameter in &program.parameters {
            let tensor = replay.fresh(parameter.value);
            for path in &parameter.paths {
                session.parameter(path.clone(), tensor.clone());
            }
            replay.set(parameter.value, tensor);
        }
        for constant in &program.constants {
            let tensor = replay.client.register_tensor_data(constant.data.clone());
            replay.set(constant.value, tensor);
        }
        replay
    }

    /// Records `node` as it is.
    fn copy(&mut self, node: &Node) {
        for id in &node.outputs {
            let tensor = self.fresh(*id);
            self.set(*id, tensor);
        }
        let mut operation = node.operation.clone();
        for_each_tensor(&mut operation, &mut |tensor| {
            tensor.id = self.tensor(ValueId::from(&*tensor)).into_ir().id;
        });
        self.client.record(|recording| {
            recording.scope = node.scope;
            recording.operation(operation, node.own.clone())
        });
    }

    /// Records the reference of `own`, the op of `node`.
    fn expand(&mut self, node: &Node, own: &OwnOp) {
        self.client.record(|recording| {
            recording.scope = node.scope;
            Ok(())
        });
        let inputs = node.inputs.iter().map(|id| self.tensor(*id)).collect();
        let expected: Vec<Spec> =
            node.outputs.iter().map(|id| self.program.value(*id).spec()).collect();
        for (id, tensor) in node.outputs.iter().zip(own.expand(inputs, &expected)) {
            self.set(*id, tensor);
        }
    }

    fn fresh(&self, id: ValueId) -> Primitive {
        let Spec { shape, dtype } = self.program.value(id).spec();
        self.client.tensor(shape, dtype, |recording| recording.new_id())
    }

    fn set(&mut self, id: ValueId, tensor: Primitive) {
        if let Some(name) = &self.program.value(id).name {
            super::label(&tensor, name);
        }
        self.tensors[id.index()] = Some(tensor);
    }

    fn tensor(&self, id: ValueId) -> RouterTensor<CaptureClient> {
        self.tensors[id.index()].clone().expect("a program makes values before it reads them")
    }
}
