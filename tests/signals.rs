//! Signals that end a run: its weights are written, whoever sends them.

use std::process::{Child, Command};
use std::time::Duration;

use crate::faults::Scene;

fn send(signal: &str, child: &Child) {
    let id = child.id().to_string();
    assert!(Command::new("kill").args([&format!("-{signal}"), &id]).status().unwrap().success());
}

#[test]
fn what_batch_systems_send_before_they_end_a_job_ends_a_run_with_its_weights() {
    let scene = Scene::new();
    for signal in ["USR1", "USR2", "XCPU"] {
        let mut child = scene.endless(&["--safetensors", signal]);
        send(signal, &child);
        // Some send it again each second.
        send(signal, &child);
        assert_eq!(child.wait().unwrap().code(), Some(130), "{signal}");
        assert!(scene.at(signal).exists(), "{signal}");
    }
}

#[test]
fn a_run_under_nohup_outlives_its_terminal() {
    let scene = Scene::new();
    let mut child = scene.endless_under(&["nohup"], &["--safetensors", "w.st"]);
    send("HUP", &child);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(child.try_wait().unwrap(), None);
    send("TERM", &child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(scene.at("w.st").exists());
}
