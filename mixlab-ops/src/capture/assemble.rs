//! From what a session recorded to a [`Program`]: numbers values, checks that each is made once
//! and before it is read, and keeps equal constants once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use burn_backend::TensorData;
use burn_ir::{TensorId, TensorIr, TensorStatus};

use super::CaptureError;
use super::operations::{describe, for_each_tensor, name};
use super::program::{Constant, Node, Origin, Parameter, Port, Program, Value, ValueId};
use super::prune::without_dead;
use super::recording::{Draft, Recorded};

/// Makes the program that `draft` describes.
pub(super) fn assemble(draft: Draft) -> Result<Program, CaptureError> {
    unique("input", draft.inputs.iter().map(|(name, _)| name))?;
    unique("parameter", draft.parameters.iter().flat_map(|(paths, _)| paths))?;
    unique("output", draft.outputs.iter().map(|(name, _)| name))?;
    let reads = draft.operations.iter().flat_map(|recorded| recorded.operation.inputs());
    let reads = reads.chain(draft.outputs.iter().map(|(_, tensor)| tensor));
    let read: HashSet<TensorId> = reads.map(|tensor| tensor.id).collect();

    let mut assembly = Assembly { labels: draft.labels, ..Assembly::default() };
    assembly.inputs(draft.inputs)?;
    assembly.parameters(draft.parameters)?;
    assembly.constants(draft.constants, &read);
    for recorded in draft.operations {
        assembly.node(recorded)?;
    }
    for (name, tensor) in draft.outputs {
        let value = assembly.read(&tensor, || name.clone())?;
        assembly.program.outputs.push(Port { name, value });
    }
    Ok(assembly.program)
}

impl Program {
    /// The part of the program that its outputs depend on. Inputs and parameters all stay.
    pub fn without_dead_nodes(self) -> Self {
        let tensor = |id: ValueId| self.values[id.0].tensor(id);
        let port = |port: Port| (port.name, tensor(port.value));
        let outputs = self.outputs.iter().map(|port| TensorId::new(port.value.0 as u64)).collect();
        let labels =
            self.values.iter().enumerate().filter_map(|(place, value)| {
                Some((TensorId::new(place as u64), value.name.clone()?))
            });
        let operations = self.nodes.into_iter().map(Node::recorded).collect();
        let constants = self.constants.into_iter();
        let parameters = self.parameters.into_iter();
        let draft = Draft {
            inputs: self.inputs.into_iter().map(port).collect(),
            parameters: parameters.map(|p| (p.paths, tensor(p.value))).collect(),
            constants: constants.map(|c| (tensor(c.value).id, c.data)).collect(),
            operations: without_dead(operations, outputs),
            labels: labels.collect(),
            outputs: self.outputs.into_iter().map(port).collect(),
        };
        assemble(draft).expect("what a program depends on is a program")
    }
}

impl Node {
    fn recorded(self) -> Recorded {
        Recorded { operation: self.operation, own: self.own, scope: self.scope }
    }
}

impl Value {
    fn tensor(&self, id: ValueId) -> TensorIr {
        TensorIr::uninit(TensorId::new(id.0 as u64), self.shape.clone(), self.dtype)
    }
}

fn unique<'a>(
    role: &'static str,
    mut names: impl Iterator<Item = &'a String>,
) -> Result<(), CaptureError> {
    let mut seen = HashSet::new();
    match names.find(|name| !seen.insert(*name)) {
        Some(name) => Err(CaptureError::DuplicateName { role, name: name.clone() }),
        None => Ok(()),
    }
}

#[derive(Default)]
struct Assembly {
    program: Program,
    ids: HashMap<TensorId, ValueId>,
    labels: HashMap<TensorId, String>,
}

impl Assembly {
    fn inputs(&mut self, inputs: Vec<(String, TensorIr)>) -> Result<(), CaptureError> {
        for (place, (name, tensor)) in inputs.into_iter().enumerate() {
            let value = self.define(&tensor, Origin::Input(place), || name.clone())?;
            self.program.inputs.push(Port { name, value });
        }
        Ok(())
    }

    fn parameters(&mut self, parameters: Vec<(Vec<String>, TensorIr)>) -> Result<(), CaptureError> {
        for (place, (paths, tensor)) in parameters.into_iter().enumerate() {
            let value = self.define(&tensor, Origin::Parameter(place), || paths.join(", "))?;
            self.program.parameters.push(Parameter { paths, value });
        }
        Ok(())
    }

    fn constants(&mut self, constants: BTreeMap<TensorId, TensorData>, read: &HashSet<TensorId>) {
        let mut by_hash: HashMap<u64, Vec<usize>> = HashMap::new();
        for (id, data) in constants.into_iter().filter(|(id, _)| read.contains(id)) {
            let known = &mut self.program.constants;
            let places = by_hash.entry(content_hash(&data)).or_default();
            if let Some(place) = places.iter().find(|place| known[**place].data == data) {
                self.ids.insert(id, known[*place].value);
                continue;
            }
            let (place, value) = (known.len(), ValueId(self.program.values.len()));
            places.push(place);
            let (shape, dtype) = (data.shape.clone(), data.dtype);
            known.push(Constant { value, data });
            let origin = Origin::Constant(place);
            self.program.values.push(Value { shape, dtype, origin, name: None });
            self.ids.insert(id, value);
        }
    }

    fn node(&mut self, recorded: Recorded) -> Result<(), CaptureError> {
        let Recorded { mut operation, own, scope } = recorded;
        let origin = Origin::Node(self.program.nodes.len());
        let place = || name(&operation);
        let inputs: Vec<_> =
            operation.inputs().map(|tensor| self.read(tensor, place)).collect::<Result<_, _>>()?;
        let outputs: Vec<_> = operation
            .outputs()
            .map(|tensor| self.define(tensor, origin, place))
            .collect::<Result<_, _>>()?;
        for_each_tensor(&mut operation, &mut |tensor| {
            // burn-ir lists every operand among the inputs or outputs, so it was met above.
            let value = self.ids[&tensor.id];
            let made_here = outputs.contains(&value);
            tensor.id = TensorId::new(value.0 as u64);
            // Whether this was the last use depends on clones in the forward: not worth keeping.
            tensor.status = if made_here { TensorStatus::NotInit } else { TensorStatus::ReadOnly };
        });
        let (name, attributes) = describe(&mut operation);
        let node = Node { name, attributes, operation, own, scope, inputs, outputs };
        self.program.nodes.push(node);
        Ok(())
    }

    fn read(
        &self,
        tensor: &TensorIr,
        place: impl FnOnce() -> String,
    ) -> Result<ValueId, CaptureError> {
        let value = self.ids.get(&tensor.id).copied();
        value.ok_or_else(|| CaptureError::Undefined { place: place() })
    }

    fn define(
        &mut self,
        tensor: &TensorIr,
        origin: Origin,
        place: impl FnOnce() -> String,
    ) -> Result<ValueId, CaptureError> {
        let value = ValueId(self.program.values.len());
        if self.ids.insert(tensor.id, value).is_some() {
            return Err(CaptureError::DefinedTwice { operation: place() });
        }
        let (shape, dtype) = (tensor.shape.clone(), tensor.dtype);
        let name = self.labels.remove(&tensor.id);
        self.program.values.push(Value { shape, dtype, origin, name });
        Ok(value)
    }
}

fn content_hash(data: &TensorData) -> u64 {
    let mut hasher = DefaultHasher::new();
    (data.dtype, &data.shape[..], data.as_bytes()).hash(&mut hasher);
    hasher.finish()
}
