use std::fs;
use std::path::Path;
use std::sync::Arc;

use burn::backend::Autodiff;
use burn_flex::Flex;
use serde_json::json;

use super::{About, Checkpoint, CheckpointError, Writer};
use crate::blocks::Builtin;
use crate::data::Batch;
use crate::model::Model;
use crate::plan::Plan;
use crate::train::Trainer;
use crate::weights::{load, save, values};

type Train = Autodiff<Flex>;

fn plan() -> Arc<Plan> {
    let json = r#"{"name": "a<b>", "model_dim": 16, "vocab_size": 29, "seq_len": 8, "dropout": 0.2,
        "blocks": [{"type": "plain", "heads": 2}, {"type": "swiglu"}],
        "training": {"batch_tokens": 32, "steps": 12, "swa_start": 1, "swa_interval": 2}}"#;
    Arc::new(Plan::parse(json, "test.json", &[]).unwrap().plan)
}

fn trainer() -> Trainer<Train, Builtin> {
    Trainer::new(Model::init(plan(), &Default::default()), &Default::default())
}

fn batch(number: usize) -> Batch {
    let tokens: Vec<u16> = (0..33).map(|i| ((i * i + 5 * i + 11 * number) % 29) as u16).collect();
    Batch::from_tokens(&tokens, 8).unwrap()
}

fn writer(folder: &Path, keep: Option<usize>, memory: usize) -> Result<Writer, CheckpointError> {
    let about = About {
        config: json!({"name": "a<b>"}),
        data: json!([]),
        place: json!("cpu"),
        metadata: plan().metadata(),
    };
    Writer::start(folder, keep, memory, about)
}

/// Trains `steps` steps and writes a checkpoint after each.
fn written(folder: &Path, steps: usize, memory: usize) -> Trainer<Train, Builtin> {
    let (mut run, mut writer) = (trainer(), writer(folder, Some(2), memory).unwrap());
    for step in 0..steps {
        run.step(batch(step)).unwrap();
        writer.write(run.snapshot());
    }
    writer.finish().into_iter().for_each(|outcome| drop(outcome.unwrap()));
    run
}

#[test]
fn what_is_read_back_is_what_was_written_and_older_ones_go() {
    for memory in [1, usize::MAX] {
        let folder = tempfile::tempdir().unwrap();
        let run = written(folder.path(), 5, memory);
        let (found, skipped) = Checkpoint::newest(folder.path()).unwrap();
        assert_eq!((found.step, skipped.len()), (5, 0));
        assert_eq!(found.config, json!({"name": "a<b>"}));
        let model = Model::new(plan(), &Default::default());
        let model: Model<Train> = load(model, &found.weights).unwrap();
        assert_eq!(values(&model), values(run.model()));
        assert_eq!(found.state, run.state());
        let mut resumed = Trainer::resume(model, found.state, &Default::default()).unwrap();
        let mut run = run;
        [&mut run, &mut resumed].into_iter().for_each(|run| run.step(batch(5)).unwrap());
        assert_eq!(values(resumed.model()), values(run.model()));
        let names = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        let kept = [4, 5].map(|n| ["json", "st", "state"].map(|e| format!("step_00000{n}.{e}")));
        assert_eq!(names, [vec![".lock".to_owned()], kept.concat()].concat());
    }
}

#[test]
fn what_was_begun_of_a_checkpoint_that_fails_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    // No file takes the place of a folder.
    fs::create_dir(folder.path().join("step_000001.state")).unwrap();
    let (mut run, mut writer) = (trainer(), writer(folder.path(), None, usize::MAX).unwrap());
    run.step(batch(0)).unwrap();
    writer.write(run.snapshot());
    assert!(matches!(writer.finish()[..], [Err(CheckpointError::Io { .. })]));
    assert!(!folder.path().join("step_000001.st").exists());
}

#[test]
fn the_weights_of_a_checkpoint_are_the_file_that_an_export_writes() {
    let folder = tempfile::tempdir().unwrap();
    let run = written(folder.path(), 1, usize::MAX);
    let path = folder.path().join("export.safetensors");
    save(run.model(), &path, &plan().metadata()).unwrap();
    assert_eq!(fs::read(folder.path().join("step_000001.st")).unwrap(), fs::read(path).unwrap());
}

/// Puts what is no file in the place of one: on Unix a device without an end.
fn instead_of_a_file(path: &Path) {
    fs::remove_file(path).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("/dev/zero", path).unwrap();
    #[cfg(not(unix))]
    fs::create_dir(path).unwrap();
}

#[test]
fn a_broken_checkpoint_is_passed_over_and_named() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 8] = [
        ("cut off", |f| fs::write(f.join("step_000003.json"), "{\"format\": 1,").unwrap()),
        ("bytes instead of", |f| fs::write(f.join("step_000003.st"), "short").unwrap()),
        ("is not what was written", |f| {
            let path = f.join("step_000003.state");
            let mut bytes = fs::read(&path).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(path, bytes).unwrap();
        }),
        ("step_000003.st", |f| fs::remove_file(f.join("step_000003.st")).unwrap()),
        ("no regular file", |f| instead_of_a_file(&f.join("step_000003.json"))),
        ("`step_000003.st`: it is no regular file", |f| {
            instead_of_a_file(&f.join("step_000003.st"));
        }),
        ("step `2` is not that of its numbers", |f| {
            let path = f.join("step_000003.json");
            let mut manifest: serde_json::Value =
                serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
            manifest["step"] = json!(2);
            fs::write(path, manifest.to_string()).unwrap();
        }),
        ("format `9`", |f| fs::write(f.join("step_000003.json"), "{\"format\": 9}").unwrap()),
    ];
    for (problem, damage) in damages {
        let folder = tempfile::tempdir().unwrap();
        written(folder.path(), 3, usize::MAX);
        damage(folder.path());
        let (found, skipped) = Checkpoint::newest(folder.path()).unwrap();
        assert_eq!((found.step, skipped.len()), (2, 1));
        assert!(skipped[0].to_string().contains(problem), "{}", skipped[0]);
        fs::remove_file(folder.path().join("step_000002.json")).unwrap();
        let error = Checkpoint::newest(folder.path()).unwrap_err().to_string();
        assert!(error.contains("no checkpoint") && error.contains("hint: "), "{error}");
    }
}

#[test]
fn two_runs_do_not_write_to_one_folder() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(".writing-abc"), "left by a run that was killed").unwrap();
    let first = writer(folder.path(), None, 1).unwrap();
    assert!(!folder.path().join(".writing-abc").exists());
    let second = writer(folder.path(), None, 1).err().expect("it is taken");
    assert!(matches!(second, CheckpointError::Locked { .. }), "{second}");
    drop(first);
    writer(folder.path(), None, 1).unwrap();
}

#[test]
fn a_checkpoint_that_cannot_be_written_leaves_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let (mut run, mut writer) = (trainer(), writer(folder.path(), None, 1).unwrap());
    run.step(batch(0)).unwrap();
    writer.write(run.snapshot());
    // No file can take the place of a folder.
    fs::create_dir_all(folder.path().join("step_000002.state/x")).unwrap();
    run.step(batch(1)).unwrap();
    writer.write(run.snapshot());
    run.step(batch(2)).unwrap();
    writer.write(run.snapshot());
    let outcomes = writer.finish();
    assert_eq!(outcomes.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    let error = outcomes[1].as_ref().unwrap_err().to_string();
    assert!(error.contains("step_000002.state") && error.contains("hint: "), "{error}");
    fs::remove_file(folder.path().join("step_000003.json")).unwrap();
    assert_eq!(Checkpoint::newest(folder.path()).unwrap().0.step, 1);
}

#[test]
fn a_folder_without_checkpoints_says_so() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().to_owned(), folder.path().join("missing")] {
        let error = Checkpoint::newest(&path).unwrap_err();
        assert!(matches!(error, CheckpointError::None { .. }), "{error}");
        assert_eq!(Writer::latest(&path).unwrap(), None);
    }
}
