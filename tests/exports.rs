//! Files for other programs, written by the command line; `tests/onnx/run` runs them.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::cli::{mixlab, stderr, stdout};

const VAL: &str = "golden/data/char64/val_*.bin";

/// Exports the golden case `plain` with `more` arguments.
fn export(more: &[&str]) -> Output {
    let model = ["--config", "golden/cases/plain/config.json"];
    let weights = ["--safetensors-load", "golden/cases/plain/final.safetensors"];
    mixlab(&[&["export", "--backend", "cpu"], &model[..], &weights, more].concat())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The number after `before` in a text.
fn number(text: &str, before: &str) -> f64 {
    let rest = text.split_once(before).unwrap_or_else(|| panic!("no `{before}` in {text}")).1;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    rest[..end].parse().unwrap()
}

#[test]
fn a_folder_of_a_model_that_learns_while_it_reads_has_no_onnx_file() {
    let folder = tempfile::tempdir().unwrap();
    let case = "golden/cases/ttt_full";
    let [config, weights] =
        ["config.json", "after_ttt.safetensors"].map(|file| format!("{case}/{file}"));
    let export = |more: &[&str]| {
        let model = ["--config", &config, "--safetensors-load", &weights];
        let out = ["--hf", text(folder.path())];
        mixlab(&[&["export", "--backend", "cpu"], &model[..], &out, more].concat())
    };
    let output = export(&[]);
    stdout(&output);
    assert!(
        stderr(&output).contains("note: the model in it does not learn"),
        "{}",
        stderr(&output)
    );
    assert!(folder.path().join("config.json").is_file() && !folder.path().join("onnx").exists());
    stdout(&export(&["--set", "training.ttt_steps=0"]));
    assert!(folder.path().join("onnx/model.onnx").is_file());
}

#[test]
fn smaller_weights_take_less_room_and_tell_what_they_cost() {
    let folder = tempfile::tempdir().unwrap();
    let file = |kind: &str| folder.path().join(format!("{kind}.onnx"));
    let size = |kind: &str| fs::metadata(file(kind)).unwrap().len();
    let mut errors = Vec::new();
    for kind in ["f32", "bf16", "f16", "int8", "int4"] {
        let more = ["--weights", kind, "--profile", "modern", "--val", VAL];
        let line = stdout(&export(&[&["--onnx", text(&file(kind))], &more[..]].concat()));
        let before = number(&line, "val=");
        let after = number(&line, "before, ");
        if kind == "f32" {
            assert_eq!(before, after, "nothing is rounded");
            continue;
        }
        assert!(size(kind) < size("f32"), "{kind}");
        errors.push(number(&line, "relative error "));
        // Four bits are off by a twentieth of a weight or so.
        assert!((before - after).abs() < 0.1, "{line}");
    }
    // Of bf16, f16, int8, int4 by their digits: f16 < bf16 < int8 < int4.
    assert!(errors[1] < errors[0] && errors[0] < errors[2] && errors[2] < errors[3], "{errors:?}");
    assert!(size("int4") < size("int8") && size("int8") < size("f16"));
}

#[test]
fn int4_is_refused_in_files_of_an_opset_that_has_it_not() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m.onnx");
    let output = export(&["--onnx", text(&file), "--weights", "int4"]);
    let message = stderr(&output);
    assert!(!output.status.success() && message.contains("opset 21"), "{message}");
    assert!(message.contains("hint: ") && !file.exists());
}

#[test]
fn weights_beside_a_file_begin_where_they_can_be_mapped() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m.onnx");
    stdout(&export(&["--onnx", text(&file), "--external-data"]));
    let data = fs::read(folder.path().join("m.onnx.data")).unwrap();
    let weights = fs::read("golden/cases/plain/final.safetensors").unwrap();
    let header = u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    let all: Value = serde_json::from_slice(&weights[8..8 + header]).unwrap();
    let mut found = 0;
    for (name, tensor) in all.as_object().unwrap().iter().filter(|(n, _)| *n != "__metadata__") {
        let [from, to] = [0, 1].map(|i| tensor["data_offsets"][i].as_u64().unwrap() as usize);
        let bytes = &weights[8 + header + from..8 + header + to];
        let at = (0..data.len()).step_by(64).find(|at| data[*at..].starts_with(bytes));
        assert!(at.is_some(), "{name}");
        found += 1;
    }
    assert_eq!(found, 10);
}

#[test]
fn genai_files_come_with_their_tokenizer_and_over_no_input() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let tokenizer = json!({
        "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "a"},
        "added_tokens": [{"id": 5, "content": "</s>", "special": true}],
    });
    fs::write(at("words.json"), tokenizer.to_string()).unwrap();
    let out = folder.path().join("out");
    fs::create_dir(&out).unwrap();
    let (file, words) = (out.join("m.onnx"), at("words.json"));
    let more = ["--profile", "genai", "--tokenizer", text(&words)];
    stdout(&export(&[&["--onnx", text(&file)], &more[..]].concat()));
    let read = |name: &str| -> Value {
        serde_json::from_slice(&fs::read(out.join(name)).unwrap()).unwrap()
    };
    assert_eq!(read("tokenizer.json"), tokenizer);
    assert_eq!(read("tokenizer_config.json")["eos_token"], "</s>");
    assert_eq!(read("genai_config.json")["model"]["eos_token_id"], 5);
    // A config that lies where the other one would go.
    let config = at("genai_config.json");
    fs::copy("golden/cases/plain/config.json", &config).unwrap();
    let before = fs::read(&config).unwrap();
    let weights = "golden/cases/plain/final.safetensors";
    let model = ["export", "--config", text(&config), "--safetensors-load", weights];
    let here = at("m.onnx");
    let output = mixlab(&[&model[..], &["--onnx", text(&here), "--profile", "genai"]].concat());
    let message = stderr(&output);
    assert!(message.contains("which this run reads"), "{message}");
    assert_eq!(fs::read(&config).unwrap(), before);
}
