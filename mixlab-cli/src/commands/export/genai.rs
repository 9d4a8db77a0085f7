//! What onnxruntime-genai reads beside a file: its config, and the tokenizer.

use std::io::Write;
use std::path::Path;

use mixlab_burn::blocks::Block;
use mixlab_burn::files::replace_file;
use mixlab_burn::hub::write_tokenizer;
use mixlab_burn::onnx::{Layers, genai_config};
use mixlab_burn::plan::Plan;

use super::hub::tokenizer;
use crate::{cli, outputs};

/// The name of the config, which is asked for under no other.
pub const CONFIG: &str = "genai_config.json";

/// Writes them for the file at `path`.
pub fn write<K: Block>(
    options: &cli::Export,
    plan: &Plan<K>,
    layers: &Layers,
    path: &Path,
) -> anyhow::Result<()> {
    let beside = path.with_file_name(CONFIG);
    let tokenizer = tokenizer(options);
    let end = match &tokenizer {
        Some(tokenizer) => {
            let folder = beside.parent().expect("it has a name");
            write_tokenizer(tokenizer, folder, plan.vocab, plan.seq_len)?
        }
        None => None,
    };
    let eos = options.eos_token.or(end);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let config = genai_config(plan, layers, &name, eos);
    replace_file(&beside, |file| writeln!(file, "{config:#}"))
        .map_err(|error| outputs::unwritable(&beside, error))?;
    let with = if tokenizer.is_some() { ", and the tokenizer" } else { "" };
    println!("wrote {}{with}", beside.display());
    if tokenizer.is_none() {
        println!(
            "note: there is no tokenizer beside it: it takes ids; `--tokenizer FILE` names one"
        );
    }
    if eos.is_none() {
        println!(
            "note: no token ends a text, and onnxruntime-genai asks for one: it stops at {}; name \
             another with --eos-token",
            plan.vocab - 1
        );
    }
    Ok(())
}
