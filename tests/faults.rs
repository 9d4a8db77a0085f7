//! Faults around a run: files that are others than they should be, outputs that cannot be written,
//! numbers that cannot work. Each is told with its place and the way out, and costs no training.

mod outputs;
mod trained;

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
