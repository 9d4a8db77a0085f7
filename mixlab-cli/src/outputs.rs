//! What a command writes may be nothing that it reads.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use mixlab_burn::files::{self, Replacement, same_file};

use crate::error::Request;

/// Refuses outputs, each with its flag, that are inputs of the same run or each other.
///
/// # Errors
/// Names the first.
pub fn check(inputs: &[PathBuf], outputs: &[(&str, &Path)]) -> Result<(), Request> {
    for (index, (flag, output)) in outputs.iter().enumerate() {
        let refuse = |what: String| {
            let path = output.display();
            let hint = "give the output a name of its own";
            Err(Request(format!("`{flag} {path}` would write over {what}\n  hint: {hint}")))
        };
        // Pipes and terminals may be read and written at once.
        if let Some(input) = inputs.iter().find(|input| input.is_file() && same_file(input, output))
        {
            return refuse(format!("`{}`, which this run reads", input.display()));
        }
        let mut earlier = outputs[..index].iter();
        if let Some((other, _)) = earlier.find(|(_, other)| is_same_place(other, output)) {
            return refuse(format!("what `{other}` writes"));
        }
    }
    Ok(())
}

/// The right to write `path`, which `flag` names, before anything is computed.
///
/// # Errors
/// If it is one of `inputs`, or cannot be written.
pub fn reserve(inputs: &[PathBuf], flag: &str, path: &Path) -> anyhow::Result<Replacement> {
    check(inputs, &[(flag, path)])?;
    Replacement::begin(path).map_err(|error| unwritable(path, error))
}

/// That `path` cannot be written, and the way out.
pub fn unwritable(path: &Path, error: io::Error) -> anyhow::Error {
    let hint = files::hint(&error);
    anyhow!("cannot write `{}`: {error}\n  hint: {hint}", path.display())
}

/// Whether both paths name one file, which need not exist yet.
fn is_same_place(a: &Path, b: &Path) -> bool {
    let place = |path: &Path| {
        let path = followed(path);
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new(".")).canonicalize().ok()?;
        Some(folder.join(path.file_name()?))
    };
    let is_device = a.exists() && !a.is_file();
    !is_device && (a == b || same_file(a, b) || place(a).is_some_and(|a| place(b) == Some(a)))
}

/// Where a path leads whose last part may be a link to what is not there yet.
fn followed(path: &Path) -> PathBuf {
    /// Links that Linux follows.
    const MOST: usize = 40;
    let mut path = path.to_owned();
    for _ in 0..MOST {
        let Ok(target) = path.read_link() else { break };
        path = path.parent().unwrap_or(Path::new("")).join(target);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_is_no_input_and_no_other_output() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("config.json"), "{}").unwrap();
        std::fs::create_dir(at("d")).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink("config.json", at("link")).unwrap();
        let inputs = [at("config.json"), at("missing")];
        let refused = |outputs: &[(&str, &Path)]| check(&inputs, outputs).err().map(|e| e.0);
        assert_eq!(refused(&[("--a", &at("w.st")), ("--b", &at("m.jsonl"))]), None);
        for name in
            ["config.json", "d/../config.json", if cfg!(unix) { "link" } else { "config.json" }]
        {
            let message = refused(&[("--a", &at(name))]).unwrap();
            assert!(message.contains("which this run reads") && message.contains("hint: "));
        }
        let message = refused(&[("--a", &at("w.st")), ("--b", &at("d/../w.st"))]).unwrap();
        assert!(message.contains("what `--a` writes"), "{message}");
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("d/../w.st", at("to come")).unwrap();
            std::os::unix::fs::symlink("loop", at("loop")).unwrap();
            for (a, b) in [("w.st", "to come"), ("to come", "w.st"), ("loop", "loop")] {
                assert!(refused(&[("--a", &at(a)), ("--b", &at(b))]).is_some(), "{a}");
            }
        }
        #[cfg(unix)]
        assert_eq!(
            refused(&[("--a", Path::new("/dev/null")), ("--b", Path::new("/dev/null"))]),
            None
        );
    }
}
