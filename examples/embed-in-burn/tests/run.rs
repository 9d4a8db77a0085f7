//! The program as a user runs it: it learns, keeps checkpoints and writes an ONNX file.

use std::fs;
use std::process::Command;

#[test]
fn the_model_learns_and_is_exported() {
    let folder = tempfile::tempdir().unwrap();
    let output =
        Command::new(env!("CARGO_BIN_EXE_embed-in-burn")).arg(folder.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (before, _) = text.split_once(" % of new waves").expect(&text);
    let right: u32 = before.lines().last().unwrap().parse().unwrap();
    assert!(right > 75, "a third is chance: {right} %");
    // The block's parameters are among those of the model.
    assert!(text.contains("RetnetWeights"), "{text}");
    let file = fs::read(folder.path().join("waves.onnx")).unwrap();
    let has = |name: &[u8]| file.windows(name.len()).any(|window| window == name);
    assert!([&b"block.weights"[..], b"waves", b"classes"].iter().all(|name| has(name)));
    assert!(folder.path().join("checkpoint/model-4.mpk").exists());
}
