//! Blocks as functions of the file: what viewers show as one node each, and what stands once however
//! many blocks compute it.
//!
//! The nodes of a block become the body of a function. Weights, the stream and whatever else they read
//! become its inputs, what other parts read its outputs, so that blocks which do the same with other
//! weights call one function.

use std::collections::{HashMap, HashSet};

use onnx_protobuf::{FunctionProto, Message, NodeProto, OperatorSetIdProto};

use super::graph::{Place, Placed, inputs, local, node_proto, part_name, rename};
use super::trace::Traced;
use crate::model::Part;

/// Whose functions they are.
pub(super) const DOMAIN: &str = "mixlab";

/// Nodes that call functions, and these.
pub(super) struct Outlined {
    pub nodes: Vec<NodeProto>,
    pub functions: Vec<FunctionProto>,
}

/// Makes functions of `opset` of the blocks among `nodes`; `names` are those of the traced values.
pub(super) fn outline(
    traced: &Traced,
    names: &[Option<String>],
    nodes: Vec<Placed>,
    opset: i64,
) -> Outlined {
    let mut outliner = Outliner {
        traced,
        read: readers(traced, &nodes),
        labels: labels(traced, names),
        opset,
        known: HashMap::new(),
        taken: HashSet::new(),
        outlined: Outlined { nodes: Vec::new(), functions: Vec::new() },
    };
    let runs = nodes.chunk_by(|a, b| a.place == b.place);
    for run in runs {
        let body = run.iter().map(|placed| &placed.node);
        match block(run[0].place) {
            Some((scope, index)) => outliner.call(scope, index, body.collect()),
            None => outliner.outlined.nodes.extend(body.cloned()),
        }
    }
    outliner.outlined
}

/// The number of the part and of the block that nodes at `place` belong to.
fn block(place: Place) -> Option<(usize, usize)> {
    let Place::Part(Some(scope)) = place else { return None };
    match Part::of(scope) {
        Part::Block(index) => Some((scope, index)),
        Part::Embedding | Part::Head => None,
    }
}

/// For each name the places of the nodes that read it; none within for outputs of the graph.
type Readers = HashMap<String, HashSet<Option<Place>>>;

fn readers(traced: &Traced, nodes: &[Placed]) -> Readers {
    let mut read = Readers::new();
    for Placed { place, node } in nodes {
        for name in inputs(node) {
            read.entry(name).or_default().insert(Some(*place));
        }
    }
    for port in traced.program().outputs() {
        read.entry(port.name.clone()).or_default().insert(None);
    }
    read
}

/// What the forward calls the values that it has a word for, by their names in the graph.
fn labels(traced: &Traced, names: &[Option<String>]) -> HashMap<String, String> {
    let program = traced.program();
    let values = program.values().iter().zip(names);
    let inner = values.filter_map(|(value, name)| Some((name.clone()?, value.name.clone()?)));
    let outputs = program.outputs().iter().filter_map(|port| {
        let label = program.value(port.value).name.clone();
        Some((port.name.clone(), label?))
    });
    inner.chain(outputs).collect()
}

struct Outliner<'a> {
    traced: &'a Traced,
    read: Readers,
    labels: HashMap<String, String>,
    opset: i64,
    /// Names of the functions by what they compute.
    known: HashMap<Vec<u8>, usize>,
    /// Names of functions.
    taken: HashSet<String>,
    outlined: Outlined,
}

impl Outliner<'_> {
    /// Calls a function with the body `nodes`, a new one if there is none yet.
    fn call(&mut self, scope: usize, index: usize, nodes: Vec<&NodeProto>) {
        let label = self.traced.labels.get(index).map_or("block", String::as_str);
        let mut scoped = Renamed::new(self.traced, &self.labels, index, &nodes);
        let body: Vec<NodeProto> = nodes.iter().map(|node| scoped.node(node)).collect();
        let here = Some(Place::Part(Some(scope)));
        let leaves = |name: &&String| {
            let readers = self.read.get(name.as_str());
            readers.is_some_and(|all| all.iter().any(|place| *place != here))
        };
        let outputs: Vec<&String> =
            nodes.iter().flat_map(|node| &node.output).filter(leaves).collect();
        let mut function = FunctionProto {
            input: scoped.given.iter().map(|(_, inner)| inner.clone()).collect(),
            output: outputs.iter().map(|name| scoped.names[*name].clone()).collect(),
            node: body,
            opset_import: vec![opset("", self.opset)],
            domain: DOMAIN.into(),
            ..FunctionProto::new()
        };
        let key = function.write_to_bytes().expect("it has all that it must have");
        let place = match self.known.get(&key) {
            Some(place) => *place,
            None => {
                function.name = unique(&mut self.taken, kind(label));
                function.doc_string = label.into();
                self.outlined.functions.push(function);
                self.known.insert(key, self.outlined.functions.len() - 1);
                self.outlined.functions.len() - 1
            }
        };
        let name = self.outlined.functions[place].name.clone();
        let given: Vec<&str> = scoped.given.iter().map(|(outer, _)| outer.as_str()).collect();
        self.outlined.nodes.push(NodeProto {
            domain: DOMAIN.into(),
            output: outputs.into_iter().cloned().collect(),
            doc_string: label.into(),
            ..node_proto(&name, part_name(Part::of(scope)), &given)
        });
    }
}

/// A version of the operations of `domain`.
pub(super) fn opset(domain: &str, version: i64) -> OperatorSetIdProto {
    OperatorSetIdProto { domain: domain.into(), version, ..OperatorSetIdProto::new() }
}

/// The type of a block with a label, as far as a name may have it.
fn kind(label: &str) -> String {
    let word = label.split_whitespace().next().unwrap_or("block");
    word.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// `name`, with a number if it is taken; and takes it.
fn unique(taken: &mut HashSet<String>, name: String) -> String {
    let numbered = (1..).map(|number| format!("{name}_{number}"));
    let mut names = std::iter::once(name.clone()).chain(numbered);
    names.find(|name| taken.insert(name.clone())).expect("there are names without end")
}

/// Nodes under names that do not say which block they are from.
struct Renamed<'a> {
    traced: &'a Traced,
    labels: &'a HashMap<String, String>,
    /// The first part of the names before the block.
    before: String,
    /// What the nodes make.
    made: HashSet<&'a str>,
    names: HashMap<String, String>,
    taken: HashSet<String>,
    /// What they read from elsewhere, by both names.
    given: Vec<(String, String)>,
}

impl<'a> Renamed<'a> {
    fn new(
        traced: &'a Traced,
        labels: &'a HashMap<String, String>,
        index: usize,
        nodes: &[&'a NodeProto],
    ) -> Self {
        let before = index.checked_sub(1).map_or(Part::Embedding, Part::Block);
        let graphs = nodes.iter().flat_map(|node| &node.attribute);
        let graphs = graphs.filter_map(|attribute| attribute.g.as_ref());
        // The bodies of loops keep their names.
        let taken = graphs.flat_map(local).map(str::to_string).collect();
        let made = nodes.iter().flat_map(|node| &node.output).map(String::as_str).collect();
        Self {
            traced,
            labels,
            before: format!("{}/", part_name(before)),
            made,
            names: HashMap::new(),
            taken,
            given: Vec::new(),
        }
    }

    fn node(&mut self, node: &NodeProto) -> NodeProto {
        for name in inputs(node) {
            self.name(&name);
        }
        for name in &node.output {
            self.name(name);
        }
        let mut renamed = node.clone();
        rename(&mut renamed, &self.names);
        renamed.name = renamed.output.first().cloned().unwrap_or_default();
        renamed
    }

    fn name(&mut self, outer: &str) {
        if outer.is_empty() || self.names.contains_key(outer) {
            return;
        }
        let made = self.made.contains(outer);
        let base = if made { inner(outer) } else { self.given_name(outer) };
        let name = unique(&mut self.taken, base);
        if !made {
            self.given.push((outer.into(), name.clone()));
        }
        self.names.insert(outer.into(), name);
    }

    /// What a function calls a value that it is given.
    fn given_name(&self, outer: &str) -> String {
        let program = self.traced.program();
        if program.parameters().iter().any(|parameter| parameter.paths[0] == outer) {
            return outer.rsplit('.').next().unwrap_or(outer).into();
        }
        if outer.starts_with("shared/") || program.inputs().iter().any(|port| port.name == outer) {
            return inner(outer);
        }
        match self.labels.get(outer).map(String::as_str) {
            None => "input".into(),
            // The stream, as each block leaves it.
            Some("x" | "x0") if outer.starts_with(&self.before) => "input".into(),
            Some("x") => "earlier".into(),
            Some(label) => label.into(),
        }
    }
}

/// `name` without the part of the model, and without the number that tells it from others there:
/// `mask` of `shared/mask_1`, `past_key` of `past_key_values.3.key`.
fn inner(name: &str) -> String {
    let stem = name.rsplit('/').next().unwrap_or(name);
    let (door, rest) = match (stem.strip_prefix("past_key_values."), stem.strip_prefix("present."))
    {
        (Some(rest), _) => ("past_", rest),
        (_, Some(rest)) => ("present_", rest),
        _ => ("", stem),
    };
    let words = rest.split('.').filter(|word| word.parse::<usize>().is_err());
    let rest = words.collect::<Vec<_>>().join("_");
    let rest = match rest.rsplit_once('_') {
        Some((word, number)) if number.parse::<usize>().is_ok() => word,
        _ => &rest,
    };
    format!("{door}{rest}")
}
