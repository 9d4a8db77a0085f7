//! The command line, run as a process.

mod rejected;
mod signals;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The binary, which cargo builds as an example of this package.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().parent().unwrap().join("examples/mixlab-cli-under-test")
}

/// The binary with `arguments`. A card is hidden from commands that do not name CUDA: numbers of the
/// original are compared in f32, which is not the default there.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).current_dir(folder());
    if !arguments.contains(&"cuda") {
        command.env("CUDA_VISIBLE_DEVICES", "-1");
    }
    command
}

pub fn mixlab(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

pub fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

pub const TRAIN: &str = "golden/data/char64/train_*.bin";

/// The steps of a metrics file.
pub fn steps(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["event"] == "step").collect()
}

#[test]
fn arch_prints_the_lines_of_the_original() {
    let config = "golden/cases/plain_swiglu/config.json";
    let output = stdout(&mixlab(&["arch", "--config", config, "--train", TRAIN]));
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(
        lines[0],
        "loaded config \"plain_swiglu\": model_dim=32 vocab_size=64 seq_len=16 blocks=2"
    );
    assert_eq!(
        lines[1],
        "  training: steps=20 lr=0.005 grad_clip=1 weight_decay=0.01 seed=42 batch_tokens=32"
    );
    assert!(lines[2].starts_with("  [plain_swiglu] IR program: "));
    let first = "  [plain_swiglu] step 0/20 loss=4.4702 val=4.6822 lr=0.000000 tok/s=";
    assert!(lines[3].starts_with(first), "{}", lines[3]);
    let last = "  [plain_swiglu] step 19/20 loss=4.0594 val=4.0314 lr=0.004750 tok/s=";
    assert!(lines[4].starts_with(last), "{}", lines[4]);
    let summary = "plain_swiglu first=4.4702 last=4.0594 val=4.0314 delta=-0.4107 (";
    assert!(lines[5].starts_with(summary), "{}", lines[5]);
    assert_eq!(lines[6..8], ["", "=== ARCH RESULT ==="]);
    assert_eq!(lines[8], lines[5]);
}

#[test]
fn the_original_spelling_trains_and_exports_the_same_file() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("deep/weights.safetensors");
    let config = "golden/cases/onestep_adamw/config.json";
    let export = path.to_str().unwrap();
    let arguments =
        ["-mode", "arch", "-config", config, "-train", TRAIN, "-safetensors", export, "-timing"];
    let output = stdout(&mixlab(&arguments));
    assert!(output.contains(&format!("exported safetensors to {export} (10 tensors)")));
    let timing = output.lines().find(|line| line.contains("[timing] data=")).unwrap();
    assert!([" gpu=", " val=", " log="].iter().all(|field| timing.contains(field)), "{timing}");
    let expected = fs::read(folder().join("golden/cases/onestep_adamw/final.safetensors")).unwrap();
    let written = fs::read(&path).unwrap();
    assert_eq!(written.len(), expected.len());
    let header = 8 + u64::from_le_bytes(expected[..8].try_into().unwrap()) as usize;
    assert_eq!(written[..header], expected[..header]);
}

#[test]
fn metrics_are_json_lines_and_weights_load_back() {
    let temporary = tempfile::tempdir().unwrap();
    let (metrics, weights) = (temporary.path().join("m.jsonl"), temporary.path().join("w.st"));
    let config = "golden/cases/plain_swiglu/config.json";
    let [metrics_path, weights_path] = [&metrics, &weights].map(|p| p.to_str().unwrap());
    let first = ["arch", "--config", config, "--train", TRAIN, "--safetensors", weights_path];
    stdout(&mixlab(&first));
    let arguments = [
        "arch",
        "--config",
        config,
        "--train",
        TRAIN,
        "--safetensors-load",
        weights_path,
        "--metrics",
        metrics_path,
        "--set",
        "training.steps=3",
        "--log-every",
        "1",
        "--quiet",
    ];
    let output = stdout(&mixlab(&arguments));
    assert!(output.starts_with("plain_swiglu first="), "{output}");
    let text = fs::read_to_string(&metrics).unwrap();
    let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let events: Vec<&str> = lines.iter().map(|l| l["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["start", "step", "step", "step", "end"]);
    assert_eq!(lines[0]["config"]["training"]["steps"], 3);
    assert_eq!(lines[0]["params"], 15968);
    assert!(lines[1]["val_loss"].is_f64() && lines[2].get("val_loss").is_none());
    // The first 20 steps ended at a validation loss of 4.0314: training goes on from there.
    assert!((lines[1]["val_loss"].as_f64().unwrap() - 4.0314).abs() < 1e-3);
}

#[test]
fn count_prints_the_parameters_and_flops_of_the_original() {
    for case in ["plain_swiglu", "gqa_4_2", "unet", "recurrence", "ex_depth_recurrent", "kv_source"]
    {
        let path = format!("golden/cases/{case}");
        let output =
            stdout(&mixlab(&["-mode", "count", "-config", &format!("{path}/config.json")]));
        let trace = fs::read_to_string(folder().join(&path).join("trace.json")).unwrap();
        let trace: Value = serde_json::from_str(&trace).unwrap();
        for (got, expected) in output.lines().zip(trace["count_output"].as_array().unwrap()) {
            let expected = expected.as_str().unwrap();
            // Ours counts the operations of our own program.
            if !expected.starts_with("Number of IR ops") {
                assert_eq!(got, expected, "{case}");
            }
        }
    }
}

#[test]
fn count_lists_what_each_block_costs() {
    let config = "golden/cases/recurrence/config.json";
    let output = stdout(&mixlab(&["count", "--config", config, "--blocks"]));
    let (total, table) = output.split_once("\n\n").unwrap();
    let rows: Vec<Vec<&str>> =
        table.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    let parameters: usize = rows.iter().map(|row| row[0].parse::<usize>().unwrap()).sum();
    assert!(total.contains(&format!("Total parameters: {parameters} (unique)")), "{output}");
    let names: Vec<&str> = rows.iter().map(|row| row[4]).collect();
    assert_eq!(names, ["embedding", "0", "1", "2", "3", "head"]);
    assert_eq!((rows[3][0], rows[4][0]), ("0", "0"), "shared weights count once");
}

#[test]
fn smoke_passes() {
    let output = stdout(&mixlab(&["smoke", "--backend", "cpu"]));
    assert!(output.contains("PASS") && output.contains("=== SMOKE: All checks passed ==="));
}

/// Where the only Vulkan driver is Mesa's, which computes on the processor.
#[test]
fn auto_leaves_software_drivers_alone() {
    let drivers = Path::new("/usr/share/vulkan/icd.d");
    let names = fs::read_dir(drivers).into_iter().flatten().map(|entry| entry.unwrap().path());
    let mesa: Vec<_> = names.filter(|path| path.to_string_lossy().contains("lvp_icd")).collect();
    let mut command = command(&["smoke"]);
    command
        .env("CUDA_VISIBLE_DEVICES", "")
        .env("VK_DRIVER_FILES", mesa.first().unwrap_or(&"none".into()));
    let output = stdout(&command.output().unwrap());
    assert!(output.contains("device: cpu (flex"), "{output}");
}

#[test]
fn prepared_text_can_be_trained_on() {
    let temporary = tempfile::tempdir().unwrap();
    let text = "the small cat sees the old dog. the old dog sees the small cat.\n".repeat(200);
    fs::write(temporary.path().join("a.txt"), text).unwrap();
    let (input, output) = (temporary.path().join("a.txt"), temporary.path().join("shards"));
    let [input, output] = [&input, &output].map(|p| p.to_str().unwrap());
    let printed =
        stdout(&mixlab(&["prepare", "--input", input, "--output", output, "--vocab-size", "64"]));
    assert!(printed.contains("Validation: found 1 training shard(s)"), "{printed}");
    let train = format!("{output}/train_*.bin");
    let config = "golden/cases/plain_swiglu/config.json";
    let run = stdout(&mixlab(&["arch", "--config", config, "--train", &train]));
    assert!(run.contains("val="), "{run}");
}

#[test]
fn all_errors_of_a_config_come_at_once_with_their_lines() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("bad.json");
    let text = "{\n \"model_dim\": 32,\n \"vocab_sise\": 64,\n \"blocks\": [\n  {\"type\": \"plain\", \"heads\": 5},\n  {\"type\": \"swiglo\"}\n ]\n}\n";
    fs::write(&path, text).unwrap();
    let output = mixlab(&["count", "--config", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let message = stderr(&output);
    for part in [
        "bad.json:3: vocab_sise",
        "did you mean `vocab_size`?",
        "bad.json:5: blocks[0].heads",
        "`5` does not divide model_dim `32`",
        "bad.json:6: blocks[1].type",
        "did you mean `swiglu`?",
    ] {
        assert!(message.contains(part), "{part} is not in:\n{message}");
    }
}

#[test]
fn bad_requests_exit_with_2_and_failed_runs_with_1() {
    let config = "golden/cases/plain/config.json";
    let cases: [(&[&str], i32, &str); 12] = [
        (&["arch", "-config", config, "-train", TRAIN], 2, "as in `--config`"),
        (&["arch", "--config", config, "--train", TRAIN, "-log-every=3"], 2, "as in `--log-every`"),
        (&["arch", "--config", "nope.json"], 2, "nope.json"),
        (&["arch", "--config", config, "--train", "golden/none_*.bin"], 1, "golden/none_*.bin"),
        (&["arch", "--config", config, "--train", TRAIN, "--safetensors-load", "x.st"], 1, "x.st"),
        (
            &["arch", "--config", config, "--train", TRAIN, "--set", "vocab_size=40"],
            1,
            "vocab_size",
        ),
        (&["arch", "--config", config, "--log-every", "0"], 2, "must be at least 1"),
        (&["-config", config, "-train", "a.bin", "b.bin"], 2, "stray argument `b.bin`"),
        (&["arch", "--config", config, "--train", "a.bin", "b.bin"], 2, "unquoted glob"),
        (&["arch", "--config", config, "--trian", "a.bin"], 2, "--trian"),
        (&["-config", config, "-train="], 1, "``"),
        (
            &["arch", "--config", config, "--train", TRAIN, "--device", "7", "--backend", "cpu"],
            2,
            "`--device 7`",
        ),
    ];
    for (arguments, code, part) in cases {
        let output = mixlab(arguments);
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {message}");
        assert!(message.starts_with("error: ") && message.contains(part), "{message}");
    }
}

#[test]
fn a_nan_loss_stops_the_run() {
    let config = "golden/cases/plain_swiglu/config.json";
    let arguments = [
        "arch",
        "--config",
        config,
        "--train",
        TRAIN,
        "--log-every",
        "1",
        "--set",
        "training.lr=1e30",
        "--set",
        "training.grad_clip=0",
    ];
    let output = mixlab(&arguments);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("the loss is NaN at step"), "{}", stderr(&output));
}

#[test]
fn a_trace_has_every_part_of_a_run_one_after_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let config = "golden/cases/plain_swiglu/config.json";
    let (trace, saved) = (at("trace.json"), at("saved"));
    let all = ["arch", "--backend", "cpu", "--config", config, "--train", TRAIN, "--trace", &trace];
    let more = ["--checkpoint-dir", &saved, "--checkpoint-every", "8"];
    stdout(&mixlab(&[&all[..], &more].concat()));
    let read = |path: &str| -> Vec<Value> {
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    };
    let events = read(&trace);
    let count = |name: &str| events.iter().filter(|event| event["name"] == name).count();
    let counts = ["data", "submit", "wait", "validation", "checkpoint"].map(count);
    assert_eq!(counts, [20, 20, 2, 2, 3]);
    let end = |event: &Value| event["ts"].as_u64().unwrap() + event["dur"].as_u64().unwrap();
    let inside = |pair: &[Value]| end(&pair[0]) <= pair[1]["ts"].as_u64().unwrap() + 1;
    let others: Vec<Value> =
        events.iter().filter(|event| event["name"] != "checkpoint").cloned().collect();
    assert!(others.windows(2).all(inside), "{others:?}");
    // A run that breaks has one too.
    let broken = mixlab(&[&all[..], &["--set", "training.lr=1e30"]].concat());
    assert!(!broken.status.success());
    assert!(read(&trace).len() > 3);
}
