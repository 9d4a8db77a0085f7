//! Runs that are killed and go on, as processes.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::cli::{TRAIN, command, mixlab, stderr, stdout};

/// Both optimizers, dropout, averages, fake quantization, phases, and batches in parts.
const CONFIG: &str = r#"{
    "name": "killed", "model_dim": 32, "vocab_size": 64, "seq_len": 16, "dropout": 0.1,
    "blocks": [{"type": "plain", "heads": 4}, {"type": "swiglu"}, {"type": "plain", "heads": 4}],
    "training": {
        "phases": [{"steps": 25, "lr": 0.005}, {"steps": 35, "lr": 0.001}], "lr": 0.005,
        "warmdown_steps": 10, "seed": 42, "batch_tokens": 64, "grad_clip": 1.0, "grad_accum_steps": 2,
        "swa_start": 20, "swa_interval": 3, "swa_decay": 0.9, "qat": "int8", "qat_start": 30
    }
}"#;

/// A folder with the config, and the arguments of a run in it that saves every 7 steps.
fn arguments(folder: &Path, threads: &str) -> Vec<String> {
    let config = folder.join("config.json");
    fs::write(&config, CONFIG).unwrap();
    let at = |name: &str| folder.join(name).display().to_string();
    let checkpoints = at("checkpoints");
    [
        ["arch", "--backend", "cpu", "--threads", threads].map(str::to_owned).to_vec(),
        vec!["--config".into(), at("config.json"), "--train".into(), TRAIN.into()],
        vec![
            "--safetensors".into(),
            at("final.st"),
            "--checkpoint-dir".into(),
            checkpoints.clone(),
        ],
        vec!["--checkpoint-every".into(), "7".into(), "--resume".into(), checkpoints],
        vec!["--log-every".into(), "20".into(), "--val-every".into(), "20".into()],
    ]
    .concat()
}

fn start(arguments: &[String]) -> Child {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    command(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn run(arguments: &[String]) -> String {
    stdout(&mixlab(&arguments.iter().map(String::as_str).collect::<Vec<_>>()))
}

/// The line of the result, without the time.
fn result(output: &str) -> String {
    let last = output.lines().last().unwrap();
    last[..last.rfind(" (").unwrap()].to_owned()
}

#[test]
fn a_run_that_is_killed_at_any_moment_ends_with_the_same_bits() {
    killed("1", 20);
    killed("3", 5);
}

/// Kills a run at so many moments, resumes it each time, and compares it with one that goes through.
fn killed(threads: &str, kills_in_all: u32) {
    let whole = tempfile::tempdir().unwrap();
    let begin = Instant::now();
    let expected = run(&arguments(whole.path(), threads));
    let mut time = begin.elapsed();
    for line in ["SWA: averaging started at step 20", "QAT enabled at step 30"] {
        let lines = expected.lines().filter(|printed| *printed == format!("  [killed] {line}"));
        assert_eq!(lines.count(), 1, "{expected}");
    }
    let killed = tempfile::tempdir().unwrap();
    let arguments = arguments(killed.path(), threads);
    let file = |folder: &Path| fs::read(folder.join("final.st")).unwrap();
    let mut kills = 0;
    // Moments spread over a run by the golden ratio; what comes before the first step is one too.
    for number in 1.. {
        assert!(number < 10 * kills_in_all, "only {kills} of {number} runs were met");
        let moment = time.mul_f64(0.1 + 0.8 * (f64::from(number) * 0.618_034).fract());
        let mut child = start(&arguments);
        std::thread::sleep(moment);
        let met = child.try_wait().unwrap().is_none();
        child.kill().unwrap();
        child.wait().unwrap();
        kills += u32::from(met);
        if kills == kills_in_all {
            break;
        }
        if !met {
            // It came to its end before: the next begins anew, and is met earlier.
            assert!(file(killed.path()) == file(whole.path()), "the weights differ, {number}");
            fs::remove_file(killed.path().join("final.st")).unwrap();
            fs::remove_dir_all(killed.path().join("checkpoints")).unwrap();
            time = time.mul_f64(0.8);
        }
    }
    let output = run(&arguments);
    assert!(file(killed.path()) == file(whole.path()), "the weights differ");
    assert_eq!(result(&output), result(&expected));
}

#[test]
fn another_config_or_other_data_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let shards = folder.path().join("shards");
    fs::create_dir(&shards).unwrap();
    for entry in fs::read_dir("golden/data/char64").unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, shards.join(path.file_name().unwrap())).unwrap();
    }
    let mut arguments = arguments(folder.path(), "1");
    let train = arguments.iter().position(|a| a == TRAIN).unwrap();
    arguments[train] = format!("{}/train_*.bin", shards.display());
    let with = |more: &[&str]| {
        let all: Vec<&str> =
            arguments.iter().map(String::as_str).chain(more.iter().copied()).collect();
        mixlab(&all)
    };
    assert!(stdout(&with(&[])).contains("checkpoint saved: "));
    let set = ["--set", "training.swa_decay=0.8", "--set", "training.phases[1].steps=40"];
    let refused = with(&set);
    let message = stderr(&refused);
    assert_eq!(refused.status.code(), Some(2), "{message}");
    assert!(message.contains("training.swa_decay: `0.9` then, `0.8` now"), "{message}");
    assert!(message.contains("training.phases[1].steps: `35` then, `40` now"), "{message}");
    let allow = ["--resume-allow", "swa_decay,training.phases"];
    let longer = stdout(&with(&[&set[..], &allow].concat()));
    assert!(longer.contains("resumed at step 60/65"), "{longer}");
    // The same size, another content.
    let shard = fs::read_dir(&shards).unwrap().map(|e| e.unwrap().path());
    let shard = shard.filter(|p| p.to_str().unwrap().contains("train_")).min().unwrap();
    let mut bytes = fs::read(&shard).unwrap();
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    fs::write(&shard, bytes).unwrap();
    let message = stderr(&with(&[&set[..], &allow].concat()));
    assert!(message.contains("data.train[0].sha256: "), "{message}");
    let other = with(&[&set[..], &["--resume-allow", "swa_decay,training.phases,data"]].concat());
    assert!(stdout(&other).contains("resumed at step 65/65"));
}

#[test]
fn a_folder_with_checkpoints_is_not_taken_by_a_new_run_and_signals_write_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut arguments = arguments(folder.path(), "1");
    let resume = arguments.iter().position(|a| a == "--resume").unwrap();
    arguments.drain(resume..resume + 2);
    arguments.extend(["--set", "training.phases[1].steps=1000000"].map(str::to_owned));
    let mut child = start(&arguments);
    let saved = folder.path().join("checkpoints/step_000007.json");
    let begin = Instant::now();
    while !saved.exists() {
        assert!(begin.elapsed() < Duration::from_secs(60), "no checkpoint");
        std::thread::sleep(Duration::from_millis(20));
    }
    let other = mixlab(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(stderr(&other).contains("has checkpoints of a run"), "{}", stderr(&other));
    let checkpoints = folder.path().join("checkpoints").display().to_string();
    let mut resuming = [&arguments[..], &["--resume".into(), checkpoints]].concat();
    let message = stderr(&mixlab(&resuming.iter().map(String::as_str).collect::<Vec<_>>()));
    assert!(message.contains("final.st`: another run is going to write it"), "{message}");
    // Also where it would write its weights elsewhere.
    let weights = resuming.iter().position(|a| a == "--safetensors").unwrap() + 1;
    resuming[weights] = folder.path().join("other.st").display().to_string();
    let locked = mixlab(&resuming.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(stderr(&locked).contains("another run writes checkpoints to"), "{}", stderr(&locked));
    let killed =
        std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(killed.unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(folder.path().join("final.st").exists());
    let newest = fs::read_dir(folder.path().join("checkpoints")).unwrap().count();
    assert!((newest - 1).is_multiple_of(3), "{newest} files are not whole checkpoints and a lock");
}

/// Work is cut by sizes alone, and every sum has one order.
#[test]
fn weights_do_not_depend_on_the_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let config = "golden/cases/plain_swiglu/config.json";
    for optimizer in ["muon", "adamw"] {
        let trained = |threads: &str| {
            let path = folder.path().join(threads).display().to_string();
            let optimizer = format!("training.optimizer={optimizer}");
            let line =
                ["arch", "--backend", "cpu", "--config", config, "--train", TRAIN, "--quiet"];
            let parts =
                ["--set", "training.batch_tokens=512", "--set", "training.grad_accum_steps=2"];
            let more =
                ["--set", "model_dim=128", "--set", "training.steps=12", "--set", &optimizer];
            let written = ["--threads", threads, "--safetensors", &path];
            stdout(&mixlab(&[&line[..], &parts, &more, &written].concat()));
            fs::read(path).unwrap()
        };
        let one = trained("1");
        assert!(["2", "3", "5"].iter().all(|threads| trained(threads) == one), "{optimizer}");
    }
}
