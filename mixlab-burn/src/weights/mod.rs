//! Weights by name: what a model's parameters are called, how they start, where they are kept.
//!
//! The list of weights is read off the module: a visitor walks its fields in order, and the last
//! part of a field's path is the weight's name. In files a weight is called `w{index}_{name}`.

mod foreign;
mod init;
mod quantize;
mod quantized;
mod repeated;
mod safetensors;
mod source;
mod transfer;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData, backend::Backend};

pub use init::{WeightInit, initialize};
pub use quantize::{Clip, Levels, Quantization};
pub use quantized::{Quantized, quantized, save_quantized, write_quantized};
#[cfg(feature = "train")]
pub(crate) use safetensors::header;
pub(crate) use safetensors::padded;
pub use safetensors::{Metadata, WeightError, load, reserve, save, write};
pub use source::{Bytes, InModule, Source, WeightFile};
pub use transfer::{Transfer, transfer};

/// Which optimizer group updates a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightKind {
    /// Embedding tables.
    Embed,
    /// The output head.
    Head,
    /// Vectors and scales.
    Scalar,
    /// Every other matrix.
    Matrix,
}

/// One weight of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Weight {
    /// Its name, for example `wq`; not unique within a model.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its optimizer group.
    pub kind: WeightKind,
}

impl Weight {
    /// Its group follows from its name and rank, by the original's rule; the names are those of
    /// weights that a `custom` block may declare, too.
    pub(crate) fn new(name: String, shape: Vec<usize>) -> Self {
        let kind = match (name.as_str(), shape.len()) {
            ("embed" | "bigram_table", _) => WeightKind::Embed,
            ("head", _) => WeightKind::Head,
            ("decay" | "scan_decay" | "w_decay" | "mu" | "mu2", _) | (_, 0 | 1) => {
                WeightKind::Scalar
            }
            (name, _) if name.ends_with("_scale") => WeightKind::Scalar,
            _ => WeightKind::Matrix,
        };
        Self { name, shape, kind }
    }

    /// Its name in files, as the `index`-th weight of a model.
    pub fn file_name(&self, index: usize) -> String {
        format!("w{index}_{}", self.name)
    }

    /// Whether an optimizer takes it: the one for matrices takes nothing of more than two axes.
    pub fn is_trainable(&self) -> bool {
        self.kind != WeightKind::Matrix || self.shape.len() <= 2
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The parts of the path to a parameter, and the type of module that each is a part of.
#[derive(Default)]
struct Path(Vec<(String, String)>);

impl Path {
    fn enter(&mut self, name: &str, container: &str) {
        self.0.push((name.into(), container.into()));
    }

    fn exit(&mut self) {
        self.0.pop();
    }

    /// The weight at the end of the path.
    fn weight(&self, shape: Vec<usize>) -> Weight {
        Weight::new(self.name(), shape)
    }

    /// The weight's name: the last part, with the part before it if that is only a position.
    fn name(&self) -> String {
        match self.0.as_slice() {
            [.., (list, _), (position, of)] if of == "Vec" => format!("{list}_{position}"),
            [.., (name, _)] => name.clone(),
            [] => String::new(),
        }
    }
}

/// All weights of `module`, in order. Allocates nothing for parameters that are still lazy.
pub fn layout<B: Backend, M: Module<B>>(module: &M) -> Vec<Weight> {
    struct Layout(Path, Vec<Weight>);
    impl<B: Backend> ModuleVisitor<B> for Layout {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            self.1.push(self.0.weight(param.lazy_shape().to_vec()));
        }
        fn enter_module(&mut self, name: &str, container: &str) {
            self.0.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.exit();
        }
    }
    let mut layout = Layout(Path::default(), Vec::new());
    module.visit(&mut layout);
    layout.1
}

/// The values of all weights of `module`, in order, read from the device.
pub fn values<B: Backend, M: Module<B>>(module: &M) -> Vec<Vec<f32>> {
    struct Values(Vec<Vec<f32>>);
    impl<B: Backend> ModuleVisitor<B> for Values {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            let data = param.val().into_data().convert::<f32>();
            self.0.push(data.into_vec().expect("converted to f32 above"));
        }
    }
    let mut values = Values(Vec::new());
    module.visit(&mut values);
    values.0
}

/// Replaces the weights of `module` for which `source` has values; the others stay as they are.
pub fn fill<B: Backend, M: Module<B>>(
    module: M,
    source: impl FnMut(usize, &Weight) -> Option<Vec<f32>>,
) -> M {
    struct Fill<S>(Path, usize, S);
    impl<B: Backend, S: FnMut(usize, &Weight) -> Option<Vec<f32>>> ModuleMapper<B> for Fill<S> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
            let weight = self.0.weight(param.lazy_shape().to_vec());
            let index = self.1;
            self.1 += 1;
            let Some(values) = (self.2)(index, &weight) else { return param };
            let data = TensorData::new(values, weight.shape);
            let (id, device) = (param.id, param.lazy_device());
            param.transform_for_load(Tensor::from_data(data, &device), id)
        }
        fn enter_module(&mut self, name: &str, container: &str) {
            self.0.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.exit();
        }
    }
    module.map(&mut Fill(Path::default(), 0, source))
}
