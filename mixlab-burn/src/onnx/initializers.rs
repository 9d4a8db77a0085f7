//! The weights of a file: taken one by one, from a module or from what has its weights, and put into
//! the file or beside it.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Write};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Bool, DType, Int, Tensor, TensorData, backend::Backend};
use onnx_protobuf::tensor_proto::DataLocation;
use onnx_protobuf::{NodeProto, StringStringEntryProto, TensorProto};

use super::OnnxError;
use super::graph::{Place, Placed, data_type, inputs};
use super::weights::{
    Format, Stored, WeightType, restoring, restoring_rows, scales_name, stored_name,
};
use crate::weights::Source;

/// Weights beside the file begin at multiples of this, so that they can be mapped.
const ALIGNMENT: usize = 64;

/// A weight as it was traced.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Weight {
    pub shape: Vec<usize>,
    pub dtype: DType,
}

impl Weight {
    fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// The weights that a graph reads.
pub(super) struct Initializers {
    /// All of them by name.
    weights: HashMap<String, Weight>,
    /// How those are stored that do not stay as they are.
    pub formats: HashMap<String, Format>,
}

impl Initializers {
    /// Of all `parameters`, those that `nodes` read, as `kind` stores them.
    pub fn new(parameters: HashMap<String, Weight>, nodes: &[Placed], kind: WeightType) -> Self {
        let read = read_by(nodes);
        let tables = nodes.iter().map(|placed| &placed.node).filter(|node| looks_up(node));
        let tables = tables.map(|node| &node.input[0]);
        let looked_up: HashSet<&String> = tables.collect();
        let mut weights = parameters;
        weights.retain(|name, _| read.contains(name));
        let format = |(name, weight): (&String, &Weight)| {
            let format = kind.format(&weight.shape, looked_up.contains(name));
            Some((name.clone(), format.filter(|_| weight.dtype == DType::F32)?))
        };
        let formats = weights.iter().filter_map(format).collect();
        Self { weights, formats }
    }

    /// Elements of all of them.
    pub fn elements(&self) -> usize {
        self.weights.values().map(Weight::elements).sum()
    }

    /// Bytes that they take.
    pub fn bytes(&self) -> usize {
        let one = |(name, weight): (&String, &Weight)| {
            let elements = weight.elements();
            let plain = weight.dtype.size() * elements;
            self.formats.get(name).map_or(plain, |format| format.bytes(elements))
        };
        self.weights.iter().map(one).sum()
    }

    /// `nodes` with the operations that make weights of what is stored. Of a table that is looked up only
    /// the rows that are found are restored, unless something else reads it too.
    pub fn restored(&self, nodes: Vec<Placed>) -> Vec<Placed> {
        let rows = |Placed { place, node }: Placed| {
            let format = node.input.first().and_then(|table| self.formats.get(table));
            let all = match format.filter(|_| looks_up(&node)) {
                Some(format) => restoring_rows(&node, *format),
                None => vec![node],
            };
            all.into_iter().map(move |node| Placed { place, node })
        };
        let nodes: Vec<Placed> = nodes.into_iter().flat_map(rows).collect();
        let read = read_by(&nodes);
        let mut formats: Vec<_> =
            self.formats.iter().filter(|(name, _)| read.contains(*name)).collect();
        formats.sort_by_key(|(name, _)| *name);
        let whole = formats.into_iter().map(|(name, format)| {
            let node = restoring(name, *format);
            Placed { place: Place::Prologue, node }
        });
        whole.chain(nodes).collect()
    }

    /// `module` with what a file makes of its weights.
    ///
    /// # Errors
    /// If one cannot be stored.
    pub fn rounded<B: Backend, M: Module<B>>(&self, module: M) -> Result<M, OnnxError> {
        let mut rounded = Rounded { path: vec![], formats: &self.formats, failed: None };
        let module = module.map(&mut rounded);
        rounded.failed.map_or(Ok(module), Err)
    }
}

/// What `nodes` and the bodies in them read.
fn read_by(nodes: &[Placed]) -> HashSet<String> {
    nodes.iter().flat_map(|placed| inputs(&placed.node)).collect()
}

/// Whether `node` takes whole rows of a table.
fn looks_up(node: &NodeProto) -> bool {
    let axis = node.attribute.iter().find(|attribute| attribute.name == "axis");
    node.op_type == "Gather" && axis.is_none_or(|axis| axis.i == 0)
}

/// Where elements go.
pub(super) enum Target<'a> {
    /// Into the file.
    Within,
    /// Into a file beside it.
    Beside {
        /// That file.
        file: &'a mut File,
        /// What it is called.
        name: String,
        /// Its length so far.
        length: usize,
    },
}

type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> io::Result<()>;

impl Target<'_> {
    /// Puts a tensor there whose elements `write` gives to a sink. Returns what the graph says of it, and
    /// how many bytes it has.
    fn put(
        &mut self,
        name: String,
        data_type: i32,
        shape: &[usize],
        write: impl FnOnce(Sink<'_>) -> io::Result<()>,
    ) -> io::Result<(TensorProto, usize)> {
        let dims = shape.iter().map(|n| *n as i64).collect();
        let mut proto = TensorProto { name, dims, data_type, ..TensorProto::new() };
        let mut bytes = 0;
        match self {
            Self::Within => {
                write(&mut |piece| {
                    proto.raw_data.extend_from_slice(piece);
                    Ok(())
                })?;
                bytes = proto.raw_data.len();
            }
            Self::Beside { file, name, length } => {
                let start = length.next_multiple_of(ALIGNMENT);
                file.write_all(&vec![0; start - *length])?;
                write(&mut |piece| {
                    bytes += piece.len();
                    file.write_all(piece)
                })?;
                *length = start + bytes;
                let entries = [
                    ("location", name.clone()),
                    ("offset", start.to_string()),
                    ("length", bytes.to_string()),
                ];
                proto.data_location = DataLocation::EXTERNAL.into();
                proto.external_data =
                    entries.iter().map(|(key, value)| property(key, value)).collect();
            }
        }
        Ok((proto, bytes))
    }
}

/// What is known of weights once they are stored.
#[derive(Default)]
pub(super) struct Summary {
    /// What the graph says of them.
    pub tensors: Vec<TensorProto>,
    /// Bytes that they take.
    pub bytes: usize,
    /// Sums of squares over the weights that are not stored as they are: of what is lost, and of them.
    pub squares: [f64; 2],
}

/// Takes the parameters of a module, each by its path, until one fails.
pub(super) struct Taker<'a, 's> {
    path: Vec<String>,
    left: HashMap<String, Weight>,
    formats: &'a HashMap<String, Format>,
    /// What has the floats, if it is not the module.
    source: Option<&'s mut dyn Source>,
    /// Which of the floats comes next.
    next: usize,
    place: Target<'a>,
    summary: Summary,
    failed: Option<OnnxError>,
}

impl<'a, 's> Taker<'a, 's> {
    pub fn new(
        initializers: &'a Initializers,
        source: Option<&'s mut dyn Source>,
        place: Target<'a>,
    ) -> Self {
        Self {
            path: Vec::new(),
            left: initializers.weights.clone(),
            formats: &initializers.formats,
            source,
            next: 0,
            place,
            summary: Summary::default(),
            failed: None,
        }
    }

    /// Takes the weights of `module`.
    ///
    /// # Errors
    /// The first: of the source, of the place, or that a weight is not there.
    pub fn take<B: Backend, M: Module<B>>(mut self, module: &M) -> Result<Summary, OnnxError> {
        module.visit(&mut self);
        if let Some(error) = self.failed {
            return Err(error);
        }
        match self.left.into_keys().next() {
            Some(missing) => Err(OnnxError::Weight(missing)),
            None => Ok(self.summary),
        }
    }

    /// Puts the parameter at this path where it belongs, if it is wanted.
    fn one(
        &mut self,
        shape: &[usize],
        data: impl FnOnce(&mut Self) -> Result<TensorData, OnnxError>,
    ) {
        let path = self.path.join(".");
        if self.failed.is_some() || self.left.get(&path).is_none_or(|traced| traced.shape != shape)
        {
            return;
        }
        let Weight { dtype, .. } = self.left.remove(&path).expect("it was found");
        let typed = |data: TensorData| match dtype {
            DType::Bool(_) => data,
            _ => data.convert_dtype(dtype),
        };
        let put = data(self).and_then(|data| self.put(path, &typed(data)));
        self.failed = put.err();
    }

    fn put(&mut self, path: String, data: &TensorData) -> Result<(), OnnxError> {
        let Some(format) = self.formats.get(&path).copied() else {
            let kind = data_type(data.dtype).expect("the traced types are types of ONNX");
            return self.store(path, kind, &data.shape, |sink| sink(data.as_bytes()));
        };
        let values = data.as_slice::<f32>().expect("only floats of 32 bits have a format");
        let stored = Stored::new(values, format).map_err(|problem| unfit(&path, problem))?;
        let [lost, all] = stored.squares();
        self.summary.squares[0] += lost;
        self.summary.squares[1] += all;
        let kind = stored.data_type();
        self.store(stored_name(&path, format), kind, &data.shape, |sink| stored.write(sink))?;
        if !stored.scales.is_empty() {
            let scales = TensorData::new(stored.scales.clone(), stored.scales_shape());
            let kind = data_type(DType::F32).expect("it has one");
            let shape = stored.scales_shape();
            self.store(scales_name(&path), kind, &shape, |sink| sink(scales.as_bytes()))?;
        }
        Ok(())
    }

    fn store(
        &mut self,
        name: String,
        kind: i32,
        shape: &[usize],
        write: impl FnOnce(Sink<'_>) -> io::Result<()>,
    ) -> Result<(), OnnxError> {
        let put = self.place.put(name.clone(), kind, shape, write);
        let (tensor, bytes) = put.map_err(|source| OnnxError::Io { path: name.into(), source })?;
        self.summary.tensors.push(tensor);
        self.summary.bytes += bytes;
        Ok(())
    }
}

impl<B: Backend> ModuleVisitor<B> for Taker<'_, '_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.into());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let (shape, index) = (param.lazy_shape().to_vec(), self.next);
        self.next += 1;
        self.one(&shape, |taker| match &mut taker.source {
            Some(source) => Ok(TensorData::new(source.read(index)?, shape.clone())),
            None => Ok(param.val().into_data()),
        });
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<B, D, Int>>) {
        self.one(&param.lazy_shape().to_vec(), |_| Ok(param.val().into_data()));
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<B, D, Bool>>) {
        self.one(&param.lazy_shape().to_vec(), |_| Ok(param.val().into_data()));
    }
}

/// Replaces floats by what a file makes of them.
struct Rounded<'a> {
    path: Vec<String>,
    formats: &'a HashMap<String, Format>,
    failed: Option<OnnxError>,
}

impl<B: Backend> ModuleMapper<B> for Rounded<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.into());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let path = self.path.join(".");
        let Some(format) = self.formats.get(&path) else { return param };
        let data = param.val().into_data().convert_dtype(DType::F32);
        let values = data.as_slice::<f32>().expect("converted above");
        match Stored::new(values, *format) {
            Ok(stored) => {
                let data = TensorData::new(stored.rounded(), data.shape.clone());
                let (id, device) = (param.id, param.lazy_device());
                param.transform_for_load(Tensor::from_data(data, &device), id)
            }
            Err(problem) => {
                self.failed.get_or_insert_with(|| unfit(&path, problem));
                param
            }
        }
    }
}

fn unfit(path: &str, problem: String) -> OnnxError {
    OnnxError::Model(format!("the weight `{path}` {problem}\n  hint: store weights as bf16"))
}

/// A pair of names as ONNX has it.
pub(super) fn property(key: &str, value: &str) -> StringStringEntryProto {
    let mut entry = StringStringEntryProto::new();
    (entry.key, entry.value) = (key.into(), value.into());
    entry
}
