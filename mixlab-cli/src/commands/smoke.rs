//! `smoke`: does the backend train, and how fast does it evaluate?

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};
use burn::tensor::backend::AutodiffBackend;
use mixlab_burn::blocks::Builtin;
use mixlab_burn::data::Batch;
use mixlab_burn::eval::mean_loss;
use mixlab_burn::model::Model;
use mixlab_burn::ops::Backend;
use mixlab_burn::plan::Plan;
use mixlab_burn::program::Counts;
use mixlab_burn::random::Generator;
use mixlab_burn::train::Trainer;

use crate::backend::{self, Job, Place};
use crate::cli;

const CONFIG: &str = r#"{
    "name": "smoke", "model_dim": 32, "vocab_size": 64, "seq_len": 16,
    "blocks": [{"type": "plain", "heads": 2}, {"type": "swiglu"}],
    "training": {
        "phases": [{"steps": 1, "lr": 3e-4}],
        "lr": 3e-4, "seed": 1, "batch_tokens": 32, "grad_clip": 1.0, "weight_decay": 0.01
    }
}"#;
const EVALUATIONS: usize = 100;

pub fn run(options: &cli::Smoke) -> anyhow::Result<()> {
    println!("=== SMOKE: Diagnostics ===");
    println!();
    println!("[1/2] Checking backend...");
    backend::run(&options.compute, Smoke).inspect_err(|_| println!("FAIL: see the error"))
}

struct Smoke;

impl Job for Smoke {
    fn run<A>(self, device: A::Device, place: &Place) -> anyhow::Result<()>
    where
        A: AutodiffBackend<InnerBackend: Backend> + Backend,
    {
        println!("PASS: backend available, device: {place}");
        println!();
        println!("[2/2] Training + benchmark...");
        let plan = Arc::new(Plan::<Builtin>::parse(CONFIG, "smoke", &[])?.plan);
        let counts = Counts::of(&plan)?;
        println!("  IR program: {} weights, {} ops", counts.weights, counts.ops);
        let batch = random_batch(plan.batch(), plan.seq_len, plan.vocab as u64);
        let mut trainer = Trainer::new(Model::<A>::init(plan, &device), &device);
        trainer.step(batch.clone())?;
        let loss = trainer.read()?.context("a step was taken")?.loss;
        if !loss.is_finite() {
            bail!("health check: the training loss is `{loss}`");
        }
        println!("  Training check: loss={loss:.4} (finite, OK)");
        let (model, batch) = (trainer.into_model(), [batch]);
        let start = Instant::now();
        for _ in 0..EVALUATIONS {
            let loss = mean_loss(&model, &batch, &device);
            if !loss.is_finite() {
                bail!("health check: the evaluation loss is `{loss}`");
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        let rate = EVALUATIONS as f64 / seconds;
        println!("  Benchmark: {EVALUATIONS} eval iterations in {seconds:.2}s ({rate:.1} iter/s)");
        println!();
        println!("=== SMOKE: All checks passed ===");
        Ok(())
    }
}

/// Random tokens, x and y drawn in turn.
fn random_batch(batch: usize, seq: usize, vocab: u64) -> Batch {
    let mut generator = Generator::new(42);
    let mut draw = || generator.intn(vocab) as i32;
    let (x, y) = (0..batch * seq).map(|_| (draw(), draw())).unzip();
    Batch { batch, seq, x, y, prev: vec![-1; batch] }
}
