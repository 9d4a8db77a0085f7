//! Faults around a run: files that are others than they should be, outputs that cannot be written,
//! numbers that cannot work. Each is told with its place and the way out, and costs no training.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use mixlab_burn::data::shard::write_shard;

use crate::cli::{binary, stderr};

const CONFIG: &str = r#"{
    "name": "faults", "model_dim": 8, "vocab_size": 32, "seq_len": 8,
    "blocks": [{"type": "plain", "heads": 2}, {"type": "swiglu"}],
    "training": {"steps": 20, "batch_tokens": 16}
}"#;
const ENDLESS: &str = "training.steps=100000000";

/// A folder with a config and shards.
pub struct Scene(tempfile::TempDir);

impl Scene {
    pub fn new() -> Self {
        let scene = Self(tempfile::tempdir().unwrap());
        fs::write(scene.at("c.json"), CONFIG).unwrap();
        scene.shard("train_0.bin");
        scene.shard("val_0.bin");
        scene
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn shard(&self, name: &str) {
        let tokens: Vec<u16> = (0..4000u32).map(|i| (i * i % 31) as u16).collect();
        fs::create_dir_all(self.at(name).parent().unwrap()).unwrap();
        write_shard(&self.at(name), &tokens).unwrap();
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(arguments).current_dir(self.0.path());
        command
    }

    /// Trains on the shards with more arguments.
    pub fn arch(&self, more: &[&str]) -> Command {
        let base = ["arch", "--config", "c.json", "--train", "train_*.bin", "--log-every", "1"];
        let more: Vec<&str> = base.into_iter().chain(more.iter().copied()).collect();
        self.command(&more)
    }

    /// A run without an end, after its first step.
    pub fn endless(&self, more: &[&str]) -> Child {
        self.endless_under(&[], more)
    }

    /// [`Self::endless`], started by the program of `under`.
    pub fn endless_under(&self, under: &[&str], more: &[&str]) -> Child {
        let run = self.arch(&[&["--set", ENDLESS], more].concat());
        let mut command = match under.first() {
            None => run,
            Some(program) => {
                let mut command = Command::new(program);
                command.args(&under[1..]).arg(run.get_program()).args(run.get_args());
                command.current_dir(self.0.path());
                command
            }
        };
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("step 0/") {
            line.clear();
            assert!(lines.read_line(&mut line).unwrap() > 0, "the run has ended");
        }
        // Who looks on goes away.
        child
    }
}

/// The message of a command that was refused before it computed anything.
pub fn refused(output: &Output, code: i32) -> String {
    let message = stderr(output);
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(code), "{message}");
    assert!(!printed.contains("step "), "{printed}");
    assert!(message.contains("error: ") && message.contains("\n  hint: "), "{message}");
    message
}

#[test]
fn an_output_that_cannot_be_written_is_refused_before_the_first_step() {
    let scene = Scene::new();
    fs::create_dir(scene.at("folder")).unwrap();
    for flag in ["--safetensors", "--metrics"] {
        for path in ["folder", "c.json/w.st", "c.json/deep/w.st", "folder/.."] {
            let output = scene.arch(&[flag, path]).output().unwrap();
            let message = refused(&output, 1);
            assert!(message.contains(&format!("cannot write `{path}`")), "{flag}: {message}");
        }
    }
    #[cfg(unix)]
    {
        let long = "w".repeat(300);
        let message = refused(&scene.arch(&["--safetensors", &long]).output().unwrap(), 1);
        assert!(message.contains("shorter name"), "{message}");
        std::os::unix::fs::symlink("nowhere/w.st", scene.at("dangling")).unwrap();
        refused(&scene.arch(&["--safetensors", "dangling"]).output().unwrap(), 1);
    }
}

#[test]
fn an_output_over_an_input_is_refused_and_nothing_is_written() {
    let scene = Scene::new();
    assert!(scene.arch(&["--safetensors", "w.st"]).status().unwrap().success());
    let load = ["--safetensors-load", "w.st"];
    fs::write(scene.at("prepared.json"), "{}").unwrap();
    let cases: [&[&str]; 9] = [
        &["--safetensors", "prepared.json"],
        &["--safetensors", "both", "--checkpoint-dir", "./both"],
        &["--safetensors", "c.json"],
        &["--metrics", "c.json"],
        &["--metrics", "train_0.bin"],
        &["--safetensors", "val_0.bin"],
        &["--safetensors", "./w.st", load[0], load[1]],
        &["--metrics", "w.st", load[0], load[1]],
        &["--metrics", "new", "--safetensors", "./new"],
    ];
    let contents = || {
        ["c.json", "train_0.bin", "val_0.bin", "w.st"].map(|name| fs::read(scene.at(name)).unwrap())
    };
    let before = contents();
    for more in cases {
        let message = refused(&scene.arch(more).output().unwrap(), 2);
        assert!(message.contains("would write over"), "{message}");
    }
    let diagram = ["count", "--config", "c.json", "--diagram", "c.json"];
    refused(&scene.command(&diagram).output().unwrap(), 2);
    assert_eq!(contents(), before);
}

#[test]
fn what_is_computed_from_weights_is_opened_first_too() {
    let scene = Scene::new();
    assert!(scene.arch(&["--safetensors", "w.st"]).status().unwrap().success());
    let shared = ["--config", "c.json", "--safetensors-load", "w.st", "--train", "train_*.bin"];
    for (command, flag) in [("eval", "--logprobs-out"), ("hiddenstats", "--output")] {
        for (path, code) in [("w.st", 2), ("c.json", 2), ("val_0.bin", 2), ("c.json/x", 1)] {
            let arguments = [&[command][..], &shared, &[flag, path]].concat();
            let message = refused(&scene.command(&arguments).output().unwrap(), code);
            assert!(message.contains(path), "{message}");
        }
        let arguments = [&[command][..], &shared, &[flag, "new/x", "--threads", "1"]].concat();
        let output = scene.command(&arguments).output().unwrap();
        assert!(output.status.success() && scene.at("new/x").exists(), "{}", stderr(&output));
    }
}

#[cfg(unix)]
#[test]
fn a_run_goes_on_when_nobody_reads_what_it_prints() {
    let scene = Scene::new();
    let full = || fs::File::options().write(true).open("/dev/full").unwrap();
    let run = scene.arch(&["--safetensors", "full.st"]).stdout(full()).output().unwrap();
    assert!(run.status.success());
    assert!(
        stderr(&run).contains("warning: standard output cannot be written"),
        "{}",
        stderr(&run)
    );
    let run = scene.arch(&["--safetensors", "both.st"]).stdout(full()).stderr(full()).status();
    assert!(run.unwrap().success());
    let mut read_by_nobody = scene.arch(&["--safetensors", "gone.st"]);
    let mut child = read_by_nobody.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    assert!(child.wait().unwrap().success());
    for name in ["full.st", "both.st", "gone.st"] {
        assert!(scene.at(name).exists(), "{name}");
    }
    // What only prints has failed.
    let printing: [&[&str]; 4] = [
        &["count", "--config", "c.json"],
        &["validate", "--config", "c.json"],
        &["completions", "bash"],
        &["eval", "--config", "c.json", "--safetensors-load", "full.st", "--train", "train_*.bin"],
    ];
    for command in printing {
        refused(&scene.command(command).stdout(full()).output().unwrap(), 1);
    }
}

#[cfg(unix)]
#[test]
fn a_metrics_file_that_can_no_longer_be_written_costs_a_warning() {
    let scene = Scene::new();
    assert!(Command::new("mkfifo").arg(scene.at("pipe")).status().unwrap().success());
    let mut arch = scene.arch(&["--metrics", "pipe", "--safetensors", "w.st"]);
    let child = arch.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    drop(fs::File::open(scene.at("pipe")).unwrap());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && scene.at("w.st").exists());
    let warnings = stderr(&output).matches("the metrics file cannot be written").count();
    assert_eq!(warnings, 1, "{}", stderr(&output));
}

/// `ulimit -f` stands for a full disk.
#[cfg(unix)]
#[test]
fn weights_that_no_disk_takes_are_an_error_and_the_old_ones_stay() {
    let scene = Scene::new();
    fs::write(scene.at("w.st"), "of an earlier run").unwrap();
    let run = "ulimit -f 2; exec \"$0\" arch --config c.json --train train_0.bin --metrics m --safetensors w.st";
    let mut command = Command::new("bash");
    let output =
        command.args(["-c", run]).arg(binary()).current_dir(scene.0.path()).output().unwrap();
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("the weights are lost") && message.contains("hint: "), "{message}");
    assert_eq!(fs::read(scene.at("w.st")).unwrap(), b"of an earlier run");
    assert!(!scene.at(".writing-w.st").exists());
}

/// Likewise.
#[cfg(unix)]
#[test]
fn a_race_that_finds_no_room_leaves_nothing_in_the_way() {
    let scene = Scene::new();
    let run = "ulimit -f 0; exec \"$0\" race --configs . --train train_0.bin --output r";
    let mut command = Command::new("bash");
    let output =
        command.args(["-c", run]).arg(binary()).current_dir(scene.0.path()).output().unwrap();
    refused(&output, 1);
    assert_eq!(fs::read_dir(scene.at("r")).unwrap().count(), 0);
}

#[cfg(unix)]
#[test]
fn two_runs_do_not_write_the_same_weights() {
    let scene = Scene::new();
    fs::create_dir(scene.at("out")).unwrap();
    let weights = ["--safetensors", "out/w.st"];
    let mut first = scene.endless(&weights);
    let message = refused(&scene.arch(&weights).output().unwrap(), 1);
    assert!(message.contains("another run"), "{message}");
    // The lock ends with its process, and what it has left is taken over.
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(scene.arch(&weights).status().unwrap().success());
    assert_eq!(fs::read_dir(scene.at("out")).unwrap().count(), 1);
}

#[cfg(unix)]
#[test]
fn a_shard_that_shrinks_ends_a_run_with_its_name_and_its_weights() {
    let scene = Scene::new();
    let child = scene.endless(&["--safetensors", "w.st"]);
    let shard = fs::File::options().write(true).open(scene.at("train_0.bin")).unwrap();
    shard.set_len(1100).unwrap();
    let output = child.wait_with_output().unwrap();
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("`train_0.bin`") && message.contains("hint: "), "{message}");
    assert!(message.contains("steps are in `w.st`"), "{message}");
    assert!(scene.at("w.st").exists());
}

#[test]
fn a_run_that_breaks_down_replaces_no_weights_of_an_earlier_one() {
    let scene = Scene::new();
    let diverging = ["--set", "training.lr=1e38", "--set", "training.weight_decay=0"];
    let arch = || scene.arch(&[&["--safetensors", "w.st"], &diverging[..]].concat());
    let failed = |place: &str| {
        let output = arch().output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let message = stderr(&output);
        assert!(message.contains(&format!("steps are in `{place}`")), "{message}");
        assert!(scene.at(place).exists());
    };
    failed("w.st");
    fs::write(scene.at("w.st"), "of an earlier run").unwrap();
    failed("w.st.failed");
    assert_eq!(fs::read(scene.at("w.st")).unwrap(), b"of an earlier run");
}

#[test]
fn a_folder_stands_for_its_shards_and_validation_is_found_by_its_usual_names() {
    let scene = Scene::new();
    let cases = [
        ("[d] 1/train_0.bin", "[d] 1/val_0.bin", "[d] 1"),
        ("e/train_0.bin", "e/valid_0.bin", "e/"),
        ("f/training_0.bin", "f/validation_0.bin", "f/training_*.bin"),
        ("g/train.bin", "g/dev.bin", "g/train.bin"),
        ("h/Train/a.bin", "h/Val/a.bin", "h/Train/*.bin"),
        ("i/TRAIN_0.bin", "i/EVAL_0.bin", "i/TRAIN_*.bin"),
    ];
    for (train, val, given) in cases {
        scene.shard(train);
        scene.shard(val);
        let command = ["arch", "--config", "c.json", "--train", given, "--set", "training.steps=1"];
        let output = scene.command(&command).output().unwrap();
        let printed = String::from_utf8(output.stdout.clone()).unwrap();
        assert!(printed.contains(" val="), "{given}: {printed}{}", stderr(&output));
    }
    scene.shard("j/train_0.bin");
    let command = ["arch", "--config", "c.json", "--train", "j", "--set", "training.steps=1"];
    let printed = String::from_utf8(scene.command(&command).output().unwrap().stdout).unwrap();
    assert!(printed.contains("no val set: ") && printed.contains("--val"), "{printed}");
    fs::create_dir(scene.at("empty")).unwrap();
    let command = ["arch", "--config", "c.json", "--train", "empty"];
    let message = refused(&scene.command(&command).output().unwrap(), 1);
    assert!(message.contains("empty/train*.bin"), "{message}");
}

#[test]
fn what_is_no_shard_is_named() {
    let scene = Scene::new();
    let arch = |given: &str, more: &[&str]| {
        let command = [&["arch", "--config", "c.json", "--train", given], more].concat();
        scene.command(&command).output().unwrap()
    };
    let ids: Vec<u8> = (0..3000u32).flat_map(|i| (i as u16 * 7 % 31).to_le_bytes()).collect();
    let files: [(&str, &[u8], &str); 6] = [
        ("raw.bin", &ids, "--raw-u16"),
        ("short.bin", &ids[..200], "--raw-u16"),
        ("text.bin", b"Once upon a time there was no shard.\n", "it is text"),
        ("weights.bin", b"\x10\x01\0\0\0\0\0\0{\"w0_embed\":{}}", "safetensors"),
        ("empty.bin", b"", "fewer than its 1024-byte header"),
        ("numpy.bin", b"\x93NUMPY\x01\0v\0{'descr': '<u2'}", "NumPy"),
    ];
    for (name, bytes, part) in files {
        fs::write(scene.at(name), bytes).unwrap();
        let message = refused(&arch(name, &[]), 1);
        assert!(message.contains(name) && message.contains(part), "{message}");
    }
    fs::create_dir(scene.at("train_folder.bin")).unwrap();
    let message = refused(&arch("train_*.bin", &[]), 1);
    assert!(message.contains("`train_folder.bin`") && message.contains("a folder"), "{message}");
    assert!(arch("raw.bin", &["--raw-u16", "--val", "short.bin"]).status.success());
    refused(&arch("val_0.bin", &["--raw-u16"]), 1);
}

#[test]
fn numbers_that_cannot_work_are_errors_of_the_request() {
    let scene = Scene::new();
    let settings = [
        "training.beta2=1",
        "training.beta1=1e30",
        "training.epsilon=-1e-9",
        "training.muon_momentum=1",
        "training.lr=1e39",
        "training.phases=[{\"steps\":1,\"lr\":1e300}]",
        "training.weight_decay=1e30",
        "training.swa_decay=1",
        "training.grad_clip=-1",
        "dropout=1.5",
        "training.epsilon=1e-46",
        "training.grad_clip=1e-320",
        "logit_softcap=1e-400",
    ];
    for setting in settings {
        let message = refused(&scene.arch(&["--set", setting]).output().unwrap(), 2);
        let path = setting.split('=').next().unwrap();
        assert!(message.contains(path), "{message}");
    }
    for flags in
        [["--threads", "0"], ["--threads", "100000"], ["--log-every", "0"], ["--val-every", "x"]]
    {
        let message = refused(&scene.arch(&flags).output().unwrap(), 2);
        assert!(message.contains(flags[0]), "{message}");
    }
}

#[test]
fn messages_are_short_and_move_no_cursor() {
    let scene = Scene::new();
    let long = "x".repeat(50_000);
    let control = "\u{1b}[2J\u{7}";
    let blocks = |kind: &str| format!(r#"blocks=[{{"type": "{kind}"}}]"#);
    let settings = [
        blocks(&long),
        blocks(&long.replace('x', "`")),
        format!("{long}=1"),
        format!("training.{long}=1"),
        format!("training.optimizer={long}"),
        format!("model_dim={}", long.replace('x', "9")),
        long.clone(),
        format!("training.optimizer=a{control}"),
        format!("name{control}=1"),
    ];
    for setting in &settings {
        let message = refused(&scene.arch(&["--set", setting]).output().unwrap(), 2);
        assert!(message.len() < 10_000, "{} bytes for {:.40}", message.len(), setting);
        assert!(!message.contains(['\u{1b}', '\u{7}']), "{message:?}");
    }
    for flag in ["--backend", "--log-every", "--nothing"] {
        let message = refused(&scene.arch(&[flag, &long]).output().unwrap(), 2);
        assert!(message.len() < 10_000, "{} bytes for {flag}", message.len());
    }
    let name = format!("name=a{control}b");
    let output = scene.arch(&["--set", &name]).output().unwrap();
    assert!(output.status.success());
    assert!(!String::from_utf8(output.stdout).unwrap().contains('\u{1b}'));
}

#[test]
fn a_file_that_cannot_be_read_is_told_with_a_hint() {
    let scene = Scene::new();
    fs::create_dir(scene.at("folder")).unwrap();
    fs::write(scene.at("broken.st"), "no weights").unwrap();
    for (path, part) in [("none.st", "none.st"), ("folder", "folder"), ("broken.st", "safetensors")]
    {
        let message = refused(&scene.arch(&["--safetensors-load", path]).output().unwrap(), 1);
        assert!(message.contains(part), "{message}");
    }
    for path in ["none.json", "folder", ""] {
        refused(&scene.command(&["count", "--config", path]).output().unwrap(), 2);
    }
    for pattern in ["none_*.bin", "train_[", "folder/[]"] {
        let command = ["arch", "--config", "c.json", "--train", pattern];
        refused(&scene.command(&command).output().unwrap(), 1);
    }
    let files: [(&str, &[u8], &str); 4] = [
        ("model.gguf", b"GGUF\x03\0\0\0", "GGUF"),
        ("model.pt", b"PK\x03\x04\0\0\0\0\0", "torch.save"),
        ("model.safetensors.index.json", b"{\"weight_map\": {}}", "text"),
        ("fetched.st", b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
    ];
    for (name, bytes, part) in files {
        fs::write(scene.at(name), bytes).unwrap();
        let message = refused(&scene.arch(&["--safetensors-load", name]).output().unwrap(), 1);
        assert!(message.contains(name) && message.contains(part), "{message}");
    }
    let tensor = r#""w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}"#;
    let header = format!("{{{tensor}, {tensor}}}");
    let twice = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[0; 4]].concat();
    fs::write(scene.at("twice.st"), twice).unwrap();
    let message = refused(&scene.arch(&["--safetensors-load", "twice.st"]).output().unwrap(), 1);
    assert!(message.contains("`twice.st` has two tensors `w`"), "{message}");
    assert!(!Path::new("none.json").exists());
}

#[test]
fn metrics_are_appended_to_metrics_only() {
    let scene = Scene::new();
    fs::write(scene.at("notes.txt"), "of the experiment").unwrap();
    let message = refused(&scene.arch(&["--metrics", "notes.txt"]).output().unwrap(), 2);
    assert!(message.contains("`notes.txt` holds no metrics"), "{message}");
    assert_eq!(fs::read_to_string(scene.at("notes.txt")).unwrap(), "of the experiment");
    let lines = || {
        assert!(scene.arch(&["--metrics", "m"]).status().unwrap().success());
        fs::read_to_string(scene.at("m")).unwrap().lines().count()
    };
    let one = lines();
    assert_eq!(lines(), 2 * one);
}

#[cfg(target_os = "linux")]
#[test]
fn more_rows_than_fit_are_told_with_the_flags_that_ask_for_them() {
    let scene = Scene::new();
    assert!(scene.arch(&["--safetensors", "w.st"]).status().unwrap().success());
    let generate = |samples: &str| {
        let run = "ulimit -v 4000000; exec \"$0\" generate --config c.json --safetensors-load w.st \
                   --prompt token_ids:1 --threads 1 --num-samples $1";
        let mut command = Command::new("bash");
        let command = command.args(["-c", run]).arg(binary()).arg(samples);
        command.current_dir(scene.0.path()).output().unwrap()
    };
    let message = refused(&generate("100000000000"), 2);
    assert!(message.contains("`100000000000` rows"), "{message}");
    let message = refused(&generate("50000000"), 1);
    assert!(message.contains("hint: continue fewer rows at once: `--num-samples`"), "{message}");
}
