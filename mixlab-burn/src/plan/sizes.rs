//! How large a model may be: one rule for all of its tensors.
//!
//! No weight, and no activation of the training batch, has more than [`MAX_ELEMENTS`] elements. Each
//! size is held to that alone first, so that whatever comes after may multiply two of them; then
//! their products are. The field that makes a tensor too large is named where it is one field.

use super::{DEFAULT_MLP_MULT, DEFAULT_SEQ_LEN};
use crate::config::{Config, Problems, Reported};
use crate::data::MAX_VOCAB;

/// Elements that a tensor may have: kernels count them with 32 bits.
pub const MAX_ELEMENTS: usize = i32::MAX as usize;

/// The sizes that every block is planned for.
#[derive(Clone, Copy)]
pub struct Sizes {
    /// Width of the stream, `D`.
    pub dim: usize,
    /// Width of feed-forward layers, `F`.
    pub ffn: usize,
    /// Vocabulary size, `V`.
    pub vocab: usize,
    /// Tokens in a row, `T`.
    pub seq_len: usize,
}

impl Sizes {
    /// The sizes of `config`; stand-ins for those that are reported, so that planning can go on.
    pub fn of(config: &Config, problems: &mut Problems) -> Self {
        let dim = size("model_dim", Some(config.model_dim), 1, problems);
        let vocab = vocab(config.vocab_size, problems);
        let seq_len = size("seq_len", config.seq_len, DEFAULT_SEQ_LEN, problems);
        let mult = config.mlp_mult.filter(|m| *m != 0.0).unwrap_or(DEFAULT_MLP_MULT);
        let mut ffn = dim.max((dim as f64 * mult).round() as usize);
        if ffn > MAX_ELEMENTS {
            let message = format!("`{mult}` makes feed-forward layers `{ffn}` wide");
            problems.report(widener(config), message, format!("the most is `{MAX_ELEMENTS}`"));
            ffn = dim;
        }
        Self { dim, ffn, vocab, seq_len }
    }

    /// Reports the largest of the tables and of the activations of a batch of `tokens`.
    ///
    /// # Errors
    /// If it is too large.
    pub fn check(
        &self,
        config: &Config,
        tokens: usize,
        problems: &mut Problems,
    ) -> Result<(), Reported> {
        let Self { dim, ffn, vocab, .. } = *self;
        let buckets = size("bigram_vocab_size", config.bigram_vocab_size, 0, problems);
        let bigram =
            if buckets == 0 { 0 } else { size("bigram_dim", config.bigram_dim, dim, problems) };
        let tokens = ("training.batch_tokens", tokens);
        let (dim, bigram) = (("model_dim", dim), ("bigram_dim", bigram));
        let tensors = [
            ("the stream of a batch", [tokens, dim]),
            ("a feed-forward layer of a batch", [tokens, (widener(config), ffn)]),
            ("the logits of a batch", [tokens, ("vocab_size", vocab)]),
            ("the bigrams of a batch", [tokens, bigram]),
            ("the embedding", [("vocab_size", vocab), dim]),
            ("the table of bigrams", [("bigram_vocab_size", buckets), bigram]),
            ("the projection of bigrams", [bigram, dim]),
        ];
        let sized = tensors.map(|(name, axes)| (name, axes, axes.map(|(_, size)| size)));
        let largest = sized.into_iter().max_by_key(|(.., shape)| elements(shape));
        let (name, axes, shape) = largest.expect("there are seven");
        if elements(&shape) <= MAX_ELEMENTS as u128 {
            return Ok(());
        }
        let (field, _) = axes.into_iter().max_by_key(|(_, size)| *size).expect("there are two");
        Err(problems.report(field, too_large(name, &shape), format!("make `{field}` smaller")))
    }
}

/// The field that makes feed-forward layers wide.
fn widener(config: &Config) -> &'static str {
    if config.mlp_mult.is_some() { "mlp_mult" } else { "model_dim" }
}

fn vocab(written: i64, problems: &mut Problems) -> usize {
    let vocab = super::positive(Some(written)).unwrap_or(1);
    if vocab <= MAX_VOCAB {
        return vocab;
    }
    let message = format!("`{vocab}` is more than `{MAX_VOCAB}`");
    problems.report("vocab_size", message, "token ids are stored in 16 bits");
    1
}

/// The size that `written` gives `field`: `default` if that is none, or larger than any can be.
pub fn size(field: &str, written: Option<i64>, default: usize, problems: &mut Problems) -> usize {
    let Some(size) = super::positive(written) else { return default };
    if size <= MAX_ELEMENTS {
        return size;
    }
    let message = format!("`{size}` is more than `{MAX_ELEMENTS}`");
    problems.report(field, message, "no tensor has more elements than that");
    default
}

/// Elements of a tensor with these axes.
pub fn elements(axes: &[usize]) -> u128 {
    axes.iter().fold(1, |product: u128, axis| product.saturating_mul(*axis as u128))
}

/// What is said of a tensor that is.
pub fn too_large(name: &str, axes: &[usize]) -> String {
    let count = elements(axes);
    format!("{name} would have `{count}` elements as {axes:?}, and `{MAX_ELEMENTS}` is the most")
}
