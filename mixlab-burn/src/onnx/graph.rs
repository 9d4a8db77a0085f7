//! A graph in the making: nodes with names, constants, and lengths that are computed when it runs.

use std::collections::{HashMap, HashSet};

use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::{AttributeProto, GraphProto, NodeProto, TensorProto};

use burn::tensor::{DType, TensorData};

use crate::model::Part;

/// A node, and the part of the model that it belongs to.
pub(super) struct Placed {
    pub place: Place,
    pub node: NodeProto,
}

/// Nodes in order. Those of the prologue run first and belong to no part: they compute lengths and
/// tables that several parts read.
#[derive(Default)]
pub(super) struct Graph {
    prologue: Vec<Placed>,
    nodes: Vec<Placed>,
    /// Constants of the module that are too large to repeat.
    pub constants: Vec<TensorProto>,
    /// Part of the nodes that come next; in the prologue if `None` within.
    place: Place,
    used: HashMap<String, usize>,
    known: HashMap<(Place, Vec<u8>), String>,
}

/// Where nodes go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Place {
    #[default]
    Prologue,
    Part(Option<usize>),
}

/// An attribute of a node.
pub(super) enum Attribute {
    Int(&'static str, i64),
    Float(&'static str, f32),
    Ints(&'static str, Vec<i64>),
    Text(&'static str, &'static str),
    Tensor(&'static str, TensorProto),
    Graph(&'static str, GraphProto),
}

impl Attribute {
    pub fn proto(self) -> AttributeProto {
        let mut proto = AttributeProto::new();
        let (name, kind) = match self {
            Self::Int(name, value) => {
                proto.i = value;
                (name, AttributeType::INT)
            }
            Self::Float(name, value) => {
                proto.f = value;
                (name, AttributeType::FLOAT)
            }
            Self::Ints(name, values) => {
                proto.ints = values;
                (name, AttributeType::INTS)
            }
            Self::Text(name, text) => {
                proto.s = text.as_bytes().to_vec();
                (name, AttributeType::STRING)
            }
            Self::Tensor(name, tensor) => {
                proto.t = Some(tensor).into();
                (name, AttributeType::TENSOR)
            }
            Self::Graph(name, graph) => {
                proto.g = Some(graph).into();
                (name, AttributeType::GRAPH)
            }
        };
        proto.name = name.into();
        proto.type_ = kind.into();
        proto
    }
}

impl Graph {
    /// Nodes go to `place` from here on; returns where they went before.
    pub fn turn_to(&mut self, place: Place) -> Place {
        std::mem::replace(&mut self.place, place)
    }

    /// Adds a node with one result, whose name it returns.
    pub fn node(&mut self, op: &str, inputs: &[&str], attributes: Vec<Attribute>) -> String {
        let mut outputs = self.outputs(op, inputs, attributes, 1);
        outputs.remove(0)
    }

    /// Adds a node with `count` results.
    pub fn outputs(
        &mut self,
        op: &str,
        inputs: &[&str],
        attributes: Vec<Attribute>,
        count: usize,
    ) -> Vec<String> {
        let name = self.fresh(&op.to_lowercase());
        let output = |i: usize| if i == 0 { name.clone() } else { format!("{name}.{i}") };
        let node = NodeProto {
            output: (0..count).map(output).collect(),
            attribute: attributes.into_iter().map(Attribute::proto).collect(),
            ..node_proto(op, name.clone(), inputs)
        };
        let outputs = node.output.clone();
        self.push(node);
        outputs
    }

    /// Explains the last node to those who look at the graph.
    pub fn explain(&mut self, doc: &str) {
        let last = self.here().last_mut().expect("a node was added");
        last.node.doc_string = doc.into();
    }

    fn push(&mut self, node: NodeProto) {
        let place = self.place;
        self.here().push(Placed { place, node });
    }

    fn here(&mut self) -> &mut Vec<Placed> {
        match self.place {
            Place::Prologue => &mut self.prologue,
            Place::Part(_) => &mut self.nodes,
        }
    }

    /// All nodes in the order in which they run, and the constants.
    pub fn finish(self) -> (Vec<Placed>, Vec<TensorProto>) {
        let Self { mut prologue, nodes, constants, .. } = self;
        prologue.extend(nodes);
        (prologue, constants)
    }

    /// A name that nothing has yet: `hint` in the part of the model that nodes go to.
    pub fn fresh(&mut self, hint: &str) -> String {
        let prefix = match self.place {
            Place::Part(Some(scope)) => format!("{}/", part_name(Part::of(scope))),
            Place::Part(None) => String::new(),
            Place::Prologue => "shared/".into(),
        };
        let stem = format!("{prefix}{hint}");
        loop {
            let count = self.used.entry(stem.clone()).or_insert(0);
            *count += 1;
            let name = if *count == 1 { stem.clone() } else { format!("{stem}_{}", *count - 1) };
            // A value of the caller may have it.
            if name == stem || !self.used.contains_key(&name) {
                return name;
            }
        }
    }

    /// A name for the body of a loop: `hint`, unless a value of the caller has it.
    pub fn inner(&self, hint: &str) -> String {
        let mut name = hint.to_string();
        while self.used.contains_key(&name) {
            name.push('_');
        }
        name
    }

    /// Takes `name` for a value of the caller.
    pub fn reserve(&mut self, name: &str) {
        self.used.insert(name.into(), 1);
    }

    /// A small constant; the same one again in the same part.
    pub fn constant(&mut self, data: &TensorData) -> String {
        let mut key = format!("{:?}{:?}", data.dtype, &data.shape[..]).into_bytes();
        key.extend_from_slice(data.as_bytes());
        let key = (self.place, key);
        if let Some(name) = self.known.get(&key) {
            return name.clone();
        }
        let value = vec![Attribute::Tensor("value", tensor_proto("", data))];
        let name = self.node("Constant", &[], value);
        self.known.insert(key, name.clone());
        name
    }

    /// A one-dimensional constant of lengths or places.
    pub fn ints(&mut self, values: &[i64]) -> String {
        self.constant(&TensorData::new(values.to_vec(), [values.len()]))
    }

    /// What the last of the nodes makes that `make` adds to the prologue, once for each `key`; it is
    /// called `hint`, with a number if there are several.
    pub fn shared(
        &mut self,
        hint: &str,
        key: String,
        make: impl FnOnce(&mut Self) -> String,
    ) -> String {
        let key = (Place::Prologue, format!("{hint} {key}").into_bytes());
        if let Some(name) = self.known.get(&key) {
            return name.clone();
        }
        let before = self.turn_to(Place::Prologue);
        make(self);
        let name = self.fresh(hint);
        let last = &mut self.prologue.last_mut().expect("a node was added").node;
        (last.name, last.output[0]) = (name.clone(), name.clone());
        self.turn_to(before);
        self.known.insert(key, name.clone());
        name
    }
}

/// A node without results and attributes.
pub(super) fn node_proto(op: &str, name: String, inputs: &[&str]) -> NodeProto {
    NodeProto {
        op_type: op.into(),
        name,
        input: inputs.iter().map(|input| input.to_string()).collect(),
        ..NodeProto::new()
    }
}

/// What a node reads, by itself and in the bodies of its loops, in order.
pub(super) fn inputs(node: &NodeProto) -> Vec<String> {
    let mut all = node.input.clone();
    for graph in node.attribute.iter().filter_map(|attribute| attribute.g.as_ref()) {
        let own = local(graph);
        let read = graph.node.iter().flat_map(inputs);
        all.extend(read.filter(|name| !own.contains(name.as_str())));
    }
    all
}

/// What is defined in the body of a loop.
pub(super) fn local(graph: &GraphProto) -> HashSet<&str> {
    let ports = graph.input.iter().map(|port| port.name.as_str());
    ports.chain(graph.node.iter().flat_map(|node| &node.output).map(String::as_str)).collect()
}

/// Gives `node`, and what is in it, the new names.
pub(super) fn rename(node: &mut NodeProto, names: &HashMap<String, String>) {
    for name in node.input.iter_mut().chain(&mut node.output) {
        if let Some(new) = names.get(name) {
            name.clone_from(new);
        }
    }
    for graph in node.attribute.iter_mut().filter_map(|attribute| attribute.g.as_mut()) {
        for node in &mut graph.node {
            rename(node, names);
        }
    }
}

/// The first part of the names in `part` of a model.
pub(super) fn part_name(part: Part) -> String {
    match part {
        Part::Embedding => "embedding".into(),
        Part::Head => "head".into(),
        Part::Block(index) => format!("block{index}"),
    }
}

/// `data` as ONNX stores it.
pub(super) fn tensor_proto(name: &str, data: &TensorData) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: data.shape.iter().map(|n| *n as i64).collect(),
        data_type: data_type(data.dtype).expect("captures have types that ONNX has"),
        raw_data: data.as_bytes().to_vec(),
        ..TensorProto::new()
    }
}

/// The number of an element type in ONNX.
pub(super) fn data_type(dtype: DType) -> Option<i32> {
    Some(match dtype {
        DType::F32 => 1,
        DType::U8 => 2,
        DType::I8 => 3,
        DType::U16 => 4,
        DType::I16 => 5,
        DType::I32 => 6,
        DType::I64 => 7,
        DType::Bool(_) => 9,
        DType::F16 => 10,
        DType::F64 => 11,
        DType::U32 => 12,
        DType::U64 => 13,
        DType::BF16 => 16,
        _ => return None,
    })
}
