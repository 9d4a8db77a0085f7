//! Batches against those that mixlab 0.10.1 trained and validated on, token by token.

use std::fs;
use std::path::{Path, PathBuf};

use mixlab_burn::data::batch::{Batch, Loader, LoaderConfig, validation_batches};
use mixlab_burn::data::shard::Layout;
use mixlab_burn::data::{Batches, Prefetch, pattern};
use safetensors::SafeTensors;
use serde_json::Value;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// A case and the file of its batches; cases without one have nothing to compare.
fn cases() -> Vec<(PathBuf, PathBuf)> {
    let folders = fs::read_dir(golden().join("cases")).unwrap();
    let mut folders: Vec<_> = folders.map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    let with_io = |folder: PathBuf| {
        let trace = json(&folder.join("trace.json"));
        let io = folder.join(trace["files"]["io.safetensors"].as_str()?);
        Some((folder, io))
    };
    folders.into_iter().filter_map(with_io).collect()
}

/// How the original read the training data of a case.
fn loader_config(case: &Path) -> LoaderConfig {
    let config = json(&case.join("config.json"));
    let training = &config["training"];
    let number = |value: &Value| value.as_u64().map(|n| n as usize);
    let data = golden().join("data/char64/train_*.bin");
    LoaderConfig {
        patterns: vec![data.to_str().unwrap().to_owned()],
        batch_tokens: number(&training["batch_tokens"]).unwrap(),
        seq_len: number(&config["seq_len"]).unwrap(),
        chunk: number(&training["shuffle_chunk_tokens"]).unwrap_or(0),
        seed: training["seed"].as_i64().unwrap(),
        vocab_size: number(&config["vocab_size"]).unwrap(),
        layout: Layout::Header,
    }
}

fn integers(file: &SafeTensors, name: &str) -> Vec<i32> {
    let tensor = file.tensor(name).unwrap();
    assert_eq!(tensor.dtype(), safetensors::Dtype::I32);
    let numbers = tensor.data().as_chunks().0.iter();
    numbers.map(|n| i32::from_le_bytes(*n)).collect()
}

fn assert_prev(batch: &Batch, case: &Path) {
    let rows: Vec<_> = batch.x.chunks(batch.seq).collect();
    let last = rows.iter().map(|row| row[batch.seq - 1]);
    let expected: Vec<_> = std::iter::once(-1).chain(last).take(rows.len()).collect();
    assert_eq!(batch.prev, expected, "{case:?}");
}

#[test]
fn training_batches_are_those_of_the_original() {
    let mut compared = 0;
    for (case, io) in cases() {
        let bytes = fs::read(io).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let (x, y) = (integers(&file, "train_x"), integers(&file, "train_y"));
        let config = loader_config(&case);
        let mut loader = Prefetch::start(Loader::new(&config).unwrap());
        let size = config.batch_tokens;
        assert_eq!(x.len() % size, 0);
        for (step, (x, y)) in x.chunks(size).zip(y.chunks(size)).enumerate() {
            let batch = loader.next_batch().unwrap();
            assert_eq!(batch.x, x, "x of step {step} of {case:?}");
            assert_eq!(batch.y, y, "y of step {step} of {case:?}");
            assert_prev(&batch, &case);
            compared += 1;
        }
    }
    assert!(compared >= 1_000, "{compared} batches compared");
}

#[test]
fn validation_batches_are_those_of_the_original() {
    let mut compared = 0;
    for (case, io) in cases() {
        let bytes = fs::read(io).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let mut config = loader_config(&case);
        config.patterns = vec![pattern::validation(&config.patterns[0])];
        let first = &validation_batches(&config).unwrap()[0];
        assert_eq!(first.x, integers(&file, "eval_x"), "x of {case:?}");
        assert_eq!(first.y, integers(&file, "eval_y"), "y of {case:?}");
        compared += 1;
    }
    assert!(compared >= 50, "{compared} cases compared");
}
