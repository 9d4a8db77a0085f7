//! From operations of a captured forward to nodes of ONNX: one file a family of operations.

mod base;
mod constant;
mod elementwise;
mod language;
mod modern;
mod module;
mod number;
mod reduce;
mod scan;
mod scatter;
mod shape;
mod slice;

use burn::tensor::{DType, TensorData};
use burn_ir::{OperationIr, TensorIr};
use mixlab_ops::capture::{Node, Origin, ValueId};

use super::OnnxError;
use super::extent::Extent;
use super::graph::{Attribute, Graph, Place, data_type};
use super::place::{place, shapes};
use super::profile::Profile;
use super::trace::Traced;

pub(super) use language::is_known;

/// What a lowering returns: the name of its first result, or why there is none.
type Lowered = Result<String, OnnxError>;

/// All nodes of `traced`, and the name of each of its values.
///
/// # Errors
/// For the first operation that has no counterpart.
pub(super) fn lower(
    traced: &Traced,
    profile: Profile,
) -> Result<(Graph, Vec<Option<String>>), OnnxError> {
    let program = traced.program();
    let mut graph = Graph::default();
    let mut names = vec![None; program.values().len()];
    for port in program.inputs() {
        graph.reserve(&port.name);
        names[port.value.index()] = Some(port.name.clone());
    }
    for port in program.outputs() {
        graph.reserve(&port.name);
    }
    for parameter in program.parameters() {
        graph.reserve(&parameter.paths[0]);
        names[parameter.value.index()] = Some(parameter.paths[0].clone());
    }
    for index in 0..program.nodes().len() {
        let scope = program.nodes()[index].scope;
        graph.turn_to(Place::Part(scope));
        let mut lowering =
            Lowering { traced, profile, index, graph: &mut graph, names: &mut names };
        lowering.lower()?;
    }
    for port in program.outputs() {
        if names[port.value.index()].is_none() {
            let Origin::Constant(_) = program.value(port.value).origin else { continue };
            graph.turn_to(Place::Prologue);
            let name = constant::lower(traced, port.value, &mut graph)?;
            names[port.value.index()] = Some(name);
        }
    }
    Ok((graph, names))
}

/// One operation, and what there is around it.
struct Lowering<'a> {
    traced: &'a Traced,
    profile: Profile,
    index: usize,
    graph: &'a mut Graph,
    names: &'a mut [Option<String>],
}

impl Lowering<'_> {
    fn node(&self) -> &Node {
        &self.traced.program().nodes()[self.index]
    }

    fn lower(&mut self) -> Result<(), OnnxError> {
        let node = self.node().clone();
        let name = match &node.operation {
            OperationIr::BaseFloat(op) | OperationIr::BaseInt(op) | OperationIr::BaseBool(op) => {
                self.base(op)
            }
            OperationIr::NumericFloat(_, op) => self.numeric(op, true),
            OperationIr::NumericInt(_, op) => self.numeric(op, false),
            OperationIr::Float(_, op) => self.float(op),
            OperationIr::Int(op) => self.int(op),
            OperationIr::Bool(op) => self.boolean(op),
            OperationIr::Module(op) => self.module(op),
            OperationIr::Custom(_) => self.language(&node),
            _ => Err(self.unsupported("ONNX has no such operation")),
        }?;
        self.names[node.outputs[0].index()] = Some(name);
        Ok(())
    }

    /// The error for this operation.
    fn unsupported(&self, reason: impl Into<String>) -> OnnxError {
        let node = self.node();
        let operation = format!("{}{}", node.name, node.attributes);
        let program = self.traced.program();
        let shapes = shapes(program, node);
        OnnxError::Unsupported {
            operation,
            shapes,
            part: place(program, node),
            reason: reason.into(),
        }
    }

    /// The name of a value that this operation reads.
    fn input(&mut self, id: impl Into<ValueId>) -> Lowered {
        let id = id.into();
        if let Some(name) = &self.names[id.index()] {
            return Ok(name.clone());
        }
        match self.traced.program().value(id).origin {
            // Not remembered: each part has constants of its own.
            Origin::Constant(_) => constant::lower(self.traced, id, self.graph),
            _ => Err(self
                .unsupported("it reads a further result of an operation, which is not exported")),
        }
    }

    /// Adds a node of ONNX without attributes.
    fn op(&mut self, op: &str, inputs: &[&str]) -> String {
        self.graph.node(op, inputs, vec![])
    }

    /// The lengths of the axes of a value.
    fn extents(&self, tensor: &TensorIr) -> Vec<Extent> {
        self.traced.extents(tensor.into()).to_vec()
    }

    /// The form of a number of this operation.
    fn extent(&self, what: &str, read: impl Fn(&Node) -> i64) -> Result<Extent, OnnxError> {
        let solved = self.traced.solve(|program| read(&program.nodes()[self.index]));
        solved.map_err(|found| self.traced.no_form(what.into(), self.index, found))
    }

    /// A constant with one element and no axes.
    fn scalar(&mut self, value: f64, dtype: DType) -> String {
        let data = TensorData::new(vec![value], Vec::<usize>::new());
        // Booleans are numbers of one byte.
        self.graph.constant(&data.convert_dtype(dtype))
    }

    /// `input` with elements of type `dtype`.
    fn cast(&mut self, input: &str, dtype: DType) -> Lowered {
        let to = data_type(dtype);
        let to = to.ok_or_else(|| self.unsupported(format!("ONNX has no type `{dtype:?}`")))?;
        Ok(self.graph.node("Cast", &[input], vec![Attribute::Int("to", i64::from(to))]))
    }

    fn transpose(&mut self, input: &str, axes: &[usize]) -> String {
        let perm = axes.iter().map(|axis| *axis as i64).collect();
        self.graph.node("Transpose", &[input], vec![Attribute::Ints("perm", perm)])
    }

    /// `input` `[…, A, B]` of rank `rank` as `[…, B, A]`.
    fn transposed(&mut self, input: &str, rank: usize) -> String {
        let mut axes: Vec<usize> = (0..rank).collect();
        axes.swap(rank - 2, rank - 1);
        self.transpose(input, &axes)
    }
}
