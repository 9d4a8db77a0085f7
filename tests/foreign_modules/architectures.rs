//! Small ones of the image nets that people have, for images of any height and width.

use std::path::Path;

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::{gelu, hard_sigmoid, relu, sigmoid, softmax};
use burn::tensor::{Int, Tensor, backend::Backend};
use mixlab_burn::onnx::Dim;

use super::net::{Net, Ports, write};

pub fn all(folder: &Path) {
    write::<MobileNet>(folder);
    write::<ConvNext>(folder);
    write::<Windows>(folder);
    write::<Detector>(folder);
    write::<SuperResolution>(folder);
    write::<Vgg>(folder);
}

/// A convolution of `channels`, whose kernel has this size, stride and number of groups.
pub fn conv<B: Backend>(
    channels: [usize; 2],
    [kernel, stride, groups]: [usize; 3],
    device: &B::Device,
) -> Conv2d<B> {
    let by = (kernel - 1) / 2;
    Conv2dConfig::new(channels, [kernel, kernel])
        .with_stride([stride, stride])
        .with_groups(groups)
        .with_padding(PaddingConfig2d::Explicit(by, by, by, by))
        .init(device)
}

pub fn images(channels: usize) -> [Dim; 4] {
    [Dim::from("batch"), channels.into(), "height".into(), "width".into()]
}

/// Open axes of images.
pub const AXES: &[&str] = &["batch", "height", "width"];

/// Each channel by itself, with a stride, then weighed by what all of the image says.
struct MobileNet;

#[derive(Module, Debug)]
struct MobileNetOf<B: Backend> {
    widen: Conv2d<B>,
    deep: Conv2d<B>,
    squeeze: Linear<B>,
    excite: Linear<B>,
    project: Conv2d<B>,
}

impl Net for MobileNet {
    const NAME: &'static str = "mobile_net";
    const AXES: &'static [&'static str] = AXES;
    const SIZES: &'static [&'static [usize]] = &[&[2, 16, 24], &[1, 9, 7], &[3, 1, 2]];
    type Of<B: Backend> = MobileNetOf<B>;

    fn new<B: Backend>(device: &B::Device) -> MobileNetOf<B> {
        MobileNetOf {
            widen: conv([3, 8], [1, 1, 1], device),
            deep: conv([8, 8], [5, 2, 8], device),
            squeeze: LinearConfig::new(8, 2).init(device),
            excite: LinearConfig::new(2, 8).init(device),
            project: conv([8, 4], [1, 1, 1], device),
        }
    }

    fn run<B: Backend>(net: &MobileNetOf<B>, ports: &mut impl Ports<B>) {
        let x = relu(net.widen.forward(ports.float("image", images(3))));
        let x = net.deep.forward(x);
        let x = x.clone() * hard_sigmoid(x, 1.0 / 6.0, 0.5);
        let [batch, channels, _, _] = x.dims();
        let mean: Tensor<B, 2> = x.clone().mean_dim(3).mean_dim(2).reshape([batch, channels]);
        let gate = sigmoid(net.excite.forward(relu(net.squeeze.forward(mean))));
        let x = x * gate.reshape([batch, channels, 1, 1]);
        ports.put("y", net.project.forward(x));
    }
}

/// Norms over channels that are last for as long.
struct ConvNext;

#[derive(Module, Debug)]
struct ConvNextOf<B: Backend> {
    patches: Conv2d<B>,
    deep: Conv2d<B>,
    norm: LayerNorm<B>,
    up: Linear<B>,
    down: Linear<B>,
    head: Linear<B>,
}

impl Net for ConvNext {
    const NAME: &'static str = "conv_next";
    const AXES: &'static [&'static str] = AXES;
    const SIZES: &'static [&'static [usize]] = &[&[2, 16, 24], &[1, 11, 4], &[3, 7, 30]];
    type Of<B: Backend> = ConvNextOf<B>;

    fn new<B: Backend>(device: &B::Device) -> ConvNextOf<B> {
        ConvNextOf {
            patches: Conv2dConfig::new([3, 8], [4, 4]).with_stride([4, 4]).init(device),
            deep: conv([8, 8], [7, 1, 8], device),
            norm: LayerNormConfig::new(8).init(device),
            up: LinearConfig::new(8, 32).init(device),
            down: LinearConfig::new(32, 8).init(device),
            head: LinearConfig::new(8, 5).init(device),
        }
    }

    fn run<B: Backend>(net: &ConvNextOf<B>, ports: &mut impl Ports<B>) {
        let x = net.patches.forward(ports.float("image", images(3)));
        let y = net.norm.forward(net.deep.forward(x.clone()).permute([0, 2, 3, 1]));
        let y = net.down.forward(gelu(net.up.forward(y)));
        let x = x + y.permute([0, 3, 1, 2]);
        let tokens: Tensor<B, 3> = x.flatten(2, 3);
        let mean: Tensor<B, 2> = tokens.mean_dim(2).squeeze_dim(2);
        ports.put("classes", net.head.forward(mean));
    }
}

/// Attention within windows of four by four, which are shifted by two.
struct Windows;

#[derive(Module, Debug)]
struct WindowsOf<B: Backend> {
    embed: Conv2d<B>,
    qkv: Linear<B>,
    out: Linear<B>,
}

impl Net for Windows {
    const NAME: &'static str = "shifted_windows";
    const AXES: &'static [&'static str] = AXES;
    const SIZES: &'static [&'static [usize]] = &[&[2, 16, 24], &[1, 8, 40]];
    type Of<B: Backend> = WindowsOf<B>;

    fn new<B: Backend>(device: &B::Device) -> WindowsOf<B> {
        WindowsOf {
            embed: Conv2dConfig::new([3, 8], [2, 2]).with_stride([2, 2]).init(device),
            qkv: LinearConfig::new(8, 24).init(device),
            out: LinearConfig::new(8, 8).init(device),
        }
    }

    fn run<B: Backend>(net: &WindowsOf<B>, ports: &mut impl Ports<B>) {
        let x = net.embed.forward(ports.float("image", images(3))).permute([0, 2, 3, 1]);
        let [batch, height, width, channels] = x.dims();
        let (rows, columns) = (height / 4, width / 4);
        let x = x.roll(&[-2, -2], &[1, 2]);
        let x = x.reshape([batch, rows, 4, columns, 4, channels]).swap_dims(2, 3);
        let x: Tensor<B, 3> = x.reshape([batch * rows * columns, 16, channels]);
        let [q, k, v]: [Tensor<B, 3>; 3] =
            net.qkv.forward(x).chunk(3, 2).try_into().expect("three were asked for");
        let scores = softmax(q.matmul(k.swap_dims(1, 2)) / 8f64.sqrt(), 2);
        let x = net.out.forward(scores.matmul(v));
        let x = x.reshape([batch, rows, columns, 4, 4, channels]).swap_dims(2, 3);
        ports.put("y", x.reshape([batch, height, width, channels]).roll(&[2, 2], &[1, 2]));
    }
}

/// Boxes in the units of the image, from what each cell says.
struct Detector;

#[derive(Module, Debug)]
struct DetectorOf<B: Backend> {
    backbone: Vec<Conv2d<B>>,
    head: Conv2d<B>,
}

impl Net for Detector {
    const NAME: &'static str = "detector";
    const AXES: &'static [&'static str] = AXES;
    const SIZES: &'static [&'static [usize]] = &[&[2, 32, 32], &[1, 37, 20], &[2, 8, 91]];
    type Of<B: Backend> = DetectorOf<B>;

    fn new<B: Backend>(device: &B::Device) -> DetectorOf<B> {
        let halves = [[3, 4], [4, 8], [8, 8]].map(|size| conv(size, [3, 2, 1], device));
        DetectorOf { backbone: halves.into(), head: conv([8, 2 * 6], [1, 1, 1], device) }
    }

    fn run<B: Backend>(net: &DetectorOf<B>, ports: &mut impl Ports<B>) {
        let x = ports.float("image", images(3));
        let x = net.head.forward(net.backbone.iter().fold(x, |x, conv| relu(conv.forward(x))));
        let ([batch, _, rows, columns], device) = (x.dims(), x.device());
        let x = x.reshape([batch, 2, 6, rows, columns]).permute([0, 1, 3, 4, 2]);
        let across = Tensor::<B, 1, Int>::arange(0..columns as i64, &device).float();
        let down = Tensor::<B, 1, Int>::arange(0..rows as i64, &device).float();
        let cells = Tensor::cat(
            vec![
                across.reshape([1, 1, 1, columns, 1]).expand([1, 1, rows, columns, 1]),
                down.reshape([1, 1, rows, 1, 1]).expand([1, 1, rows, columns, 1]),
            ],
            4,
        );
        let size = x.clone().narrow(4, 2, 2).exp();
        let centre = (sigmoid(x.clone().narrow(4, 0, 2)) + cells) * 8.0;
        let score = softmax(x.narrow(4, 4, 2), 4);
        let boxes = Tensor::cat(vec![centre, size, score], 4);
        let boxes = boxes.reshape([batch, 2 * rows * columns, 6]);
        ports.put_int("best", boxes.clone().narrow(2, 5, 1).argmax(1));
        ports.put("boxes", boxes);
    }
}

/// Twice as large by moving channels to pixels.
struct SuperResolution;

impl Net for SuperResolution {
    const NAME: &'static str = "super_resolution";
    const AXES: &'static [&'static str] = AXES;
    const SIZES: &'static [&'static [usize]] = &[&[2, 8, 6], &[1, 3, 5]];
    type Of<B: Backend> = Conv2d<B>;

    fn new<B: Backend>(device: &B::Device) -> Conv2d<B> {
        conv([3, 12], [3, 1, 1], device)
    }

    fn run<B: Backend>(net: &Conv2d<B>, ports: &mut impl Ports<B>) {
        let x = net.forward(ports.float("image", images(3)));
        let [batch, _, height, width] = x.dims();
        let x = x.reshape([batch, 3, 2, 2, height, width]).permute([0, 1, 4, 2, 5, 3]);
        let x = x.reshape([batch, 3, 2 * height, 2 * width]);
        ports.put("large", x.clamp(0.0, 1.0));
    }
}

/// Averages over windows that are as many whatever the image.
struct Vgg;

#[derive(Module, Debug)]
struct VggOf<B: Backend> {
    first: Conv2d<B>,
    average: AdaptiveAvgPool2d,
    head: Linear<B>,
}

impl Net for Vgg {
    const NAME: &'static str = "vgg";
    const AXES: &'static [&'static str] = AXES;
    const SIZES: &'static [&'static [usize]] = &[&[2, 32, 24], &[1, 13, 9], &[1, 64, 100]];
    type Of<B: Backend> = VggOf<B>;

    fn new<B: Backend>(device: &B::Device) -> VggOf<B> {
        VggOf {
            first: conv([3, 4], [3, 2, 1], device),
            average: AdaptiveAvgPool2dConfig::new([3, 4]).init(),
            head: LinearConfig::new(48, 5).init(device),
        }
    }

    fn run<B: Backend>(net: &VggOf<B>, ports: &mut impl Ports<B>) {
        let x = relu(net.first.forward(ports.float("image", images(3))));
        ports.put("classes", net.head.forward(net.average.forward(x).flatten::<2>(1, 3)));
    }
}
