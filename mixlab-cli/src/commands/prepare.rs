//! `prepare`: text to token shards, tokenizer and byte tables.

mod screen;

use mixlab_burn::data::pattern;
use mixlab_burn::data::prepare::{PrepareError, PrepareOptions, PrepareReport, prepare};

use crate::error::printable;
use crate::{Request, cli};
use screen::Screen;

pub fn run(options: &cli::Prepare) -> anyhow::Result<()> {
    println!("Reading input: {}", printable(&options.input.display().to_string()));
    let prepare_options = PrepareOptions {
        vocab_size: options.vocab_size,
        val_split: options.val_split,
        tokenizer: options.tokenizer_path.clone(),
        text_field: options.text_field.clone(),
        tokens_per_shard: options.tokens_per_shard,
        shuffle: !options.no_shuffle,
        byte_alphabet: options.byte_alphabet,
        ..PrepareOptions::new(&options.input, &options.output)
    };
    let screen = Screen::new();
    let prepared = prepare(&prepare_options, &|event| screen.event(event));
    screen.end();
    let report = prepared.map_err(|error| match error {
        PrepareError::Option { .. } => Request(error.to_string()).into(),
        error => anyhow::Error::from(error),
    })?;
    print(options, &report);
    Ok(())
}

fn print(options: &cli::Prepare, report: &PrepareReport) {
    println!("Found {} text segment(s), {} bytes", report.segments, grouped(report.bytes));
    if report.skipped > 0 {
        println!("Skipped {} record(s) without `{}`", report.skipped, options.text_field);
    }
    let action = if report.trained { "Saved tokenizer to" } else { "Loaded tokenizer from" };
    let tokenizer = printable(&report.tokenizer.display().to_string());
    println!("{action} {tokenizer} (vocab_size={})", report.vocab_size);
    let tokens = grouped(report.tokens() as u64);
    println!("Tokenized {} text(s) -> {tokens} tokens", report.segments);
    let split = &report.split;
    let [train, val] = [split.train_tokens(), split.val_tokens()].map(|n| grouped(n as u64));
    println!("Split: {train} train / {val} val tokens");
    println!();
    println!("Validation: found {} training shard(s)", split.train.len());
    println!("Validation: found {} validation shard(s)", split.val.len());
    let folder = pattern_of(&options.output.to_string_lossy());
    println!("Train glob: {folder}/train_*.bin");
    println!("Val glob:   {folder}/val_*.bin");
    if report.trained && report.vocab_size > options.vocab_size {
        eprintln!(
            "warning: the text alone has more symbols than `--vocab-size {}`; configs need `\"vocab_size\": {}`",
            options.vocab_size, report.vocab_size
        );
    }
}

/// A pattern for the folder itself; a character that no terminal shows is matched by `?`.
fn pattern_of(folder: &str) -> String {
    pattern::literal(folder.trim_end_matches('/')).replace(char::is_control, "?")
}

/// With thousands separators.
pub(super) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let first = digits.len() % 3;
    let mut groups: Vec<&str> = Vec::new();
    if first > 0 {
        groups.push(&digits[..first]);
    }
    groups.extend((first..digits.len()).step_by(3).map(|at| &digits[at..at + 3]));
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::{grouped, pattern_of};

    #[test]
    fn patterns_match_their_folder_alone() {
        assert_eq!(pattern_of("out [v1] *"), "out [[]v1] [*]");
        assert_eq!(pattern_of("out/"), "out");
        assert_eq!(pattern_of("a\nb"), "a?b");
    }

    #[test]
    fn thousands_are_grouped() {
        let cases = [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (439_530, "439,530"),
            (1_234_567, "1,234,567"),
        ];
        for (n, text) in cases {
            assert_eq!(grouped(n), text);
        }
    }
}
