//! GGUF, the file of llama.cpp: header, settings, list of tensors, tensors.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use burn::tensor::backend::Backend;

use super::HubError;
use super::error::io;
use super::llama::{Llama, Pairs};
use super::tensors::Named;
use super::tokens::Tokens;
use crate::blocks::Block;
use crate::files::replace_file;
use crate::model::Model;
use crate::weights::Source;

const VERSION: u32 = 3;
/// Tensors begin at multiples of this.
const ALIGNMENT: usize = 32;
/// The type of a tensor of 32-bit floats.
const F32: u32 = 0;

/// A setting, with the number of its type in the format.
enum Setting {
    Count(u32),
    Number(f32),
    Text(String),
    Texts(Vec<String>),
    Kinds(Vec<i32>),
}

/// Writes `model`, with the weights of `source` one at a time, to `path` for llama.cpp, in 32 bits (its `llama-quantize` makes less of it); with
/// the tokens of `tokenizer` where llama.cpp cuts text as it does. Returns whether it does.
///
/// # Errors
/// If the architecture `llama` cannot express the model, naming the difference; if a file cannot be
/// read or written.
pub fn write_gguf<B: Backend, K: Block>(
    model: &Model<B, K>,
    source: &mut dyn Source,
    path: &Path,
    tokenizer: Option<&Path>,
) -> Result<bool, HubError> {
    let llama = Llama::of(model, source, Pairs::Neighbours)?;
    let tokens = tokenizer.map(|path| Tokens::read(path, llama.vocab)).transpose()?;
    let words = tokens.as_ref().and_then(|tokens| words(tokens, llama.vocab));
    let has_words = words.is_some();
    let mut settings = settings(&llama, &model.plan().name);
    let none = || vec![("tokenizer.ggml.model", Setting::Text("no_vocab".into()))];
    settings.extend(words.unwrap_or_else(none));
    let write = |file: &mut File| write(file, &settings, &llama.tensors, source);
    replace_file(path, write).map_err(io("write", path))?;
    Ok(has_words)
}

fn settings(llama: &Llama, name: &str) -> Vec<(&'static str, Setting)> {
    let count = |n: usize| Setting::Count(n as u32);
    vec![
        ("general.architecture", Setting::Text("llama".into())),
        ("general.name", Setting::Text(name.into())),
        ("general.file_type", count(0)),
        ("llama.vocab_size", count(llama.vocab)),
        ("llama.context_length", count(llama.seq_len)),
        ("llama.embedding_length", count(llama.hidden)),
        ("llama.block_count", count(llama.layers)),
        ("llama.feed_forward_length", count(llama.ffn)),
        ("llama.attention.head_count", count(llama.heads)),
        ("llama.attention.head_count_kv", count(llama.kv_heads)),
        ("llama.attention.key_length", count(llama.head_dim)),
        ("llama.attention.value_length", count(llama.head_dim)),
        ("llama.attention.layer_norm_rms_epsilon", Setting::Number(llama.eps)),
        ("llama.rope.dimension_count", count(llama.head_dim)),
        ("llama.rope.freq_base", Setting::Number(llama.rope_base)),
    ]
}

/// The tokens, if llama.cpp cuts text as the tokenizer does: pairs of bytes merged within the words
/// of GPT-2.
fn words(tokens: &Tokens, vocab: usize) -> Option<Vec<(&'static str, Setting)>> {
    let json = &tokens.json;
    let cut = &json["pre_tokenizer"];
    let is_gpt2 = json["model"]["type"] == "BPE"
        && json["normalizer"].is_null()
        && cut["type"] == "ByteLevel"
        && cut["use_regex"] != false
        && cut["add_prefix_space"] != true;
    if !is_gpt2 {
        return None;
    }
    // What the model has and the tokenizer does not is never made of text.
    let (normal, control, unused) = (1, 3, 5);
    let mut texts: Vec<String> = (0..vocab).map(|id| format!("[unused {id}]")).collect();
    let mut kinds = vec![unused; vocab];
    let listed = tokens.vocabulary().into_iter().map(|(id, text)| (id, text, normal));
    let added = tokens.added().map(|(id, text)| (id, text, control));
    for (id, text, kind) in listed.chain(added) {
        texts[id as usize] = text.to_owned();
        kinds[id as usize] = kind;
    }
    let merge = |merge: &serde_json::Value| match merge {
        serde_json::Value::String(pair) => Some(pair.clone()),
        pair => Some(format!("{} {}", pair[0].as_str()?, pair[1].as_str()?)),
    };
    let merges = json["model"]["merges"].as_array()?.iter().map(merge).collect::<Option<_>>()?;
    let mut settings = vec![
        ("tokenizer.ggml.model", Setting::Text("gpt2".into())),
        ("tokenizer.ggml.pre", Setting::Text("gpt-2".into())),
        ("tokenizer.ggml.tokens", Setting::Texts(texts)),
        ("tokenizer.ggml.token_type", Setting::Kinds(kinds)),
        ("tokenizer.ggml.merges", Setting::Texts(merges)),
    ];
    let end = tokens.end.as_ref();
    settings.extend(end.map(|(id, _)| ("tokenizer.ggml.eos_token_id", Setting::Count(*id as u32))));
    Some(settings)
}

/// What llama.cpp calls the tensor that `transformers` calls `name`.
fn renamed(name: &str) -> String {
    let parts = [
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("model.layers", "blk"),
        ("input_layernorm", "attn_norm"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("post_attention_layernorm", "ffn_norm"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ];
    parts.iter().fold(name.to_owned(), |name, (theirs, ours)| name.replace(theirs, ours))
}

fn write(
    file: &mut impl Write,
    settings: &[(&'static str, Setting)],
    tensors: &[Named],
    source: &mut dyn Source,
) -> std::io::Result<()> {
    let mut head = b"GGUF".to_vec();
    head.extend(VERSION.to_le_bytes());
    head.extend((tensors.len() as u64).to_le_bytes());
    head.extend((settings.len() as u64).to_le_bytes());
    for (key, setting) in settings {
        text(&mut head, key);
        setting.write(&mut head);
    }
    let mut offset = 0;
    for tensor in tensors {
        text(&mut head, &renamed(&tensor.name));
        head.extend((tensor.shape.len() as u32).to_le_bytes());
        // The axis whose elements are neighbours comes first.
        tensor.shape.iter().rev().for_each(|n| head.extend((*n as u64).to_le_bytes()));
        head.extend(F32.to_le_bytes());
        head.extend((offset as u64).to_le_bytes());
        offset += tensor.bytes().next_multiple_of(ALIGNMENT);
    }
    file.write_all(&head)?;
    align(file, head.len())?;
    tensors.iter().try_for_each(|tensor| {
        tensor.write(source, file)?;
        align(file, tensor.bytes())
    })
}

/// Writes zeros after `length` bytes, up to the next place where a tensor may begin.
fn align(file: &mut impl Write, length: usize) -> std::io::Result<()> {
    file.write_all(&vec![0; length.next_multiple_of(ALIGNMENT) - length])
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

impl Setting {
    /// The numbers of types: 4 unsigned, 5 signed, 6 float, 8 text, 9 list.
    fn write(&self, bytes: &mut Vec<u8>) {
        let kind = |bytes: &mut Vec<u8>, kind: u32| bytes.extend(kind.to_le_bytes());
        let list = |bytes: &mut Vec<u8>, of: u32, count: usize| {
            kind(bytes, 9);
            kind(bytes, of);
            bytes.extend((count as u64).to_le_bytes());
        };
        match self {
            Self::Count(n) => {
                kind(bytes, 4);
                bytes.extend(n.to_le_bytes());
            }
            Self::Number(x) => {
                kind(bytes, 6);
                bytes.extend(x.to_le_bytes());
            }
            Self::Text(of) => {
                kind(bytes, 8);
                text(bytes, of);
            }
            Self::Texts(all) => {
                list(bytes, 8, all.len());
                all.iter().for_each(|of| text(bytes, of));
            }
            Self::Kinds(all) => {
                list(bytes, 5, all.len());
                all.iter().for_each(|n| bytes.extend(n.to_le_bytes()));
            }
        }
    }
}
