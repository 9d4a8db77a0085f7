//! The model card: what the folder is, how to use it, and how its model came to be.

use std::fmt::Write;
use std::path::Path;

use serde_json::Value;

use super::HubError;
use super::error::io;
use super::folder::Family;
use crate::blocks::Block;
use crate::plan::Plan;

/// What a training run wrote about itself, line by line (`--metrics`).
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// Its events: the last run of the file.
    events: Vec<Value>,
}

impl Run {
    /// Reads the events of the last run in the file at `path`.
    ///
    /// # Errors
    /// If it cannot be read, or a line of it is no JSON.
    pub fn read(path: &Path) -> Result<Self, HubError> {
        let text = std::fs::read_to_string(path).map_err(io("read", path))?;
        let mut events: Vec<Value> = Vec::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let event: Value = serde_json::from_str(line).map_err(|error| HubError::Input {
                path: path.into(),
                problem: format!("line {} is no JSON: {error}", number + 1),
                hint: "name the file that the run wrote with `--metrics`",
            })?;
            if event["event"] == "start" {
                events.clear();
            }
            events.push(event);
        }
        Ok(Self { events })
    }

    fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.events.iter().filter(move |event| event["event"] == kind)
    }
}

/// Rows of the table of losses.
const ROWS: usize = 12;

/// The card of a model of `parameters` weights in the folder `name`.
pub(super) fn card<K: Block>(
    plan: &Plan<K>,
    config: &Value,
    family: Family,
    parameters: usize,
    run: Option<&Run>,
) -> String {
    let mut card = String::from(
        "---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags:\n- mixlab\n- burn\n---\n\n",
    );
    let mut say = |text: String| card.push_str(&text);
    say(format!("# {}\n\n", plan.name));
    say(format!(
        "A language model of {parameters} parameters: {} blocks on a stream {} wide, {} tokens, rows \
         of {}. Made with mixlab-burn.\n\n![architecture](architecture.svg)\n\n",
        plan.steps.len(),
        plan.dim,
        plan.vocab,
        plan.seq_len
    ));
    say(usage(family, plan.is_streaming()));
    say("## Training\n\n".into());
    say(run.map_or_else(|| "Nothing is known of the run: no metrics were given.\n".into(), losses));
    say(format!("\n## Config\n\n```json\n{config:#}\n```\n"));
    card
}

fn usage(family: Family, streaming: bool) -> String {
    let (trust, note) = match family {
        Family::Llama => (
            "",
            "The model is written as a `llama`, whose mathematics its own is: a channel that is added \
             to the stream switches the norm before the feed-forward layer off. Load it in 32 bits or \
             bf16; 16-bit floats cannot hold that channel.",
        ),
        Family::Mixlab if streaming => (
            ", trust_remote_code=True",
            "The architecture is that of the config below, run by `modeling_mixlab.py`. Generation \
             goes on from what earlier tokens left. Rows of a batch have equal lengths: there is no \
             padding.",
        ),
        Family::Mixlab => (
            ", trust_remote_code=True",
            "The architecture is that of the config below, run by `modeling_mixlab.py`. A block needs \
             whole rows, so generation reads the row again for each token. Rows of a batch have equal \
             lengths: there is no padding.",
        ),
    };
    format!(
        "## Use\n\n```python\nfrom transformers import AutoModelForCausalLM\n\n\
         model = AutoModelForCausalLM.from_pretrained(\".\"{trust})\n```\n\n{note}\n\n"
    )
}

/// What the run says of its data, and its losses.
fn losses(run: &Run) -> String {
    let mut text = String::new();
    let mut row = |line: String| writeln!(text, "{line}").expect("strings grow");
    if let Some(start) = run.of("start").next() {
        let keys = ["train", "val", "backend", "device", "precision", "seed", "version"];
        for key in keys.into_iter().filter(|key| !start[key].is_null()) {
            row(format!("- {key}: {}", plain(&start[key])));
        }
        row(String::new());
    }
    let steps: Vec<&Value> = run.of("step").collect();
    row("| step | loss | validation loss |\n|---|---|---|".into());
    let every = steps.len().div_ceil(ROWS).max(1);
    let last = steps.len().saturating_sub(1);
    let shown = steps.iter().enumerate().filter(|(i, _)| i.is_multiple_of(every) || *i == last);
    for (_, step) in shown {
        let [at, loss, val] = ["step", "loss", "val_loss"].map(|key| plain(&step[key]));
        row(format!("| {at} | {loss} | {val} |"));
    }
    if let Some(end) = run.of("end").last() {
        let [loss, val, seconds] = ["last_loss", "val_loss", "seconds"].map(|key| plain(&end[key]));
        row(format!("\nAt the end: loss {loss}, validation loss {val}, after {seconds} s."));
    }
    text
}

/// A value as prose has it.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "–".into(),
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => {
            format!("{:.4}", number.as_f64().unwrap_or(f64::NAN))
        }
        other => other.to_string(),
    }
}
