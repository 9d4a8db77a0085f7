//! `plain`: causal attention, then a feed-forward tail (Vaswani et al., 2017; rotary positions of
//! Su et al., 2021; grouped queries of Ainslie et al., 2023).
//!
//! ```text
//! x ← resid_mix[0] ⊙ x + resid_mix[1] ⊙ x0                        (resid_mix)
//! n = RMS(x; norm_scale)
//! q, k, v = heads(n·wq), heads(n·wk), heads(n·wv);  q, k ← rope(q), rope(k)
//! y = softmax(mask(gain · q kᵀ / √hd)) v                           (gain: qk_gain)
//! y ← y − (y·v / v·v) v                                            (xsa)
//! x ← x + drop( merge(y)·wo [⊙ attn_scale] )
//! x ← x + drop( silu(x·ff1)·ff2 [⊙ mlp_scale] )
//! ```
//!
//! Kept from mixlab 0.10.1 and worth knowing: the feed-forward tail sees the stream *without* a
//! norm; `kv_source` takes keys and values of an earlier block, and then the queries are *not*
//! rotated; `skip_attention` keeps the weights and drops the branch; `resid_mix` starts as random as
//! any matrix unless `resid_mix_init` is `identity`.
//!
//! Under `parallel_residual` the `swiglu` after this block reads the same `n`, and adds its result
//! last. There `rope_dims`, `xsa` and `skip_attention` have no effect, and `kv_source` is an error.
//!
//! ```json
//! {"type": "plain", "heads": 8, "kv_heads": 4, "qk_gain": 1.5, "rope_dims": 16}
//! ```

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};
use mixlab_ops::{Activation, activate, xsa};

use super::{Block, Flow, KeyValue, Scope, Time, constant, matrix, ones, scaled};
use crate::config::{BlockSpec, Reported};

/// Options of a `plain` block.
#[derive(Clone, Debug, PartialEq)]
pub struct Plain {
    /// Stream width `D`.
    pub dim: usize,
    /// Hidden width `F` of the feed-forward tail.
    pub ffn: usize,
    /// Query heads `H`.
    pub heads: usize,
    /// Width of a head, `hd = D / H`.
    pub head_dim: usize,
    /// Key/value heads `Hk`, a divisor of `H`.
    pub kv_heads: usize,
    /// Earlier block (from 0) whose keys and values are used instead of own ones.
    pub kv_source: Option<usize>,
    /// Channels of a head that rotate with the position; even, unless attention is skipped.
    pub rope_dims: usize,
    /// Start value of a learned factor of the scores, one a head.
    pub qk_gain: Option<f32>,
    /// Exclusive self-attention: remove the projection on the own value.
    pub xsa: bool,
    /// Leave the attention branch out.
    pub skip_attention: bool,
    /// Whether the next block reads this one's normed stream.
    pub parallel: bool,
    /// Whether both branches end in a learned scale.
    pub block_scales: bool,
    /// Whether the block first mixes in the embedding stream.
    pub resid_mix: bool,
    /// Whether that mixing starts as the stream alone.
    pub identity_mix: bool,
    /// Dropout rate of both branches.
    pub dropout: f32,
}

/// Weights of a `plain` block.
#[derive(Module, Debug)]
pub struct PlainWeights<B: Backend> {
    /// `[2, D]`: factors of the stream and of the embedding stream; with `resid_mix`.
    pub resid_mix: Option<Param<Tensor<B, 2>>>,
    /// `[D]`, ones.
    pub norm_scale: Param<Tensor<B, 1>>,
    /// `[D, D]`.
    pub wq: Param<Tensor<B, 2>>,
    /// `[D, Hk·hd]`; unless `kv_source`.
    pub wk: Option<Param<Tensor<B, 2>>>,
    /// `[D, Hk·hd]`; unless `kv_source`.
    pub wv: Option<Param<Tensor<B, 2>>>,
    /// `[H]`; with `qk_gain`.
    pub qk_gain: Option<Param<Tensor<B, 1>>>,
    /// `[D, D]`.
    pub wo: Param<Tensor<B, 2>>,
    /// `[D]`, ones; with `block_scales`.
    pub attn_scale: Option<Param<Tensor<B, 1>>>,
    /// `[D, F]`.
    pub ff1: Param<Tensor<B, 2>>,
    /// `[F, D]`.
    pub ff2: Param<Tensor<B, 2>>,
    /// `[D]`, ones; with `block_scales`.
    pub mlp_scale: Option<Param<Tensor<B, 1>>>,
}

impl Block for Plain {
    type Weights<B: Backend> = PlainWeights<B>;

    fn types() -> Vec<&'static str> {
        vec!["plain"]
    }

    fn plan(spec: &BlockSpec, scope: &mut Scope<'_>) -> Result<Self, Reported> {
        let heads = scope.heads(spec)?;
        let head_dim = scope.dim / heads;
        let kv_heads = kv_heads(spec, heads, scope);
        let rope_dims = rope_dims(spec, head_dim, scope);
        let kv_source = kv_source(spec, heads, kv_heads, scope);
        let parallel = scope.parallel;
        if parallel {
            warn_of_ignored(spec, scope);
        }
        Ok(Self {
            dim: scope.dim,
            ffn: scope.ffn,
            heads,
            head_dim,
            kv_heads: kv_heads?,
            kv_source: kv_source?,
            rope_dims: rope_dims?,
            qk_gain: spec.qk_gain.filter(|gain| *gain > 0.0),
            xsa: !parallel && spec.xsa.unwrap_or(false),
            skip_attention: !parallel && spec.skip_attention.unwrap_or(false),
            parallel,
            block_scales: scope.block_scales,
            resid_mix: scope.resid_mix,
            identity_mix: scope.identity_mix,
            dropout: scope.dropout,
        })
    }

    fn time(&self) -> Time {
        Time::Streaming
    }

    fn needs(&self) -> Option<String> {
        match self.kv_source {
            Some(source) => Some(format!("keys and values of block `{source}` (`kv_source`)")),
            None => self.resid_mix.then(|| "the embedding stream (`resid_mix`)".into()),
        }
    }

    fn heads(&self) -> Option<usize> {
        Some(self.heads)
    }

    fn init<B: Backend>(&self, device: &B::Device) -> PlainWeights<B> {
        let kv_dim = self.head_dim * self.kv_heads;
        let own = self.kv_source.is_none();
        PlainWeights {
            resid_mix: self.resid_mix.then(|| matrix([2, self.dim], device)),
            norm_scale: ones(self.dim, device),
            wq: matrix([self.dim, self.dim], device),
            wk: own.then(|| matrix([self.dim, kv_dim], device)),
            wv: own.then(|| matrix([self.dim, kv_dim], device)),
            qk_gain: self.qk_gain.map(|gain| constant(self.heads, gain, device)),
            wo: matrix([self.dim, self.dim], device),
            attn_scale: self.block_scales.then(|| ones(self.dim, device)),
            ff1: matrix([self.dim, self.ffn], device),
            ff2: matrix([self.ffn, self.dim], device),
            mlp_scale: self.block_scales.then(|| ones(self.dim, device)),
        }
    }

    fn drawn<B: Backend>(&self, w: PlainWeights<B>) -> PlainWeights<B> {
        if !self.identity_mix {
            return w;
        }
        let identity = |mix: Tensor<B, 2>| {
            let [keep, first] = [mix.ones_like(), mix.zeros_like()].map(|x| x.narrow(0, 0, 1));
            Tensor::cat(vec![keep, first], 0)
        };
        let resid_mix = w.resid_mix.map(|mix| {
            let (id, start) = (mix.id, identity(mix.val()));
            mix.transform_for_load(start, id)
        });
        PlainWeights { resid_mix, ..w }
    }

    fn forward<B: mixlab_ops::Backend>(
        &self,
        w: &PlainWeights<B>,
        x: Tensor<B, 2>,
        flow: &mut Flow<B>,
    ) -> Tensor<B, 2> {
        let x = w.mix(x, flow);
        let x = if self.skip_attention { x } else { x.clone() + self.attend(w, x, flow) };
        x.clone() + self.feed_forward(w, x, flow)
    }
}

impl Plain {
    /// The attention branch on the un-normed stream `x` `[N, D]`.
    fn attend<B: mixlab_ops::Backend>(
        &self,
        w: &PlainWeights<B>,
        x: Tensor<B, 2>,
        flow: &mut Flow<B>,
    ) -> Tensor<B, 2> {
        let n = flow.norm(x, &w.norm_scale);
        if self.parallel {
            flow.share_norm(n.clone());
        }
        let q = flow.split_heads(flow.linear(n.clone(), &w.wq), self.heads);
        let (q, kv) = match self.kv_source {
            Some(source) => (q, flow.published(source)),
            None => (flow.rotate(q, self.rope_dims), self.own_key_value(w, n, flow)),
        };
        let q = match &w.qk_gain {
            Some(gain) => q * flow.activation(gain.val()).reshape([1, self.heads, 1, 1]),
            None => q,
        };
        let scale = 1.0 / (self.head_dim as f32).sqrt();
        let values = flow.latest(kv.values.clone());
        let y = flow.attend(q, kv, scale);
        let y = if self.xsa { xsa(y, values) } else { y };
        let o = flow.project(flow.merge_heads(y), &w.wo);
        flow.dropout(scaled(o, &w.attn_scale), self.dropout)
    }

    /// Keys and values of all tokens so far, offered to later blocks.
    fn own_key_value<B: mixlab_ops::Backend>(
        &self,
        w: &PlainWeights<B>,
        n: Tensor<B, 2>,
        flow: &mut Flow<B>,
    ) -> KeyValue<B> {
        let project = |weight: &Option<Param<Tensor<B, 2>>>| {
            let weight = weight.as_ref().expect("a block without kv_source has wk and wv");
            flow.split_heads(flow.linear(n.clone(), weight), self.kv_heads)
        };
        let keys = flow.rotate(project(&w.wk), self.rope_dims);
        let own = KeyValue { keys, values: project(&w.wv) };
        let all = flow.extend(own);
        flow.publish(all.clone());
        all
    }

    fn feed_forward<B: mixlab_ops::Backend>(
        &self,
        w: &PlainWeights<B>,
        x: Tensor<B, 2>,
        flow: &Flow<B>,
    ) -> Tensor<B, 2> {
        let hidden = activate(Activation::Silu, flow.linear(flow.activation(x), &w.ff1));
        let f = flow.project(hidden, &w.ff2);
        flow.dropout(scaled(f, &w.mlp_scale), self.dropout)
    }
}

impl<B: Backend> PlainWeights<B> {
    fn mix(&self, x: Tensor<B, 2>, flow: &Flow<B>) -> Tensor<B, 2> {
        let Some(mix) = &self.resid_mix else { return x };
        let mix = mix.val();
        x * mix.clone().narrow(0, 0, 1) + flow.x0() * mix.narrow(0, 1, 1)
    }
}

fn kv_heads(spec: &BlockSpec, heads: usize, scope: &mut Scope<'_>) -> Result<usize, Reported> {
    match spec.kv_heads.unwrap_or(0) {
        0 => Ok(heads),
        n if n > 0 && (heads as i64) % n == 0 => Ok(n as usize),
        n => {
            let message = format!("`{n}` does not divide heads `{heads}`");
            let hint = "use a positive divisor of `heads`, or leave it out";
            Err(scope.error("kv_heads", message, hint))
        }
    }
}

/// Channels that rotate; under `parallel_residual` whole heads, whatever `rope_dims` is.
fn rope_dims(spec: &BlockSpec, width: usize, scope: &mut Scope<'_>) -> Result<usize, Reported> {
    const HINT: &str = "rotary channels come in pairs within one head";
    let given = spec.rope_dims.filter(|n| *n != 0);
    if let Some(n) = given.filter(|n| *n < 0 || n % 2 != 0 || *n > width as i64) {
        let message = format!("`{n}` is not an even number in 2..={width}");
        return Err(scope.error("rope_dims", message, HINT));
    }
    let dims = given.filter(|_| !scope.parallel).map_or(width, |n| n as usize);
    let rotates = scope.parallel || spec.skip_attention != Some(true);
    if rotates && !dims.is_multiple_of(2) {
        let message = format!("head width `{width}` is odd, and rotation needs pairs");
        return Err(scope.error("heads", message, HINT));
    }
    Ok(dims)
}

/// Names the options that have no effect under `parallel_residual`, as in mixlab 0.10.1.
fn warn_of_ignored(spec: &BlockSpec, scope: &mut Scope<'_>) {
    let ignored = [
        ("rope_dims", spec.rope_dims.is_some_and(|n| n != 0)),
        ("xsa", spec.xsa == Some(true)),
        ("skip_attention", spec.skip_attention == Some(true)),
    ];
    for (field, _) in ignored.into_iter().filter(|(_, given)| *given) {
        scope.warn(field, "has no effect with `parallel_residual`");
    }
}

/// The source block, from 0, of a block with `heads` heads; none if it has keys of its own.
fn kv_source(
    spec: &BlockSpec,
    heads: usize,
    kv_heads: Result<usize, Reported>,
    scope: &mut Scope<'_>,
) -> Result<Option<usize>, Reported> {
    let Some(number) = spec.kv_source.and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0)
    else {
        return Ok(None);
    };
    let source = scope.earlier::<Plain>(number - 1);
    let problem = match source {
        _ if scope.parallel => "cannot be reused with `parallel_residual`".to_string(),
        _ if number > scope.index => "is not an earlier block".to_string(),
        Err(reported) => return Err(reported),
        Ok(None) => format!("is a `{}` block", scope.specs[number - 1].kind),
        Ok(Some(source)) => match unfit(source, heads, kv_heads) {
            Some(problem) => problem.to_string(),
            None => return Ok(Some(number - 1)),
        },
    };
    let hint =
        "`kv_source` counts blocks from 1 and names an earlier `plain` block with the same heads";
    Err(scope.error("kv_source", format!("block `{number}` {problem}"), hint))
}

/// Why keys and values of `source` are of no use to a block with so many heads.
fn unfit(source: &Plain, heads: usize, kv_heads: Result<usize, Reported>) -> Option<&'static str> {
    if source.kv_source.is_some() {
        return Some("itself takes keys and values from another block");
    }
    if source.skip_attention {
        return Some("has skip_attention, so it has no keys and values");
    }
    if source.heads != heads {
        return Some("has another number of heads");
    }
    let differ = kv_heads.is_ok_and(|own| own != source.kv_heads);
    differ.then_some("has another number of kv_heads")
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;
    use crate::blocks::testing::{errors, plan};
    use crate::model::Model;
    use crate::weights::{layout, values};

    #[test]
    fn heads_of_odd_width_cannot_rotate_and_need_not_without_attention() {
        let odd = "blocks[0].heads: head width `1` is odd, and rotation needs pairs";
        assert_eq!(errors::<Plain>(r#"{"type": "plain", "heads": 8}"#), [odd]);
        let skipping = r#"{"type": "plain", "heads": 8, "skip_attention": true}"#;
        assert!(plan::<Plain>(skipping).unwrap().skip_attention);
        let wide = r#"{"type": "plain", "heads": 4, "skip_attention": true, "rope_dims": 4}"#;
        let expected = "blocks[0].rope_dims: `4` is not an even number in 2..=2";
        assert_eq!(errors::<Plain>(wide), [expected]);
    }

    #[test]
    fn an_identity_mix_is_for_plain_blocks_only() {
        let json = r#"{"model_dim": 8, "vocab_size": 11, "resid_mix": true,
            "resid_mix_init": "identity", "blocks": [{"type": "plain", "heads": 2},
            {"type": "custom", "name": "n", "weights": [{"name": "resid_mix", "shape": ["2", "D"]}],
             "ops": [{"op": "silu", "inputs": ["x"], "output": "x"}]}]}"#;
        let plan = crate::plan::Plan::parse(json, "test.json", &[]).unwrap().plan;
        let model: Model<burn_flex::Flex> = Model::init(plan.into(), &Default::default());
        let weights = layout(&model).into_iter().zip(values(&model));
        let mut mixes = weights.filter(|(weight, _)| weight.name == "resid_mix").map(|(_, v)| v);
        assert_eq!(mixes.next().unwrap(), [[1.0; 8], [0.0; 8]].concat());
        assert!(mixes.next().unwrap().iter().all(|value| value.abs() > 0.0 && value.abs() < 1.0));
        assert!(mixes.next().is_none());
    }
}
