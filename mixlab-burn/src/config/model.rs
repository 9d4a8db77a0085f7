//! The top level of a config.

use super::block::BlockSpec;
use super::fields::{Rule, fields};
use super::training::TrainingSpec;

fields! {
    /// A config exactly as it was written: typed, each value in its own range.
    ///
    /// `None` is a field that was left out. What depends on several fields is
    /// neither filled in nor checked here.
    Config {
        /// Label for logs and weight files.
        name: String = "path of the file";
        /// Width of the residual stream (D).
        model_dim: i64 = required, Rule::Above(0.0);
        /// Number of distinct tokens (V), at most 65536.
        vocab_size: i64 = required, Rule::Above(0.0);
        /// Tokens per sequence (T); 0 and below mean the default.
        seq_len: Option<i64> = "128";
        /// Width of feed-forward layers in multiples of `model_dim`; 0 means the default.
        mlp_mult: Option<f64> = "2.67", Rule::AtLeast(0.0);
        /// Uses the transposed embedding as output head.
        tie_embeddings: Option<bool> = "false";
        /// Ends the residual branches of `plain` and `swiglu` in a learned scale.
        block_scales: Option<bool> = "false";
        /// Begins each `plain` block with a learned mix of the stream and the embeddings.
        resid_mix: Option<bool> = "false";
        /// Start of `resid_mix`: drawn like a matrix, or the stream alone.
        resid_mix_init: Option<String> = "random", Rule::OneOf(&["random", "identity"]);
        /// Runs pairs of `plain` and `swiglu` side by side.
        parallel_residual: Option<bool> = "false";
        /// Connects the first half of the blocks to the second by skips.
        unet: Option<bool> = "false";
        /// Number of hash buckets for pairs of tokens; 0 means no bigrams.
        bigram_vocab_size: Option<i64> = "0", Rule::ZeroOrFrom(2.0);
        /// Width of the bigram embedding; 0 means the default.
        bigram_dim: Option<i64> = "`model_dim`", Rule::AtLeast(0.0);
        /// Soft limit c of the logits, c·tanh(z/c); 0 and below mean none.
        logit_softcap: Option<f32> = "0";
        /// Share of the outputs of a branch of `plain` or `swiglu` that training drops.
        dropout: Option<f32> = "0", Rule::Within(0.0, 1.0);
        /// The blocks, in the order of the forward pass.
        blocks: Vec<BlockSpec> = required, Rule::NonEmpty;
        /// For each block the index of the block whose weights it uses, its own index for its own.
        recurrence: Option<Vec<i64>> = "own weights everywhere";
        /// How the model is trained.
        training: TrainingSpec = "all defaults";
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{BASE, error, errors};

    #[test]
    fn each_range_of_the_top_level_is_checked() {
        for (field, range) in [
            ("model_dim=0", "> 0"),
            ("vocab_size=0", "> 0"),
            ("mlp_mult=-1.0", "≥ 0"),
            ("bigram_vocab_size=1", "= 0 or ≥ 2"),
            ("bigram_vocab_size=-3", "= 0 or ≥ 2"),
            ("bigram_dim=-1", "≥ 0"),
            ("dropout=2.0", "from 0 to 1"),
            ("dropout=-0.1", "from 0 to 1"),
        ] {
            let (path, value) = field.split_once('=').unwrap();
            assert_eq!(error(field), format!("{path}: expected a value {range}, found `{value}`"));
        }
        assert_eq!(error("blocks=[]"), "blocks: expected at least one entry, found an empty list");
        assert_eq!(
            error("resid_mix_init=zero"),
            "resid_mix_init: expected one of `random`, `identity`, found `zero`"
        );
        let accepted = [
            "dropout=1",
            "bigram_vocab_size=2",
            "mlp_mult=0",
            "seq_len=-4",
            "logit_softcap=-1",
            "recurrence=[]",
        ];
        assert_eq!(errors(BASE, &accepted), [""; 0]);
    }
}
