//! What a captured forward is: values, and the operations between them.

use std::fmt;

use burn::tensor::{DType, Shape, TensorData};
use burn_ir::{OperationIr, TensorIr};

use super::own::OwnOp;
use crate::Spec;

/// The number of a [`Value`] in its program; written `%7`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub(super) usize);

impl ValueId {
    /// Place in [`Program::values`].
    pub fn index(self) -> usize {
        self.0
    }
}

/// The ids inside of [`Node::operation`] are those of the program.
impl From<&TensorIr> for ValueId {
    fn from(tensor: &TensorIr) -> Self {
        Self(tensor.id.value() as usize)
    }
}

impl fmt::Display for ValueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "%{}", self.0)
    }
}

/// A tensor of a program: what it holds and where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Length of each axis.
    pub shape: Shape,
    /// Element type.
    pub dtype: DType,
    /// What makes it.
    pub origin: Origin,
    /// What the forward calls it, if it has told [`Backend::label`](crate::Backend::label).
    pub name: Option<String>,
}

impl Value {
    /// Its shape and type.
    pub fn spec(&self) -> Spec {
        Spec { shape: self.shape.clone(), dtype: self.dtype }
    }
}

/// What makes a value, with its place in the respective list of the [`Program`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A named input.
    Input(usize),
    /// A parameter of the module.
    Parameter(usize),
    /// Data that the module carries but does not train.
    Constant(usize),
    /// The operation of a node.
    Node(usize),
}

/// A named input or output.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// Name given in the forward.
    pub name: String,
    /// The value.
    pub value: ValueId,
}

/// A parameter of the captured module.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Field names from the module down to the parameter, joined by dots, as in
    /// `blocks.0.Plain.wq`. More than one if fields share the tensor.
    pub paths: Vec<String>,
    /// The value.
    pub value: ValueId,
}

/// Data that the forward reads and that is no parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Constant {
    /// The value.
    pub value: ValueId,
    /// The numbers.
    pub data: TensorData,
}

/// One operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What it computes: `linear` or `slice_assign` for Burn's operations (burn-ir's name in snake
    /// case), its [`NAME`](crate::Op::NAME) for an op.
    pub name: String,
    /// How: a JSON object for an [`Op`](crate::Op); for Burn's operations `{field: value, …}`, to
    /// be read by people, or empty.
    pub attributes: String,
    /// The operation as Burn recorded it, with the ids of this program: every input is read-only
    /// and every output not initialized.
    pub operation: OperationIr,
    /// The op that it was recorded from; none for Burn's operations.
    pub own: Option<OwnOp>,
    /// The part of the model that it belongs to, as the forward numbers its parts
    /// ([`Backend::enter`](crate::Backend::enter)); none before the first.
    pub scope: Option<usize>,
    /// What it reads, in burn-ir's order.
    pub inputs: Vec<ValueId>,
    /// What it makes, in burn-ir's order.
    pub outputs: Vec<ValueId>,
}

/// A recorded forward, in static single assignment: each value is made once, before it is read.
///
/// Values are numbered from 0 without gaps: inputs, parameters, constants, then results in the
/// order of execution. Two forwards that do the same give equal programs. `Display` lists one node
/// a line.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Program {
    pub(super) values: Vec<Value>,
    pub(super) inputs: Vec<Port>,
    pub(super) parameters: Vec<Parameter>,
    pub(super) constants: Vec<Constant>,
    pub(super) nodes: Vec<Node>,
    pub(super) outputs: Vec<Port>,
}

impl Program {
    /// All operations in the order of execution.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// All values; the place of one is its [`ValueId::index`].
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// The value `id`.
    ///
    /// # Panics
    ///
    /// If `id` is of a larger program.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0]
    }

    /// Inputs in the order in which the forward made them.
    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// All parameters of the module in the order of its fields, also those the forward ignores.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The constants that the program reads, equal data once.
    pub fn constants(&self) -> &[Constant] {
        &self.constants
    }

    /// Outputs in the order in which the forward named them.
    pub fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// Whether `other` has the same operations between the same values, whatever the shapes.
    ///
    /// True for two captures of one module with inputs of different sizes, unless its forward takes
    /// another course for them. Attributes and data are not compared, since sizes turn up in them:
    /// `Tensor::arange` for one is a constant of this backend. Take sizes that differ from each
    /// other and from those of the module, or constants that are equal by chance become one.
    pub fn same_structure(&self, other: &Self) -> bool {
        let same_node = |(a, b): (&Node, &Node)| {
            (&a.name, a.scope) == (&b.name, b.scope)
                && a.inputs == b.inputs
                && a.outputs == b.outputs
        };
        let same_value = |(a, b): (&Value, &Value)| {
            a.dtype == b.dtype && a.origin == b.origin && a.shape.len() == b.shape.len()
        };
        self.inputs == other.inputs
            && self.outputs == other.outputs
            && self.parameters == other.parameters
            && self.nodes.len() == other.nodes.len()
            && self.values.len() == other.values.len()
            && self.nodes.iter().zip(&other.nodes).all(same_node)
            && self.values.iter().zip(&other.values).all(same_value)
    }
}

/// One input, parameter, constant, node or output a line.
impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Port { name, value } in &self.inputs {
            writeln!(f, "input {value} {name}: {}", self.value(*value))?;
        }
        for Parameter { paths, value } in &self.parameters {
            writeln!(f, "parameter {value} {}: {}", paths.join(" = "), self.value(*value))?;
        }
        for Constant { value, .. } in &self.constants {
            writeln!(f, "constant {value}: {}", self.value(*value))?;
        }
        for node in &self.nodes {
            self.write_node(node, f)?;
        }
        for Port { name, value } in &self.outputs {
            writeln!(f, "output {name} = {value}")?;
        }
        Ok(())
    }
}

impl Program {
    fn write_node(&self, node: &Node, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named =
            |value: &Value| value.name.as_ref().map_or_else(String::new, |n| format!(" {n}"));
        let output = |id: &ValueId| {
            let value = self.value(*id);
            format!("{id}{}: {value}", named(value))
        };
        let outputs = node.outputs.iter().map(output);
        let inputs: Vec<String> = node.inputs.iter().map(ValueId::to_string).collect();
        let outputs: Vec<String> = outputs.collect();
        write!(f, "{} = {}({})", outputs.join(", "), node.name, inputs.join(", "))?;
        match node.attributes.as_str() {
            "" | "{}" => writeln!(f),
            attributes => writeln!(f, " {attributes}"),
        }
    }
}

/// Element type and shape, as `f32[2, 5]`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", self.dtype.name(), &self.shape[..])
    }
}
