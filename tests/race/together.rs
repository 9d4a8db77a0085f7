//! Races of several processes, races that are stopped, and what they are told to spend.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::race;
use crate::cli::{TRAIN, command, stderr, stdout};

/// Writes a config with this name, this block and these fields of its training.
fn config(folder: &Path, name: &str, block: &str, training: &str) {
    sized(folder, name, [16, 1], block, training);
}

/// The same with another width, and the block several times.
fn sized(folder: &Path, name: &str, [dim, count]: [usize; 2], block: &str, training: &str) {
    fs::create_dir_all(folder).unwrap();
    let blocks = vec![format!("{{{block}}}"); count].join(", ");
    let text = format!(
        r#"{{"name": "{name}", "model_dim": {dim}, "vocab_size": 64, "seq_len": 16,
        "blocks": [{blocks}], "training": {{{training}}}}}"#
    );
    fs::write(folder.join(format!("{name}.json")), text).unwrap();
}

const SWIGLU: &str = r#""type": "swiglu""#;
const PLAIN: &str = r#""type": "plain", "heads": 2"#;

/// A race that has been made, with two configs of five seeds each, and broken off after its first
/// result.
fn begun(folder: &Path) -> PathBuf {
    let (configs, queue) = (folder.join("configs"), folder.join("race"));
    config(&configs, "a", PLAIN, r#""steps": 40, "batch_tokens": 32"#);
    config(&configs, "b", SWIGLU, r#""steps": 40, "batch_tokens": 32"#);
    let names = [configs.to_str().unwrap(), queue.to_str().unwrap()];
    let line = ["race", "--backend", "cpu", "--configs", names[0], "--output", names[1]];
    let more = ["--train", TRAIN, "--seeds", "5", "--quiet"];
    let mut command = command(&[&line[..], &more].concat());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while done(&queue) < 1 {
        assert!(start.elapsed() < Duration::from_secs(120), "the race does not go on");
        std::thread::sleep(Duration::from_millis(10));
    }
    interrupt(child.id());
    assert_eq!(child.wait().unwrap().code(), Some(75));
    queue
}

/// How many runs of the race in `queue` have a result.
fn done(queue: &Path) -> usize {
    (1..=10).filter(|n| queue.join(format!("{n}/result.json")).is_file()).count()
}

fn interrupt(process: u32) {
    assert!(Command::new("kill").args(["-INT", &process.to_string()]).status().unwrap().success());
}

#[cfg(unix)]
#[test]
fn two_workers_share_what_a_stopped_race_left_and_do_nothing_twice() {
    let temporary = tempfile::tempdir().unwrap();
    let queue = begun(temporary.path());
    let before = done(&queue);
    assert!((1..10).contains(&before), "{before} runs were done");
    let line = ["race", "--backend", "cpu", "--threads", "1", "--worker", queue.to_str().unwrap()];
    let workers = [(); 2]
        .map(|()| command(&line).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    let told = workers.map(|worker| {
        let output = worker.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        // `[3/10 done] a seed=43 last=4.1234 …`
        let run = |line: &str| {
            let (_, rest) = line.split_once(" done] ")?;
            Some(rest.split(" last=").next().unwrap().to_owned())
        };
        stderr(&output).lines().filter_map(run).collect::<Vec<_>>()
    });
    let all: Vec<&String> = told.iter().flatten().collect();
    let distinct: HashSet<_> = all.iter().collect();
    assert_eq!((all.len(), distinct.len()), (10 - before, 10 - before), "{told:?}");
    let table = stdout(&race(&["--resume", queue.to_str().unwrap(), "--json"]));
    let table: Value = serde_json::from_str(&table).unwrap();
    assert!(table["ranked"].as_array().unwrap().iter().all(|row| row["runs"] == 5), "{table}");
}

#[cfg(unix)]
#[test]
fn a_race_that_was_stopped_says_how_it_goes_on() {
    let temporary = tempfile::tempdir().unwrap();
    let configs = temporary.path().join("configs");
    config(&configs, "endless", SWIGLU, r#""steps": 100000000, "batch_tokens": 32"#);
    let queue = temporary.path().join("race");
    let names = [configs.to_str().unwrap(), queue.to_str().unwrap()];
    let line = ["race", "--backend", "cpu", "--configs", names[0], "--output", names[1]];
    let mut command = command(&[&line[..], &["--train", TRAIN]].concat());
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let metrics = queue.join("1/metrics.jsonl");
    let start = Instant::now();
    while !fs::metadata(&metrics).is_ok_and(|file| file.len() > 0) {
        assert!(start.elapsed() < Duration::from_secs(120), "the run does not begin");
        std::thread::sleep(Duration::from_millis(10));
    }
    interrupt(child.id());
    let output = child.wait_with_output().unwrap();
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(75), "{message}");
    assert!(message.contains("hint: go on with it by `--resume "), "{message}");
    assert_eq!(done(&queue), 0);
    // Nobody is at the run any more.
    fs::File::open(queue.join("1/lock")).unwrap().try_lock().unwrap();
}

/// The steps that each run of a new race took, in its order.
fn steps(folder: &Path, budget: &str) -> Vec<u64> {
    let (configs, queue) = (folder.join("configs"), folder.join(budget));
    let names = [configs.to_str().unwrap(), queue.to_str().unwrap()];
    let line = ["--configs", names[0], "--output", names[1], "--train", TRAIN, "--quiet"];
    stdout(&race(&[&line[..], &["--budget", budget]].concat()));
    let steps = |n: usize| {
        let text = fs::read_to_string(queue.join(format!("{n}/result.json"))).unwrap();
        let result: Value = serde_json::from_str(&text).unwrap();
        result["steps"].as_u64().unwrap_or_else(|| panic!("{text}"))
    };
    vec![steps(1), steps(2)]
}

#[test]
fn a_budget_is_spent_by_each_config_in_its_own_steps() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    config(&folder.join("configs"), "a", SWIGLU, r#""steps": 3, "batch_tokens": 32"#);
    config(&folder.join("configs"), "b", SWIGLU, r#""steps": 3, "batch_tokens": 64"#);
    assert_eq!(steps(folder, "tokens=640"), [20, 10]);
    // Six products of a block of width 43, and the head's, forward and backward.
    let token = 3 * (6 * 16 * 43 + 2 * 16 * 64);
    assert_eq!(steps(folder, &format!("flops={}", 640 * token)), [20, 10]);
    let [few, many] = ["seconds=0.05", "seconds=1"].map(|budget| steps(folder, budget));
    assert!(few[0] >= 1 && many[0] > few[0], "{few:?} and {many:?}");
    for wrong in ["tokens", "tokens=0", "hours=1"] {
        let line = ["--configs", folder.to_str().unwrap(), "--train", TRAIN, "--budget", wrong];
        assert_eq!(race(&line).status.code(), Some(2), "{wrong}");
    }
}

#[test]
fn what_diverges_or_does_not_fit_is_a_row_with_its_reason() {
    let temporary = tempfile::tempdir().unwrap();
    let configs = temporary.path().join("configs");
    config(&configs, "good", SWIGLU, r#""steps": 12, "batch_tokens": 32"#);
    let diverging = r#""steps": 12, "lr": 1e30, "batch_tokens": 32, "optimizer": "adamw""#;
    config(&configs, "fast, wild", SWIGLU, diverging);
    // Two hundred GB of weights.
    sized(&configs, "huge", [28_000, 8], SWIGLU, r#""steps": 12, "batch_tokens": 32"#);
    let queue = temporary.path().join("race");
    let names = [configs.to_str().unwrap(), queue.to_str().unwrap()];
    let line = ["--configs", names[0], "--output", names[1], "--train", TRAIN];
    let printed = stdout(&race(&[&line[..], &["--csv"]].concat()));
    let lines: Vec<&str> = printed.lines().collect();
    let fields = lines[0].split(',').count();
    assert!(lines[1].starts_with("1,good,ranked,1,0,") && lines[1].split(',').count() == fields);
    let row = |name: &str| {
        let row = lines.iter().find(|line| line.starts_with(&format!(",{name},failed,0,")));
        *row.unwrap_or_else(|| panic!("{name}: {printed}"))
    };
    assert!(row("\"fast, wild\"").contains("not finite"), "{printed}");
    if cfg!(target_os = "linux") {
        assert!(row("huge").contains(" of memory, and "), "{printed}");
    }
    // The same as JSON, from the folder.
    let table = stdout(&race(&["--resume", names[1], "--json"]));
    let table: Value = serde_json::from_str(&table).unwrap();
    let key = lines[1].split(',').nth(8).unwrap().parse::<f64>().unwrap();
    assert_eq!(table["ranked"][0]["key"].as_f64(), Some(key));
    assert_eq!(table["failures"].as_array().unwrap().len(), 2);
}
