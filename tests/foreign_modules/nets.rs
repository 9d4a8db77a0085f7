//! Nets of Burn's own modules: images, transposed convolutions, recurrent cells, encoder and decoder.

use std::path::Path;

use burn::module::{Module, RunningState};
use burn::nn::attention::generate_autoregressive_mask;
use burn::nn::conv::{
    Conv2d, Conv2dConfig, Conv3d, Conv3dConfig, ConvTranspose1d, ConvTranspose1dConfig,
    ConvTranspose2d, ConvTranspose2dConfig,
};
use burn::nn::interpolate::{Interpolate2d, Interpolate2dConfig, InterpolateMode};
use burn::nn::pool::{
    AdaptiveAvgPool1d, AdaptiveAvgPool1dConfig, AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig,
    AvgPool2d, AvgPool2dConfig, MaxPool1d, MaxPool1dConfig, MaxPool2d, MaxPool2dConfig,
};
use burn::nn::transformer::{
    TransformerDecoder, TransformerDecoderConfig, TransformerDecoderInput, TransformerEncoder,
    TransformerEncoderConfig, TransformerEncoderInput,
};
use burn::nn::{
    BatchNorm, BatchNormConfig, BiLstm, BiLstmConfig, Embedding, EmbeddingConfig, GroupNorm,
    GroupNormConfig, Gru, GruConfig, InstanceNorm, InstanceNormConfig, Lstm, LstmConfig, PRelu,
    PReluConfig, PaddingConfig2d, PaddingConfig3d, RmsNorm, RmsNormConfig,
};
use burn::tensor::{Bool, Int, Tensor, TensorData, activation::relu, backend::Backend};
use burn_flex::Flex;
use mixlab_burn::onnx::{Dim, Trace};
use mixlab_burn::ops::capture::Capture;

use super::{export, export_all, random};

/// Images `[B, 4, 13, 11]` through what image nets are made of.
#[derive(Module, Debug)]
struct Images<B: Backend> {
    grouped: Conv2d<B>,
    dilated: Conv2d<B>,
    norm: BatchNorm<B>,
    groups: GroupNorm<B>,
    instances: InstanceNorm<B>,
    prelu: PRelu<B>,
    max: MaxPool2d,
    max_up: MaxPool2d,
    average: AvgPool2d,
    average_up: AvgPool2d,
    adaptive: AdaptiveAvgPool2d,
    line: MaxPool1d,
    adaptive_line: AdaptiveAvgPool1d,
    up: ConvTranspose2d<B>,
    up_line: ConvTranspose1d<B>,
    volume: Conv3d<B>,
    resize: Vec<Interpolate2d>,
}

impl<B: Backend> Images<B> {
    fn new(device: &B::Device) -> Self {
        let same = PaddingConfig2d::Explicit(1, 1, 1, 1);
        let resize = |mode, align| {
            let config = Interpolate2dConfig::new().with_output_size(Some([7, 17]));
            config.with_mode(mode).with_align_corners(align).init()
        };
        Self {
            grouped: Conv2dConfig::new([4, 8], [3, 3])
                .with_groups(4)
                .with_padding(same.clone())
                .with_stride([2, 1])
                .init(device),
            dilated: Conv2dConfig::new([4, 6], [3, 2])
                .with_dilation([2, 3])
                .with_padding(PaddingConfig2d::Same)
                .init(device),
            norm: BatchNormConfig::new(8).init(device),
            groups: GroupNormConfig::new(2, 4).init(device),
            instances: InstanceNormConfig::new(4).init(device),
            prelu: PReluConfig::new().init(device),
            max: MaxPool2dConfig::new([3, 2])
                .with_strides([2, 2])
                .with_padding(same.clone())
                .with_dilation([2, 1])
                .init(),
            max_up: MaxPool2dConfig::new([3, 3]).with_strides([2, 2]).with_ceil_mode(true).init(),
            average: AvgPool2dConfig::new([3, 3])
                .with_strides([2, 1])
                .with_padding(same.clone())
                .with_count_include_pad(false)
                .init(),
            average_up: AvgPool2dConfig::new([3, 3])
                .with_strides([2, 2])
                .with_padding(same)
                .with_ceil_mode(true)
                .init(),
            adaptive: AdaptiveAvgPool2dConfig::new([5, 3]).init(),
            line: MaxPool1dConfig::new(3).with_stride(2).init(),
            adaptive_line: AdaptiveAvgPool1dConfig::new(4).init(),
            up: ConvTranspose2dConfig::new([4, 6], [3, 2])
                .with_stride([2, 3])
                .with_padding([1, 0])
                .with_padding_out([1, 2])
                .with_dilation([1, 2])
                .with_groups(2)
                .init(device),
            up_line: ConvTranspose1dConfig::new([4, 3], 4).with_stride(2).init(device),
            volume: Conv3dConfig::new([2, 3], [2, 3, 2])
                .with_padding(PaddingConfig3d::Explicit(0, 1, 1))
                .init(device),
            resize: vec![
                resize(InterpolateMode::Nearest, false),
                resize(InterpolateMode::Linear, true),
                resize(InterpolateMode::Linear, false),
                resize(InterpolateMode::Cubic, true),
                resize(InterpolateMode::Cubic, false),
            ],
        }
    }

    fn forward(&self, x: Tensor<B, 4>) -> Vec<(String, Tensor<B, 2>)> {
        let line = || x.clone().flatten::<3>(2, 3);
        let [batch, ..] = x.dims();
        let volume = x.clone().reshape([batch, 2, 2, 13, 11]);
        let mut all = vec![
            ("grouped", flat(relu(self.norm.forward(self.grouped.forward(x.clone()))))),
            ("dilated", flat(self.dilated.forward(x.clone()))),
            ("groups", flat(self.groups.forward(x.clone()))),
            ("instances", flat(self.instances.forward(x.clone()))),
            ("prelu", flat(self.prelu.forward(x.clone()))),
            ("max", flat(self.max.forward(x.clone()))),
            ("max_up", flat(self.max_up.forward(x.clone()))),
            ("average", flat(self.average.forward(x.clone()))),
            ("average_up", flat(self.average_up.forward(x.clone()))),
            ("adaptive", flat(self.adaptive.forward(x.clone()))),
            ("line", flat(self.line.forward(line()))),
            ("adaptive_line", flat(self.adaptive_line.forward(line()))),
            ("up", flat(self.up.forward(x.clone()))),
            ("up_line", flat(self.up_line.forward(line()))),
            ("volume", flat(self.volume.forward(volume))),
        ]
        .into_iter()
        .map(|(name, y)| (name.to_string(), y))
        .collect::<Vec<_>>();
        let resized = self.resize.iter().enumerate();
        all.extend(resized.map(|(i, by)| (format!("resized_{i}"), flat(by.forward(x.clone())))));
        all
    }
}

fn flat<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, 2> {
    x.flatten::<2>(1, D - 1)
}

/// Writes what image nets are made of.
pub fn images(folder: &Path) {
    let mut module = Images::<Flex>::new(&Default::default());
    module.norm.running_mean = RunningState::new(random([8]));
    module.norm.running_var = RunningState::new(random([8]).abs() + 0.5);
    let x = random([3, 4, 13, 11]);
    let found = module.forward(x.clone());
    let mut values: Vec<(&str, TensorData)> =
        found.iter().map(|(name, y)| (name.as_str(), y.clone().into_data())).collect();
    values.push(("x", x.into_data()));
    let forward = |module: &Images<Capture>, trace: &Trace<'_>| {
        let x = trace.float("x", [Dim::from("batch"), 4.into(), 13.into(), 11.into()]);
        for (name, y) in module.forward(x) {
            trace.output(&name, y);
        }
    };
    export(folder.join("images"), &["batch"], &module, Images::new, forward, values);
}

/// Rows `[B, 6, 5]` of a fixed length, which the cells read one after the other.
#[derive(Module, Debug)]
struct Cells<B: Backend> {
    lstm: Lstm<B>,
    both: BiLstm<B>,
    gru: Gru<B>,
    norm: RmsNorm<B>,
}

impl<B: Backend> Cells<B> {
    fn new(device: &B::Device) -> Self {
        Self {
            lstm: LstmConfig::new(5, 7, true).init(device),
            both: BiLstmConfig::new(5, 4, true).init(device),
            gru: GruConfig::new(5, 6, true).init(device),
            norm: RmsNormConfig::new(7).init(device),
        }
    }

    fn forward(&self, x: Tensor<B, 3>) -> [Tensor<B, 3>; 3] {
        let (states, last) = self.lstm.forward(x.clone(), None);
        let states = self.norm.forward(states) + last.cell.unsqueeze_dim(1);
        [states, self.both.forward(x.clone(), None).0, self.gru.forward(x, None)]
    }
}

/// Writes recurrent cells.
pub fn cells(folder: &Path) {
    let module = Cells::<Flex>::new(&Default::default());
    let x = random([3, 6, 5]);
    let names = ["lstm", "both", "gru"];
    let found = module.forward(x.clone()).map(Tensor::into_data);
    let mut values: Vec<(&str, TensorData)> = names.into_iter().zip(found).collect();
    values.push(("x", x.into_data()));
    let forward = |module: &Cells<Capture>, trace: &Trace<'_>| {
        let x = trace.float("x", [Dim::from("batch"), 6.into(), 5.into()]);
        for (name, y) in names.iter().zip(module.forward(x)) {
            trace.output(name, y);
        }
    };
    export(folder.join("cells"), &["batch"], &module, Cells::new, forward, values);
}

/// Ids `[B, S]`, some of them padding, and ids `[B, T]` to `[B, T, 16]`.
#[derive(Module, Debug)]
struct Translator<B: Backend> {
    embedding: Embedding<B>,
    encoder: TransformerEncoder<B>,
    decoder: TransformerDecoder<B>,
}

impl<B: Backend> Translator<B> {
    fn new(device: &B::Device) -> Self {
        Self {
            embedding: EmbeddingConfig::new(11, 16).init(device),
            encoder: TransformerEncoderConfig::new(16, 24, 4, 2).with_norm_first(true).init(device),
            decoder: TransformerDecoderConfig::new(16, 24, 2, 2).init(device),
        }
    }

    fn forward(
        &self,
        source: Tensor<B, 2, Int>,
        padding: Tensor<B, 2, Bool>,
        target: Tensor<B, 2, Int>,
    ) -> Tensor<B, 3> {
        let [batch, length] = target.dims();
        let causal = generate_autoregressive_mask(batch, length, &target.device());
        let source = TransformerEncoderInput::new(self.embedding.forward(source));
        let memory = self.encoder.forward(source.mask_pad(padding.clone()));
        let input = TransformerDecoderInput::new(self.embedding.forward(target), memory);
        self.decoder.forward(input.target_mask_attn(causal).memory_mask_pad(padding))
    }
}

/// Writes encoder and decoder, for rows of any two lengths.
pub fn translator(folder: &Path) {
    let device = Default::default();
    let module = Translator::<Flex>::new(&device);
    let values = [(2, 5, 3), (1, 4, 7), (3, 2, 1)].map(|(batch, from, to)| {
        let ids = |length| (random([batch, length]).abs() * 3.0).int().clamp(0, 10);
        let (source, target) = (ids(from), ids(to));
        let padding = Tensor::<Flex, 1, Int>::arange(0..from as i64, &device);
        let padding = padding.greater_elem(from as i64 - 2).unsqueeze::<2>().expand([batch, from]);
        let y = module.forward(source.clone(), padding.clone(), target.clone());
        vec![
            ("y".to_string(), y.into_data()),
            ("source".to_string(), source.into_data().convert::<i64>()),
            ("padding".to_string(), padding.into_data()),
            ("target".to_string(), target.into_data().convert::<i64>()),
        ]
    });
    let forward = |module: &Translator<Capture>, trace: &Trace<'_>| {
        let dims = |length: &str| [Dim::from("batch"), Dim::from(length)];
        let (source, padding) =
            (trace.int("source", dims("from")), trace.bool("padding", dims("from")));
        let target = trace.int("target", dims("to"));
        trace.output("y", module.forward(source, padding, target));
    };
    let (path, axes) = (folder.join("translator"), ["batch", "from", "to"]);
    export_all(path, &axes, &module, Translator::new, forward, &values);
}
