//! Other backends against the CPU: the same losses over 20 steps.

use std::fs;

use serde_json::Value;

use crate::cli::{TRAIN, mixlab, stdout, steps};

/// The losses of 20 steps of the config in `file` on `backend`, with products in f32.
fn losses(backend: &str, file: &str) -> Vec<f64> {
    losses_in("f32", backend, file)
}

/// The same with products in `precision`.
fn losses_in(precision: &str, backend: &str, file: &str) -> Vec<f64> {
    let temporary = tempfile::tempdir().unwrap();
    let metrics = temporary.path().join("metrics.jsonl");
    let written = metrics.to_str().unwrap();
    let arguments = ["arch", "--config", file, "--train", TRAIN, "--backend", backend];
    let often = ["--log-every", "1", "--metrics", written, "--precision", precision];
    stdout(&mixlab(&[&arguments[..], &often].concat()));
    steps(&metrics).iter().map(|step| step["loss"].as_f64().unwrap()).collect()
}

/// The 20 steps of a golden case by the original.
fn trace(case: &str) -> Value {
    let trace = format!("{}/golden/cases/{case}/trace.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&fs::read_to_string(trace).unwrap()).unwrap()
}

/// The losses in them.
#[cfg(feature = "cuda")]
fn traced(case: &str) -> Vec<f64> {
    numbers(&trace(case)["losses"])
}

fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// Trains a golden case on `backend` and compares every loss with the original's: to 10⁻³, or as far as
/// the original's own losses go apart when its first weights are changed by a millionth. With fake
/// quantization that is more, as such a change moves weights from one level to the next.
fn compare_with_the_original(backend: &str, case: &str) {
    let trace = trace(case);
    let bound = trace["max_abs_diff_perturbed_1e-6"].as_f64().unwrap_or_default().max(1e-3);
    let expected = numbers(&trace["losses"]);
    let got = losses(backend, &format!("golden/cases/{case}/config.json"));
    assert_eq!(got.len(), expected.len(), "{backend}, {case}");
    for (step, (got, expected)) in got.iter().zip(&expected).enumerate() {
        let error = (got - expected).abs();
        assert!(error <= bound, "{backend}, {case}, step {step}: off by {error:e}");
    }
}

/// Trains the config in `file` on `backend` and on the CPU, and compares every loss.
#[cfg(any(feature = "vulkan", feature = "cuda", feature = "candle"))]
fn compare_with_the_cpu(backend: &str, file: &str) {
    for (got, expected) in losses(backend, file).iter().zip(losses("cpu", file)) {
        assert!((got - expected).abs() <= 1e-3, "{backend}: {got} instead of {expected}");
    }
}

/// The original drew the masks of this case from the clock; ours are the same on every backend.
#[cfg(any(feature = "vulkan", feature = "cuda", feature = "candle"))]
const DROPOUT: &str = "golden/cases/dropout/config.json";

/// A case for each type of block that the original has a trace of.
#[cfg(feature = "vulkan")]
#[test]
fn vulkan_trains_every_block_type_like_the_original() {
    let blocks = ["plain_swiglu", "kv_source", "mlp_silu", "mamba", "mamba3", "retnet", "rwkv"];
    let latents = ["perceiver", "bottleneck", "token_blend", "custom_geglu"];
    for case in blocks.into_iter().chain(latents) {
        compare_with_the_original("vulkan", case);
    }
}

#[cfg(feature = "vulkan")]
#[test]
fn vulkan_trains_models_like_the_original_however_they_are_put_together() {
    for case in ["xsa", "unet", "parallel_residual", "bigram_proj", "tie_embeddings", "opt_adamw"] {
        compare_with_the_original("vulkan", case);
    }
}

#[cfg(feature = "vulkan")]
#[test]
fn vulkan_trains_cross_attention_like_the_cpu() {
    let temporary = tempfile::tempdir().unwrap();
    let config = temporary.path().join("cross.json");
    let text = r#"{"name": "cross", "model_dim": 32, "vocab_size": 64, "seq_len": 16, "blocks": [
        {"type": "mlp", "stream": "low"}, {"type": "plain", "heads": 4},
        {"type": "cross_attention", "heads": 2, "source_stream": "low"}],
        "training": {"steps": 20, "lr": 0.005, "seed": 42, "batch_tokens": 32}}"#;
    fs::write(&config, text).unwrap();
    compare_with_the_cpu("vulkan", config.to_str().unwrap());
}

#[cfg(feature = "vulkan")]
#[test]
fn vulkan_drops_out_like_the_cpu() {
    compare_with_the_cpu("vulkan", DROPOUT);
}

/// Every case; that of dropout against the CPU. Most machines have no NVIDIA card.
#[cfg(feature = "cuda")]
#[test]
#[ignore = "needs an NVIDIA card; run it by `-- --ignored cuda_trains`"]
fn cuda_trains_every_case_like_the_original() {
    let failures: Vec<_> = crate::golden::cases()
        .into_iter()
        .filter_map(|case| {
            let run = || match case.as_str() {
                "dropout" => compare_with_the_cpu("cuda", DROPOUT),
                _ => compare_with_the_original("cuda", &case),
            };
            std::panic::catch_unwind(run).err().map(|_| case.clone())
        })
        .collect();
    assert!(failures.is_empty(), "{failures:?}");
}

/// Each type of block with activations of half width, to what bfloat16 resolves.
#[cfg(feature = "cuda")]
#[test]
#[ignore = "needs an NVIDIA card; run it by `-- --ignored half_width`"]
fn cuda_trains_every_block_type_in_half_width() {
    let blocks = ["plain_swiglu", "kv_source", "mlp_silu", "mamba", "mamba3", "retnet", "rwkv"];
    for case in blocks.into_iter().chain(["perceiver", "bottleneck", "token_blend"]) {
        let file = format!("golden/cases/{case}/config.json");
        let got = losses_in("bf16", "cuda", &file);
        for (step, (got, expected)) in got.iter().zip(traced(case)).enumerate() {
            let error = (got - expected).abs();
            assert!(error <= 5e-2, "{case}, step {step}: off by {error:e}");
        }
    }
}

/// Distinct kernels of a short run on `backend` with its cache in `folder`, and those compiled.
#[cfg(any(feature = "vulkan", feature = "cuda"))]
fn kernels(backend: &str, folder: &std::path::Path) -> (usize, usize) {
    let config = "golden/cases/mlp_silu/config.json";
    let run = ["arch", "--config", config, "--train", TRAIN, "--backend", backend, "--timing"];
    let mut command = crate::cli::command(&[&run[..], &["--set", "training.steps=1"]].concat());
    let printed = stdout(&command.env("XDG_CACHE_HOME", folder).output().unwrap());
    let number = |field: &str| {
        let rest = printed.split(field).nth(1).unwrap_or_else(|| panic!("no `{field}`: {printed}"));
        rest.split_whitespace().next().unwrap().parse().unwrap()
    };
    (number(" kernels="), number(" compiled="))
}

/// They are counted by the texts of CubeCL's log.
#[cfg(any(feature = "vulkan", feature = "cuda"))]
fn count_kernels(backend: &str) {
    let cache = tempfile::tempdir().unwrap();
    let (all, compiled) = kernels(backend, cache.path());
    assert!(all > 10 && compiled == all, "{compiled} of {all}");
    assert_eq!(kernels(backend, cache.path()), (all, 0));
}

#[cfg(feature = "vulkan")]
#[test]
fn kernels_are_counted_and_kept() {
    count_kernels("vulkan");
}

#[cfg(feature = "cuda")]
#[test]
#[ignore = "needs an NVIDIA card; run it by `-- --ignored kernels_are_counted`"]
fn kernels_are_counted_and_kept_on_cuda() {
    count_kernels("cuda");
}

#[cfg(feature = "candle")]
#[test]
fn candle_trains_like_the_cpu() {
    for case in ["plain_swiglu", "xsa", "mlp_relu", "tie_embeddings"] {
        compare_with_the_original("candle", case);
    }
    compare_with_the_cpu("candle", DROPOUT);
}

#[test]
fn the_cpu_trains_like_the_original_from_the_command_line() {
    compare_with_the_original("cpu", "block_scales");
}

#[test]
fn a_backend_that_is_not_built_or_has_no_device_says_what_to_do() {
    let config = "golden/cases/plain/config.json";
    for backend in ["metal", "cuda"] {
        let run = ["arch", "--config", config, "--train", TRAIN, "--backend", backend];
        // No machine has a hundred of them.
        let output = mixlab(&[&run[..], &["--device", "99"]].concat());
        let message = crate::cli::stderr(&output);
        assert!(!output.status.success(), "{message}");
        assert!(message.contains(backend) && message.contains("hint: "), "{message}");
    }
}
