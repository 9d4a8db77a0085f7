//! Races as users run them: a folder of configs, several seeds, one config broken, and the race
//! killed half-way.

mod together;

use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::cli::{TRAIN, command, mixlab, stderr, stdout};

/// Six configs of different shapes, the last of which cannot be trained.
fn configs(folder: &Path) {
    let blocks = [
        ("plain", r#"{"type": "plain", "heads": 2}"#, 16),
        ("swiglu", r#"{"type": "swiglu"}"#, 16),
        ("wide", r#"{"type": "swiglu"}"#, 24),
        ("mamba", r#"{"type": "mamba"}"#, 16),
        ("perceiver", r#"{"type": "perceiver", "heads": 2, "num_latents": 4}"#, 16),
        ("broken", r#"{"type": "plain", "heads": 3}"#, 16),
    ];
    for (name, block, dim) in blocks {
        let config = format!(
            r#"{{"name": "{name}", "model_dim": {dim}, "vocab_size": 64, "seq_len": 16,
            "blocks": [{block}], "training": {{"steps": 6, "lr": 5e-3, "batch_tokens": 32}}}}"#
        );
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join(format!("{name}.json")), config).unwrap();
    }
}

fn race(arguments: &[&str]) -> Output {
    mixlab(&[&["race", "--backend", "cpu"], arguments].concat())
}

fn results(folder: &Path) -> Vec<(usize, SystemTime)> {
    let result = |n: usize| {
        let file = folder.join(format!("{n}/result.json")).metadata().ok()?;
        Some((n, file.modified().unwrap()))
    };
    (1..=18).filter_map(result).collect()
}

#[test]
fn a_race_that_was_killed_goes_on_and_does_no_run_twice() {
    let temporary = tempfile::tempdir().unwrap();
    let (folder, queue) = (temporary.path().join("configs"), temporary.path().join("race"));
    configs(&folder);
    let names = [folder.to_str().unwrap(), queue.to_str().unwrap()];
    let arguments = ["race", "--backend", "cpu", "--configs", names[0], "--train", TRAIN];
    let more = ["--seeds", "3", "--output", names[1], "--quiet"];
    let mut child = command(&[&arguments[..], &more].concat())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // The three of the broken config are known at once.
    let begun = Instant::now();
    while results(&queue).len() < 7 {
        assert!(begun.elapsed() < Duration::from_secs(120), "the race does not go on");
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let before = results(&queue);
    assert!(before.len() < 18, "it was killed too late");

    let resumed = race(&["--resume", names[1], "--jobs", "2", "--baseline", "plain", "--json"]);
    let table: Value = serde_json::from_str(&stdout(&resumed)).unwrap();
    let after = results(&queue);
    assert_eq!(after.len(), 18);
    assert!(before.iter().all(|known| after.contains(known)), "a run was done twice");
    let ranked = table["ranked"].as_array().unwrap();
    assert_eq!(ranked.len(), 4);
    assert!(ranked.iter().all(|row| row["runs"] == 3 && row["standard_error"].is_number()));
    let keys: Vec<f64> = ranked.iter().map(|row| row["key"].as_f64().unwrap()).collect();
    assert!(keys.is_sorted(), "{keys:?}");
    assert_eq!(table["seeing_the_future"][0]["name"], "perceiver");
    let failure = &table["failures"][0];
    assert!(failure["reasons"][0].as_str().unwrap().contains("blocks[0].heads"), "{failure}");
    let compared = table["comparisons"].as_array().unwrap();
    assert!(compared.iter().all(|row| row["pairs"] == 3 && row["interval"].is_array()));
    // A second time there is nothing to do, and the table is that of before.
    let again = stdout(&race(&["--resume", names[1], "--baseline", "plain", "--json"]));
    assert_eq!(again, stdout(&resumed));
    assert_eq!(results(&queue), after);
}

#[test]
fn a_run_of_a_race_goes_on_from_its_checkpoint_and_exports_small_integers() {
    let temporary = tempfile::tempdir().unwrap();
    let (folder, queue) = (temporary.path().join("configs"), temporary.path().join("race"));
    configs(&folder);
    fs::remove_file(folder.join("broken.json")).unwrap();
    let names = [folder.to_str().unwrap(), queue.to_str().unwrap()];
    let new = ["--configs", names[0], "--output", names[1], "--train", TRAIN];
    let more = ["--checkpoint-every", "2", "--quantize", "int8", "--safetensors", "w.st"];
    assert!(race(&[&new[..], &more].concat()).status.success());
    let run = queue.join("2");
    let result = || {
        let text = fs::read_to_string(run.join("result.json")).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let weights = || fs::read(run.join("w.st")).unwrap();
    let (whole, exported) = (result(), weights());
    assert!(String::from_utf8_lossy(&exported).contains(r#""dtype":"I8""#));
    fs::remove_file(run.join("result.json")).unwrap();
    fs::remove_file(run.join("w.st")).unwrap();
    fs::remove_file(run.join("checkpoints/step_000006.json")).unwrap();
    assert!(race(&["--resume", names[1]]).status.success());
    let log = fs::read_to_string(run.join("log.txt")).unwrap();
    assert_eq!(log.matches("resumed at step 4/6").count(), 1, "{log}");
    for key in ["first_loss", "last_loss", "steps"] {
        assert_eq!(result()[key], whole[key], "{key}");
    }
    assert!(weights() == exported, "a run that goes on ends with other weights");
}

#[test]
fn the_originals_spelling_prints_the_originals_table() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("configs");
    let case = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/cases/plain_swiglu/config.json");
    fs::create_dir_all(&folder).unwrap();
    fs::copy(case, folder.join("a.json")).unwrap();
    let train = format!("{}/{TRAIN}", env!("CARGO_MANIFEST_DIR"));
    let configs = folder.to_str().unwrap();
    let mut command = command(&["-mode", "arch_race", "-configs", configs, "-train", &train]);
    let output = command.current_dir(temporary.path()).output().unwrap();
    let text = stdout(&output);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], format!("=== ARCH RACE: 1 configs from {configs} ==="));
    let at = lines.iter().position(|line| line.starts_with("--- [1/1]")).unwrap();
    assert_eq!(lines[at], "--- [1/1] Training \"plain_swiglu\" ---");
    assert!(lines[at + 1].starts_with("  [plain_swiglu] IR program: "), "{}", lines[at + 1]);
    let table = lines.iter().position(|line| *line == "=== ARCH RACE RESULTS ===").unwrap();
    assert!(lines[table - 2].starts_with("plain_swiglu first=4.4702 last=4.0594 val=4.0314"));
    assert_eq!((lines[table - 1], lines[table + 2]), ("", &*"-".repeat(137)));
    let row = "plain_swiglu                     4.4702     4.0594     4.0314    -0.4107      -9.2%";
    assert!(lines[table + 3].starts_with(row), "{}", lines[table + 3]);
    assert!(temporary.path().join("race-1/1/result.json").is_file());
}

#[test]
fn one_run_ends_with_a_code_for_schedulers() {
    let temporary = tempfile::tempdir().unwrap();
    let (folder, queue) = (temporary.path().join("configs"), temporary.path().join("race"));
    configs(&folder);
    let names = [folder.to_str().unwrap(), queue.to_str().unwrap()];
    let weights = temporary.path().join("no-weights.st");
    fs::write(&weights, "text").unwrap();
    let make = ["--configs", names[0], "--output", names[1], "--train", TRAIN];
    let failed = race(&[&make[..], &["--safetensors-load", weights.to_str().unwrap()]].concat());
    assert_eq!(failed.status.code(), Some(1), "{}", stderr(&failed));
    assert!(stderr(&failed).contains("every run failed"));
    let run = |n: usize| race(&["--run", queue.join(n.to_string()).to_str().unwrap()]);
    // Configs are sorted by path: the first is the broken one.
    assert_eq!(run(1).status.code(), Some(2));
    assert_eq!(run(2).status.code(), Some(1));
    assert_eq!(run(7).status.code(), Some(1));
    fs::remove_file(queue.join("2/result.json")).unwrap();
    let lock = fs::File::create(queue.join("2/lock")).unwrap();
    lock.lock().unwrap();
    let taken = run(2);
    assert_eq!(taken.status.code(), Some(75), "{}", stderr(&taken));
}

/// What cannot be is told before there is a folder, which would be in the way of the next try.
#[test]
fn a_race_that_cannot_begin_leaves_no_folder() {
    let temporary = tempfile::tempdir().unwrap();
    let (folder, queue) = (temporary.path().join("configs"), temporary.path().join("race"));
    configs(&folder);
    let (folder, name) = (folder.to_str().unwrap(), queue.to_str().unwrap());
    let file = format!("{folder}/plain.json");
    let make = ["--configs", folder, "--output", name];
    let cases: [(&[&str], i32, &str); 5] = [
        (&["--train", TRAIN, "--baseline", "palin"], 2, "its configs are `"),
        (&["--train", "no/such_train_*.bin"], 1, "no file matches"),
        (&["--train", TRAIN, "--val", "no/such_val_*.bin"], 1, "no file matches"),
        (&["--train", TRAIN, "--safetensors-load", "no.st"], 1, "cannot read `no.st`"),
        (&["--train", TRAIN, "--seeds", "-1"], 2, "'-1' for '--seeds <N>'"),
    ];
    for (more, code, words) in cases {
        let refused = race(&[&make[..], more].concat());
        assert_eq!(refused.status.code(), Some(code), "{more:?}: {}", stderr(&refused));
        assert!(stderr(&refused).contains(words), "{more:?}: {}", stderr(&refused));
        assert!(!queue.exists(), "{more:?}");
    }
    let refused = race(&["--configs", &file, "--output", name]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("`arch --config`"), "{}", stderr(&refused));
}

/// A scheduler does not try again what is wrong.
#[test]
fn a_race_of_configs_that_are_all_wrong_is_a_wrong_request() {
    let temporary = tempfile::tempdir().unwrap();
    let (folder, queue) = (temporary.path().join("configs"), temporary.path().join("race"));
    configs(&folder);
    let names = [folder.to_str().unwrap(), queue.to_str().unwrap()];
    let make = ["--configs", names[0], "--output", names[1], "--train", TRAIN];
    let wrong = race(&[&make[..], &["--set", "bogus=1"]].concat());
    assert_eq!(wrong.status.code(), Some(2), "{}", stderr(&wrong));
    assert!(stderr(&wrong).contains("every run failed"));
    // What a race was made with stays: it would be ignored without a word.
    for flag in [
        ["--quant-k", "3"],
        ["--set", "model_dim=8"],
        ["--seeds", "2"],
        ["--train", TRAIN],
        ["--budget", "tokens=9"],
    ] {
        let again = race(&[&["--resume", names[1]][..], &flag].concat());
        assert_eq!(again.status.code(), Some(2), "{flag:?}");
        assert!(stderr(&again).contains("--resume"), "{flag:?}: {}", stderr(&again));
    }
}

#[test]
fn validate_says_what_is_wrong_and_what_it_takes() {
    let temporary = tempfile::tempdir().unwrap();
    configs(temporary.path());
    let path = temporary.path().to_str().unwrap();
    let output = mixlab(&["validate", "--config", path, "--train", TRAIN, "--json"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let configs = report["configs"].as_array().unwrap();
    assert_eq!(configs.len(), 6);
    for config in configs {
        let errors = config["errors"].as_array().unwrap().len();
        assert_eq!(
            errors,
            usize::from(config["config"].as_str().unwrap().ends_with("broken.json"))
        );
        let memory = &config["memory"];
        assert!(errors == 1 || memory["peak"].as_u64() > memory["weights"].as_u64(), "{config}");
    }
    let small = ["--train", TRAIN, "--set", "vocab_size=32"];
    let one = temporary.path().join("plain.json");
    let output = mixlab(&[&["validate", "--config", one.to_str().unwrap()], &small[..]].concat());
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stdout).contains("error: "));
}

#[test]
fn validate_compares_the_vocabulary_with_the_tokenizer() {
    let temporary = tempfile::tempdir().unwrap();
    configs(temporary.path());
    let at = |name: &str| temporary.path().join(name).display().to_string();
    let vocabulary = |tokens: usize| {
        let ids = (0..tokens - 1).map(|id| (format!("t{id}"), Value::from(id)));
        let added = serde_json::json!([{"id": tokens - 1, "content": "<end>"}]);
        let model = serde_json::json!({"type": "BPE", "vocab": Value::Object(ids.collect())});
        serde_json::json!({"model": model, "added_tokens": added}).to_string()
    };
    let validate = |text: &str| {
        fs::write(at("tokenizer.txt"), text).unwrap();
        let line = ["validate", "--config", &at("plain.json"), "--tokenizer", &at("tokenizer.txt")];
        mixlab(&line)
    };
    let cases = [
        (vocabulary(64), Some(0), ""),
        (vocabulary(60), Some(0), "warning: vocab_size is `64`, and the tokenizer has `60` tokens"),
        (vocabulary(70), Some(2), "the tokenizer has `70` tokens, and vocab_size is `64`"),
        ("[1]".into(), Some(1), "has no vocabulary"),
        ("no".into(), Some(1), "is no tokenizer"),
    ];
    for (text, code, part) in cases {
        let output = validate(&text);
        let said =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), code, "{said}");
        assert!(said.contains(part) && said.contains("tokenizer") != part.is_empty(), "{said}");
    }
}

#[test]
fn shells_and_manuals_know_all_commands() {
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let text = stdout(&mixlab(&["completions", shell]));
        assert!(text.contains("arch_race") && text.contains("safetensors-load"), "{shell}");
    }
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("man");
    stdout(&mixlab(&["man", folder.to_str().unwrap()]));
    let page = fs::read_to_string(folder.join("mixlab-cli-arch_race.1")).unwrap();
    assert!(page.contains("baseline"));
}
