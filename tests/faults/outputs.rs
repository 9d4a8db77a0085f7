//! Outputs that cannot be written, that are inputs, that others write, or that nobody reads.

use super::*;

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
