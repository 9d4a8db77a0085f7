//! How rows are shown while they grow, and when they are done.

use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;

use mixlab_burn::data::text::{TextStream, TextTokenizer};
use mixlab_burn::inference::{End, Generated, Shown, StopTexts};
use serde_json::json;

use crate::error::printable;
use crate::{cli, out};

/// One row that grows.
struct Sample<'a> {
    stream: Option<TextStream<'a>>,
    stops: StopTexts,
    /// Its text so far, without the prompt's.
    text: String,
    stopped: bool,
}

/// Shows rows on stdout: a single one as text while it grows, others when they are done.
pub struct Screen<'a> {
    options: &'a cli::Generate,
    tokenizer: Option<&'a TextTokenizer>,
    samples: Vec<Sample<'a>>,
    /// Whether text is shown as it comes.
    live: bool,
    /// Whether control characters are shown by their number: a terminal would obey them.
    terminal: bool,
    failed: Option<io::Error>,
}

impl<'a> Screen<'a> {
    pub fn new(options: &'a cli::Generate, tokenizer: Option<&'a TextTokenizer>) -> Self {
        let sample = || Sample {
            stream: tokenizer.map(TextTokenizer::stream),
            stops: StopTexts::new(options.stop.iter().cloned()),
            text: String::new(),
            stopped: false,
        };
        Self {
            options,
            tokenizer,
            samples: (0..options.num_samples).map(|_| sample()).collect(),
            live: tokenizer.is_some() && options.num_samples == 1 && !options.json,
            terminal: io::stdout().is_terminal(),
            failed: None,
        }
    }

    /// Shows the prompt if it is asked for and text comes as it grows.
    pub fn begin(&mut self, prompt: &[u16]) {
        if let (true, true, Some(tokenizer)) = (self.live, self.options.echo, self.tokenizer) {
            self.show(&tokenizer.decode(prompt));
        }
    }

    /// Takes the next token of a row; breaks off where a stop text has come, or if nobody reads.
    pub fn push(&mut self, row: usize, token: u16) -> ControlFlow<()> {
        let sample = &mut self.samples[row];
        let Some(stream) = &mut sample.stream else { return ControlFlow::Continue(()) };
        let Shown { text, stopped } = sample.stops.push(&stream.push(token));
        sample.text += &text;
        sample.stopped = stopped;
        if self.live {
            self.show(&text);
        }
        if stopped || self.failed.is_some() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    /// Shows what is left.
    pub fn end(mut self, rows: &[Generated], interrupted: bool) -> anyhow::Result<()> {
        for at in 0..self.samples.len() {
            self.finish(at);
        }
        if self.live {
            self.show("\n");
        }
        let lines = match (self.options.json, self.tokenizer) {
            (true, _) => self.objects(rows, interrupted),
            (_, None) => ids(rows),
            (_, Some(_)) if self.live => String::new(),
            (_, Some(tokenizer)) => self.texts(rows, tokenizer),
        };
        self.show(&lines);
        if self.tokenizer.is_some() && !self.options.json && !interrupted {
            limit(rows).inspect(|line| eprintln!("{line}"));
        }
        out::arrived(self.failed)
    }

    /// Takes what a row still holds back.
    fn finish(&mut self, at: usize) {
        let sample = &mut self.samples[at];
        let Some(stream) = sample.stream.as_mut().filter(|_| !sample.stopped) else { return };
        let Shown { text, .. } = sample.stops.push(&stream.finish());
        let text = text + &sample.stops.finish();
        sample.text += &text;
        if self.live {
            self.show(&text);
        }
    }

    fn show(&mut self, text: &str) {
        if text.is_empty() || self.failed.is_some() {
            return;
        }
        let shown = if self.terminal { printable(text) } else { text.to_owned() };
        let mut out = io::stdout().lock();
        self.failed = out.write_all(shown.as_bytes()).and_then(|()| out.flush()).err();
    }

    fn texts(&self, rows: &[Generated], tokenizer: &TextTokenizer) -> String {
        let count = rows.len();
        let text = |(i, (row, sample)): (usize, (&Generated, &Sample<'_>))| {
            let prompt =
                if self.options.echo { tokenizer.decode(&row.prompt) } else { String::new() };
            let head = match count {
                1 => String::new(),
                _ => format!("--- sample {}/{count} ---\n", i + 1),
            };
            format!("{head}{prompt}{}\n", sample.text)
        };
        rows.iter().zip(&self.samples).enumerate().map(text).collect()
    }

    /// One JSON object a row.
    fn objects(&self, rows: &[Generated], interrupted: bool) -> String {
        let object = |(i, (row, sample)): (usize, (&Generated, &Sample<'_>))| {
            let end = match row.end {
                End::Stopped if sample.stopped => "stop",
                End::Stopped if interrupted => "interrupted",
                End::Stopped => "closed",
                End::SeqLen => "seq_len",
                End::MaxTokens => "max_tokens",
            };
            let mut object = json!({
                "sample": i,
                "prompt_token_ids": row.prompt,
                "token_ids": row.tokens,
                "end": end,
            });
            if let Some(tokenizer) = self.tokenizer {
                object["prompt"] = tokenizer.decode(&row.prompt).into();
                object["text"] = sample.text.clone().into();
            }
            format!("{object}\n")
        };
        rows.iter().zip(&self.samples).enumerate().map(object).collect()
    }
}

/// The lines of the original, one row a line.
fn ids(rows: &[Generated]) -> String {
    let line = |row: &Generated| {
        let ids: Vec<String> =
            row.prompt.iter().chain(&row.tokens).map(|id| id.to_string()).collect();
        format!("generated token_ids:{}\n", ids.join(","))
    };
    let lines: String = rows.iter().map(line).collect();
    limit(rows).map_or(String::new(), |line| format!("{line}\n")) + &lines
}

/// The original's line about rows that have become as long as the model was planned for.
fn limit(rows: &[Generated]) -> Option<String> {
    let full = rows.iter().find(|row| row.end == End::SeqLen)?;
    let tokens = full.prompt.len() + full.tokens.len();
    Some(format!("stopped at seq_len limit ({tokens} tokens)"))
}
