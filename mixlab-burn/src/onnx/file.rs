//! From a graph and the module that has the weights to a file.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::path::Path;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Bool, DType, Int, Tensor, TensorData, backend::Backend};
use mixlab_ops::capture::{Parameter, Port};
use onnx_protobuf::tensor_proto::DataLocation;
use onnx_protobuf::tensor_shape_proto::{Dimension, dimension};
use onnx_protobuf::{
    GraphProto, Message, ModelProto, NodeProto, StringStringEntryProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};

use super::OnnxError;
use super::extent::Extent;
use super::functions::{DOMAIN, Outlined, opset, outline};
use super::graph::{Place, Placed, data_type, inputs, node_proto, rename, tensor_proto};
use super::lower::lower;
use super::profile::Profile;
use super::trace::Traced;
use crate::files::replace_file;

/// Bytes of weights that a file may hold itself; protobuf ends at 2 GiB.
const INLINE: usize = 1_500_000_000;
/// Weights beside the file begin at multiples of this, so that they can be mapped.
const ALIGNMENT: usize = 64;

/// What to write besides the graph.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Weights go to a file beside it, `NAME.data`, also if there is room.
    pub external: bool,
    /// Which operations the file may have.
    pub profile: Profile,
    /// Whether blocks are functions of the file; none for what its profile has.
    pub functions: Option<bool>,
    /// What viewers show of the graph.
    pub doc: String,
    /// What the file says about itself.
    pub metadata: Vec<(String, String)>,
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Operations of ONNX.
    pub nodes: usize,
    /// Elements of all weights.
    pub parameters: usize,
    /// Whether weights are in a file of their own.
    pub external: bool,
}

impl Traced {
    /// Writes the forward that was traced, with the weights of `module`, to `path`.
    ///
    /// # Errors
    /// If an operation has no counterpart in ONNX, if `module` has not the parameters that were
    /// traced, or if a file cannot be written.
    pub fn write<B: Backend, M: Module<B>>(
        &self,
        module: &M,
        path: &Path,
        options: &Options,
    ) -> Result<Written, OnnxError> {
        let (graph, names) = lower(self, options.profile)?;
        let (mut nodes, mut initializer) = graph.finish();
        name_outputs(self, &mut nodes, &names);
        let mut parameters = self.read_parameters(&nodes);
        let elements = parameters.values().map(|shape| shape.iter().product::<usize>()).sum();
        let external = options.external || 4 * elements > INLINE;
        let io = |path: &Path| {
            let path = path.to_path_buf();
            move |source| OnnxError::Io { path, source }
        };
        let beside = beside(path);
        let mut fill = |sink: &mut dyn FnMut(&str, TensorData) -> std::io::Result<TensorProto>| {
            let mut taken =
                Taken { path: vec![], left: &mut parameters, sink, made: vec![], failed: None };
            module.visit(&mut taken);
            let Taken { made, failed, .. } = taken;
            initializer.extend(made);
            failed.map_or(Ok(()), Err)
        };
        if external {
            let location = beside.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let written = replace_file(&beside, |file| {
                let mut at = 0;
                fill(&mut |name, data| stored(file, &mut at, &location, name, &data))
            });
            written.map_err(io(&beside))?;
        } else {
            fill(&mut |name, data| Ok(tensor_proto(name, &data))).map_err(io(path))?;
        }
        if let Some(missing) = parameters.into_keys().next() {
            return Err(OnnxError::Weight(missing));
        }
        let written = Written { nodes: nodes.len(), parameters: elements, external };
        let outlined = if options.functions.unwrap_or(options.profile.functions()) {
            outline(self, nodes, options.profile.opset())
        } else {
            flat(nodes)
        };
        let model = self.model(outlined, initializer, options);
        let bytes = model.write_to_bytes().map_err(std::io::Error::other).map_err(io(path))?;
        replace_file(path, |file| file.write_all(&bytes)).map_err(io(path))?;
        Ok(written)
    }

    /// Name and shape of the parameters that `nodes` read.
    fn read_parameters(&self, nodes: &[Placed]) -> HashMap<String, Vec<usize>> {
        let mut parameters = self.program().parameters().iter().map(|parameter: &Parameter| {
            (parameter.paths[0].clone(), self.program().value(parameter.value).shape.to_vec())
        });
        let mut all: HashMap<String, Vec<usize>> = parameters.by_ref().collect();
        let read: HashSet<String> = nodes.iter().flat_map(|placed| inputs(&placed.node)).collect();
        all.retain(|name, _| read.contains(name));
        all
    }

    fn model(
        &self,
        Outlined { nodes, functions }: Outlined,
        initializer: Vec<TensorProto>,
        options: &Options,
    ) -> ModelProto {
        let mut opset_import = vec![opset("", options.profile.opset())];
        if !functions.is_empty() {
            opset_import.push(opset(DOMAIN, 1));
        }
        let ports = |ports: &[Port]| ports.iter().map(|port| self.port(port)).collect();
        let graph = GraphProto {
            name: "forward".into(),
            doc_string: options.doc.clone(),
            node: nodes,
            initializer,
            input: ports(self.program().inputs()),
            output: ports(self.program().outputs()),
            ..GraphProto::new()
        };
        let entry = |(key, value): &(String, String)| property(key, value);
        ModelProto {
            ir_version: options.profile.ir_version(),
            producer_name: "mixlab-burn".into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            opset_import,
            functions,
            graph: Some(graph).into(),
            metadata_props: options.metadata.iter().map(entry).collect(),
            ..ModelProto::new()
        }
    }

    fn port(&self, port: &Port) -> ValueInfoProto {
        let dim = |extent: &Extent| {
            let value = match extent.constant() {
                Some(length) => dimension::Value::DimValue(length),
                None => dimension::Value::DimParam(self.formula(extent)),
            };
            Dimension { value: Some(value), ..Dimension::new() }
        };
        let dim = self.extents(port.value).iter().map(dim).collect();
        let shape = TensorShapeProto { dim, ..TensorShapeProto::new() };
        let dtype = data_type(self.program().value(port.value).dtype);
        let tensor = type_proto::Tensor {
            elem_type: dtype.expect("captures have types that ONNX has"),
            shape: Some(shape).into(),
            ..type_proto::Tensor::new()
        };
        let mut kind = TypeProto::new();
        kind.set_tensor_type(tensor);
        let name = port.name.clone();
        ValueInfoProto { name, type_: Some(kind).into(), ..ValueInfoProto::new() }
    }

    /// The name of an axis, or how its length follows from others.
    fn formula(&self, extent: &Extent) -> String {
        let (constant, terms) = extent.terms();
        let term = |(place, factor): (usize, i64)| {
            let axes = self.basis.product(place).iter().map(|axis| self.axes[*axis].clone());
            let number = (factor != 1).then(|| factor.to_string());
            number.into_iter().chain(axes).collect::<Vec<_>>().join("*")
        };
        let number = (constant != 0).then(|| constant.to_string());
        terms.map(term).chain(number).collect::<Vec<_>>().join(" + ")
    }
}

/// Adds to what the file at `path` says about itself, which is of use for what is known after it was
/// written.
///
/// # Errors
/// If it is no ONNX file, or cannot be written again.
pub fn annotate(path: &Path, entries: &[(String, String)]) -> Result<(), OnnxError> {
    let io = |source| OnnxError::Io { path: path.into(), source };
    let bytes = std::fs::read(path).map_err(io)?;
    let mut model =
        ModelProto::parse_from_bytes(&bytes).map_err(std::io::Error::other).map_err(io)?;
    model.metadata_props.extend(entries.iter().map(|(key, value)| property(key, value)));
    let bytes = model.write_to_bytes().map_err(std::io::Error::other).map_err(io)?;
    replace_file(path, |file| file.write_all(&bytes)).map_err(io)
}

/// All nodes as they are.
fn flat(nodes: Vec<Placed>) -> Outlined {
    let nodes = nodes.into_iter().map(|placed| placed.node).collect();
    Outlined { nodes, functions: Vec::new() }
}

/// Where weights are that are not in the file itself.
fn beside(path: &Path) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".data");
    name.into()
}

fn property(key: &str, value: &str) -> StringStringEntryProto {
    let mut entry = StringStringEntryProto::new();
    (entry.key, entry.value) = (key.into(), value.into());
    entry
}

/// Writes `data` to `file`, whose next byte is the `at`-th, and says where it is.
fn stored(
    file: &mut impl Write,
    at: &mut usize,
    location: &str,
    name: &str,
    data: &TensorData,
) -> std::io::Result<TensorProto> {
    let start = at.next_multiple_of(ALIGNMENT);
    file.write_all(&vec![0; start - *at])?;
    let bytes = data.as_bytes();
    file.write_all(bytes)?;
    *at = start + bytes.len();
    let place = [("location", location.into()), ("offset", start.to_string())];
    let place = place.into_iter().chain([("length", bytes.len().to_string())]);
    Ok(TensorProto {
        name: name.into(),
        dims: data.shape.iter().map(|n| *n as i64).collect(),
        data_type: data_type(data.dtype).expect("the traced types are types of ONNX"),
        data_location: DataLocation::EXTERNAL.into(),
        external_data: place.map(|(key, value): (&str, String)| property(key, &value)).collect(),
        ..TensorProto::new()
    })
}

/// Gives results that are outputs the names of these.
fn name_outputs(traced: &Traced, nodes: &mut Vec<Placed>, names: &[Option<String>]) {
    let mut given: HashMap<String, String> = HashMap::new();
    for port in traced.program().outputs() {
        let name = names[port.value.index()].clone().expect("outputs are made by operations");
        let made = nodes.iter().any(|placed| placed.node.output.contains(&name));
        if made && !given.contains_key(&name) {
            given.insert(name, port.name.clone());
        } else {
            let name = given.get(&name).cloned().unwrap_or(name);
            let copy = node_proto("Identity", port.name.clone(), &[&name]);
            let node = NodeProto { output: vec![port.name.clone()], ..copy };
            nodes.push(Placed { place: Place::Part(None), node });
        }
    }
    for Placed { node, .. } in nodes {
        rename(node, &given);
    }
}

/// Takes the parameters of a module, each by its path, as long as the sink takes them.
struct Taken<'a> {
    path: Vec<String>,
    left: &'a mut HashMap<String, Vec<usize>>,
    sink: &'a mut dyn FnMut(&str, TensorData) -> std::io::Result<TensorProto>,
    made: Vec<TensorProto>,
    failed: Option<std::io::Error>,
}

impl Taken<'_> {
    fn take(&mut self, shape: &[usize], data: impl FnOnce() -> TensorData) {
        let path = self.path.join(".");
        if self.failed.is_some() || self.left.get(&path).is_none_or(|traced| traced != shape) {
            return;
        }
        self.left.remove(&path);
        match (self.sink)(&path, data()) {
            Ok(tensor) => self.made.push(tensor),
            Err(error) => self.failed = Some(error),
        }
    }
}

impl<B: Backend> ModuleVisitor<B> for Taken<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.into());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        self.take(&param.shape(), || param.val().into_data().convert_dtype(DType::F32));
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<B, D, Int>>) {
        self.take(&param.shape(), || param.val().into_data().convert_dtype(DType::I64));
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<B, D, Bool>>) {
        self.take(&param.shape(), || param.val().into_data());
    }
}
