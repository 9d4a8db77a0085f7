//! The program as a user runs it: it trains the block and writes its weights.

use std::fs;
use std::process::Command;

use serde_json::Value;

const HERE: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn the_block_trains_and_its_weights_are_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (weights, metrics) = (path("model.safetensors"), path("metrics.jsonl"));
    let config = format!("{HERE}/min_gru.json");
    let train = format!("{HERE}/../../tests/golden/data/char64/train_*.bin");
    let output = Command::new(env!("CARGO_BIN_EXE_own-block"))
        .args(["arch", "--backend", "cpu", "--config", &config, "--train", &train])
        .args(["--set", "training.steps=20", "--set", "training.batch_tokens=256"])
        .args(["--safetensors", &weights, "--metrics", &metrics])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let metrics = fs::read_to_string(metrics).unwrap();
    let end: Value = serde_json::from_str(metrics.lines().last().unwrap()).unwrap();
    let loss = |name: &str| end[name].as_f64().unwrap();
    assert!(loss("last_loss") < loss("first_loss") - 0.5, "{end}");

    let file = fs::read(weights).unwrap();
    let header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&file[8..8 + header]).unwrap();
    // Embedding, head and final norm come first.
    let shapes = ["w3_norm_scale", "w4_w_z", "w5_w_h", "w6_wo"].map(|name| &header[name]["shape"]);
    let expected = ["[128]", "[128,192]", "[128,192]", "[192,128]"];
    assert_eq!(shapes.map(Value::to_string), expected);
}
