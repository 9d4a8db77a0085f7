//! What `generate` is told.

use std::path::PathBuf;

use clap::Args;

use super::{Trained, positive, whole};

#[derive(Args)]
pub struct Generate {
    #[command(flatten)]
    pub model: Trained,
    /// Trained weights
    #[arg(long, value_name = "FILE")]
    pub safetensors_load: PathBuf,
    /// Text; `-` or `@FILE` to read it, without its last line break; or token_ids:1,2,3
    /// [default: one random token]
    #[arg(long, value_name = "PROMPT", default_value = "", hide_default_value = true)]
    #[arg(allow_hyphen_values = true)]
    pub prompt: String,
    /// tokenizer.json for text [default: beside --train, the weights or the config; that of `demo`]
    #[arg(long, value_name = "FILE")]
    pub tokenizer: Option<PathBuf>,
    /// Training shards beside which the tokenizer lies
    #[arg(long, value_name = "GLOB", default_value = "demo")]
    pub train: Vec<String>,
    /// New tokens at most
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = whole)]
    pub max_tokens: usize,
    /// Divides the logits; 0 takes the best token each time
    #[arg(long, value_name = "X", default_value_t = 0.8)]
    pub temperature: f32,
    /// Draw from the N best tokens; 0 for all
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = whole)]
    pub top_k: usize,
    /// Draw from the fewest tokens that have this probability together
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    pub top_p: f64,
    /// Draw from tokens with this share of the best one's probability
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    pub min_p: f64,
    /// Lower the logits of tokens that the row has; 1 does not
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    pub repetition_penalty: f64,
    /// Seed of the draws [default: training.seed]
    #[arg(long, value_name = "N")]
    pub seed: Option<i64>,
    /// End where this text comes, without it; may be repeated
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub stop: Vec<String>,
    /// Continue the prompt so many times side by side; sample i draws with seed + i
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive)]
    pub num_samples: usize,
    /// Go on beyond seq_len: the model forgets the older half of what it sees
    #[arg(long)]
    pub slide: bool,
    /// Print the prompt before its continuation
    #[arg(long)]
    pub echo: bool,
    /// Print one JSON object a sample instead
    #[arg(long)]
    pub json: bool,
    /// Say how fast tokens came
    #[arg(long)]
    pub timing: bool,
}
