//! `prepare`: text to token shards, tokenizer and byte tables.

use mixlab_burn::data::prepare::{PrepareOptions, PrepareReport, prepare};

use crate::cli;

pub fn run(options: &cli::Prepare) -> anyhow::Result<()> {
    let report = prepare(&PrepareOptions {
        vocab_size: options.vocab_size,
        val_split: options.val_split,
        tokenizer: options.tokenizer_path.clone(),
        text_field: options.text_field.clone(),
        tokens_per_shard: options.tokens_per_shard,
        shuffle: !options.no_shuffle,
        byte_alphabet: options.byte_alphabet,
        ..PrepareOptions::new(&options.input, &options.output)
    })?;
    print(options, &report);
    Ok(())
}

fn print(options: &cli::Prepare, report: &PrepareReport) {
    let output = options.output.display();
    println!("Reading input: {}", options.input.display());
    println!("Found {} text segment(s), {} bytes", report.segments, grouped(report.bytes as usize));
    if report.skipped > 0 {
        println!("Skipped {} record(s) without `{}`", report.skipped, options.text_field);
    }
    let action = if report.trained { "Saved tokenizer to" } else { "Loaded tokenizer from" };
    println!("{action} {} (vocab_size={})", report.tokenizer.display(), report.vocab_size);
    println!("Tokenized {} text(s) -> {} tokens", report.segments, grouped(report.tokens()));
    let split = &report.split;
    println!(
        "Split: {} train / {} val tokens",
        grouped(split.train_tokens()),
        grouped(split.val_tokens())
    );
    for shard in split.train.iter().chain(&split.val) {
        println!("  {} ({} tokens)", shard.path.display(), grouped(shard.tokens));
    }
    println!();
    println!("Validation: found {} training shard(s)", split.train.len());
    println!("Validation: found {} validation shard(s)", split.val.len());
    println!("Train glob: {output}/train_*.bin");
    println!("Val glob:   {output}/val_*.bin");
    if report.trained && report.vocab_size > options.vocab_size {
        eprintln!(
            "warning: the text alone has more symbols than `--vocab-size {}`; configs need `\"vocab_size\": {}`",
            options.vocab_size, report.vocab_size
        );
    }
    for stale in &split.stale {
        eprintln!(
            "warning: `{}` is left from an earlier run, and the globs match it",
            stale.display()
        );
    }
}

/// With thousands separators.
fn grouped(n: usize) -> String {
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
    use super::grouped;

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
