//! What ends a run from outside.
#![cfg(unix)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{TRAIN, command, stderr};

/// The step is finished, the weights are written, and the summary is printed.
#[test]
fn an_interrupted_run_ends_with_its_summary_and_exits_with_130() {
    let temporary = tempfile::tempdir().unwrap();
    let path = |name: &str| temporary.path().join(name).display().to_string();
    let (metrics, weights) = (path("metrics.jsonl"), path("model.safetensors"));
    let config = "golden/cases/plain_swiglu/config.json";
    let run = ["arch", "--config", config, "--train", TRAIN, "--set", "training.steps=100000000"];
    let outputs = ["--log-every", "1000000", "--metrics", &metrics, "--safetensors", &weights];
    let mut command = command(&[&run[..], &outputs].concat());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let trains = || fs::read_to_string(&metrics).is_ok_and(|text| text.contains("\"step\":0"));
    while !trains() {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(
        Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success()
    );
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("=== ARCH RESULT ==="), "{printed}");
    assert!(Path::new(&weights).exists());
}

/// A step that would take hours (10⁸ iterations of Newton and Schulz) is not waited for.
#[test]
fn a_second_signal_ends_a_run_at_once() {
    let config = "golden/cases/plain_swiglu/config.json";
    let endless = ["--set", "training.muon_backend_steps=100000000"];
    let mut command =
        command(&[&["arch", "--config", config, "--train", TRAIN][..], &endless].concat());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // From this line on signals are listened to.
    assert!(lines.any(|line| line.unwrap().contains("IR program")));
    let id = child.id().to_string();
    let signal = || Command::new("kill").args(["-TERM", &id]).status().unwrap().success();
    assert!(signal());
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(child.try_wait().unwrap(), None, "the first one waits for the step");
    assert!(signal());
    assert_eq!(child.wait().unwrap().code(), Some(130));
}
