//! What a model is written as, and what checks it.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgGroup, Args};
use mixlab_burn::onnx::{Profile, WeightType};

use super::{ConfigFile, whole};
use crate::backend::Compute;

#[derive(Args)]
#[command(group = ArgGroup::new("forms").args(["onnx", "hf", "gguf"]).multiple(true).required(true))]
pub struct Export {
    #[command(flatten)]
    pub config: ConfigFile,
    /// The weights to export
    #[arg(long, value_name = "FILE")]
    pub safetensors_load: PathBuf,
    /// Write an ONNX file: input_ids [batch, sequence] to logits [batch, sequence, vocab]
    #[arg(long, value_name = "FILE")]
    pub onnx: Option<PathBuf>,
    /// Write a folder that Hugging Face transformers opens; its onnx/model.onnx is as --onnx writes it
    #[arg(long, value_name = "DIR")]
    pub hf: Option<PathBuf>,
    /// Write a file for llama.cpp, if its architecture llama has what the model is
    #[arg(long, value_name = "FILE")]
    pub gguf: Option<PathBuf>,
    /// tokenizer.json for --hf, --gguf and --profile genai; --onnx notes its hash [default: beside the weights
    /// or the config]
    #[arg(long, value_name = "FILE")]
    pub tokenizer: Option<PathBuf>,
    /// What the run wrote with its --metrics, for the model card of --hf
    #[arg(long, value_name = "FILE")]
    pub metrics: Option<PathBuf>,
    /// Which operations the file may have: portable (opset 18: onnxruntime from 1.20 on, and most other
    /// runtimes), modern (opset 23 with Attention, RMSNormalization and RotaryEmbedding: onnxruntime from
    /// 1.23 on), or genai (for onnxruntime-genai: with state, and with genai_config.json beside the file)
    #[arg(long, default_value = Profile::default().name(), value_parser = named(&Profile::ALL, Profile::name))]
    pub profile: Profile,
    /// Let the file go on from what earlier tokens left: inputs past_key_values.*, outputs present.*
    #[arg(long)]
    pub stateful: bool,
    /// The token that ends a text, for onnxruntime-genai [default: the last]
    #[arg(long, value_name = "ID", value_parser = whole)]
    pub eos_token: Option<usize>,
    /// Keep the weights in a file of their own, FILE.data, also if there is room for them
    #[arg(long)]
    pub external_data: bool,
    /// Make each block a function of the file, as modern and genai do
    #[arg(long, conflicts_with = "inline")]
    pub functions: bool,
    /// Make no block a function, as portable does: other runtimes than onnxruntime look into none
    #[arg(long)]
    pub inline: bool,
    /// What the ONNX file stores weights as: int8 has a scale for each channel, int4 one for every 32 of a
    /// channel, and needs --profile modern or genai
    #[arg(
        long, default_value = WeightType::default().name(),
        value_parser = named(&WeightType::ALL, WeightType::name)
    )]
    pub weights: WeightType,
    /// Validation shards, for the loss with the weights as they are and as they are stored: a quoted glob
    /// or a folder, may be repeated
    #[arg(long, value_name = "GLOB")]
    pub val: Vec<String>,
    /// Shards have no header: 16-bit ids alone, as nanoGPT writes them
    #[arg(long, requires = "val")]
    pub raw_u16: bool,
    /// Run the file in onnxruntime and compare it with the model
    #[arg(long)]
    pub verify: bool,
    #[command(flatten)]
    pub tolerance: Tolerance,
    #[command(flatten)]
    pub compute: Compute,
}

impl Export {
    /// Whether blocks are functions, if that is asked for.
    pub fn functions(&self) -> Option<bool> {
        (self.functions || self.inline).then_some(self.functions)
    }
}

/// One of `all`, by its name.
fn named<T: Copy + Send + Sync + 'static>(
    all: &'static [T],
    name: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T> {
    let find = move |text: String| all.iter().copied().find(|&each| name(each) == text);
    PossibleValuesParser::new(all.iter().map(|&each| name(each)))
        .map(move |text| find(text).expect("the parser takes no other name"))
}

/// What two runs of a model may differ by.
#[derive(Args)]
pub struct Tolerance {
    /// The largest difference that passes, as a share of the largest logit
    #[arg(long, value_name = "X", default_value_t = 1e-4)]
    pub tolerance: f32,
}

#[derive(Args)]
pub struct Parity {
    #[command(flatten)]
    pub config: ConfigFile,
    /// The weights that were exported
    #[arg(long, value_name = "FILE")]
    pub safetensors_load: PathBuf,
    /// The file that was written of them
    #[arg(long, value_name = "FILE")]
    pub onnx: PathBuf,
    #[command(flatten)]
    pub tolerance: Tolerance,
    #[command(flatten)]
    pub compute: Compute,
}
