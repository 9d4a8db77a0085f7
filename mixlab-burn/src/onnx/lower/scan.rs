//! Recurrences, as `Scan` over the axis of time.

use burn::tensor::{DType, TensorData};
use burn_ir::{DimOpIr, TensorIr};
use mixlab_ops::capture::Node;
use mixlab_ops::{FadingMax, MatrixScan, Recurrence, Scan, ScanFrom, ScanTv};
use onnx_protobuf::tensor_shape_proto::Dimension;
use onnx_protobuf::{
    GraphProto, NodeProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};

use super::super::graph::{Attribute, data_type, node_proto, tensor_proto};
use super::{Lowered, Lowering};

/// What a step does to a state.
#[derive(Clone, Copy, PartialEq)]
enum Transition {
    /// `h ← a_t h + x_t`.
    Varying,
    /// `h ← a h + x_t`.
    Constant,
    /// `h ← max(h + a, x_t)`.
    Maximum,
    /// `h ← h ∘ x_t`, with an operation of ONNX.
    Fold(&'static str),
}

impl Transition {
    fn equation(self) -> &'static str {
        match self {
            Self::Varying => "h = a_t h + x_t, for each token",
            Self::Constant => "h = a h + x_t, for each token",
            Self::Maximum => "h = max(h + a, x_t), for each token",
            Self::Fold(_) => "h = h and x_t, for each place along the axis",
        }
    }
}

impl Lowering<'_> {
    /// The recurrence of `node`, if it is one.
    pub(super) fn recurrence(&mut self, node: &Node) -> Option<Lowered> {
        let of = if node.op::<Scan>().is_some() {
            Recurrence::Scan
        } else if node.op::<ScanTv>().is_some() {
            Recurrence::ScanTv
        } else if node.op::<MatrixScan>().is_some() {
            Recurrence::MatrixScan
        } else if node.op::<FadingMax>().is_some() {
            return Some(self.fading_max(node));
        } else {
            node.op::<ScanFrom>()?.of
        };
        Some(self.states(node, of))
    }

    fn states(&mut self, node: &Node, of: Recurrence) -> Lowered {
        let (u, gate) = (self.input(node.inputs[0])?, self.input(node.inputs[1])?);
        let out = node.operation.outputs().next().expect("an op has a result").clone();
        let state = match node.inputs.get(2) {
            Some(state) => self.input(*state)?,
            None => self.start(&out, 1, 0.0)?,
        };
        match of {
            Recurrence::MatrixScan => {
                let last = self.graph.ints(&[-1]);
                let gate = self.op("Unsqueeze", &[&gate, &last]);
                Ok(self.scan(Transition::Varying, [&state, &u, &gate], 1, &out))
            }
            Recurrence::Scan | Recurrence::ScanTv => {
                let one = self.scalar(1.0, out.dtype);
                let rest = self.op("Sub", &[&one, &gate]);
                let x = self.op("Mul", &[&u, &rest]);
                let transition =
                    if of == Recurrence::Scan { Transition::Constant } else { Transition::Varying };
                Ok(self.scan(transition, [&state, &x, &gate], 1, &out))
            }
        }
    }

    fn fading_max(&mut self, node: &Node) -> Lowered {
        let (u, rate) = (self.input(node.inputs[0])?, self.input(node.inputs[1])?);
        let out = node.operation.outputs().next().expect("an op has a result").clone();
        // Below all that the op takes.
        let start = self.start(&out, 1, -1e30)?;
        Ok(self.scan(Transition::Maximum, [&start, &u, &rate], 1, &out))
    }

    /// What `fold` makes of all elements up to each along an axis.
    pub(super) fn cumulative(&mut self, fold: &'static str, op: &DimOpIr) -> Lowered {
        let x = self.input(&op.input)?;
        let axis = op.axis as i64;
        let start = if fold == "Mul" {
            self.start(&op.out, op.axis, 1.0)?
        } else {
            // The first once more: the larger of two that are the same is that.
            let first = self.scalar(0.0, DType::I64);
            self.graph.node("Gather", &[&x, &first], vec![Attribute::Int("axis", axis)])
        };
        Ok(self.scan(Transition::Fold(fold), [&start, &x, ""], axis, &op.out))
    }

    /// A state for states like `out` along `axis` whose elements are all `value`.
    fn start(&mut self, out: &TensorIr, axis: usize, value: f64) -> Lowered {
        let mut extents = self.extents(out);
        extents.remove(axis);
        let shape = super::shape::lengths(self.traced, self.graph, &extents)?;
        let value = TensorData::new(vec![value], [1]).convert_dtype(out.dtype);
        let value = vec![Attribute::Tensor("value", tensor_proto("", &value))];
        Ok(self.graph.node("ConstantOfShape", &[&shape], value))
    }

    /// All states `out` from `state` on, for `x` and `gate`; `axis` is that of time.
    fn scan(
        &mut self,
        transition: Transition,
        [state, x, gate]: [&str; 3],
        axis: i64,
        out: &TensorIr,
    ) -> String {
        let varying = transition == Transition::Varying;
        let body = body(transition, gate, out, |name| self.graph.inner(name));
        let inputs = if varying { vec![state, x, gate] } else { vec![state, x] };
        let count = inputs.len() - 1;
        let attributes = vec![
            Attribute::Graph("body", body),
            Attribute::Int("num_scan_inputs", count as i64),
            Attribute::Ints("scan_input_axes", vec![axis; count]),
            Attribute::Ints("scan_output_axes", vec![axis]),
        ];
        let states = self.graph.outputs("Scan", &inputs, attributes, 2).remove(1);
        self.graph.explain(transition.equation());
        states
    }
}

/// One transition of states like those in `out`; a gate that does not vary is read from the graph around it.
/// `named` makes names of its own that nothing around it has.
fn body(
    transition: Transition,
    gate: &str,
    out: &TensorIr,
    named: impl Fn(&str) -> String,
) -> GraphProto {
    let [h, x, a, kept, next, y] = ["h", "x_t", "a_t", "kept", "h_t", "y_t"].map(named);
    let node = |op: &str, inputs: &[&str], output: &str| NodeProto {
        output: vec![output.into()],
        ..node_proto(op, output.into(), inputs)
    };
    let gate = if transition == Transition::Varying { &a } else { gate };
    let mut nodes = match transition {
        Transition::Maximum => {
            vec![node("Add", &[&h, gate], &kept), node("Max", &[&kept, &x], &next)]
        }
        Transition::Fold(op) => vec![node(op, &[&h, &x], &next)],
        Transition::Varying | Transition::Constant => {
            vec![node("Mul", &[&h, gate], &kept), node("Add", &[&kept, &x], &next)]
        }
    };
    nodes.push(node("Identity", &[&next], &y));
    let value = |name: &String| {
        // Lengths are not said, but how many there are.
        let dim = vec![Dimension::new(); out.shape.num_dims() - 1];
        let tensor = type_proto::Tensor {
            elem_type: data_type(out.dtype).expect("captures have types that ONNX has"),
            shape: Some(TensorShapeProto { dim, ..TensorShapeProto::new() }).into(),
            ..type_proto::Tensor::new()
        };
        let mut kind = TypeProto::new();
        kind.set_tensor_type(tensor);
        ValueInfoProto { name: name.into(), type_: Some(kind).into(), ..ValueInfoProto::new() }
    };
    let count = if transition == Transition::Varying { 3 } else { 2 };
    GraphProto {
        name: "step".into(),
        node: nodes,
        input: [&h, &x, &a][..count].iter().map(|name| value(name)).collect(),
        output: vec![value(&next), value(&y)],
        ..GraphProto::new()
    }
}
