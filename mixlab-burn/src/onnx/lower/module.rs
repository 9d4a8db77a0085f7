//! Operations that Burn has for its modules.

use burn::tensor::{DType, Shape, TensorData};
use burn_ir::{
    GridSample2dOpIr, GridSamplePaddingModeIr, InterpolateModeIr, InterpolateOpIr,
    ModuleOperationIr, TensorIr,
};

use super::super::graph::Attribute;
use super::shape::lengths;
use super::{Lowered, Site};

fn longs(values: &[usize]) -> Vec<i64> {
    values.iter().map(|value| *value as i64).collect()
}

/// As much at the end of each axis as at its start.
fn pads(padding: &[usize]) -> Attribute {
    Attribute::Ints("pads", longs(&[padding, padding].concat()))
}

impl Site<'_> {
    pub(super) fn module(&mut self, op: &ModuleOperationIr) -> Lowered {
        use ModuleOperationIr as Op;
        match op {
            Op::Embedding(op) => {
                let (table, ids) = (self.input(&op.weights)?, self.input(&op.indices)?);
                Ok(self.op("Gather", &[&table, &ids]))
            }
            Op::Linear(op) => {
                let y = self.product(&op.x, &op.weight)?;
                let Some(bias) = &op.bias else { return Ok(y) };
                let bias = self.input(bias)?;
                Ok(self.op("Add", &[&y, &bias]))
            }
            Op::Conv1d(op) => {
                let o = &op.options;
                let window = [&o.stride[..], &o.padding[..], &o.dilation[..]];
                self.convolution([&op.x, &op.weight], op.bias.as_ref(), window, o.groups)
            }
            Op::Conv2d(op) => {
                let o = &op.options;
                let window = [&o.stride[..], &o.padding[..], &o.dilation[..]];
                self.convolution([&op.x, &op.weight], op.bias.as_ref(), window, o.groups)
            }
            Op::Conv3d(op) => {
                let o = &op.options;
                let window = [&o.stride[..], &o.padding[..], &o.dilation[..]];
                self.convolution([&op.x, &op.weight], op.bias.as_ref(), window, o.groups)
            }
            Op::ConvTranspose1d(op) => {
                let o = &op.options;
                let window = [&o.stride[..], &o.padding, &o.dilation, &o.padding_out];
                self.transposed_convolution([&op.x, &op.weight], op.bias.as_ref(), window, o.groups)
            }
            Op::ConvTranspose2d(op) => {
                let o = &op.options;
                let window = [&o.stride[..], &o.padding, &o.dilation, &o.padding_out];
                self.transposed_convolution([&op.x, &op.weight], op.bias.as_ref(), window, o.groups)
            }
            Op::ConvTranspose3d(op) => {
                let o = &op.options;
                let window = [&o.stride[..], &o.padding, &o.dilation, &o.padding_out];
                self.transposed_convolution([&op.x, &op.weight], op.bias.as_ref(), window, o.groups)
            }
            Op::Interpolate(op) => self.interpolate(op),
            Op::MaxPool1d(op) => {
                let dilation = Attribute::Ints("dilations", longs(&[op.dilation]));
                let window = [&[op.kernel_size][..], &[op.stride], &[op.padding]];
                self.pool("MaxPool", &op.x, window, op.ceil_mode, dilation)
            }
            Op::MaxPool2d(op) => {
                let dilation = Attribute::Ints("dilations", longs(&op.dilation));
                let window = [&op.kernel_size[..], &op.stride, &op.padding];
                self.pool("MaxPool", &op.x, window, op.ceil_mode, dilation)
            }
            // ONNX counts places through all images: a forward that reads them is refused where it does.
            Op::MaxPool1dWithIndices(op) => {
                let dilation = Attribute::Ints("dilations", longs(&[op.dilation]));
                let window = [&[op.kernel_size][..], &[op.stride], &[op.padding]];
                self.pool("MaxPool", &op.x, window, op.ceil_mode, dilation)
            }
            Op::MaxPool2dWithIndices(op) => {
                let dilation = Attribute::Ints("dilations", longs(&op.dilation));
                let window = [&op.kernel_size[..], &op.stride, &op.padding];
                self.pool("MaxPool", &op.x, window, op.ceil_mode, dilation)
            }
            Op::AvgPool1d(op) => {
                let padded = Attribute::Int("count_include_pad", i64::from(op.count_include_pad));
                let window = [&[op.kernel_size][..], &[op.stride], &[op.padding]];
                self.pool("AveragePool", &op.x, window, op.ceil_mode, padded)
            }
            Op::AvgPool2d(op) => {
                let padded = Attribute::Int("count_include_pad", i64::from(op.count_include_pad));
                let window = [&op.kernel_size[..], &op.stride, &op.padding];
                self.pool("AveragePool", &op.x, window, op.ceil_mode, padded)
            }
            Op::AdaptiveAvgPool1d(op) => self.adaptive(&op.x, &op.out.shape),
            Op::AdaptiveAvgPool2d(op) => self.adaptive(&op.x, &op.out.shape),
            Op::Attention(op) => self.burn_attention(op),
            _ => Err(self.unsupported("no lowering is written for it")),
        }
    }

    fn convolution(
        &mut self,
        operands: [&TensorIr; 2],
        bias: Option<&TensorIr>,
        window: [&[usize]; 3],
        groups: usize,
    ) -> Lowered {
        self.convolved("Conv", operands, bias, window, None, groups)
    }

    fn transposed_convolution(
        &mut self,
        operands: [&TensorIr; 2],
        bias: Option<&TensorIr>,
        [stride, padding, dilation, more]: [&[usize]; 4],
        groups: usize,
    ) -> Lowered {
        let more = Attribute::Ints("output_padding", longs(more));
        let window = [stride, padding, dilation];
        self.convolved("ConvTranspose", operands, bias, window, Some(more), groups)
    }

    /// The node `name` on input and weight, with what it has besides a convolution's attributes.
    fn convolved(
        &mut self,
        name: &str,
        [x, weight]: [&TensorIr; 2],
        bias: Option<&TensorIr>,
        [stride, padding, dilation]: [&[usize]; 3],
        besides: Option<Attribute>,
        groups: usize,
    ) -> Lowered {
        let mut inputs = vec![self.input(x)?, self.input(weight)?];
        if let Some(bias) = bias {
            inputs.push(self.input(bias)?);
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let mut attributes = vec![
            Attribute::Ints("strides", longs(stride)),
            pads(padding),
            Attribute::Ints("dilations", longs(dilation)),
        ];
        attributes.extend(besides);
        attributes.push(Attribute::Int("group", groups as i64));
        Ok(self.graph.node(name, &inputs, attributes))
    }

    /// Images `[B, C, H, W]` of another size.
    fn interpolate(&mut self, op: &InterpolateOpIr) -> Lowered {
        use InterpolateModeIr as Mode;
        let corners = if op.options.align_corners { "align_corners" } else { "half_pixel" };
        let place = |name| Attribute::Text("coordinate_transformation_mode", name);
        let attributes = match op.options.mode {
            Mode::Nearest => vec![
                Attribute::Text("mode", "nearest"),
                Attribute::Text("nearest_mode", "floor"),
                place("asymmetric"),
            ],
            Mode::Bilinear => vec![Attribute::Text("mode", "linear"), place(corners)],
            Mode::Bicubic => vec![
                Attribute::Text("mode", "cubic"),
                Attribute::Float("cubic_coeff_a", -0.75),
                place(corners),
            ],
            Mode::Lanczos3 => return Err(self.unsupported("ONNX has no Lanczos resampling")),
        };
        let (x, to) = (self.input(&op.x)?, self.extents(&op.out));
        let sizes = lengths(self.traced, self.graph, &to)?;
        Ok(self.graph.node("Resize", &[&x, "", "", &sizes], attributes))
    }

    /// Images `[B, C, H, W]` at places from −1 to 1 `[B, H', W', 2]`.
    pub(super) fn grid_sample(&mut self, op: &GridSample2dOpIr) -> Lowered {
        use InterpolateModeIr as Mode;
        // Renamed with opset 20.
        let renamed = self.profile.opset() >= 20;
        let mode = match op.options.mode {
            Mode::Nearest => "nearest",
            Mode::Bilinear if renamed => "linear",
            Mode::Bilinear => "bilinear",
            Mode::Bicubic if renamed => "cubic",
            Mode::Bicubic => "bicubic",
            Mode::Lanczos3 => return Err(self.unsupported("ONNX has no Lanczos resampling")),
        };
        let padding = match op.options.padding_mode {
            GridSamplePaddingModeIr::Zeros => "zeros",
            GridSamplePaddingModeIr::Border => "border",
            GridSamplePaddingModeIr::Reflection => "reflection",
        };
        let attributes = vec![
            Attribute::Text("mode", mode),
            Attribute::Text("padding_mode", padding),
            Attribute::Int("align_corners", i64::from(op.options.align_corners)),
        ];
        let (x, grid) = (self.input(&op.tensor)?, self.input(&op.grid)?);
        Ok(self.graph.node("GridSample", &[&x, &grid], attributes))
    }

    /// `op` over windows of the lengths `kernel`; `more` is the attribute that it has besides.
    fn pool(
        &mut self,
        op: &str,
        x: &TensorIr,
        [kernel, stride, padding]: [&[usize]; 3],
        ceil: bool,
        more: Attribute,
    ) -> Lowered {
        let x = self.input(x)?;
        let attributes = vec![
            Attribute::Ints("kernel_shape", longs(kernel)),
            Attribute::Ints("strides", longs(stride)),
            pads(padding),
            Attribute::Int("ceil_mode", i64::from(ceil)),
            more,
        ];
        Ok(self.graph.node(op, &[&x], attributes))
    }

    /// Averages over windows of almost one size that together are the input: over all of it, of one
    /// size, or as products with what each element counts in each window.
    fn adaptive(&mut self, x: &TensorIr, to: &Shape) -> Lowered {
        let mut y = self.input(x)?;
        if to[2..].iter().all(|length| *length == 1) {
            return Ok(self.op("GlobalAveragePool", &[&y]));
        }
        let from: Option<Vec<i64>> = self.extents(x)[2..].iter().map(|n| n.constant()).collect();
        let from = from.ok_or_else(|| self.unsupported("windows of images of any size are not"))?;
        let rank = to.num_dims();
        let sizes = || from.iter().zip(&to[2..]).map(|(from, to)| (*from, *to as i64));
        if sizes().all(|(from, to)| from % to == 0) {
            let sizes: Vec<i64> = sizes().map(|(from, to)| from / to).collect();
            let shape =
                ["kernel_shape", "strides"].map(|name| Attribute::Ints(name, sizes.clone()));
            return Ok(self.graph.node("AveragePool", &[&y], shape.into()));
        }
        for (index, (from, to)) in sizes().enumerate() {
            let shares = self.graph.constant(&shares(from, to, x.dtype));
            let is_last = index + 3 == rank;
            y = if is_last { y } else { self.transposed(&y, rank) };
            y = self.op("MatMul", &[&y, &shares]);
            y = if is_last { y } else { self.transposed(&y, rank) };
        }
        Ok(y)
    }
}

/// What each of `from` elements counts in each of `to` averages, `[from, to]`.
fn shares(from: i64, to: i64, dtype: DType) -> TensorData {
    let windows: Vec<(i64, i64)> =
        (0..to).map(|i| (i * from / to, ((i + 1) * from + to - 1) / to)).collect();
    let share = |at: i64, (start, end): (i64, i64)| {
        if (start..end).contains(&at) { 1.0 / (end - start) as f64 } else { 0.0 }
    };
    let all = (0..from).flat_map(|at| windows.iter().map(move |window| share(at, *window)));
    TensorData::new(all.collect::<Vec<_>>(), [from as usize, to as usize]).convert_dtype(dtype)
}
