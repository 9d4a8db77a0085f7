//! Other backends against the CPU: the same losses over 20 steps.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::cli::{TRAIN, mixlab, stdout, steps};

/// Trains a golden case on `backend` and compares every loss with the original's.
fn compare(backend: &str, case: &str) {
    let temporary = tempfile::tempdir().unwrap();
    let metrics = temporary.path().join("metrics.jsonl");
    let folder = format!("golden/cases/{case}");
    stdout(&mixlab(&[
        "arch",
        "--config",
        &format!("{folder}/config.json"),
        "--train",
        TRAIN,
        "--backend",
        backend,
        "--log-every",
        "1",
        "--metrics",
        metrics.to_str().unwrap(),
    ]));
    let trace = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join("trace.json");
    let trace: Value = serde_json::from_str(&fs::read_to_string(trace).unwrap()).unwrap();
    let expected = trace["losses"].as_array().unwrap();
    let got = steps(&metrics);
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(expected) {
        let error = (got["loss"].as_f64().unwrap() - expected.as_f64().unwrap()).abs();
        assert!(error <= 1e-3, "{backend}, {case}, step {}: off by {error:e}", got["step"]);
    }
}

#[cfg(feature = "vulkan")]
#[test]
fn vulkan_trains_like_the_cpu() {
    compare("vulkan", "kv_source");
}

#[cfg(feature = "candle")]
#[test]
fn candle_trains_like_the_cpu() {
    for case in ["plain_swiglu", "xsa", "mlp_relu", "tie_embeddings"] {
        compare("candle", case);
    }
}

#[test]
fn the_cpu_trains_like_the_original_from_the_command_line() {
    compare("cpu", "block_scales");
}

#[test]
fn a_backend_that_is_not_built_or_has_no_device_says_what_to_do() {
    let config = "golden/cases/plain/config.json";
    for backend in ["metal", "cuda"] {
        let output = mixlab(&["arch", "--config", config, "--train", TRAIN, "--backend", backend]);
        let message = crate::cli::stderr(&output);
        assert!(!output.status.success(), "no machine of the tests has `{backend}`");
        assert!(message.contains(backend) && message.contains("hint: "), "{message}");
    }
}
