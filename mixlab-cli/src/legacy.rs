//! The original's spelling: `-mode X -flag value`, one or two dashes, `=` or a space.
//!
//! It is rewritten to subcommands. As in the original every flag is accepted in every mode, and
//! flags that a mode has no use for are dropped; unlike there, a stray argument is an error.

use clap::CommandFactory;

use crate::cli::Cli;

/// Flags of the original that take a value.
const VALUED: [&str; 26] = [
    "mode",
    "config",
    "configs",
    "train",
    "safetensors",
    "safetensors-load",
    "quantize",
    "quant-method",
    "quant-k",
    "quant-k-embed",
    "lut-dir",
    "checkpoint-dir",
    "checkpoint-every",
    "max-tokens",
    "temperature",
    "top-k",
    "prompt",
    "logprobs-out",
    "input",
    "output",
    "vocab-size",
    "val-split",
    "tokenizer-path",
    "text-field",
    "cpuprofile",
    "memprofile",
];
/// Flags of the original that take none.
const SWITCHES: [&str; 2] = ["eval", "timing"];
/// Original flags whose default value changes nothing; then they may be absent here.
const DEFAULTS: [(&str, &str); 5] = [
    ("quantize", "none"),
    ("quant-method", "quantile"),
    ("checkpoint-every", "0"),
    ("cpuprofile", ""),
    ("memprofile", ""),
];

/// The arguments with the original's spelling rewritten; others are returned as they are.
///
/// # Errors
/// If there is a stray argument or a flag lacks its value.
pub fn translate(arguments: &[String]) -> Result<Vec<String>, String> {
    let Some((program, rest)) = arguments.split_first() else { return Ok(Vec::new()) };
    let first = rest.first().map(String::as_str).unwrap_or("");
    let own = ["-h", "--help", "-V", "--version"];
    if !first.starts_with('-') || own.contains(&first) {
        return Ok(arguments.to_vec());
    }
    let mut flags = read(rest)?;
    let mode =
        flags.iter().rposition(|(name, _)| name == "mode").and_then(|at| flags[at].1.clone());
    let mode = mode.unwrap_or_else(|| "arch".into());
    flags.retain(|(name, _)| name != "mode");
    Ok(rewrite(program, &mode, flags))
}

type Flag = (String, Option<String>);

fn read(arguments: &[String]) -> Result<Vec<Flag>, String> {
    let mut flags = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let name = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-'));
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return Err(format!(
                "stray argument `{argument}`\n  hint: quote globs, as in -train 'data/train_*.bin', so that the shell does not expand them"
            ));
        };
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value.to_string())),
            None => (name, None),
        };
        let value = match value {
            None if takes_value(name) => {
                Some(rest.next().cloned().ok_or_else(|| format!("flag `-{name}` needs a value"))?)
            }
            value => value,
        };
        flags.push((name.to_string(), value));
    }
    Ok(flags)
}

fn takes_value(name: &str) -> bool {
    let known = || {
        let cli = Cli::command();
        let mut own = cli.get_subcommands().flat_map(|c| c.get_arguments());
        let argument = own.find(|a| a.get_long() == Some(name))?;
        Some(argument.get_action().takes_values())
    };
    VALUED.contains(&name) || (!SWITCHES.contains(&name) && known().unwrap_or(false))
}

fn rewrite(program: &str, mode: &str, flags: Vec<Flag>) -> Vec<String> {
    let cli = Cli::command();
    let target = cli.find_subcommand(mode);
    let accepts =
        |name: &str| target.is_none_or(|c| c.get_arguments().any(|a| a.get_long() == Some(name)));
    let elsewhere = |name: &str| {
        cli.get_subcommands().any(|c| c.get_arguments().any(|a| a.get_long() == Some(name)))
    };
    let mut arguments = vec![program.to_string(), mode.to_string()];
    for (index, (name, value)) in flags.iter().enumerate() {
        let repeated = name != "set" && flags[index + 1..].iter().any(|(later, _)| later == name);
        let default = DEFAULTS.iter().any(|(n, v)| n == name && value.as_deref() == Some(v));
        if repeated || (!accepts(name) && (elsewhere(name) || default)) {
            continue;
        }
        match value.as_deref() {
            None => arguments.push(format!("--{name}")),
            Some("true" | "t" | "T" | "1" | "TRUE" | "True")
                if SWITCHES.contains(&name.as_str()) =>
            {
                arguments.push(format!("--{name}"));
            }
            Some("false" | "f" | "F" | "0" | "FALSE" | "False")
                if SWITCHES.contains(&name.as_str()) => {}
            Some(value) => arguments.push(format!("--{name}={value}")),
        }
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_string).collect()
    }

    fn translated(line: &str) -> String {
        translate(&words(line)).unwrap().join(" ")
    }

    #[test]
    fn the_originals_spelling_becomes_a_subcommand() {
        assert_eq!(
            translated("m -mode arch -config c.json -train d/*.bin -timing"),
            "m arch --config=c.json --train=d/*.bin --timing"
        );
        assert_eq!(translated("m --mode=count -config=c.json"), "m count --config=c.json");
        assert_eq!(translated("m -config c.json"), "m arch --config=c.json");
    }

    #[test]
    fn subcommands_pass_unchanged() {
        assert_eq!(translated("m arch --config c.json"), "m arch --config c.json");
        assert_eq!(translated("m --help"), "m --help");
    }

    #[test]
    fn the_last_of_repeated_flags_wins_and_unused_ones_are_dropped() {
        assert_eq!(
            translated("m -mode count -config a -train x -config b -timing=false"),
            "m count --config=b"
        );
        assert_eq!(translated("m -config a -quantize none"), "m arch --config=a");
    }

    #[test]
    fn stray_arguments_and_missing_values_are_errors() {
        let stray = translate(&words("m -train a.bin b.bin -config c")).unwrap_err();
        assert!(stray.contains("`b.bin`") && stray.contains("quote globs"));
        assert!(translate(&words("m -config")).unwrap_err().contains("needs a value"));
    }
}
