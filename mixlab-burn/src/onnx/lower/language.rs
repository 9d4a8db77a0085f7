//! The operations of mixlab-ops that have better counterparts than their references; the others
//! are exported by their references.

use burn::tensor::{DType, TensorData};
use burn_ir::TensorIr;
use mixlab_ops::capture::Node;
use mixlab_ops::{
    Activate, Activation, Attention, Embedding, FadingMax, Gate, Linear, MatrixScan, Retention,
    RmsNorm, Rope, Scan, ScanFrom, ScanTv,
};

use super::super::OnnxError;
use super::super::extent::Extent;
use super::super::graph::Attribute;
use super::super::profile::Profile;
use super::shape::counted;
use super::{Lowered, Lowering};

/// What hides a score: `e^−10⁹` is 0.
const HIDDEN: f64 = -1e9;

/// Whether a node is lowered as the op that it is.
pub(crate) fn is_known(node: &Node) -> bool {
    let activation =
        node.op::<Activate>().map(|op| op.kind).or(node.op::<Gate>().map(|op| op.kind));
    activation.is_some_and(is_plain)
        || node.op::<Linear>().is_some()
        || node.op::<Embedding>().is_some()
        || node.op::<RmsNorm>().is_some_and(|op| op.dtype.is_none_or(|dtype| dtype == DType::F32))
        || node.op::<Rope>().is_some()
        || node.op::<Attention>().is_some()
        || node.op::<Retention>().is_some()
        || node.op::<Scan>().is_some()
        || node.op::<ScanTv>().is_some()
        || node.op::<MatrixScan>().is_some()
        || node.op::<ScanFrom>().is_some()
        || node.op::<FadingMax>().is_some()
}

/// Whether ONNX has `kind` in one or two operations.
fn is_plain(kind: Activation) -> bool {
    matches!(kind, Activation::Sigmoid | Activation::Silu | Activation::Relu)
}

impl Lowering<'_> {
    pub(super) fn language(&mut self, node: &Node) -> Lowered {
        if let Some(done) = self.recurrence(node) {
            return done;
        }
        let inputs: Vec<&TensorIr> = node.operation.inputs().collect();
        let out = node.operation.outputs().next().expect("an op has a result");
        if node.op::<Linear>().is_some() {
            return self.product(inputs[0], inputs[1]);
        }
        if node.op::<Embedding>().is_some() {
            let (table, ids) = (self.input(inputs[0])?, self.input(inputs[1])?);
            return Ok(self.op("Gather", &[&table, &ids]));
        }
        if let Some(op) = node.op::<Activate>() {
            let x = self.input(inputs[0])?;
            return Ok(self.activation(op.kind, &x));
        }
        if let Some(op) = node.op::<Gate>() {
            let (gate, x) = (self.input(inputs[0])?, self.input(inputs[1])?);
            let gate = self.activation(op.kind, &gate);
            return Ok(self.op("Mul", &[&gate, &x]));
        }
        if let Some(op) = node.op::<Rope>() {
            return self.rope(op, inputs[0]);
        }
        if let Some(op) = node.op::<RmsNorm>() {
            let (x, scale) = (self.input(inputs[0])?, self.input(inputs[1])?);
            return Ok(match self.profile {
                Profile::Portable | Profile::Genai => self.rms_primitives(&x, &scale, op.eps),
                Profile::Modern => self.rms_normalization(&x, &scale, op.eps),
            });
        }
        if let Some(op) = node.op::<Attention>() {
            let aligned = self.extents(inputs[0])[2] == self.extents(inputs[1])[2];
            if self.profile == Profile::Modern && (aligned || !op.causal) {
                return self.attention_op(
                    [inputs[0], inputs[1], inputs[2]],
                    op.scale,
                    op.causal,
                    None,
                );
            }
            let mask = op.causal.then(|| self.mask(inputs[0], inputs[1])).transpose()?;
            return self.attention([inputs[0], inputs[1], inputs[2]], op.scale, mask, out);
        }
        if let Some(op) = node.op::<Retention>() {
            let fading = self.fading(inputs[0], inputs[1], inputs[3])?;
            return self.attention([inputs[0], inputs[1], inputs[2]], op.scale, Some(fading), out);
        }
        Err(self.unsupported("no lowering is written for it"))
    }

    fn activation(&mut self, kind: Activation, x: &str) -> String {
        match kind {
            Activation::Relu => self.op("Relu", &[x]),
            Activation::Sigmoid => self.op("Sigmoid", &[x]),
            _ => {
                let gate = self.op("Sigmoid", &[x]);
                self.op("Mul", &[x, &gate])
            }
        }
    }

    /// Softmax attention, with `bias` added to the scores; heads that share keys are a further axis.
    fn attention(
        &mut self,
        [q, k, v]: [&TensorIr; 3],
        scale: f32,
        bias: Option<String>,
        out: &TensorIr,
    ) -> Lowered {
        if self.profile == Profile::Modern {
            return self.attention_op([q, k, v], scale, false, bias);
        }
        let [heads, groups] = [q, k].map(|x| x.shape[1] as i64);
        let width = q.shape[3] as i64;
        let shared = groups != heads && groups != 1;
        let [mut xq, mut xk, mut xv] = [self.input(q)?, self.input(k)?, self.input(v)?];
        if shared {
            let split = self.graph.ints(&[0, groups, heads / groups, -1, width]);
            xq = self.op("Reshape", &[&xq, &split]);
            let two = self.graph.ints(&[2]);
            [xk, xv] = [xk, xv].map(|x| self.op("Unsqueeze", &[&x, &two]));
        }
        let scale = self.scalar(f64::from(scale), q.dtype);
        let xq = self.op("Mul", &[&xq, &scale]);
        let xk = self.transposed(&xk, if shared { 5 } else { 4 });
        let mut scores = self.op("MatMul", &[&xq, &xk]);
        if let Some(bias) = bias {
            scores = self.op("Add", &[&scores, &bias]);
        }
        let last = vec![Attribute::Int("axis", -1)];
        let weights = self.graph.node("Softmax", &[&scores], last);
        let y = self.op("MatMul", &[&weights, &xv]);
        if !shared {
            return Ok(y);
        }
        let merged = self.graph.ints(&[0, heads, -1, out.shape[3] as i64]);
        Ok(self.op("Reshape", &[&y, &merged]))
    }

    /// Positions of the queries `q` as a column and of the keys `k` as a row; the last query stands at
    /// the last key.
    fn positions(&mut self, q: &TensorIr, k: &TensorIr) -> Result<[String; 2], OnnxError> {
        let [tq, tk] = [q, k].map(|x| self.extents(x)[2].clone());
        let zero = Extent::fixed(0);
        let rows = counted(self.traced, self.graph, &tk.minus(&tq), &tk)?;
        let columns = counted(self.traced, self.graph, &zero, &tk)?;
        let column = self.graph.shared("query_positions", rows.clone(), |graph| {
            let one = graph.ints(&[1]);
            graph.node("Unsqueeze", &[&rows, &one], vec![])
        });
        Ok([column, columns])
    }

    /// Which keys are later than a query, `[Tq, Tk]`.
    fn future(&mut self, q: &TensorIr, k: &TensorIr) -> Lowered {
        let [rows, columns] = self.positions(q, k)?;
        Ok(self.graph.shared("future", format!("{rows} {columns}"), |graph| {
            graph.node("Greater", &[&columns, &rows], vec![])
        }))
    }

    /// What to add to scores `[…, Tq, Tk]` so that no query sees later keys.
    fn mask(&mut self, q: &TensorIr, k: &TensorIr) -> Lowered {
        let future = self.future(q, k)?;
        Ok(self.graph.shared("mask", future.clone(), |graph| {
            let [hidden, seen] = [HIDDEN as f32, 0.0]
                .map(|x| graph.constant(&TensorData::new(vec![x], Vec::<usize>::new())));
            graph.node("Where", &[&future, &hidden, &seen], vec![])
        }))
    }

    /// The mask, less the distance times the rate of each head: `[1, H, Tq, Tk]`.
    fn fading(&mut self, q: &TensorIr, k: &TensorIr, rate: &TensorIr) -> Lowered {
        let mask = self.mask(q, k)?;
        let [rows, columns] = self.positions(q, k)?;
        let distance = self.graph.shared("distance", format!("{rows} {columns}"), |graph| {
            let distance = graph.node("Sub", &[&rows, &columns], vec![]);
            let distance = graph.node("Cast", &[&distance], vec![Attribute::Int("to", 1)]);
            graph.node("Relu", &[&distance], vec![])
        });
        let (rate, axes) = (self.input(rate)?, self.graph.ints(&[0, 2, 3]));
        let rate = self.op("Unsqueeze", &[&rate, &axes]);
        let fade = self.op("Mul", &[&distance, &rate]);
        Ok(self.op("Sub", &[&mask, &fade]))
    }

    fn rope(&mut self, op: &Rope, x: &TensorIr) -> Lowered {
        let start = self.extent("the first position", |node| {
            node.op::<Rope>().expect("all captures have the same operations").start as i64
        })?;
        let extents = self.extents(x);
        let [cos, sin] = self.table(op, &start, &start.plus(&extents[2]))?;
        if self.profile == Profile::Modern {
            return self.rotary(op, x, [cos, sin]);
        }
        let [turns, width] = [op.dims as i64, x.shape[3] as i64];
        let name = self.input(x)?;
        let [even, odd] = [0, 1].map(|first| self.part(&name, [first, turns, 2]));
        let mut products = [(&even, &cos), (&odd, &sin), (&even, &sin), (&odd, &cos)]
            .map(|(x, w)| self.op("Mul", &[x, w]))
            .into_iter();
        let mut next = || products.next().expect("four products");
        let [a, b, c, d] = [next(), next(), next(), next()];
        let pair = [self.op("Sub", &[&a, &b]), self.op("Add", &[&c, &d])];
        let last = self.graph.ints(&[-1]);
        let [first, second] = pair.map(|x| self.op("Unsqueeze", &[&x, &last]));
        let axis = || vec![Attribute::Int("axis", -1)];
        let pairs = self.graph.node("Concat", &[&first, &second], axis());
        let mut to = extents[..3].to_vec();
        to.push(Extent::fixed(turns));
        let shape = super::shape::reshape(self.traced, self.graph, &extents[..3], &to)?;
        let turned = self.op("Reshape", &[&pairs, &shape]);
        if turns == width {
            return Ok(turned);
        }
        let rest = self.part(&name, [turns, width, 1]);
        Ok(self.graph.node("Concat", &[&turned, &rest], axis()))
    }

    /// Start, end and step along the last axis of `x`.
    fn part(&mut self, x: &str, bounds: [i64; 3]) -> String {
        let [start, end, step] = bounds.map(|at| self.graph.ints(&[at]));
        let axis = self.graph.ints(&[-1]);
        self.op("Slice", &[x, &start, &end, &axis, &step])
    }

    /// Cosines and sines `[T, R/2]` of the angles of positions `start` to before `end`: the angles in
    /// 64 bits and within one turn, since 32 bits lose a digit for each that a position has.
    fn table(&mut self, op: &Rope, start: &Extent, end: &Extent) -> Result<[String; 2], OnnxError> {
        let positions = counted(self.traced, self.graph, start, end)?;
        let step = -2.0 * f64::from(op.base).ln() / op.dims as f64;
        let rates: Vec<f64> = (0..op.dims / 2).map(|i| (step * i as f64).exp()).collect();
        let key = format!("{positions} {} {}", op.dims, op.base);
        let angles = self.graph.shared("angles", key.clone(), |graph| {
            let double = || vec![Attribute::Int("to", 11)];
            let positions = graph.node("Cast", &[&positions], double());
            let one = graph.ints(&[1]);
            let positions = graph.node("Unsqueeze", &[&positions, &one], vec![]);
            let rates = graph.constant(&TensorData::new(rates.clone(), [1, rates.len()]));
            let angles = graph.node("Mul", &[&positions, &rates], vec![]);
            let turn = TensorData::new(vec![std::f64::consts::TAU], Vec::<usize>::new());
            let turn = graph.constant(&turn);
            let turns = graph.node("Div", &[&angles, &turn], vec![]);
            let turns = graph.node("Floor", &[&turns], vec![]);
            let whole = graph.node("Mul", &[&turns, &turn], vec![]);
            let within = graph.node("Sub", &[&angles, &whole], vec![]);
            graph.node("Cast", &[&within], vec![Attribute::Int("to", 1)])
        });
        let cos =
            self.graph.shared("cos", key.clone(), |graph| graph.node("Cos", &[&angles], vec![]));
        let sin = self.graph.shared("sin", format!("{key} {}", op.inverse), |graph| {
            let sin = graph.node("Sin", &[&angles], vec![]);
            if op.inverse { graph.node("Neg", &[&sin], vec![]) } else { sin }
        });
        Ok([cos, sin])
    }

    /// Scores of Burn's own attention: all that it may have.
    pub(super) fn burn_attention(&mut self, op: &burn_ir::AttentionOpIr) -> Lowered {
        let (q, k) = (&op.query, &op.key);
        let float = |value: &burn_ir::ScalarIr| match value {
            burn_ir::ScalarIr::Float(x) => *x,
            _ => unreachable!("these options are floats"),
        };
        let scale = op.options.scale.as_ref().map(float);
        let scale = scale.unwrap_or_else(|| (q.shape[3] as f64).sqrt().recip());
        let (xq, xk, xv) = (self.input(q)?, self.input(k)?, self.input(&op.value)?);
        let xk = self.transposed(&xk, 4);
        let scores = self.op("MatMul", &[&xq, &xk]);
        let scale = self.scalar(scale, q.dtype);
        let mut scores = self.op("Mul", &[&scores, &scale]);
        if let Some(cap) = op.options.softcap.as_ref().map(float) {
            let cap = self.scalar(cap, q.dtype);
            let ratio = self.op("Div", &[&scores, &cap]);
            let bounded = self.op("Tanh", &[&ratio]);
            scores = self.op("Mul", &[&bounded, &cap]);
        }
        let none = self.scalar(f64::NEG_INFINITY, q.dtype);
        if let Some(mask) = &op.mask {
            let mask = self.input(mask)?;
            scores = self.op("Where", &[&mask, &none, &scores]);
        }
        if op.options.is_causal {
            let future = self.future(q, k)?;
            scores = self.op("Where", &[&future, &none, &scores]);
        }
        if let Some(bias) = &op.attn_bias {
            let bias = self.input(bias)?;
            scores = self.op("Add", &[&scores, &bias]);
        }
        let mut weights = self.graph.node("Softmax", &[&scores], vec![Attribute::Int("axis", -1)]);
        let all_see = op.options.is_causal && self.extents(q)[2] == self.extents(k)[2];
        if op.mask.is_some() || op.attn_bias.is_some() || op.options.is_causal && !all_see {
            // A query that sees nothing has nothing, not 0 / 0.
            let (lost, zero) = (self.op("IsNaN", &[&weights]), self.scalar(0.0, q.dtype));
            weights = self.op("Where", &[&lost, &zero, &weights]);
        }
        Ok(self.op("MatMul", &[&weights, &xv]))
    }
}
