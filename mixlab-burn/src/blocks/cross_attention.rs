//! `cross_attention`: attention over another stream, then a feed-forward tail.
//!
//! ```text
//! n = RMS(x; norm_scale);   q = heads(n·wq);   k, v = heads(src·wk), heads(src·wv)
//! x ← x + merge( softmax(q kᵀ / √hd) v )·wo
//! x ← x + silu(x·ff1)·ff2
//! ```
//!
//! The encoder–decoder attention of Vaswani et al. (2017). `source_stream` names `src`: `x` is the
//! stream itself, `x0` the stream as it left the embedding, and any other name is the output of the
//! earlier block that publishes it with `"stream": "name"`. Unlike in the paper the source is not a
//! second sequence, and neither it nor the feed-forward tail has a norm.
//!
//! Kept from mixlab 0.10.1, where no config could use the block: there is no mask, so *every
//! position sees the future* (a config with this block gets a warning), and no rotation.
//!
//! ```json
//! {"type": "cross_attention", "heads": 4, "source_stream": "x0"}
//! ```

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};
use mixlab_ops::{Activation, activate};

use super::attend::Attend;
use super::{Block, Flow, Scope, Time, matrix, ones};
use crate::config::{BlockSpec, Reported, nearest_hint};

/// What a `cross_attention` block reads.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// `x`: the stream that enters the block.
    Current,
    /// `x0`: the stream as it left the embedding.
    Embedding,
    /// The output that an earlier block published under this name.
    Published(String),
}

/// Options of a `cross_attention` block.
#[derive(Clone, Debug, PartialEq)]
pub struct CrossAttention {
    /// Stream width `D`.
    pub dim: usize,
    /// Hidden width `F` of the feed-forward tail.
    pub ffn: usize,
    /// Heads `H`.
    pub heads: usize,
    /// Where keys and values come from.
    pub source: Source,
}

/// Weights of a `cross_attention` block.
#[derive(Module, Debug)]
pub struct CrossAttentionWeights<B: Backend> {
    /// `[D]`, ones.
    pub norm_scale: Param<Tensor<B, 1>>,
    /// `[D, D]`.
    pub wq: Param<Tensor<B, 2>>,
    /// `[D, D]`.
    pub wk: Param<Tensor<B, 2>>,
    /// `[D, D]`.
    pub wv: Param<Tensor<B, 2>>,
    /// `[D, D]`.
    pub wo: Param<Tensor<B, 2>>,
    /// `[D, F]`.
    pub ff1: Param<Tensor<B, 2>>,
    /// `[F, D]`.
    pub ff2: Param<Tensor<B, 2>>,
}

impl Block for CrossAttention {
    type Weights<B: Backend> = CrossAttentionWeights<B>;

    fn types() -> Vec<&'static str> {
        vec!["cross_attention"]
    }

    fn plan(spec: &BlockSpec, scope: &mut Scope<'_>) -> Result<Self, Reported> {
        let (heads, source) = (scope.heads(spec), source(spec, scope));
        Ok(Self { dim: scope.dim, ffn: scope.ffn, heads: heads?, source: source? })
    }

    fn time(&self) -> Time {
        Time::Whole
    }

    fn needs(&self) -> Option<String> {
        match &self.source {
            Source::Current => None,
            Source::Embedding => Some("the embedding stream (`source_stream` is `x0`)".into()),
            Source::Published(name) => Some(format!("the stream `{name}` (`source_stream`)")),
        }
    }

    fn heads(&self) -> Option<usize> {
        Some(self.heads)
    }

    fn init<B: Backend>(&self, device: &B::Device) -> CrossAttentionWeights<B> {
        let Self { dim, ffn, .. } = *self;
        CrossAttentionWeights {
            norm_scale: ones(dim, device),
            wq: matrix([dim, dim], device),
            wk: matrix([dim, dim], device),
            wv: matrix([dim, dim], device),
            wo: matrix([dim, dim], device),
            ff1: matrix([dim, ffn], device),
            ff2: matrix([ffn, dim], device),
        }
    }

    fn forward<B: mixlab_ops::Backend>(
        &self,
        w: &CrossAttentionWeights<B>,
        x: Tensor<B, 2>,
        flow: &mut Flow<B>,
    ) -> Tensor<B, 2> {
        let source = match &self.source {
            Source::Current => x.clone(),
            Source::Embedding => flow.x0(),
            Source::Published(name) => flow.stream(name),
        };
        let n = flow.norm(x.clone(), &w.norm_scale);
        let (wq, wk, wv, wo, heads) = (&w.wq, &w.wk, &w.wv, &w.wo, self.heads);
        let x = x + Attend { wq, wk, wv, wo, heads }.full(n, source, flow);
        let n = flow.activation(x.clone());
        x + flow.project(activate(Activation::Silu, flow.linear(n, &w.ff1)), &w.ff2)
    }
}

/// Streams that a hint lists.
const LISTED: usize = 8;

fn source(spec: &BlockSpec, scope: &mut Scope<'_>) -> Result<Source, Reported> {
    let problem = match spec.source_stream.as_deref() {
        Some("x") => return Ok(Source::Current),
        Some("x0") => return Ok(Source::Embedding),
        Some(name) => match scope.streams.publisher(name) {
            Some(block) if block < scope.index => return Ok(Source::Published(name.into())),
            Some(_) => format!("stream `{name}` is published by this block or a later one"),
            None => format!("no earlier block publishes a stream `{name}`"),
        },
        None => "a `cross_attention` block needs `source_stream`".into(),
    };
    let known = ["x", "x0"].into_iter().chain(scope.streams.before(scope.index).take(LISTED));
    let hint = nearest_hint("", "streams here", &known.collect::<Vec<_>>());
    let hint = format!("{hint}; `\"stream\": \"name\"` publishes a block's output");
    Err(scope.error("source_stream", problem, hint))
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;
    use crate::blocks::Builtin;
    use crate::blocks::testing::{errors, layout_of, plan, planned};

    #[test]
    fn its_weights_are_those_of_weight_files() {
        let block = CrossAttention { dim: 4, ffn: 6, heads: 2, source: Source::Current };
        let expected = "norm_scale [4], wq [4, 4], wk [4, 4], wv [4, 4], wo [4, 4], ff1 [4, 6], \
            ff2 [6, 4]";
        assert_eq!(layout_of(&block), expected);
    }

    #[test]
    fn it_reads_the_stream_or_the_embedding_or_an_earlier_block() {
        let source = |name: &str| {
            let json = format!(
                r#"{{"type": "mlp", "stream": "low"}},
                   {{"type": "cross_attention", "heads": 2, "source_stream": "{name}"}}"#
            );
            let steps = planned::<Builtin>(&json).unwrap().plan.steps;
            let Builtin::CrossAttention(block) = &steps[1].block else { panic!("{steps:?}") };
            block.source.clone()
        };
        assert_eq!(source("x"), Source::Current);
        assert_eq!(source(" x0 "), Source::Embedding);
        assert_eq!(source("low"), Source::Published("low".into()));
    }

    #[test]
    fn a_stream_that_is_not_there_is_an_error_that_lists_those_that_are() {
        let json = r#"{"type": "mlp", "stream": "low"},
            {"type": "cross_attention", "heads": 2, "source_stream": "high"},
            {"type": "cross_attention", "heads": 2, "source_stream": "late"},
            {"type": "mlp", "stream": "late"},
            {"type": "cross_attention", "heads": 2}"#;
        assert_eq!(
            errors::<Builtin>(json),
            [
                "blocks[1].source_stream: no earlier block publishes a stream `high`",
                "blocks[2].source_stream: stream `late` is published by this block or a later one",
                "blocks[4].source_stream: a `cross_attention` block needs `source_stream`",
            ]
        );
        let message = planned::<Builtin>(json).unwrap_err().to_string();
        assert!(message.contains("known streams here: `x`, `x0`, `low`;"), "{message}");
    }

    #[test]
    fn its_tail_is_as_wide_as_other_feed_forward_layers() {
        let json = r#"{"type": "cross_attention", "heads": 2, "source_stream": "x"}"#;
        assert_eq!(plan::<CrossAttention>(json).unwrap().ffn, 21);
    }
}
