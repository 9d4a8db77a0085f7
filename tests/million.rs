//! A million steps of everything but the model: schedule and loader.

use std::path::PathBuf;

use mixlab_burn::data::shard::{Layout, write_shard};
use mixlab_burn::data::{Batches, Loader, LoaderConfig, Position};
use mixlab_burn::plan::Plan;
use mixlab_burn::train::Schedule;

const STEPS: usize = 1_000_000;
/// Steps between looks.
const EVERY: usize = 100_000;
const SEQ: usize = 8;

/// A loader over shards of several lengths, the first longer than what begins at a random place.
fn config(folder: &std::path::Path) -> LoaderConfig {
    for (index, length) in [12_345usize, 999, 7, 4000].into_iter().enumerate() {
        let tokens: Vec<u16> = (0..length).map(|i| ((i * i + index) % 61) as u16).collect();
        write_shard(&folder.join(format!("train_{index}.bin")), &tokens).unwrap();
    }
    LoaderConfig {
        patterns: vec![folder.join("train_*.bin").display().to_string()],
        batch_tokens: SEQ,
        seq_len: SEQ,
        chunk: 0,
        seed: 42,
        vocab_size: 61,
        layout: Layout::default(),
    }
}

/// Goes `steps` on; where the loader then stands.
fn walk(loader: &mut Loader, steps: usize) -> Position {
    for step in 0..steps {
        let batch = loader.next_batch().unwrap();
        assert_eq!(batch.x.len(), SEQ, "step {step}");
    }
    loader.position().unwrap()
}

#[test]
fn a_loader_stands_after_a_million_steps_where_a_replay_stands() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let mut loader = Loader::new(&config).unwrap();
    let mut positions = vec![walk(&mut loader, EVERY)];
    let memory = resident();
    for _ in 1..STEPS / EVERY {
        positions.push(walk(&mut loader, EVERY));
    }
    if let (Some(then), Some(now)) = (memory, resident()) {
        assert!(now < then + (8 << 20), "{then} bytes after {EVERY} steps, {now} after {STEPS}");
    }
    // Each stretch once more, from where the one before ended.
    for pair in positions.windows(2) {
        let mut resumed = Loader::resume(&config, &pair[0]).unwrap();
        assert_eq!(walk(&mut resumed, EVERY), pair[1]);
    }
}

/// Against the same curve in f64.
#[test]
fn a_schedule_of_a_million_steps_does_not_drift() {
    let json = format!(
        r#"{{"model_dim": 8, "vocab_size": 8, "seq_len": 8, "blocks": [{{"type": "swiglu"}}],
            "training": {{"steps": {STEPS}, "lr": 0.001, "batch_tokens": 8}}}}"#
    );
    let plan: Plan = Plan::parse(&json, "million", &[]).unwrap().plan;
    let schedule = Schedule::new(&plan.training);
    let (warmup, hold) = (100, 200);
    for step in warmup + hold..STEPS {
        let progress = (step - warmup - hold) as f64 / (STEPS - warmup - hold) as f64;
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
        let expected = 0.001 * (0.1 + 0.9 * cosine);
        let lr = f64::from(schedule.lr(step));
        assert!((lr / expected - 1.0).abs() < 1e-5, "{lr} instead of {expected} at step {step}");
    }
}

/// Bytes of this process in memory, where the system tells.
fn resident() -> Option<usize> {
    let status = std::fs::read_to_string(PathBuf::from("/proc/self/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<usize>().ok().map(|kilobytes| kilobytes << 10)
}
