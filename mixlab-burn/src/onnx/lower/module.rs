//! Operations that Burn has for its modules.

use burn::tensor::Shape;
use burn_ir::{ModuleOperationIr, TensorIr};

use super::super::graph::Attribute;
use super::{Lowered, Site};

/// Strides, padding, dilation of each axis, and groups.
struct Window<'a> {
    stride: &'a [usize],
    padding: &'a [usize],
    dilation: &'a [usize],
    groups: usize,
}

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
                self.convolution(&op.x, &op.weight, op.bias.as_ref(), window, o.groups)
            }
            Op::Conv2d(op) => {
                let o = &op.options;
                let window = [&o.stride[..], &o.padding[..], &o.dilation[..]];
                self.convolution(&op.x, &op.weight, op.bias.as_ref(), window, o.groups)
            }
            Op::Conv3d(op) => {
                let o = &op.options;
                let window = [&o.stride[..], &o.padding[..], &o.dilation[..]];
                self.convolution(&op.x, &op.weight, op.bias.as_ref(), window, o.groups)
            }
            Op::MaxPool1d(op) => {
                let window = [[op.stride], [op.padding], [op.dilation]];
                let [stride, padding, dilation] = window.each_ref().map(|values| &values[..]);
                let window = Window { stride, padding, dilation, groups: 1 };
                let dilation = Attribute::Ints("dilations", longs(window.dilation));
                self.pool("MaxPool", &op.x, &[op.kernel_size], &window, op.ceil_mode, dilation)
            }
            Op::MaxPool2d(op) => {
                let (stride, padding) = (&op.stride[..], &op.padding[..]);
                let window = Window { stride, padding, dilation: &op.dilation, groups: 1 };
                let dilation = Attribute::Ints("dilations", longs(window.dilation));
                self.pool("MaxPool", &op.x, &op.kernel_size, &window, op.ceil_mode, dilation)
            }
            Op::AvgPool1d(op) => {
                let window = [[op.stride], [op.padding]];
                let [stride, padding] = window.each_ref().map(|values| &values[..]);
                let window = Window { stride, padding, dilation: &[1], groups: 1 };
                let padded = Attribute::Int("count_include_pad", i64::from(op.count_include_pad));
                self.pool("AveragePool", &op.x, &[op.kernel_size], &window, op.ceil_mode, padded)
            }
            Op::AvgPool2d(op) => {
                let (stride, padding) = (&op.stride[..], &op.padding[..]);
                let window = Window { stride, padding, dilation: &[1, 1], groups: 1 };
                let padded = Attribute::Int("count_include_pad", i64::from(op.count_include_pad));
                self.pool("AveragePool", &op.x, &op.kernel_size, &window, op.ceil_mode, padded)
            }
            Op::AdaptiveAvgPool1d(op) => self.adaptive(&op.x, &op.out.shape),
            Op::AdaptiveAvgPool2d(op) => self.adaptive(&op.x, &op.out.shape),
            Op::Attention(op) => self.burn_attention(op),
            _ => Err(self.unsupported("no lowering is written for it")),
        }
    }

    fn convolution(
        &mut self,
        x: &TensorIr,
        weight: &TensorIr,
        bias: Option<&TensorIr>,
        [stride, padding, dilation]: [&[usize]; 3],
        groups: usize,
    ) -> Lowered {
        let mut inputs = vec![self.input(x)?, self.input(weight)?];
        if let Some(bias) = bias {
            inputs.push(self.input(bias)?);
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let attributes = vec![
            Attribute::Ints("strides", longs(stride)),
            pads(padding),
            Attribute::Ints("dilations", longs(dilation)),
            Attribute::Int("group", groups as i64),
        ];
        Ok(self.graph.node("Conv", &inputs, attributes))
    }

    fn pool(
        &mut self,
        op: &str,
        x: &TensorIr,
        kernel: &[usize],
        window: &Window<'_>,
        ceil: bool,
        more: Attribute,
    ) -> Lowered {
        debug_assert_eq!(window.groups, 1);
        let x = self.input(x)?;
        let attributes = vec![
            Attribute::Ints("kernel_shape", longs(kernel)),
            Attribute::Ints("strides", longs(window.stride)),
            pads(window.padding),
            Attribute::Int("ceil_mode", i64::from(ceil)),
            more,
        ];
        Ok(self.graph.node(op, &[&x], attributes))
    }

    /// Averages over windows that together are the input: over all of it, or of one size.
    fn adaptive(&mut self, x: &TensorIr, to: &Shape) -> Lowered {
        if to[2..].iter().all(|length| *length == 1) {
            let x = self.input(x)?;
            return Ok(self.op("GlobalAveragePool", &[&x]));
        }
        let from = self.extents(x);
        let size = |axis: usize| {
            let length = from[axis].constant()?;
            (length % to[axis] as i64 == 0).then(|| length / to[axis] as i64)
        };
        let sizes: Option<Vec<i64>> = (2..to.num_dims()).map(size).collect();
        let sizes = sizes.ok_or_else(|| self.unsupported("windows of different sizes are not"))?;
        let x = self.input(x)?;
        let shape = ["kernel_shape", "strides"].map(|name| Attribute::Ints(name, sizes.clone()));
        Ok(self.graph.node("AveragePool", &[&x], shape.into()))
    }
}
