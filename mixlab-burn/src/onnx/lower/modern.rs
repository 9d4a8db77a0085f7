//! The operations that language models have in ONNX since opset 23.

use burn::tensor::DType;
use burn_ir::TensorIr;
use mixlab_ops::Rope;

use super::super::extent::Extent;
use super::super::graph::Attribute;
use super::shape::{counted, lengths};
use super::{Lowered, Lowering};

impl Lowering<'_> {
    /// `RMSNormalization` of `x` `[N, D]` times `scale` `[D]`.
    pub(super) fn rms_normalization(&mut self, x: &str, scale: &str, eps: f32) -> String {
        let attributes = vec![Attribute::Int("axis", -1), Attribute::Float("epsilon", eps)];
        self.graph.node("RMSNormalization", &[x, scale], attributes)
    }

    /// `Attention` with `bias` added to the scores. Its own causal mask begins at the first key, so it
    /// is for rows that do.
    pub(super) fn attention_op(
        &mut self,
        inputs: [&TensorIr; 3],
        scale: f32,
        causal: bool,
        bias: Option<String>,
    ) -> Lowered {
        let mut names = Vec::new();
        for input in inputs {
            names.push(self.input(input)?);
        }
        names.extend(bias);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut attributes = vec![Attribute::Float("scale", scale)];
        if causal {
            attributes.push(Attribute::Int("is_causal", 1));
        }
        Ok(self.graph.node("Attention", &names, attributes))
    }

    /// `RotaryEmbedding` of `x` `[B, H, T, hd]`, whose steps are the positions that the tables
    /// `[T, R/2]` are for.
    pub(super) fn rotary(&mut self, op: &Rope, x: &TensorIr, [cos, sin]: [String; 2]) -> Lowered {
        let extents = self.extents(x);
        let zero = Extent::fixed(0);
        let steps = counted(self.traced, self.graph, &zero, &extents[2])?;
        let rows: [Extent; 2] = [extents[0].clone(), extents[2].clone()];
        let rows = lengths(self.traced, self.graph, &rows)?;
        let places = self.graph.shared("position_ids", format!("{steps} {rows}"), |graph| {
            graph.node("Expand", &[&steps, &rows], vec![])
        });
        let x_name = self.input(x)?;
        let [heads, width] = [x.shape[1], x.shape[3]];
        // 1.23 refuses to turn a part of each head without the number of heads.
        let mut attributes =
            vec![Attribute::Int("interleaved", 1), Attribute::Int("num_heads", heads as i64)];
        if op.dims != width {
            attributes.push(Attribute::Int("rotary_embedding_dim", op.dims as i64));
        }
        Ok(self.graph.node("RotaryEmbedding", &[&x_name, &cos, &sin, &places], attributes))
    }

    /// `x · scale / √(mean(x²) + ε)` in operations that all runtimes have.
    pub(super) fn rms_primitives(&mut self, x: &str, scale: &str, eps: f32) -> String {
        let square = self.op("Mul", &[x, x]);
        let mean = self.reduced("ReduceMean", &square, &[-1]);
        let eps = self.scalar(f64::from(eps), DType::F32);
        let sum = self.op("Add", &[&mean, &eps]);
        let root = self.op("Sqrt", &[&sum]);
        let normed = self.op("Div", &[x, &root]);
        self.op("Mul", &[&normed, scale])
    }
}
