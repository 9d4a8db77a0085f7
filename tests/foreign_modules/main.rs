//! Writes modules that are not of this project as ONNX files, beside what they compute:
//! `tests/onnx/foreign.py` compares it with onnxruntime.
//!
//! An MLP, convolution nets, Burn's transformers, recurrent cells, an op that only has a reference, and Burn's
//! operations one by one.

mod architectures;
mod further;
mod layers;
mod net;
mod nets;
mod operations;
mod sequences;
mod strided;
mod windows;

use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::nn::attention::generate_autoregressive_mask;
use burn::nn::conv::{Conv1d, Conv1dConfig, Conv2d, Conv2dConfig};
use burn::nn::pool::{AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig, AvgPool1d, AvgPool1dConfig};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::transformer::{
    TransformerEncoder, TransformerEncoderConfig, TransformerEncoderInput,
};
use burn::nn::{
    BatchNorm, BatchNormConfig, Dropout, DropoutConfig, Embedding, EmbeddingConfig, Gelu,
    LayerNorm, LayerNormConfig, Linear, LinearConfig, PaddingConfig1d, PaddingConfig2d,
};
use burn::tensor::activation::{log_softmax, relu, sigmoid};
use burn::tensor::{Bool, Distribution, Int, Tensor, TensorData, backend::Backend};
use burn_flex::Flex;
use mixlab_burn::onnx::{Dim, Options, Profile, Trace, trace};
use mixlab_burn::ops::capture::Capture;
use mixlab_burn::ops::{self, Mismatch, Op, Spec, lift, lower};
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};

/// `[B, 6]` to `[B, 3]`.
#[derive(Module, Debug)]
struct Mlp<B: Backend> {
    norm: LayerNorm<B>,
    up: Linear<B>,
    act: Gelu,
    dropout: Dropout,
    down: Linear<B>,
}

impl<B: Backend> Mlp<B> {
    fn new(device: &B::Device) -> Self {
        Self {
            norm: LayerNormConfig::new(6).init(device),
            up: LinearConfig::new(6, 20).init(device),
            act: Gelu::new(),
            dropout: DropoutConfig::new(0.5).init(),
            down: LinearConfig::new(20, 3).with_bias(false).init(device),
        }
    }

    fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let hidden = self.act.forward(self.up.forward(self.norm.forward(x)));
        log_softmax(self.down.forward(self.dropout.forward(hidden)), 1)
    }
}

/// Images `[B, 2, 12, W]` to `[B, 5]`, and signals `[B, 3, T]` to `[B, 4, T']`.
#[derive(Module, Debug)]
struct ConvNet<B: Backend> {
    first: Conv2d<B>,
    norm: BatchNorm<B>,
    pool: MaxPool2d,
    second: Conv2d<B>,
    average: AdaptiveAvgPool2d,
    head: Linear<B>,
    signal: Conv1d<B>,
    smooth: AvgPool1d,
}

impl<B: Backend> ConvNet<B> {
    fn new(device: &B::Device) -> Self {
        let same = PaddingConfig2d::Explicit(1, 1, 1, 1);
        Self {
            first: Conv2dConfig::new([2, 8], [3, 3]).with_padding(same).init(device),
            norm: BatchNormConfig::new(8).init(device),
            pool: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            second: Conv2dConfig::new([8, 8], [3, 3]).with_groups(4).with_bias(false).init(device),
            average: AdaptiveAvgPool2dConfig::new([1, 1]).init(),
            head: LinearConfig::new(8, 5).init(device),
            signal: Conv1dConfig::new(3, 4, 3)
                .with_padding(PaddingConfig1d::Explicit(2, 2))
                .with_dilation(2)
                .init(device),
            smooth: AvgPool1dConfig::new(3).with_stride(1).init(),
        }
    }

    fn image(&self, x: Tensor<B, 4>) -> Tensor<B, 2> {
        let x = self.pool.forward(relu(self.norm.forward(self.first.forward(x))));
        let x = self.average.forward(self.second.forward(x));
        self.head.forward(x.flatten::<2>(1, 3))
    }

    fn signal(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        self.smooth.forward(self.signal.forward(x))
    }
}

/// Ids `[B, T]`, and which of them are padding, to `[B, T, 16]`.
#[derive(Module, Debug)]
struct Encoder<B: Backend> {
    embedding: Embedding<B>,
    encoder: TransformerEncoder<B>,
}

impl<B: Backend> Encoder<B> {
    fn new(device: &B::Device) -> Self {
        let encoder = TransformerEncoderConfig::new(16, 32, 4, 2);
        Self { embedding: EmbeddingConfig::new(11, 16).init(device), encoder: encoder.init(device) }
    }

    fn forward(&self, ids: Tensor<B, 2, Int>, padding: Tensor<B, 2, Bool>) -> Tensor<B, 3> {
        let [batch, length] = ids.dims();
        let causal = generate_autoregressive_mask(batch, length, &ids.device());
        let x = self.embedding.forward(ids);
        let input = TransformerEncoderInput::new(x).mask_pad(padding).mask_attn(causal);
        self.encoder.forward(input)
    }
}

/// `x ⊙ σ(slope·x)`, with nothing but its definition.
#[derive(Clone, Debug)]
struct Swish {
    slope: f32,
}

impl Op<1> for Swish {
    const NAME: &'static str = "foreign.swish";

    fn attributes(&self) -> String {
        format!(r#"{{"slope":{:e}}}"#, self.slope)
    }

    fn outputs(&self, [x]: &[Spec; 1], _: &[Spec]) -> Result<Vec<Spec>, Mismatch> {
        Ok(vec![x.clone()])
    }

    fn reference<B: Backend>(
        &self,
        [x]: [burn::tensor::ops::FloatTensor<B>; 1],
        _: &[burn::tensor::ops::IntTensor<B>],
    ) -> Vec<burn::tensor::ops::FloatTensor<B>> {
        let x = lift::<B, 2>(x);
        vec![lower(x.clone() * sigmoid(x * self.slope))]
    }
}

/// A linear layer, then the op.
#[derive(Module, Debug)]
struct Swished<B: Backend> {
    linear: Linear<B>,
}

impl<B: ops::Backend> Swished<B> {
    fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let x = lower(self.linear.forward(x));
        lift(B::execute(&Swish { slope: 1.5 }, [x], vec![]).remove(0))
    }
}

fn main() {
    let folder = std::env::args().nth(1).expect("give a folder");
    let folder = Path::new(&folder);
    mlp(folder);
    conv_net(folder);
    encoder(folder);
    swished(folder);
    nets::images(folder);
    nets::cells(folder);
    nets::translator(folder);
    layers::all(folder);
    windows::all(folder);
    strided::all(folder);
    architectures::all(folder);
    sequences::all(folder);
    operations::all(folder);
    further::all(folder);
}

fn random<const D: usize>(shape: [usize; D]) -> Tensor<Flex, D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Default::default())
}

/// Exports `module` to `path`, with `values`: its inputs and outputs by name.
fn export<M, C>(
    path: PathBuf,
    axes: &[&str],
    module: &M,
    build: impl Fn(&<Capture as burn::tensor::backend::BackendTypes>::Device) -> C,
    forward: impl Fn(&C, &Trace<'_>),
    values: Vec<(&str, TensorData)>,
) where
    M: Module<Flex>,
    C: Module<Capture>,
{
    let values = values.into_iter().map(|(name, data)| (name.to_string(), data)).collect();
    export_all(path, axes, module, build, forward, &[values]);
}

/// [`export`] with values of several sizes.
fn export_all<M, C>(
    path: PathBuf,
    axes: &[&str],
    module: &M,
    build: impl Fn(&<Capture as burn::tensor::backend::BackendTypes>::Device) -> C,
    forward: impl Fn(&C, &Trace<'_>),
    values: &[Vec<(String, TensorData)>],
) where
    M: Module<Flex>,
    C: Module<Capture>,
{
    let profiles = [Profile::Portable, Profile::Modern];
    export_to(&profiles, path, axes, module, build, forward, values);
}

/// Writes `PATH.PROFILE.onnx` for each of `profiles`, and `values` to `PATH.0.safetensors`,
/// `PATH.1.safetensors` …
fn export_to<M, C>(
    profiles: &[Profile],
    path: PathBuf,
    axes: &[&str],
    module: &M,
    build: impl Fn(&<Capture as burn::tensor::backend::BackendTypes>::Device) -> C,
    forward: impl Fn(&C, &Trace<'_>),
    values: &[Vec<(String, TensorData)>],
) where
    M: Module<Flex>,
    C: Module<Capture>,
{
    let named = |error: &dyn std::fmt::Display| -> ! { panic!("{}: {error}", path.display()) };
    let traced = trace(axes, build, forward).unwrap_or_else(|error| named(&error));
    for profile in profiles {
        let options = Options { profile: *profile, ..Options::default() };
        let path = path.with_extension(format!("{}.onnx", profile.name()));
        traced.write(module, &path, &options).unwrap_or_else(|error| named(&error));
    }
    for (index, values) in values.iter().enumerate() {
        let views = values.iter().map(|(name, data)| {
            let dtype = match data.dtype {
                burn::tensor::DType::F32 => Dtype::F32,
                burn::tensor::DType::I64 => Dtype::I64,
                _ => Dtype::BOOL,
            };
            let view = TensorView::new(dtype, data.shape.to_vec(), data.as_bytes());
            (name, view.expect("it has so many bytes"))
        });
        let path = path.with_extension(format!("{index}.safetensors"));
        serialize_to_file(views, None, &path).expect("there is room");
    }
}

fn mlp(folder: &Path) {
    let module = Mlp::<Flex>::new(&Default::default());
    let x = random([7, 6]);
    let y = module.forward(x.clone());
    let forward = |module: &Mlp<Capture>, trace: &Trace<'_>| {
        let x = trace.float("x", [Dim::from("batch"), 6.into()]);
        trace.output("y", module.forward(x));
    };
    let values = vec![("x", x.into_data()), ("y", y.into_data())];
    export(folder.join("mlp"), &["batch"], &module, Mlp::new, forward, values);
}

fn conv_net(folder: &Path) {
    let device = Default::default();
    let mut module = ConvNet::<Flex>::new(&device);
    // As after training: not what a fresh norm has.
    module.norm.running_mean = burn::module::RunningState::new(random([8]));
    module.norm.running_var = burn::module::RunningState::new(random([8]).abs() + 0.5);
    let (image, signal) = (random([3, 2, 12, 12]), random([3, 3, 9]));
    let values = vec![
        ("class", module.image(image.clone()).into_data()),
        ("smooth", module.signal(signal.clone()).into_data()),
        ("image", image.into_data()),
        ("signal", signal.into_data()),
    ];
    let forward = |module: &ConvNet<Capture>, trace: &Trace<'_>| {
        let batch = || Dim::from("batch");
        let image = trace.float("image", [batch(), 2.into(), 12.into(), 12.into()]);
        let signal = trace.float("signal", [batch(), 3.into(), "length".into()]);
        trace.output("class", module.image(image));
        trace.output("smooth", module.signal(signal));
    };
    let path = folder.join("conv_net");
    export(path, &["batch", "length"], &module, ConvNet::new, forward, values);
}

fn encoder(folder: &Path) {
    let device = Default::default();
    let module = Encoder::<Flex>::new(&device);
    let ids = Tensor::<Flex, 2, Int>::from_ints([[1, 5, 9, 0, 3], [2, 2, 10, 4, 7]], &device);
    let padding = Tensor::<Flex, 2, Bool>::from_data(
        TensorData::from([[false, false, false, false, true], [false, false, false, true, true]]),
        &device,
    );
    let y = module.forward(ids.clone(), padding.clone());
    let values = vec![
        ("y", y.into_data()),
        ("ids", ids.into_data().convert::<i64>()),
        ("padding", padding.into_data()),
    ];
    let forward = |module: &Encoder<Capture>, trace: &Trace<'_>| {
        let dims = || [Dim::from("batch"), Dim::from("sequence")];
        let (ids, padding) = (trace.int("ids", dims()), trace.bool("padding", dims()));
        trace.output("y", module.forward(ids, padding));
    };
    let path = folder.join("encoder");
    export(path, &["batch", "sequence"], &module, Encoder::new, forward, values);
}

fn swished(folder: &Path) {
    fn new<B: Backend>(device: &B::Device) -> Swished<B> {
        Swished { linear: LinearConfig::new(4, 5).init(device) }
    }
    let module = new::<Flex>(&Default::default());
    let x = random([6, 4]);
    let y = module.forward(x.clone());
    let forward = |module: &Swished<Capture>, trace: &Trace<'_>| {
        let x = trace.float("x", [Dim::from("batch"), 4.into()]);
        trace.output("y", module.forward(x));
    };
    let values = vec![("x", x.into_data()), ("y", y.into_data())];
    export(folder.join("swished"), &["batch"], &module, new, forward, values);
}
