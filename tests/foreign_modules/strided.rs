//! Nets that divide the lengths of open axes: images and signals of any size through windows with strides,
//! patches, halves.

use std::path::Path;

use burn::module::Module;
use burn::nn::conv::{
    Conv1d, Conv1dConfig, Conv2d, Conv2dConfig, ConvTranspose2d, ConvTranspose2dConfig,
};
use burn::nn::pool::{AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig, MaxPool2d, MaxPool2dConfig};
use burn::nn::transformer::{
    TransformerEncoder, TransformerEncoderConfig, TransformerEncoderInput,
};
use burn::nn::{
    BatchNorm, BatchNormConfig, GroupNorm, GroupNormConfig, Linear, LinearConfig, PaddingConfig1d,
    PaddingConfig2d,
};
use burn::tensor::activation::{gelu, relu};
use burn::tensor::module::{avg_pool2d, interpolate, max_pool2d};
use burn::tensor::ops::{InterpolateMode, InterpolateOptions};
use burn::tensor::{Tensor, backend::Backend, s};
use mixlab_burn::onnx::Dim;

use super::net::{Net, Ports, write};

pub fn all(folder: &Path) {
    write::<ResNet>(folder);
    write::<ShapedUnet>(folder);
    write::<EvenUnet>(folder);
    write::<VisionTransformer>(folder);
    write::<Speech>(folder);
    write::<Halves>(folder);
}

fn same(by: usize) -> PaddingConfig2d {
    PaddingConfig2d::Explicit(by, by, by, by)
}

fn conv<B: Backend>(
    channels: [usize; 2],
    kernel: usize,
    stride: usize,
    device: &B::Device,
) -> Conv2d<B> {
    Conv2dConfig::new(channels, [kernel, kernel])
        .with_stride([stride, stride])
        .with_padding(same(kernel / 2))
        .init(device)
}

fn images(channels: usize) -> [Dim; 4] {
    [Dim::from("batch"), channels.into(), "height".into(), "width".into()]
}

/// Two convolutions beside a shortcut with as large a stride.
#[derive(Module, Debug)]
pub struct Residual<B: Backend> {
    first: Conv2d<B>,
    norm: BatchNorm<B>,
    second: Conv2d<B>,
    shortcut: Conv2d<B>,
}

impl<B: Backend> Residual<B> {
    fn new(channels: [usize; 2], device: &B::Device) -> Self {
        Self {
            first: conv(channels, 3, 2, device),
            norm: BatchNormConfig::new(channels[1]).init(device),
            second: conv([channels[1]; 2], 3, 1, device),
            shortcut: conv(channels, 1, 2, device),
        }
    }

    fn forward(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let y = relu(self.norm.forward(self.first.forward(x.clone())));
        relu(self.second.forward(y) + self.shortcut.forward(x))
    }
}

/// Images of any size through a stem and five halvings; besides the classes what other heads read.
pub struct ResNet;

#[derive(Module, Debug)]
pub struct ResNetOf<B: Backend> {
    stem: Conv2d<B>,
    norm: BatchNorm<B>,
    max: MaxPool2d,
    blocks: Vec<Residual<B>>,
    average: AdaptiveAvgPool2d,
    head: Linear<B>,
}

impl Net for ResNet {
    const NAME: &'static str = "resnet";
    const AXES: &'static [&'static str] = &["batch", "height", "width"];
    const SIZES: &'static [&'static [usize]] =
        &[&[2, 64, 64], &[1, 33, 50], &[3, 7, 100], &[1, 224, 131]];
    type Of<B: Backend> = ResNetOf<B>;

    fn new<B: Backend>(device: &B::Device) -> ResNetOf<B> {
        ResNetOf {
            stem: conv([3, 4], 7, 2, device),
            norm: BatchNormConfig::new(4).init(device),
            max: MaxPool2dConfig::new([3, 3]).with_strides([2, 2]).with_padding(same(1)).init(),
            blocks: [[4, 6], [6, 8], [8, 8]].map(|size| Residual::new(size, device)).into(),
            average: AdaptiveAvgPool2dConfig::new([1, 1]).init(),
            head: LinearConfig::new(8, 5).init(device),
        }
    }

    fn run<B: Backend>(net: &ResNetOf<B>, ports: &mut impl Ports<B>) {
        let x = ports.float("image", images(3));
        let x = net.max.forward(relu(net.norm.forward(net.stem.forward(x))));
        let x = net.blocks.iter().fold(x, |x, block| block.forward(x));
        let [batch, channels, height, width] = x.dims();
        ports.put("classes", net.head.forward(net.average.forward(x.clone()).flatten::<2>(1, 3)));
        // The same by windows of the size of what is left.
        let whole = avg_pool2d(x.clone(), [height, width], [1, 1], [0, 0], true, false);
        ports.put("mean", whole);
        ports.put("largest", max_pool2d(x.clone(), [height, width], [1, 1], [0, 0], [1, 1], false));
        let tokens = x.clone().reshape([batch, channels, height * width]).swap_dims(1, 2);
        ports.put("rows", tokens.reshape([batch * height * width, channels]));
        let norm = x.clone().sum_dim(3).sum_dim(2) / (height * width) as f64;
        ports.put("normed", x - norm);
    }
}

/// Down twice and up to the sizes of what was there before, whatever they are.
pub struct ShapedUnet;

#[derive(Module, Debug)]
pub struct ShapedUnetOf<B: Backend> {
    down: Vec<Conv2d<B>>,
    norm: GroupNorm<B>,
    up: Vec<Conv2d<B>>,
}

impl Net for ShapedUnet {
    const NAME: &'static str = "shaped_unet";
    const AXES: &'static [&'static str] = &["batch", "height", "width"];
    const SIZES: &'static [&'static [usize]] = &[&[2, 16, 16], &[1, 17, 30], &[3, 5, 3]];
    type Of<B: Backend> = ShapedUnetOf<B>;

    fn new<B: Backend>(device: &B::Device) -> ShapedUnetOf<B> {
        ShapedUnetOf {
            down: vec![conv([2, 4], 3, 2, device), conv([4, 4], 3, 2, device)],
            norm: GroupNormConfig::new(2, 4).init(device),
            up: vec![conv([8, 4], 3, 1, device), conv([6, 2], 3, 1, device)],
        }
    }

    fn run<B: Backend>(net: &ShapedUnetOf<B>, ports: &mut impl Ports<B>) {
        let x = ports.float("image", images(2));
        let half = relu(net.down[0].forward(x.clone()));
        let quarter = relu(net.norm.forward(net.down[1].forward(half.clone())));
        let larger = |x: Tensor<B, 4>, like: &Tensor<B, 4>| {
            let [_, _, height, width] = like.dims();
            interpolate(x, [height, width], InterpolateOptions::new(InterpolateMode::Nearest))
        };
        let y = Tensor::cat(vec![larger(quarter, &half), half], 1);
        let y = relu(net.up[0].forward(y));
        let y = Tensor::cat(vec![larger(y, &x), x], 1);
        ports.put("image_out", net.up[1].forward(y));
    }
}

/// As the first U-Nets: pools and transposed convolutions, whose sizes agree for multiples of four alone.
pub struct EvenUnet;

#[derive(Module, Debug)]
pub struct EvenUnetOf<B: Backend> {
    first: Conv2d<B>,
    max: MaxPool2d,
    up: Vec<ConvTranspose2d<B>>,
    last: Conv2d<B>,
}

impl Net for EvenUnet {
    const NAME: &'static str = "even_unet";
    const AXES: &'static [&'static str] = &["batch", "height", "width"];
    const SIZES: &'static [&'static [usize]] = &[&[2, 16, 16], &[1, 12, 36], &[3, 4, 20]];
    type Of<B: Backend> = EvenUnetOf<B>;

    fn new<B: Backend>(device: &B::Device) -> EvenUnetOf<B> {
        let up = |channels| ConvTranspose2dConfig::new(channels, [2, 2]).with_stride([2, 2]);
        EvenUnetOf {
            first: conv([2, 4], 3, 1, device),
            max: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            up: vec![up([4, 4]).init(device), up([8, 4]).init(device)],
            last: conv([8, 3], 1, 1, device),
        }
    }

    fn run<B: Backend>(net: &EvenUnetOf<B>, ports: &mut impl Ports<B>) {
        let x = relu(net.first.forward(ports.float("image", images(2))));
        let half = net.max.forward(x.clone());
        let quarter = net.max.forward(half.clone());
        let y = Tensor::cat(vec![net.up[0].forward(quarter), half], 1);
        let y = Tensor::cat(vec![net.up[1].forward(relu(y)), x], 1);
        let y = net.last.forward(y);
        // Each pixel's channels to four pixels, and four pixels to one.
        let [batch, channels, height, width] = y.dims();
        let blocks = y.clone().reshape([batch, channels, height / 2, 2, width / 2, 2]);
        let blocks = blocks.permute([0, 1, 3, 5, 2, 4]);
        ports.put("unshuffled", blocks.reshape([batch, 4 * channels, height / 2, width / 2]));
        ports.put("image_out", y);
    }
}

/// Patches by a convolution and a token for the class, through Burn's encoder.
pub struct VisionTransformer;

#[derive(Module, Debug)]
pub struct VisionTransformerOf<B: Backend> {
    patches: Conv2d<B>,
    class: Linear<B>,
    encoder: TransformerEncoder<B>,
    head: Linear<B>,
}

impl Net for VisionTransformer {
    const NAME: &'static str = "vision_transformer";
    const AXES: &'static [&'static str] = &["batch", "height", "width"];
    const SIZES: &'static [&'static [usize]] = &[&[2, 16, 32], &[1, 21, 9], &[3, 8, 47]];
    type Of<B: Backend> = VisionTransformerOf<B>;

    fn new<B: Backend>(device: &B::Device) -> VisionTransformerOf<B> {
        VisionTransformerOf {
            patches: Conv2dConfig::new([3, 16], [8, 8]).with_stride([8, 8]).init(device),
            class: LinearConfig::new(1, 16).init(device),
            encoder: TransformerEncoderConfig::new(16, 32, 4, 1).init(device),
            head: LinearConfig::new(16, 5).init(device),
        }
    }

    fn run<B: Backend>(net: &VisionTransformerOf<B>, ports: &mut impl Ports<B>) {
        let x = net.patches.forward(ports.float("image", images(3)));
        let [batch, channels, height, width] = x.dims();
        let x = x.reshape([batch, channels, height * width]).swap_dims(1, 2);
        let class = net.class.forward(Tensor::ones([batch, 1, 1], &x.device()));
        let x = net.encoder.forward(TransformerEncoderInput::new(Tensor::cat(vec![class, x], 1)));
        ports.put("patches", x.clone().slice(s![.., 1.., ..]));
        ports.put("classes", net.head.forward(x.slice(s![.., 0, ..]).squeeze_dim::<2>(1)));
    }
}

/// Waves through convolutions of strides 5, 2 and 2, then an encoder over what is left.
pub struct Speech;

#[derive(Module, Debug)]
pub struct SpeechOf<B: Backend> {
    convolutions: Vec<Conv1d<B>>,
    norm: GroupNorm<B>,
    encoder: TransformerEncoder<B>,
}

impl Net for Speech {
    const NAME: &'static str = "speech";
    const AXES: &'static [&'static str] = &["batch", "samples"];
    const SIZES: &'static [&'static [usize]] = &[&[2, 100], &[1, 57], &[3, 399]];
    type Of<B: Backend> = SpeechOf<B>;

    fn new<B: Backend>(device: &B::Device) -> SpeechOf<B> {
        let conv = |[from, to]: [usize; 2], kernel, stride, dilation| {
            Conv1dConfig::new(from, to, kernel)
                .with_stride(stride)
                .with_dilation(dilation)
                .with_padding(PaddingConfig1d::Explicit(1, 1))
                .init(device)
        };
        SpeechOf {
            convolutions: vec![
                conv([1, 8], 10, 5, 1),
                conv([8, 16], 3, 2, 2),
                conv([16, 16], 2, 2, 1),
            ],
            norm: GroupNormConfig::new(4, 8).init(device),
            encoder: TransformerEncoderConfig::new(16, 32, 2, 1).init(device),
        }
    }

    fn run<B: Backend>(net: &SpeechOf<B>, ports: &mut impl Ports<B>) {
        let x = ports.float("wave", ["batch".into(), 1.into(), "samples".into()]);
        let x = gelu(net.norm.forward(net.convolutions[0].forward(x)));
        let x = net.convolutions[1..].iter().fold(x, |x, conv| gelu(conv.forward(x)));
        let x = net.encoder.forward(TransformerEncoderInput::new(x.swap_dims(1, 2)));
        ports.put("mean", x.clone().mean_dim(1).squeeze_dim::<2>(1));
        ports.put("frames", x);
    }
}

/// Halves and every third of rows.
pub struct Halves;

impl Net for Halves {
    const NAME: &'static str = "halves_of_rows";
    const AXES: &'static [&'static str] = &["batch", "length"];
    const SIZES: &'static [&'static [usize]] = &[&[2, 12], &[1, 7], &[3, 10], &[2, 2]];
    type Of<B: Backend> = Linear<B>;

    fn new<B: Backend>(device: &B::Device) -> Linear<B> {
        LinearConfig::new(4, 4).init(device)
    }

    fn run<B: Backend>(net: &Linear<B>, ports: &mut impl Ports<B>) {
        let x = net.forward(ports.float("x", ["batch".into(), "length".into(), 4.into()]));
        let [batch, length, width] = x.dims();
        ports.put("first", x.clone().slice(s![.., ..length / 2, ..]));
        ports.put("last", x.clone().slice(s![.., length / 2.., ..]));
        ports.put("thirds", x.clone().slice(s![.., ..;3, ..]));
        let even = x.clone().slice(s![.., ..length / 2 * 2, ..]);
        ports.put("pairs", even.reshape([batch, length / 2, 2 * width]));
        ports.put("scaled", x / (length / 2) as f64);
    }
}
