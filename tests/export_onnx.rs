//! ONNX files as the command line writes them; `tests/onnx/run` has onnxruntime run such files.

use std::fs;

use crate::cli::{TRAIN, mixlab, stderr, stdout};

const CONFIG: &str = "golden/cases/mamba/config.json";

#[test]
fn arch_writes_the_file_that_export_writes_of_its_weights() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (weights, trained, exported) = (at("w.st"), at("deep/trained.onnx"), at("exported.onnx"));
    let short = ["--config", CONFIG, "--set", "training.steps=2"];
    let arch = ["--train", TRAIN, "--safetensors", &weights, "--export-onnx", &trained];
    let printed = stdout(&mixlab(&[&["arch"], &short[..], &arch].concat()));
    assert!(printed.contains(&format!("wrote {trained}: ")), "{printed}");
    let export = ["--safetensors-load", &weights, "--onnx", &exported];
    stdout(&mixlab(&[&["export"], &short[..], &export].concat()));
    assert!(fs::read(&trained).unwrap() == fs::read(&exported).unwrap(), "the files differ");
    let left = fs::read_dir(folder.path().join("deep")).unwrap().count();
    assert_eq!(left, 1, "something lies beside the file");
}

#[test]
fn arch_refuses_before_training_what_it_could_not_export() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m.onnx");
    let file = file.to_str().unwrap();
    let refused = |config: &str, file: &str| {
        let output = mixlab(&["arch", "--config", config, "--train", TRAIN, "--export-onnx", file]);
        assert!(!output.status.success());
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!printed.contains("step 0"), "it has trained: {printed}");
        stderr(&output)
    };
    let message = refused("golden/cases/ttt_full/config.json", file);
    assert!(message.contains("test-time training") && message.contains("hint: "), "{message}");
    let message = refused(CONFIG, CONFIG);
    assert!(message.contains("`--export-onnx") && message.contains("which this run reads"));
    let message = refused(CONFIG, folder.path().to_str().unwrap());
    assert!(message.contains("cannot write") && message.contains("hint: "), "{message}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_file_notes_the_hash_of_the_tokenizer_that_lies_beside_its_weights() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::copy("golden/cases/mamba/final.safetensors", at("w.st")).unwrap();
    let export = || {
        let (weights, file) = (at("w.st"), at("m.onnx"));
        let [weights, file] = [&weights, &file].map(|path| path.to_str().unwrap());
        stdout(&mixlab(&[
            "export",
            "--config",
            CONFIG,
            "--safetensors-load",
            weights,
            "--onnx",
            file,
        ]));
        String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned()
    };
    assert!(!export().contains("tokenizer_sha256"));
    fs::write(at("tokenizer.json"), "abc").unwrap();
    let file = export();
    // That of `abc`, from FIPS 180-2.
    let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert!(file.contains("mixlab.tokenizer_sha256") && file.contains(hash));
}

#[test]
fn the_rust_of_the_documentation_is_the_program_that_is_run() {
    let page = fs::read_to_string("../docs/onnx.md").unwrap();
    let file = fs::read_to_string("onnx_snippet.rs").unwrap();
    let (_, program) = file.split_once("\n\n").unwrap();
    assert!(page.contains(&format!("```rust\n{program}```")), "write it anew in docs/onnx.md");
}
