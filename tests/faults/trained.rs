//! Faults around trained weights: what `generate`, `eval` and `hiddenstats` are told wrongly.

use std::fs;
use std::process::Output;

use super::Scene;
use crate::cli::stderr;

/// A folder with shards in `data`, trained weights, and a tokenizer beside the shards.
fn trained() -> Scene {
    let scene = Scene::new();
    scene.shard("data/train_0.bin");
    scene.shard("data/val_0.bin");
    fs::write(scene.at("data/tokenizer.json"), letters()).unwrap();
    let output = scene.arch(&["--safetensors", "m.st", "--quiet"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    scene
}

/// A tokenizer of 32 letters.
fn letters() -> String {
    let vocab: serde_json::Map<_, _> =
        (0..32u8).map(|id| (char::from(b'@' + id).to_string(), id.into())).collect();
    let model = serde_json::json!({"type": "BPE", "vocab": vocab, "merges": []});
    serde_json::json!({"version": "1.0", "added_tokens": [], "model": model}).to_string()
}

fn run(scene: &Scene, command: &str, more: &[&str]) -> Output {
    let base = [command, "--config", "c.json", "--safetensors-load", "m.st", "--backend", "cpu"];
    let arguments: Vec<&str> = base.into_iter().chain(more.iter().copied()).collect();
    scene.command(&arguments).output().unwrap()
}

#[test]
fn a_tokenizer_is_found_in_the_folder_of_the_shards() {
    let scene = trained();
    for train in ["data", "data/", "data/train_*.bin"] {
        let output = run(&scene, "generate", &["--train", train, "--prompt", "ABC"]);
        assert!(output.status.success(), "{train}: {}", stderr(&output));
    }
}

/// A model that is too small for the stories has another tokenizer, if it has one.
#[test]
fn no_tokenizer_is_told_as_that_whatever_the_vocabulary() {
    let scene = Scene::new();
    let output = run(&scene, "generate", &["--prompt", "ABC"]);
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    assert!(said.contains("there is no tokenizer") && said.contains("--tokenizer FILE"), "{said}");
    assert_eq!(said.matches("`tokenizer.json`").count(), 1, "{said}");
}

#[test]
fn negative_numbers_are_values_of_their_flags() {
    let scene = trained();
    let ids = ["--prompt", "token_ids:1,2", "--max-tokens", "2"];
    let refused = [
        ("generate", "--temperature", "`temperature` is `-1`"),
        ("generate", "--min-p", "`min_p` is `-1`"),
        ("generate", "--num-samples", "'-1' for '--num-samples <N>': must be at least 1"),
        ("generate", "--top-k", "'-1' for '--top-k <N>': expected a whole number"),
        ("eval", "--stride", "'-1' for '--stride <N>'"),
    ];
    for (command, flag, words) in refused {
        let more = if command == "generate" { &ids[..] } else { &["--train", "data"] };
        let output = run(&scene, command, &[more, &[flag, "-1"]].concat());
        assert_eq!(output.status.code(), Some(2), "{flag}");
        assert!(stderr(&output).contains(words), "{flag}: {}", stderr(&output));
    }
    let output = run(&scene, "generate", &[&ids[..], &["--seed", "-5"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn all_weights_are_looked_at_before_any_is_scored() {
    let scene = trained();
    fs::write(scene.at("text.st"), "no weights").unwrap();
    for wrong in ["nowhere.st", "text.st"] {
        let output = run(&scene, "eval", &["--train", "data", "--safetensors-load", wrong]);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(wrong), "{}", stderr(&output));
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!shown.contains("validation loss"), "{shown}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn more_hidden_states_than_memory_are_refused_at_once() {
    let scene = trained();
    for batches in ["100000000000", "18446744073709551615"] {
        let more = ["--train", "data", "--output", "h.npy", "--batches", batches];
        let output = run(&scene, "hiddenstats", &more);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains("hint: lower `--batches`"), "{}", stderr(&output));
        assert!(!scene.at("h.npy").exists());
    }
}

/// How weights were trained is told when they are.
#[test]
fn warnings_of_training_are_for_training() {
    let scene = trained();
    let odd = ["--set", "training.steps=2"];
    let told = stderr(&scene.arch(&odd).output().unwrap());
    assert!(told.contains("warning: ") && told.contains("training.steps"), "{told}");
    let output = run(&scene, "generate", &[&odd[..], &["--prompt", "token_ids:1"]].concat());
    assert!(output.status.success());
    assert!(!stderr(&output).contains("warning: "), "{}", stderr(&output));
}
