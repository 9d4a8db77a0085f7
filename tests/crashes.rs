//! Disks and processes that fail around a run that is saved, weights that are none, and clocks.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::cli::{TRAIN, binary, command, folder, stderr, stdout};

const CONFIG: &str = r#"{
    "name": "crashes", "model_dim": 64, "vocab_size": 64, "seq_len": 16,
    "blocks": [{"type": "plain", "heads": 4}, {"type": "swiglu"}],
    "training": {"steps": 7, "batch_tokens": 32}
}"#;

/// A folder with a config.
struct Scene(tempfile::TempDir);

impl Scene {
    fn new() -> Self {
        let scene = Self(tempfile::tempdir().unwrap());
        fs::write(scene.at("c.json"), CONFIG).unwrap();
        scene
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Arguments that train, files of the folder named by `@`.
    fn arch(&self, more: &[&str]) -> Vec<String> {
        let base = ["arch", "--config", "@c.json", "--train", TRAIN, "--threads", "1"];
        let path = |argument: &&str| match argument.strip_prefix('@') {
            Some(name) => self.at(name).display().to_string(),
            None => argument.to_string(),
        };
        base.iter().chain(more).map(path).collect()
    }

    fn command(&self, more: &[&str]) -> Command {
        command(&self.arch(more).iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn run(&self, more: &[&str]) -> Output {
        self.command(more).output().unwrap()
    }

    /// Names in the folder of checkpoints.
    fn saved(&self) -> Vec<String> {
        let entries = fs::read_dir(self.at("run")).into_iter().flatten();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

const SAVED: [&str; 4] = ["--checkpoint-dir", "@run", "--resume", "@run"];
const LONGER: [&str; 4] = ["--set", "training.steps=9", "--resume-allow", "steps"];

/// `ulimit -f` stands for a full disk: the weights still fit, the moments do not.
#[test]
fn a_full_disk_costs_the_checkpoint_and_not_the_one_before() {
    let scene = Scene::new();
    assert!(stdout(&scene.run(&SAVED)).contains("checkpoint saved"));
    let blocks = fs::metadata(scene.at("run/step_000007.st")).unwrap().len() / 1024 + 2;
    let limited = format!("ulimit -f {blocks}; exec \"$0\" \"$@\"");
    let mut command = Command::new("bash");
    command.args(["-c", &limited]).arg(binary()).current_dir(folder());
    let output = command.args(scene.arch(&[SAVED, LONGER].concat())).output().unwrap();
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("warning: training goes on without a checkpoint"), "{message}");
    let error = message.lines().find(|line| line.starts_with("error: ")).unwrap();
    assert!(error.contains("step_000009.state") && message.contains("\n  hint: "), "{message}");
    let saved = scene.saved();
    assert!(!saved.iter().any(|name| name.starts_with(".writing-")), "{saved:?}");
    let resumed = stdout(&scene.run(&[SAVED, LONGER].concat()));
    assert!(resumed.contains("resumed at step 7/9"), "{resumed}");
}

/// Root writes anywhere unless it gives that right away.
#[test]
fn a_folder_that_cannot_be_written_is_refused_before_the_first_step() {
    let scene = Scene::new();
    fs::create_dir(scene.at("read_only")).unwrap();
    fs::set_permissions(scene.at("read_only"), fs::Permissions::from_mode(0o555)).unwrap();
    let is_root = fs::write(scene.at("read_only/probe"), "").is_ok();
    let run = |more: &[&str]| {
        let arguments = scene.arch(more);
        if !is_root {
            return command(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).output();
        }
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set=-dac_override", "--inh-caps=-dac_override"]);
        command.arg(binary()).args(arguments).current_dir(folder()).output()
    };
    for (flag, path) in [
        ("--safetensors", "@read_only/w.st"),
        ("--metrics", "@read_only/m.jsonl"),
        ("--trace", "@read_only/t.json"),
        ("--checkpoint-dir", "@read_only"),
        ("--checkpoint-dir", "@read_only/run"),
        ("--cpuprofile", "@read_only/p"),
    ] {
        let output = run(&[flag, path]).unwrap();
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{flag}: {message}");
        assert!(message.contains("read_only") && message.contains("\n  hint: "), "{message}");
        assert!(!String::from_utf8_lossy(&output.stdout).contains("step 0"), "{flag}");
    }
}

#[test]
fn a_run_that_is_killed_while_it_writes_goes_on_from_the_checkpoint_before() {
    let scene = Scene::new();
    let large = ["--set", "model_dim=256", "--set", "training.steps=1000000"];
    let saved = ["--checkpoint-dir", "@run", "--checkpoint-every", "1", "--keep", "2"];
    let is_half = |saved: &[String]| saved.iter().any(|name| name.starts_with(".writing-step"));
    let whole = |name: &String| name.starts_with("step_") && name.ends_with(".json");
    let is_whole = |saved: &[String]| saved.iter().any(whole);
    // A look at the folder and the signal after it may come too late.
    let met = (0..20).any(|_| {
        let _ = fs::remove_dir_all(scene.at("run"));
        let mut command = scene.command(&[&large[..], &saved].concat());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let met = || Some(scene.saved()).filter(|saved| is_half(saved) && is_whole(saved));
        while met().is_none() {
            assert_eq!(child.try_wait().unwrap(), None, "the run has ended");
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        met().is_some()
    });
    assert!(met, "no checkpoint was met half written");
    let newest = scene.saved().into_iter().filter(whole).max().unwrap();
    let step: usize = newest["step_".len()..newest.len() - ".json".len()].parse().unwrap();
    let steps = format!("training.steps={}", step + 1);
    let rest = ["--set", "model_dim=256", "--set", &steps, "--resume-allow", "steps"];
    let output = stdout(&scene.run(&[&SAVED[..], &rest].concat()));
    assert!(output.contains(&format!("resumed at step {step}/")), "{output}");
    assert!(!is_half(&scene.saved()), "{:?}", scene.saved());
}

#[test]
fn weights_that_are_not_numbers_are_named() {
    let scene = Scene::new();
    assert!(scene.run(&["--safetensors", "@w.st"]).status.success());
    let path = scene.at("w.st");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 4;
    bytes[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let output = scene.run(&["--safetensors-load", "@w.st", "--safetensors", "@out.st"]);
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("weight") && message.contains("NaN"), "{message}");
    assert!(message.contains("\n  hint: "), "{message}");
    assert!(!scene.at("out.st").exists());
}

/// A clock that is set jumps; what is due and how long it took is told by one that is never set.
#[test]
fn nothing_but_the_date_of_a_profile_reads_the_clock_on_the_wall() {
    fn look(path: &Path, found: &mut Vec<PathBuf>) {
        if path.is_dir() {
            fs::read_dir(path).unwrap().for_each(|entry| look(&entry.unwrap().path(), found));
        } else if fs::read_to_string(path).is_ok_and(|text| text.contains("SystemTime::now")) {
            found.push(path.into());
        }
    }
    let mut found = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for name in ["mixlab-ops", "mixlab-burn", "mixlab-cli"] {
        look(&root.join(name).join("src"), &mut found);
    }
    assert!(found.iter().all(|path| path.parent().unwrap().ends_with("profile")), "{found:?}");
    assert!(!found.is_empty(), "nothing was looked at");
}
