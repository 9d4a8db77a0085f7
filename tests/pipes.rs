//! Shards that come through pipes.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::process::{Command, Stdio};

use crate::cli::stderr;
use crate::faults::{Scene, refused};

/// A scene with the named pipe `pipe`, into which a process writes the first bytes of `train_0.bin`.
fn piped(bytes: &str) -> (Scene, std::process::Child) {
    let scene = Scene::new();
    assert!(Command::new("mkfifo").arg(scene.at("pipe")).status().unwrap().success());
    let script = format!("head -c {bytes} train_0.bin >pipe");
    let mut writer = Command::new("sh");
    let writer = writer.args(["-c", &script]).current_dir(scene.at("")).stderr(Stdio::null());
    let writer = writer.spawn().unwrap();
    (scene, writer)
}

#[test]
fn a_named_pipe_is_copied_and_trains_as_its_file_does() {
    let (scene, mut writer) = piped("1000000");
    let more = ["--val", "val_0.bin", "--checkpoint-dir", "k", "--eval"];
    let base = ["arch", "--config", "c.json", "--train"];
    let run = |train: &str, weights: &str, more: &[&str]| {
        let arguments = [&base[..], &[train, "--safetensors", weights], more].concat();
        scene.command(&arguments).output().unwrap()
    };
    let output = run("pipe", "piped.st", &more);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("`pipe` is a pipe: its 8.8 KiB"), "{}", stderr(&output));
    assert!(writer.wait().unwrap().success());
    assert!(run("train_0.bin", "plain.st", &more[..2]).status.success());
    let read = |name| fs::read(scene.at(name)).unwrap();
    assert_eq!(read("piped.st"), read("plain.st"));
    assert!(fs::metadata(scene.at("pipe")).unwrap().file_type().is_fifo());
}

#[test]
fn standard_input_is_one_too_and_its_name_stays_for_the_next_run() {
    let scene = Scene::new();
    let shards = ["--config", "c.json", "--train", "/dev/stdin", "--val", "val_0.bin"];
    let run = |more: &[&str]| {
        let mut cat = Command::new("cat");
        let mut cat = cat.arg(scene.at("train_0.bin")).stdout(Stdio::piped()).spawn().unwrap();
        let mut command = scene.command(&[&["arch"], &shards[..], more].concat());
        let output = command.stdin(cat.stdout.take().unwrap()).output().unwrap();
        cat.wait().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
    };
    run(&["--checkpoint-dir", "k", "--set", "training.steps=12"]);
    run(&["--resume", "k", "--resume-allow", "steps"]);
}

#[test]
fn what_is_no_shard_is_told_by_the_name_of_the_pipe() {
    let (scene, mut writer) = piped("3000");
    let output = scene.command(&["validate", "--config", "c.json", "--train", "pipe"]).output();
    let message = refused(&output.unwrap(), 1);
    assert!(message.contains("shard `pipe` has `3000` bytes, but `4000` tokens"), "{message}");
    writer.wait().unwrap();
}

#[test]
fn a_race_refuses_pipes() {
    let scene = Scene::new();
    assert!(Command::new("mkfifo").arg(scene.at("pipe")).status().unwrap().success());
    let race = ["race", "--configs", ".", "--train", "pipe"];
    let message = refused(&scene.command(&race).output().unwrap(), 2);
    assert!(message.contains("`pipe` is a pipe"), "{message}");
}
