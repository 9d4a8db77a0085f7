//! Softmax attention (Vaswani et al., 2017) with grouped key/value heads (Ainslie et al., 2023),
//! causal or over everything.
//!
//! `P = softmax(mask(scale · q kᵀ))`, `y = P v`; only causal attention has the mask. Its queries are
//! the last of the positions that have keys: query `i` sees key `j` if `j ≤ i + Tk − Tq`.
//! With `L` the log-sum-exp of each score row, the gradient needs no stored `P`:
//! `P = exp(scale · q kᵀ − L)`, `∂v = Pᵀ g`, `∂P = g vᵀ`,
//! `∂S = P ⊙ (∂P − Σ g ⊙ y)`, `∂q = scale · ∂S k`, `∂k = scale · ∂Sᵀ q`.

#[cfg(feature = "cpu")]
mod cpu;
#[cfg(feature = "cuda")]
mod flash;
#[cfg(feature = "cuda")]
mod hopper;
#[cfg(feature = "cube")]
mod kernel;
mod retention;

use burn::tensor::{DType, Int, Tensor};
use burn_backend::TensorMetadata;
use burn_backend::tensor::{FloatTensor, IntTensor};
#[cfg(feature = "cube")]
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
#[cfg(feature = "cpu")]
use burn_flex::FlexTensor;

pub use retention::{Retention, RetentionGradient, retention};

use crate::plumbing::heads::{repeat_heads, sum_groups};
use crate::shape::divides;
use crate::{Axes, Backend, Mismatch, Op, Precision, Spec, Tape, all, lift, lower, run, same_type};

/// Attributes of [`attention`] and [`full_attention`].
#[derive(Clone, Debug)]
pub struct Attention {
    /// Whether a query sees only the keys at its own position and before; the last query stands at
    /// the last key.
    pub causal: bool,
    /// Factor of the scores, usually `1/√hd`.
    pub scale: f32,
    /// What products of 32-bit inputs may round their operands to: with [`Precision::F32`] nothing,
    /// else TensorFloat-32.
    pub precision: Precision,
}

/// The gradients of [`Attention`], of its inputs, its outputs and the gradient of the first output.
#[derive(Clone, Debug)]
pub struct AttentionGradient {
    /// The op whose gradients these are.
    pub of: Attention,
}

/// Causal attention of `q` `[B, H, Tq, hd]`, the last `Tq` positions of a row, over `k` and `v`
/// `[B, Hk, Tk, hd]`, all of it, with `Tq ≤ Tk`; `Hk` divides `H`, and query head `h` reads key/value
/// head `⌊h·Hk/H⌋`.
pub fn attention<B: Backend>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
    scale: f32,
    precision: Precision,
) -> Tensor<B, 4> {
    run(&Attention { causal: true, scale, precision }, [q, k, v].map(lower), vec![])
}

/// Attention of `q` `[B, H, Tq, hd]` over all of `k` and `v` `[B, Hk, Tk, hd]`; `Hk` divides `H`.
pub fn full_attention<B: Backend>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
    scale: f32,
    precision: Precision,
) -> Tensor<B, 4> {
    run(&Attention { causal: false, scale, precision }, [q, k, v].map(lower), vec![])
}

/// `scale · q kᵀ` with the future masked, `[B, H, Tq, Tk]`; the last query stands at the last key.
fn scores<B: burn::tensor::backend::Backend>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    scale: f32,
) -> Tensor<B, 4> {
    let (tq, tk) = (q.dims()[2], k.dims()[2]);
    let [rows, columns] = positions(tq, tk, &q.device()).map(|at| at.float().cast(q.dtype()));
    // Arithmetic, not a boolean mask: Burn 0.21 fuses those into matrix products on CUDA, with
    // loads of 16 bytes that its kernels then refuse.
    let future = (columns.reshape([1, tk]) - rows.reshape([tq, 1])).clamp(0.0, 1.0);
    let future: Tensor<B, 4> = future.unsqueeze();
    (q * scale).matmul(k.swap_dims(2, 3)) * (-future.clone() + 1.0) + future * -1e9
}

/// Checks that so many queries can stand at the last of so many keys.
fn last(queries: usize, keys: usize) -> Result<(), Mismatch> {
    Mismatch::unless(queries <= keys, || format!("Tq = {queries} should be at most Tk = {keys}"))
}

/// The positions `[Tq]` of the queries, which are the last ones, and those `[Tk]` of the keys.
fn positions<B: burn::tensor::backend::Backend>(
    tq: usize,
    tk: usize,
    device: &B::Device,
) -> [Tensor<B, 1, Int>; 2] {
    [tk - tq, 0].map(|first| Tensor::arange(first as i64..tk as i64, device))
}

/// A primitive `[B, H, T, hd]` as a tensor of f32: scores need more than a half has.
fn single<B: burn::tensor::backend::Backend>(x: FloatTensor<B>) -> Tensor<B, 4> {
    lift::<B, 4>(x).cast(DType::F32)
}

/// `softmax(s) v` and the log-sum-exp `[B, H, T, 1]` of each row of `s`.
fn attend<B: burn::tensor::backend::Backend>(
    s: Tensor<B, 4>,
    v: Tensor<B, 4>,
) -> [Tensor<B, 4>; 2] {
    let max = s.clone().detach().max_dim(3);
    let e = (s - max.clone()).exp();
    let sum = e.clone().sum_dim(3);
    [(e / sum.clone()).matmul(v), sum.log() + max]
}

/// Gradients of [`attend`]'s `s` and `v`, given its two outputs and the gradient `g` of the first.
fn attend_gradient<B: burn::tensor::backend::Backend>(
    s: Tensor<B, 4>,
    v: Tensor<B, 4>,
    outputs: [Tensor<B, 4>; 2],
    g: Tensor<B, 4>,
) -> [Tensor<B, 4>; 2] {
    let [y, log_sum_exp] = outputs;
    let p = (s - log_sum_exp).exp();
    let dv = p.clone().swap_dims(2, 3).matmul(g.clone());
    let dp = g.clone().matmul(v.swap_dims(2, 3));
    [p * (dp - (g * y).sum_dim(3)), dv]
}

impl Attention {
    /// Checks the inputs of the forward; the lengths of the axes of `q`.
    fn axes(&self, axes: &mut Axes, [q, k, v]: [&Spec; 3]) -> Result<[usize; 4], Mismatch> {
        let lengths = axes.of("q", q, ["B", "H", "Tq", "hd"])?;
        let [_, groups, keys, _] = axes.of("k", k, ["B", "Hk", "Tk", "hd"])?;
        axes.of("v", v, ["B", "Hk", "Tk", "hd"])?;
        if self.causal {
            last(lengths[2], keys)?;
        }
        divides(groups, lengths[1])?;
        same_type(&[("q", q), ("k", k), ("v", v)])?;
        Ok(lengths)
    }

    /// `scale · q kᵀ`, masked if causal, `[B, H, Tq, Tk]`.
    fn scores<B: burn::tensor::backend::Backend>(
        &self,
        q: Tensor<B, 4>,
        k: Tensor<B, 4>,
    ) -> Tensor<B, 4> {
        if self.causal {
            scores(q, k, self.scale)
        } else {
            (q * self.scale).matmul(k.swap_dims(2, 3))
        }
    }
}

impl Op<3> for Attention {
    const NAME: &'static str = "mixlab.attention";
    const GRADIENT: bool = true;
    const KERNEL: bool = true;

    fn attributes(&self) -> String {
        let Self { causal, scale, precision } = self;
        format!(r#"{{"causal":{causal},"scale":{scale:e},"precision":"{precision}"}}"#)
    }

    fn outputs(&self, [q, k, v]: &[Spec; 3], _: &[Spec]) -> Result<Vec<Spec>, Mismatch> {
        let [b, h, t, _] = self.axes(&mut Axes::default(), [q, k, v])?;
        Ok(vec![q.clone(), Spec::new([b, h, t, 1], DType::F32)])
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        [q, k, v]: [FloatTensor<B>; 3],
        _: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let dtype = q.dtype();
        let [q, k, v] = [q, k, v].map(single);
        let heads = q.dims()[1];
        let s = self.scores(q, repeat_heads(k, heads));
        let [y, log_sum_exp] = attend::<B>(s, repeat_heads(v, heads));
        vec![lower(y.cast(dtype)), lower(log_sum_exp)]
    }

    fn gradient<B: Backend>(
        &self,
        mut tape: Tape<B, 3>,
        grad: FloatTensor<B>,
    ) -> [FloatTensor<B>; 3] {
        let ([q, k, v], [y, log_sum_exp]) = (tape.inputs(), all(tape.outputs));
        let inputs = [q, k, v, y, log_sum_exp, grad];
        all(B::execute(&AttentionGradient { of: self.clone() }, inputs, vec![]))
    }

    #[cfg(feature = "cpu")]
    fn cpu(&self, inputs: &[FlexTensor; 3], _: &[FlexTensor]) -> Option<Vec<FlexTensor>> {
        Some(cpu::Heads::new(inputs.each_ref(), self, vec![]).forward().into())
    }

    #[cfg(feature = "cube")]
    fn refusal<R: CubeRuntime>(&self, inputs: &[CubeTensor<R>; 3]) -> Option<String> {
        kernel::refusal(&inputs[0])
    }

    #[cfg(feature = "cube")]
    unsafe fn cube<R: CubeRuntime>(
        &self,
        inputs: [CubeTensor<R>; 3],
        _: Vec<CubeTensor<R>>,
    ) -> Vec<CubeTensor<R>> {
        kernel::Kernels::new(inputs, None, self.clone()).forward()
    }
}

impl Op<6> for AttentionGradient {
    const NAME: &'static str = "mixlab.attention_gradient";
    const KERNEL: bool = true;

    fn attributes(&self) -> String {
        self.of.attributes()
    }

    fn outputs(
        &self,
        [q, k, v, y, log_sum_exp, grad]: &[Spec; 6],
        _: &[Spec],
    ) -> Result<Vec<Spec>, Mismatch> {
        let mut axes = Axes::default();
        self.of.axes(&mut axes, [q, k, v])?;
        axes.of("y", y, ["B", "H", "Tq", "hd"])?;
        axes.of("log_sum_exp", log_sum_exp, ["B", "H", "Tq", "1"])?;
        axes.of("grad", grad, ["B", "H", "Tq", "hd"])?;
        same_type(&[("q", q), ("y", y), ("grad", grad)])?;
        Ok(vec![q.clone(), k.clone(), v.clone()])
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        inputs: [FloatTensor<B>; 6],
        _: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let [q, k, v, ..] = inputs.each_ref().map(|x| x.dtype());
        let types = [q, k, v];
        let [q, k, v, y, log_sum_exp, g] = inputs.map(single::<B>);
        let (heads, groups) = (q.dims()[1], k.dims()[1]);
        let (k, v) = (repeat_heads(k, heads), repeat_heads(v, heads));
        let s = self.of.scores(q.clone(), k.clone());
        let [ds, dv] = attend_gradient(s, v, [y, log_sum_exp], g);
        let ds = ds * self.of.scale;
        let dq = ds.clone().matmul(k);
        let dk = ds.swap_dims(2, 3).matmul(q);
        let gradients = [dq, sum_groups(dk, groups), sum_groups(dv, groups)];
        gradients.into_iter().zip(types).map(|(x, dtype)| lower(x.cast(dtype))).collect()
    }

    #[cfg(feature = "cpu")]
    fn cpu(&self, inputs: &[FlexTensor; 6], _: &[FlexTensor]) -> Option<Vec<FlexTensor>> {
        let [q, k, v, y, log_sum_exp, g] = inputs;
        let heads = cpu::Heads::new([q, k, v], &self.of, vec![]);
        let [dq, dk, dv, _] = heads.gradient(&cpu::Saved::new([y, log_sum_exp, g]));
        Some(vec![dq, dk, dv])
    }

    #[cfg(feature = "cube")]
    fn refusal<R: CubeRuntime>(&self, inputs: &[CubeTensor<R>; 6]) -> Option<String> {
        kernel::refusal(&inputs[0])
    }

    #[cfg(feature = "cube")]
    unsafe fn cube<R: CubeRuntime>(
        &self,
        [q, k, v, y, log_sum_exp, g]: [CubeTensor<R>; 6],
        _: Vec<CubeTensor<R>>,
    ) -> Vec<CubeTensor<R>> {
        let inputs = kernel::Kernels::new([q, k, v], None, self.of.clone());
        inputs.gradient([y, log_sum_exp, g])
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests;
