//! Operations on the windows of images and lines, and on places in them.

use std::path::Path;

use burn::module::Module;
use burn::nn::conv::{ConvTranspose3d, ConvTranspose3dConfig, DeformConv2d, DeformConv2dConfig};
use burn::nn::interpolate::{Interpolate1d, Interpolate1dConfig, InterpolateMode};
use burn::nn::{PaddingConfig2d, Unfold4d, Unfold4dConfig};
use burn::tensor::grid::affine_grid_2d;
use burn::tensor::module::{
    avg_pool1d, avg_pool2d, max_pool1d_with_indices, max_pool2d_with_indices,
};
use burn::tensor::ops::InterpolateMode as Sampled;
use burn::tensor::ops::{GridSampleOptions, GridSamplePaddingMode};
use burn::tensor::{Tensor, backend::Backend};
use burn_flex::Flex;
use mixlab_burn::onnx::{Dim, Profile};

use super::net::{Net, Ports, write};

/// Writes both.
pub fn all(folder: &Path) {
    write::<Windows<Flex>>(folder);
    write::<Deformed<Flex>>(folder);
}

#[derive(Module, Debug)]
struct Windows<B: Backend> {
    up: ConvTranspose3d<B>,
    unfold: Unfold4d,
    lines: Vec<Interpolate1d>,
}

impl Net for Windows<Flex> {
    const NAME: &'static str = "windows";
    const AXES: &'static [&'static str] = &["batch", "height"];
    const SIZES: &'static [&'static [usize]] = &[&[3, 8], &[1, 5], &[2, 9]];
    type Of<B: Backend> = Windows<B>;

    fn new<B: Backend>(device: &B::Device) -> Windows<B> {
        let line = |mode, align| {
            let config = Interpolate1dConfig::new().with_output_size(Some(5)).with_mode(mode);
            config.with_align_corners(align).init()
        };
        Windows {
            up: ConvTranspose3dConfig::new([2, 4], [2, 3, 2])
                .with_stride([1, 2, 1])
                .with_padding([0, 1, 0])
                .with_padding_out([0, 1, 0])
                .with_groups(2)
                .init(device),
            unfold: Unfold4dConfig::new([2, 3]).with_padding([1, 1]).init(),
            lines: vec![
                line(InterpolateMode::Nearest, false),
                line(InterpolateMode::Linear, true),
                line(InterpolateMode::Linear, false),
                line(InterpolateMode::Cubic, true),
            ],
        }
    }

    fn run<B: Backend>(net: &Windows<B>, ports: &mut impl Ports<B>) {
        let x = ports.float("x", [Dim::from("batch"), 4.into(), "height".into(), 7.into()]);
        let line = ports.float("line", [Dim::from("batch"), 4.into(), 11.into()]);
        let [batch, _, height, _] = x.dims();
        ports.put("up", net.up.forward(x.clone().reshape([batch, 2, 2, height, 7])));
        ports.put("unfold", net.unfold.forward(x.clone()));
        for (index, resize) in net.lines.iter().enumerate() {
            ports.put(&format!("line_{index}"), resize.forward(line.clone()));
        }
        let (largest, at) =
            max_pool2d_with_indices(x.clone(), [3, 2], [1, 2], [1, 1], [1, 2], false);
        ports.put("largest", largest);
        ports.put_int("largest_at", at);
        let (largest, at) = max_pool1d_with_indices(line.clone(), 3, 2, 1, 1, true);
        ports.put("line_largest", largest);
        ports.put_int("line_largest_at", at);
        ports.put("average", avg_pool2d(x.clone(), [3, 3], [1, 2], [1, 1], true, true));
        ports.put("line_average", avg_pool1d(line.clone(), 3, 2, 1, false, true));
        ports.put("line_counted", avg_pool1d(line, 4, 3, 2, true, true));
        sampled(x, ports);
    }
}

/// Images that are turned, as their pixels are where a grid says.
fn sampled<B: Backend>(x: Tensor<B, 4>, ports: &mut impl Ports<B>) {
    let turn = ports.float("turn", [Dim::from("batch"), 2.into(), 3.into()]);
    // Most places are within the image.
    let grid = affine_grid_2d(turn * 0.3, x.dims());
    ports.put("grid", grid.clone());
    let ways = [
        (Sampled::Bilinear, GridSamplePaddingMode::Zeros, false),
        (Sampled::Bilinear, GridSamplePaddingMode::Border, true),
        (Sampled::Bilinear, GridSamplePaddingMode::Reflection, true),
    ];
    for (index, (mode, padding, align)) in ways.into_iter().enumerate() {
        let options = GridSampleOptions::new(mode).with_padding_mode(padding);
        let found = x.clone().grid_sample_2d(grid.clone(), options.with_align_corners(align));
        ports.put(&format!("sampled_{index}"), found);
    }
}

#[derive(Module, Debug)]
struct Deformed<B: Backend> {
    conv: DeformConv2d<B>,
}

impl Net for Deformed<Flex> {
    const NAME: &'static str = "deformed";
    const AXES: &'static [&'static str] = &["batch"];
    const SIZES: &'static [&'static [usize]] = &[&[2], &[1]];
    const PROFILES: &'static [Profile] = &[Profile::Modern];
    type Of<B: Backend> = Deformed<B>;

    fn new<B: Backend>(device: &B::Device) -> Deformed<B> {
        let conv = DeformConv2dConfig::new([4, 6], [3, 2])
            .with_padding(PaddingConfig2d::Explicit(1, 0, 1, 0))
            .with_stride([1, 2])
            .with_weight_groups(2)
            .with_offset_groups(2);
        Deformed { conv: conv.init(device) }
    }

    fn run<B: Backend>(net: &Deformed<B>, ports: &mut impl Ports<B>) {
        let batch = || Dim::from("batch");
        let x = ports.float("x", [batch(), 4.into(), 6.into(), 8.into()]);
        let offset = ports.float("offset", [batch(), 24.into(), 6.into(), 4.into()]);
        let mask = ports.float("mask", [batch(), 12.into(), 6.into(), 4.into()]);
        ports.put("masked", net.conv.forward(x.clone(), offset.clone(), Some(mask)));
        ports.put("y", net.conv.forward(x, offset, None));
    }
}
