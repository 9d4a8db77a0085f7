//! From a graph and the module that has the weights to a file.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::backend::Backend;
use mixlab_ops::capture::{Parameter, Port};
use onnx_protobuf::tensor_shape_proto::{Dimension, dimension};
use onnx_protobuf::{
    GraphProto, Message, ModelProto, NodeProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, type_proto,
};

use super::OnnxError;
use super::extent::{Extent, Quotient};
use super::functions::{DOMAIN, Outlined, opset, outline};
use super::graph::{Place, Placed, data_type, node_proto, rename};
use super::initializers::{Initializers, Summary, Taker, Target, Weight, property};
use super::lower::lower;
use super::profile::Profile;
use super::trace::Traced;
use super::weights::WeightType;
use crate::files::replace_file;
use crate::weights::Source;

/// What a file says of the weights that it stores.
const WEIGHTS: &str = "mixlab.weights";
/// Bytes of weights that a file may hold itself; protobuf ends at 2 GiB.
const INLINE: usize = 1_500_000_000;
/// What to write besides the graph.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Weights go to a file beside it, `NAME.data`, also if there is room.
    pub external: bool,
    /// Which operations the file may have.
    pub profile: Profile,
    /// What weights are stored as.
    pub weights: WeightType,
    /// Whether blocks are functions of the file; none for what its profile has.
    pub functions: Option<bool>,
    /// What viewers show of the graph.
    pub doc: String,
    /// What the file says about itself.
    pub metadata: Vec<(String, String)>,
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Written {
    /// Operations of ONNX.
    pub nodes: usize,
    /// Elements of all weights.
    pub parameters: usize,
    /// Bytes that the weights take.
    pub bytes: usize,
    /// Norm of what the stored weights are off, over the norm of the weights that are not stored as they
    /// are; 0 if there are none.
    pub error: f64,
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
        self.write_weights(module, None, path, options)
    }

    /// [`write`](Self::write) with the floats of `source`, one at a time: those of `module`, in its order,
    /// stay what they are, and take no memory if they are lazy.
    ///
    /// # Errors
    /// As `write`, and those of `source`.
    pub fn write_from<B: Backend, M: Module<B>>(
        &self,
        module: &M,
        source: &mut dyn Source,
        path: &Path,
        options: &Options,
    ) -> Result<Written, OnnxError> {
        self.write_weights(module, Some(source), path, options)
    }

    fn write_weights<B: Backend, M: Module<B>>(
        &self,
        module: &M,
        source: Option<&mut dyn Source>,
        path: &Path,
        options: &Options,
    ) -> Result<Written, OnnxError> {
        options.weights.check(options.profile)?;
        let (graph, names) = lower(self, options.profile)?;
        let (nodes, mut initializer) = graph.finish();
        let initializers = Initializers::new(self.parameters(), &nodes, options.weights);
        let mut nodes = initializers.restored(nodes);
        name_outputs(self, &mut nodes, &names);
        let external = options.external || initializers.bytes() > INLINE;
        let summary = if external {
            beside(path, |place| Taker::new(&initializers, source, place).take(module))?
        } else {
            Taker::new(&initializers, source, Target::Within).take(module)?
        };
        let Summary { tensors, bytes, squares: [lost, all] } = summary;
        let written = Written {
            nodes: nodes.len(),
            parameters: initializers.elements(),
            bytes,
            error: if all > 0.0 { (lost / all).sqrt() } else { 0.0 },
            external,
        };
        initializer.extend(tensors);
        let outlined = if options.functions.unwrap_or(options.profile.functions()) {
            outline(self, &names, nodes, options.profile.opset())
        } else {
            flat(nodes)
        };
        let model = self.model(outlined, initializer, options);
        let write = |file: &mut File| model.write_to_writer(file).map_err(io::Error::other);
        replace_file(path, write).map_err(|source| OnnxError::Io { path: path.into(), source })?;
        Ok(written)
    }

    /// `module` with the weights that a file of these options computes with.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn rounded<B: Backend, M: Module<B>>(
        &self,
        module: M,
        options: &Options,
    ) -> Result<M, OnnxError> {
        let (nodes, _) = lower(self, options.profile)?.0.finish();
        Initializers::new(self.parameters(), &nodes, options.weights).rounded(module)
    }

    /// All parameters by name.
    fn parameters(&self) -> HashMap<String, Weight> {
        let one = |parameter: &Parameter| {
            let value = self.program().value(parameter.value);
            let weight = Weight { shape: value.shape.to_vec(), dtype: value.dtype };
            (parameter.paths[0].clone(), weight)
        };
        self.program().parameters().iter().map(one).collect()
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
        let stored = [property(WEIGHTS, options.weights.name())];
        ModelProto {
            ir_version: options.profile.ir_version(),
            producer_name: "mixlab-burn".into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            opset_import,
            functions,
            graph: Some(graph).into(),
            metadata_props: options.metadata.iter().map(entry).chain(stored).collect(),
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
        let term = |(factors, factor): (&[usize], i64)| {
            let axes = factors.iter().map(|number| match self.basis.quotient(*number) {
                None => self.axes[*number].clone(),
                Some(Quotient { of, plus, by }) => {
                    format!("floor(({})/{by})", self.formula(&of.plus(&Extent::fixed(*plus))))
                }
            });
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

/// What weights are stored as in the file at `path`, which says so if it is one of a model.
///
/// # Errors
/// If it is no ONNX file.
pub fn weight_type(path: &Path) -> Result<WeightType, OnnxError> {
    let io = |source| OnnxError::Io { path: path.into(), source };
    let bytes = std::fs::read(path).map_err(io)?;
    let model = ModelProto::parse_from_bytes(&bytes).map_err(io::Error::other).map_err(io)?;
    let said = model.metadata_props.iter().find(|entry| entry.key == WEIGHTS);
    let kind = said.and_then(|entry| WeightType::ALL.into_iter().find(|k| k.name() == entry.value));
    Ok(kind.unwrap_or_default())
}

/// Where weights are that are not in the file at `path` itself: `NAME.data`.
pub fn data_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".data");
    name.into()
}

/// Opens the file for weights beside the one at `path`, which is replaced once `fill` is done.
fn beside(
    path: &Path,
    fill: impl FnOnce(Target<'_>) -> Result<Summary, OnnxError>,
) -> Result<Summary, OnnxError> {
    let beside = data_path(path);
    let name = beside.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut summary = None;
    let written = replace_file(&beside, |file| {
        let found = fill(Target::Beside { file, name, length: 0 });
        let failed = || io::Error::other("the weights are not all there");
        summary.insert(found).as_ref().map(drop).map_err(|_| failed())
    });
    match (summary, written) {
        (Some(Err(OnnxError::Io { source, .. })), _) => Err(OnnxError::Io { path: beside, source }),
        (Some(Err(error)), _) => Err(error),
        (_, Err(source)) => Err(OnnxError::Io { path: beside, source }),
        (summary, Ok(())) => summary.expect("it was filled"),
    }
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
