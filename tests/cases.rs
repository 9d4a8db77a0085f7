//! What users have met: each folder of `cases/` has a script `cmd`, which exits with 0 when what its
//! file `expect` says is true. It runs in a copy of the folder, with `MIXLAB` naming the program.
//!
//! Scripts make the devices and pipes that they need in that copy.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::cli;

/// A case that takes longer hangs.
const SECONDS: &str = "120";

/// Copies a folder and all below it; scripts may write there.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        if path.is_dir() {
            copy(&path, &to.join(name))
        } else {
            _ = fs::copy(&path, to.join(name)).unwrap()
        }
    }
}

/// Runs a case. Returns what went wrong.
fn run(case: &Path) -> Result<(), String> {
    let temporary = tempfile::tempdir().unwrap();
    // Some cases lead to the folder by its name.
    let folder = temporary.path().join(case.file_name().unwrap());
    copy(case, &folder);
    let mut command = Command::new("timeout");
    command.args([SECONDS, "bash", "cmd"]).current_dir(&folder);
    let output = command.env("MIXLAB", cli::binary()).output().unwrap();
    if output.status.success() {
        return Ok(());
    }
    let expected = fs::read_to_string(case.join("expect")).unwrap();
    Err(format!(
        "{}: {}\n  expected: {}\n{}{}",
        case.file_name().unwrap().display(),
        output.status,
        expected.trim(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    ))
}

#[cfg(unix)]
#[test]
fn what_users_have_met_stays_mended() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let mut cases: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    let (next, failed) = (Mutex::new(cases.into_iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let case = next.lock().unwrap().next();
                    let Some(case) = case else { break };
                    if run(&case).is_err() {
                        failed.lock().unwrap().push(case);
                    }
                }
            });
        }
    });
    // Scripts have limits of time, which side by side on few cores are less than they say.
    let again = failed.into_inner().unwrap();
    let failed: Vec<_> = again.iter().filter_map(|case| run(case).err()).collect();
    assert!(failed.is_empty(), "{} cases fail:\n{}", failed.len(), failed.join("\n"));
}
