//! `smoke`: does the backend train, and how fast does it evaluate?

use std::sync::Arc;
use std::time::Instant;

use anyhow::bail;
use burn::tensor::ElementConversion;
use burn::tensor::backend::AutodiffBackend;
use mixlab_burn::blocks::Builtin;
use mixlab_burn::data::Batch;
use mixlab_burn::model::Model;
use mixlab_burn::ops::Backend;
use mixlab_burn::plan::Plan;
use mixlab_burn::program::Counts;
use mixlab_burn::random::Generator;
use mixlab_burn::train::Optimizer;

use crate::backend::{self, Job, Place};
use crate::cli;

const CONFIG: &str = r#"{
    "name": "smoke", "model_dim": 32, "vocab_size": 64, "seq_len": 16,
    "blocks": [{"type": "plain", "heads": 2}, {"type": "swiglu"}],
    "training": {
        "steps": 1, "lr": 3e-4, "seed": 1, "batch_tokens": 32, "grad_clip": 1.0, "weight_decay": 0.01
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
        let model = Model::<A>::init(plan.clone(), &device);
        let batch = random_batch(plan.batch(), plan.seq_len, plan.vocab as u64);
        let (tokens, targets) = model.upload(&batch, &device);
        let loss = model.losses(tokens.clone(), targets.clone(), true).mean();
        let mut optimizer = Optimizer::new(&model, &plan.training);
        let (model, _) =
            optimizer.step::<A, _>(model, &mut loss.backward(), plan.training.lr as f32);
        let loss: f64 = loss.inner().into_scalar().elem();
        if !loss.is_finite() {
            bail!("health check: the training loss is `{loss}`");
        }
        println!("  Training check: loss={loss:.4} (finite, OK)");
        let start = Instant::now();
        for _ in 0..EVALUATIONS {
            let loss = model.losses(tokens.clone(), targets.clone(), false).mean();
            let loss: f64 = loss.inner().into_scalar().elem();
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
