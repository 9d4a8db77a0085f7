//! The original's spelling: `-mode X -flag value`, one or two dashes, `=` or a space.
//!
//! It is rewritten to subcommands. As in the original every flag is accepted in every mode, and
//! flags that a mode has no use for are dropped; unlike there, a stray argument is an error.

use std::ffi::OsString;

use clap::{Command, CommandFactory};

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
/// Flags of the original whose empty value means that they are not given. Not `train`: left empty by
/// an unset variable of a script, it stays an error, for the run would silently train on `demo`.
const TEXT: [&str; 14] = [
    "config",
    "configs",
    "safetensors",
    "safetensors-load",
    "lut-dir",
    "checkpoint-dir",
    "prompt",
    "logprobs-out",
    "input",
    "output",
    "tokenizer-path",
    "text-field",
    "cpuprofile",
    "memprofile",
];
/// Flags of the original whose value it checks in every mode.
const CHECKED: [(&str, &[&str]); 2] =
    [("quantize", &["none", "int8", "int6"]), ("quant-method", &["", "quantile", "sdclip"])];
/// Flags of the original that take an integer.
const INTEGERS: [&str; 4] = ["checkpoint-every", "max-tokens", "top-k", "vocab-size"];
/// Values of a switch.
const ON: [&str; 6] = ["1", "t", "T", "true", "TRUE", "True"];
const OFF: [&str; 6] = ["0", "f", "F", "false", "FALSE", "False"];

/// The arguments with the original's spelling rewritten; others are returned as they are.
///
/// # Errors
/// If there is a stray argument or a flag lacks its value, or if one is not UTF-8: only this
/// program's own spelling takes file names of any bytes.
pub fn translate(arguments: &[OsString]) -> Result<Vec<OsString>, String> {
    let Some((program, rest)) = arguments.split_first() else { return Ok(Vec::new()) };
    let first = rest.first().map(|first| first.to_string_lossy()).unwrap_or_default();
    let own = ["-h", "--help", "-V", "--version"];
    if !first.starts_with('-') || own.contains(&&*first) {
        return Ok(arguments.to_vec());
    }
    let text = |argument: &OsString| match argument.to_str() {
        Some(text) => Ok(text.to_string()),
        None => Err(format!(
            "argument `{}` is not UTF-8\n  hint: begin with the mode, as in `mixlab-cli prepare --input …`; then names may have any bytes",
            argument.display()
        )),
    };
    let rest: Vec<String> = rest.iter().map(text).collect::<Result<_, _>>()?;
    let translated = of_the_original(&rest)?.into_iter().map(OsString::from);
    Ok([program.clone()].into_iter().chain(translated).collect())
}

/// Mode and flags in this program's own spelling.
fn of_the_original(arguments: &[String]) -> Result<Vec<String>, String> {
    let mut flags = last_of_each(read(arguments)?);
    let mode = flags.iter().position(|(name, _)| name == "mode").map(|at| flags.remove(at));
    let mode = mode.and_then(|(_, value)| value).unwrap_or_else(|| "arch".into());
    let mut cli = Cli::command().disable_help_subcommand(true);
    // Gives commands the flags that all of them have.
    cli.build();
    let Some(target) = cli.find_subcommand(&mode) else {
        return Err(unknown_mode(&mode, &cli));
    };
    check(target, &flags)?;
    Ok([vec![mode], rewrite(&cli, target, flags)].concat())
}

/// What an argument that belongs to no flag is told.
pub fn stray(argument: &str) -> String {
    format!(
        "stray argument `{argument}`\n  hint: an unquoted glob is the usual cause; quote globs, as in --train 'data/train_*.bin', so that the shell does not expand them"
    )
}

/// What `written` is told if it is a flag of the original's spelling after a command, of which clap
/// has read `-c` or the like.
pub fn with_one_dash(written: &str, read: &str) -> Option<String> {
    let name = written.strip_prefix('-').filter(|name| name.len() > 1)?;
    if !(written.starts_with(read) && name.starts_with(|c: char| c.is_ascii_alphabetic())) {
        return None;
    }
    let flag = name.split('=').next().unwrap_or(name);
    Some(format!(
        "unexpected argument `-{flag}`\n  hint: after a command flags have two dashes, as in `--{flag}`; those with one follow `-mode`"
    ))
}

fn needs_value(name: &str) -> String {
    format!("flag `-{name}` needs a value\n  hint: write it after the flag, as in `-{name} VALUE`")
}

type Flag = (String, Option<String>);

fn read(arguments: &[String]) -> Result<Vec<Flag>, String> {
    let mut flags = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let name = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-'));
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return Err(stray(argument));
        };
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value.to_string())),
            None => (name, None),
        };
        let value = match value {
            None if takes_value(name) => {
                Some(rest.next().cloned().ok_or_else(|| needs_value(name))?)
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

/// As in the original the last of repeated flags holds; without those that are not given then.
fn last_of_each(flags: Vec<Flag>) -> Vec<Flag> {
    let is_last = |(index, (name, _)): &(usize, &Flag)| {
        name == "set" || !flags[index + 1..].iter().any(|(later, _)| later == name)
    };
    let given = |(name, value): &Flag| {
        !(TEXT.contains(&name.as_str()) && value.as_deref().is_some_and(str::is_empty))
    };
    let last = flags.iter().enumerate().filter(is_last).map(|(_, flag)| flag.clone());
    last.filter(given).collect()
}

fn unknown_mode(mode: &str, cli: &Command) -> String {
    let known: Vec<_> = cli.get_subcommands().map(Command::get_name).collect();
    format!("mode `{mode}` does not exist\n  hint: use one of `{}`", known.join("`, `"))
}

fn has(command: &Command, flag: &str) -> bool {
    command.get_arguments().any(|argument| argument.get_long() == Some(flag))
}

/// Refuses what the original does in every mode, those included that have no use for it.
fn check(target: &Command, flags: &[Flag]) -> Result<(), String> {
    for (name, known) in CHECKED.iter().filter(|(name, _)| !has(target, name)) {
        let flag = flags.iter().find(|(given, _)| given == name);
        let value = flag.map(|(_, value)| value.as_deref().unwrap_or("true"));
        if let Some(value) = value.filter(|value| !known.contains(value)) {
            let known = known.join("`, `");
            return Err(format!("`-{name} {value}` is unknown\n  hint: use one of `{known}`"));
        }
    }
    Ok(())
}

/// An integer as Go reads it (`0x10`, `0b101`, `0o17`, `017`, `1_000`) in decimals, and any other
/// text as it is.
fn decimal(text: &str) -> String {
    let (sign, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) => (&text[..1], digits),
        None => ("", text),
    };
    let lower = digits.to_ascii_lowercase();
    let bases = [("0x", 16), ("0b", 2), ("0o", 8), ("0", 8)];
    let (digits, base) = bases
        .iter()
        .find_map(|(prefix, base)| Some((lower.strip_prefix(prefix)?, *base)))
        .filter(|(digits, _)| !digits.is_empty())
        .unwrap_or((&lower, 10));
    match u64::from_str_radix(&digits.replace('_', ""), base) {
        Ok(number) => format!("{}{number}", sign.trim_start_matches('+')),
        Err(_) => text.into(),
    }
}

/// The flags that the mode `target` knows, and those that no mode ever knew, for clap to name.
fn rewrite(cli: &Command, target: &Command, flags: Vec<Flag>) -> Vec<String> {
    let elsewhere = |name: &str| {
        let original = VALUED.contains(&name) || SWITCHES.contains(&name);
        original || cli.get_subcommands().any(|command| has(command, name))
    };
    let kept = flags.into_iter().filter(|(name, _)| has(target, name) || !elsewhere(name));
    let written = kept.filter_map(|(name, value)| match value.as_deref() {
        Some(value) if SWITCHES.contains(&name.as_str()) && OFF.contains(&value) => None,
        Some(value) if SWITCHES.contains(&name.as_str()) && ON.contains(&value) => {
            Some(format!("--{name}"))
        }
        Some(value) if INTEGERS.contains(&name.as_str()) => {
            Some(format!("--{name}={}", decimal(value)))
        }
        Some(value) => Some(format!("--{name}={value}")),
        None => Some(format!("--{name}")),
    });
    written.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    fn translated(line: &str) -> String {
        translate(&words(line)).unwrap().join(" ".as_ref()).into_string().unwrap()
    }

    #[cfg(unix)]
    #[test]
    fn names_of_any_bytes_pass_in_our_own_spelling_only() {
        use std::os::unix::ffi::OsStringExt;
        let name = || OsString::from_vec(b"caf\xe9".to_vec());
        let own = [words("m prepare --input"), vec![name()]].concat();
        assert_eq!(translate(&own).unwrap(), own);
        let original = [words("m -mode prepare -input"), vec![name()]].concat();
        assert!(translate(&original).unwrap_err().contains("is not UTF-8"));
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
        assert_eq!(translated("m -config a -config="), "m arch");
    }

    #[test]
    fn flags_that_do_nothing_in_a_mode_are_dropped() {
        for flags in [
            "-eval=false -max-tokens 9 -temperature 1 -top-k 4 -prompt p",
            "-logprobs-out o -configs c -input i -cpuprofile= -memprofile=",
            "-safetensors= -safetensors-load= -checkpoint-dir=",
        ] {
            assert_eq!(translated(&format!("m -config a {flags}")), "m arch --config=a", "{flags}");
        }
        assert_eq!(
            translated("m -mode count -config a -eval -quantize int8"),
            "m count --config=a"
        );
        assert_eq!(
            translated("m -mode count -config a -cpuprofile p -memprofile="),
            "m count --config=a --cpuprofile=p"
        );
        assert_eq!(translated("m -mode prepare -input i -text-field="), "m prepare --input=i");
        assert_eq!(translated("m -config a -train="), "m arch --config=a --train=");
    }

    #[test]
    fn a_mode_or_a_value_that_the_original_refuses_in_every_mode_is_refused() {
        let refused = |line: &str| translate(&words(line)).unwrap_err();
        for (line, part) in [
            ("m -mode zzz", "mode `zzz` does not exist"),
            ("m -mode count -quantize int4", "`-quantize int4` is unknown"),
            ("m -mode prepare -quant-method x", "`-quant-method x` is unknown"),
        ] {
            let message = refused(line);
            assert!(message.starts_with(part) && message.contains("hint: "), "{message}");
        }
    }

    #[test]
    fn races_take_what_the_original_takes_there() {
        let flags = "-quantize int8 -quant-method= -checkpoint-dir d -checkpoint-every 5";
        assert_eq!(
            translated(&format!("m -mode arch_race -configs c {flags}")),
            "m arch_race --configs=c --quantize=int8 --quant-method= --checkpoint-dir=d --checkpoint-every=5"
        );
    }

    #[test]
    fn integers_are_read_as_go_reads_them() {
        let cases = [
            ("0x10", "16"),
            ("0B101", "5"),
            ("0o17", "15"),
            ("017", "15"),
            ("1_000", "1000"),
            ("0x_ff", "255"),
            ("-0x1", "-1"),
            ("+7", "7"),
            ("0", "0"),
            ("08", "08"),
            ("10m", "10m"),
            ("0x", "0x"),
            ("", ""),
        ];
        for (text, number) in cases {
            assert_eq!(decimal(text), number, "{text}");
        }
        assert_eq!(
            translated("m -mode generate -config a -max-tokens 0x20 -prompt 0x20"),
            "m generate --config=a --max-tokens=32 --prompt=0x20"
        );
    }

    #[test]
    fn stray_arguments_and_missing_values_are_errors() {
        let stray = translate(&words("m -train a.bin b.bin -config c")).unwrap_err();
        assert!(stray.contains("`b.bin`") && stray.contains("quote globs"));
        assert!(translate(&words("m -config")).unwrap_err().contains("needs a value"));
    }
}
