//! Operations that Burn has for its modules.

use burn::tensor::{DType, Shape, TensorData};
use burn_ir::{
    DeformConv2dOpIr, InterpolateModeIr, InterpolateOpIr, ModuleOperationIr, OperationIr, TensorIr,
};
use mixlab_ops::capture::{Node, Program, ValueId};

use super::super::extent::Extent;
use super::super::graph::Attribute;
use super::shape::{counted, length, lengths};
use super::{Lowered, Lowering};

fn longs(values: &[usize]) -> Vec<i64> {
    values.iter().map(|value| *value as i64).collect()
}

/// As much at the end of each axis as at its start.
fn pads(padding: &[usize]) -> Attribute {
    Attribute::Ints("pads", longs(&[padding, padding].concat()))
}

/// Windows of the lengths `kernel`, as attributes; `more` is one that the operation has besides.
fn window_of(
    [kernel, stride, padding]: [&[usize]; 3],
    ceil: bool,
    more: Attribute,
) -> Vec<Attribute> {
    vec![
        Attribute::Ints("kernel_shape", longs(kernel)),
        Attribute::Ints("strides", longs(stride)),
        pads(padding),
        Attribute::Int("ceil_mode", i64::from(ceil)),
        more,
    ]
}

impl Lowering<'_> {
    pub(super) fn module(&mut self, op: &ModuleOperationIr) -> Lowered {
        use ModuleOperationIr as Op;
        if self.depends_on_sizes(op) {
            return self.whole_window(op);
        }
        match op {
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
            Op::DeformableConv2d(op) => self.deformed_convolution(op),
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
            Op::MaxPool1dWithIndices(op) => {
                let dilation = Attribute::Ints("dilations", longs(&[op.dilation]));
                let window = [&[op.kernel_size][..], &[op.stride], &[op.padding]];
                let attributes = window_of(window, op.ceil_mode, dilation);
                self.pool_with_places(&op.x, &op.out_indices, attributes)
            }
            Op::MaxPool2dWithIndices(op) => {
                let dilation = Attribute::Ints("dilations", longs(&op.dilation));
                let window = [&op.kernel_size[..], &op.stride, &op.padding];
                let attributes = window_of(window, op.ceil_mode, dilation);
                self.pool_with_places(&op.x, &op.out_indices, attributes)
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

    /// Whether an attribute that is no length of the result is another at other sizes.
    fn depends_on_sizes(&self, op: &ModuleOperationIr) -> bool {
        use ModuleOperationIr::{AdaptiveAvgPool1d, AdaptiveAvgPool2d, Interpolate};
        let of_result = matches!(op, AdaptiveAvgPool1d(_) | AdaptiveAvgPool2d(_) | Interpolate(_));
        let here = &self.node().attributes;
        let other = |program: &Program| program.nodes()[self.index].attributes != *here;
        !of_result && self.traced.programs().iter().any(other)
    }

    /// A pool whose window is the image, whatever size that has.
    fn whole_window(&mut self, op: &ModuleOperationIr) -> Lowered {
        use ModuleOperationIr as Op;
        let pool = |node: &Node| match &node.operation {
            OperationIr::Module(Op::AvgPool1d(op)) if op.padding == 0 => {
                Some((vec![op.kernel_size], op.x.clone()))
            }
            OperationIr::Module(Op::AvgPool2d(op)) if op.padding == [0, 0] => {
                Some((op.kernel_size.into(), op.x.clone()))
            }
            OperationIr::Module(Op::MaxPool1d(op)) if op.padding == 0 => {
                Some((vec![op.kernel_size], op.x.clone()))
            }
            OperationIr::Module(Op::MaxPool2d(op)) if op.padding == [0, 0] => {
                Some((op.kernel_size.into(), op.x.clone()))
            }
            _ => None,
        };
        let whole = |program: &Program| {
            let node = &program.nodes()[self.index];
            let one = program.value(node.outputs[0]).shape[2..].iter().all(|length| *length == 1);
            one && pool(node).is_some_and(|(kernel, x)| kernel[..] == x.shape[2..])
        };
        if !self.traced.programs().iter().all(whole) {
            return Err(self.unsupported(
                "an attribute of it depends on sizes, and it is no pool over all of an image",
            ));
        }
        let (_, x) = pool(self.node()).expect("it is a pool");
        let name = match op {
            Op::AvgPool1d(_) | Op::AvgPool2d(_) => "GlobalAveragePool",
            _ => "GlobalMaxPool",
        };
        let x = self.input(&x)?;
        Ok(self.op(name, &[&x]))
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

    /// A convolution whose taps are where `offset` says, which ONNX has since opset 19.
    fn deformed_convolution(&mut self, op: &DeformConv2dOpIr) -> Lowered {
        if self.profile.opset() < 19 {
            return Err(self.unsupported("it needs opset 19, which the profile `modern` has"));
        }
        let mut inputs = vec![self.input(&op.x)?, self.input(&op.weight)?, self.input(&op.offset)?];
        for optional in [&op.bias, &op.mask] {
            inputs.push(optional.as_ref().map_or(Ok(String::new()), |one| self.input(one))?);
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let o = &op.options;
        let attributes = vec![
            Attribute::Ints("strides", longs(&o.stride)),
            pads(&o.padding),
            Attribute::Ints("dilations", longs(&o.dilation)),
            Attribute::Int("group", o.weight_groups as i64),
            Attribute::Int("offset_group", o.offset_groups as i64),
        ];
        Ok(self.graph.node("DeformConv", &inputs, attributes))
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

    /// `op` over windows; `more` is the attribute that it has besides.
    fn pool(
        &mut self,
        op: &str,
        x: &TensorIr,
        window: [&[usize]; 3],
        ceil: bool,
        more: Attribute,
    ) -> Lowered {
        let x = self.input(x)?;
        Ok(self.graph.node(op, &[&x], window_of(window, ceil, more)))
    }

    /// The largest elements of windows, and which element of its image each is: ONNX counts them through
    /// all images.
    fn pool_with_places(
        &mut self,
        x: &TensorIr,
        places: &TensorIr,
        attributes: Vec<Attribute>,
    ) -> Lowered {
        let name = self.input(x)?;
        let mut found = self.graph.outputs("MaxPool", &[&name], attributes, 2).into_iter();
        let (largest, mut at) = (found.next().expect("two"), found.next().expect("two"));
        let mut image = self.graph.ints(&[1]);
        for extent in &self.extents(x)[2..] {
            let length = length(self.traced, self.graph, extent)?;
            image = self.op("Mul", &[&image, &length]);
        }
        at = self.op("Mod", &[&at, &image]);
        let at = if places.dtype == DType::I64 { at } else { self.cast(&at, places.dtype)? };
        self.names[ValueId::from(places).index()] = Some(at);
        Ok(largest)
    }

    /// Averages over windows of almost one size that together are the input: over all of it, of one
    /// size, or as products with what each element counts in each window.
    fn adaptive(&mut self, x: &TensorIr, to: &Shape) -> Lowered {
        let mut y = self.input(x)?;
        if to[2..].iter().all(|length| *length == 1) {
            return Ok(self.op("GlobalAveragePool", &[&y]));
        }
        let rank = to.num_dims();
        let from = self.extents(x)[2..].to_vec();
        let fixed: Option<Vec<i64>> = from.iter().map(Extent::constant).collect();
        let sizes = |from: &[i64]| -> Option<Vec<i64>> {
            let pairs = from.iter().zip(&to[2..]).map(|(from, to)| (*from, *to as i64));
            pairs.map(|(from, to)| (from % to == 0).then(|| from / to)).collect()
        };
        if let Some(sizes) = fixed.as_deref().and_then(sizes) {
            let shape =
                ["kernel_shape", "strides"].map(|name| Attribute::Ints(name, sizes.clone()));
            return Ok(self.graph.node("AveragePool", &[&y], shape.into()));
        }
        for (index, (from, to)) in from.iter().zip(&to[2..]).enumerate() {
            let shares = match from.constant() {
                Some(from) => self.graph.constant(&shares(from, *to as i64, x.dtype)),
                None => self.computed_shares(from, *to as i64, x.dtype)?,
            };
            let is_last = index + 3 == rank;
            y = if is_last { y } else { self.transposed(&y, rank) };
            y = self.op("MatMul", &[&y, &shares]);
            y = if is_last { y } else { self.transposed(&y, rank) };
        }
        Ok(y)
    }

    /// [`shares`] of an axis of any length.
    fn computed_shares(&mut self, from: &Extent, to: i64, dtype: DType) -> Lowered {
        let count = length(self.traced, self.graph, from)?;
        let places = counted(self.traced, self.graph, &Extent::fixed(0), from)?;
        let [column, windows] = [self.graph.ints(&[1]), self.graph.ints(&[to])];
        let places = self.op("Unsqueeze", &[&places, &column]);
        let [first, next] = [0, 1].map(|by| {
            let numbers = self.graph.ints(&(by..to + by).collect::<Vec<_>>());
            self.op("Mul", &[&numbers, &count])
        });
        let start = self.op("Div", &[&first, &windows]);
        let rounding = self.graph.ints(&[to - 1]);
        let end = self.op("Add", &[&next, &rounding]);
        let end = self.op("Div", &[&end, &windows]);
        let [late, early] =
            [self.op("GreaterOrEqual", &[&places, &start]), self.op("Less", &[&places, &end])];
        let within = self.op("And", &[&late, &early]);
        let sizes = self.op("Sub", &[&end, &start]);
        let [within, sizes] = [self.cast(&within, dtype)?, self.cast(&sizes, dtype)?];
        Ok(self.op("Div", &[&within, &sizes]))
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
