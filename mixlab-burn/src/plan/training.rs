//! The training half of a plan: defaults that need other fields, and rules across fields.

use super::Schedule;
use super::sizes::{MAX_ELEMENTS, size};
use super::techniques::{Average, Qat, TestTime};
use crate::config::{Problems, TrainingSpec};
use mixlab_ops::Precision;

use crate::weights::WeightInit;

/// Optimizer steps when a config gives none.
const DEFAULT_STEPS: usize = 200;
/// Tokens in a batch when a config gives none.
const DEFAULT_BATCH_TOKENS: usize = 1024;

/// A stretch of steps at a constant learning rate.
#[derive(Clone, Debug, PartialEq)]
pub struct Phase {
    /// How many steps.
    pub steps: usize,
    /// Learning rate.
    pub lr: f32,
    /// What the log calls it; `phase-N` if the config gives no label.
    pub label: String,
}

/// Which algorithm updates matrices.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Algorithm {
    /// Momentum, orthogonalised (Jordan et al., 2024).
    Muon,
    /// Adam with decoupled weight decay (Loshchilov and Hutter, 2019).
    AdamW,
}

/// Learning rate and weight decay of one optimizer group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Group {
    /// Learning rate at the peak of the schedule.
    pub lr: f32,
    /// Decoupled weight decay, applied to matrices only.
    pub weight_decay: f32,
}

/// How to train a model; every default is resolved.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Training {
    /// Optimizer steps.
    pub steps: usize,
    /// Peak learning rate; also what the groups' rates are relative to.
    pub lr: f32,
    /// Constant-rate phases; empty for warmup, hold and cosine.
    pub phases: Vec<Phase>,
    /// Steps of linear decay at the end.
    pub warmdown_steps: usize,
    /// Stop when the validation loss is at most this.
    pub target_val_loss: Option<f64>,
    /// Stop after so many validations in a row without a new best loss.
    pub patience: Option<usize>,
    /// Parts that a batch is computed in, which divide its rows.
    pub grad_accum_steps: usize,
    /// Weight of the mean of `log² Σ exp(logit)` in what is minimized.
    pub z_loss: Option<f32>,
    /// Fake quantization of weights, if any.
    pub qat: Option<Qat>,
    /// The moving average of weights, if one is kept.
    pub average: Option<Average>,
    /// Training on what is evaluated, if any.
    pub ttt: Option<TestTime>,
    /// Peak of the hardware in TFLOP/s, for the share of it that is used.
    pub hardware_tflops: Option<f64>,
    /// Bound of the global gradient norm.
    pub grad_clip: Option<f32>,
    /// Weight decay of groups that set none.
    pub weight_decay: f32,
    /// AdamW's decay of the first moment.
    pub beta1: f32,
    /// AdamW's decay of the second moment.
    pub beta2: f32,
    /// AdamW's denominator guard.
    pub epsilon: f32,
    /// Seed of initial weights, data order and dropout.
    pub seed: i64,
    /// Tokens in a batch, `B·T`.
    pub batch_tokens: usize,
    /// Tokens in a chunk of the data shuffle.
    pub shuffle_chunk_tokens: usize,
    /// Algorithm for matrices.
    pub optimizer: Algorithm,
    /// Embedding tables.
    pub embed: Group,
    /// The output head.
    pub head: Group,
    /// Vectors and scales.
    pub scalar: Group,
    /// Every other matrix.
    pub matrix: Group,
    /// Momentum of matrices, in both algorithms.
    pub muon_momentum: f32,
    /// Newton–Schulz iterations.
    pub muon_backend_steps: usize,
    /// Whether Muon's momentum is Nesterov's.
    pub muon_nesterov: bool,
    /// How matrices are drawn.
    pub weight_init: WeightInit,
    /// Number format of matrix products; `None` for that of the backend,
    /// [`mixlab_ops::Backend::precision`].
    pub precision: Option<Precision>,
}

/// Resolves the `training` object for rows of `seq_len` tokens.
pub fn plan(spec: &TrainingSpec, seq_len: usize, problems: &mut Problems) -> Training {
    let lr = spec.lr.filter(|lr| *lr > 0.0).unwrap_or(3e-4);
    let phases = phases(spec);
    let steps = steps(spec, &phases, problems);
    let beta1 = nonzero(spec.beta1).unwrap_or(0.9);
    let decay = spec.weight_decay.unwrap_or(0.01);
    let group = |lr_field: Option<f32>, decay_field: Option<f32>| Group {
        lr: nonzero(lr_field).unwrap_or(lr),
        weight_decay: nonzero(decay_field).unwrap_or(decay),
    };
    check(spec, problems);
    warn_of_zero_decays(spec, decay, problems);
    let training = Training {
        steps,
        lr,
        phases,
        warmdown_steps: positive(spec.warmdown_steps).unwrap_or(0),
        target_val_loss: spec.target_val_loss.filter(|target| *target > 0.0),
        patience: positive(spec.patience),
        grad_accum_steps: accumulation(spec, seq_len, problems),
        z_loss: nonzero(spec.z_loss),
        qat: Qat::of(spec),
        average: Average::of(spec),
        ttt: TestTime::of(spec),
        hardware_tflops: spec.hardware_tflops.filter(|peak| *peak > 0.0),
        grad_clip: nonzero(spec.grad_clip),
        weight_decay: decay,
        beta1,
        beta2: nonzero(spec.beta2).unwrap_or(0.95),
        epsilon: nonzero(spec.epsilon).unwrap_or(1e-8),
        seed: spec.seed.filter(|seed| *seed > 0).unwrap_or(42),
        batch_tokens: batch_tokens(spec, seq_len, problems),
        shuffle_chunk_tokens: positive(spec.shuffle_chunk_tokens).unwrap_or(seq_len),
        optimizer: match spec.optimizer.as_deref() {
            Some("adamw") => Algorithm::AdamW,
            _ => Algorithm::Muon,
        },
        embed: group(spec.embed_lr, spec.embed_weight_decay),
        head: group(spec.head_lr, spec.head_weight_decay),
        scalar: group(spec.scalar_lr, spec.scalar_weight_decay),
        matrix: group(spec.matrix_lr, spec.matrix_weight_decay),
        muon_momentum: nonzero(spec.muon_momentum).unwrap_or(beta1),
        muon_backend_steps: positive(spec.muon_backend_steps).unwrap_or(5),
        muon_nesterov: spec.muon_nesterov.unwrap_or(true),
        weight_init: weight_init(spec),
        precision: match spec.compute_dtype.as_deref() {
            Some("f32") => Some(Precision::F32),
            Some("tf32") => Some(Precision::Tf32),
            Some("bf16") => Some(Precision::Bf16),
            _ => None,
        },
    };
    check_decays(spec, &training, problems);
    warn_of_low_rates(&training, problems);
    training
}

/// Each update multiplies a weight by `1 − lr·decay`, which must not make it grow. Where the rate is
/// to blame, the loss will tell; a decay above 1 has no other sense.
fn check_decays(spec: &TrainingSpec, training: &Training, problems: &mut Problems) {
    const HINT: &str = "learning rate times decay is at most 2, and usually far below";
    let groups = [
        ("embed_weight_decay", spec.embed_weight_decay, training.embed),
        ("matrix_weight_decay", spec.matrix_weight_decay, training.matrix),
        ("scalar_weight_decay", spec.scalar_weight_decay, training.scalar),
        ("head_weight_decay", spec.head_weight_decay, training.head),
    ];
    for (field, written, Group { lr, weight_decay }) in groups {
        let field = if nonzero(written).is_some() { field } else { "weight_decay" };
        let path = format!("training.{field}");
        let shrinks = f64::from(lr) * f64::from(weight_decay) <= 2.0;
        if !shrinks && weight_decay > 1.0 && problems.check(&path).is_ok() {
            let message = format!(
                "`{weight_decay:e}` at a learning rate of `{lr:e}` makes weights grow instead of decay"
            );
            problems.report(path, message, HINT);
        }
    }
}

/// Warmup and warmdown may leave no step at the rate that was asked for.
fn warn_of_low_rates(training: &Training, problems: &mut Problems) {
    const ENOUGH: f32 = 0.9;
    let schedule = Schedule::new(training);
    let (peak, lr) = (schedule.peak(), training.lr);
    if !training.phases.is_empty() || peak >= ENOUGH * lr {
        return;
    }
    let (warmup, steps) = (schedule.warmup(), training.steps);
    let warns_of_end = training.warmdown_steps > 0 && training.warmdown_steps + warmup > steps;
    let (field, hint) = if warns_of_end {
        ("warmdown_steps", "make `warmdown_steps` smaller, or train more steps")
    } else {
        ("steps", "train more steps, or give `phases`, which have no warmup")
    };
    let message = format!(
        "of `{steps}` steps the first `{warmup}` are warmup: the learning rate never exceeds `{peak:.2e}`, and `lr` is `{lr:?}`"
    );
    problems.warn(format!("training.{field}"), message).hint(hint);
}

/// The steps of all phases together, or those that are given.
fn steps(spec: &TrainingSpec, phases: &[Phase], problems: &mut Problems) -> usize {
    if phases.is_empty() {
        return positive(spec.steps).unwrap_or(DEFAULT_STEPS);
    }
    // No more than can be written as `steps`.
    const MOST: usize = i64::MAX as usize;
    let sum = phases.iter().try_fold(0usize, |sum, phase| sum.checked_add(phase.steps));
    sum.filter(|sum| *sum <= MOST).unwrap_or_else(|| {
        let message = format!("the steps of all phases are more than `{MOST}`");
        problems.report("training.phases", message, "give the phases fewer steps");
        DEFAULT_STEPS
    })
}

fn phases(spec: &TrainingSpec) -> Vec<Phase> {
    let written = spec.phases.iter().enumerate();
    let phases = written.map(|(i, phase)| {
        let label = phase.label.as_deref().map(str::trim).filter(|label| !label.is_empty());
        Phase {
            steps: positive(Some(phase.steps)).unwrap_or(0),
            lr: phase.lr,
            label: label.map_or_else(|| format!("phase-{}", i + 1), str::to_string),
        }
    });
    phases.collect()
}

fn weight_init(spec: &TrainingSpec) -> WeightInit {
    match spec.weight_init.as_deref() {
        Some("normal") => {
            let std = spec.weight_init_std.filter(|std| *std > 0.0);
            // The default is 0.02 in f64; a written value passes through f32, as in mixlab 0.10.1.
            WeightInit::Normal { std: std.map_or(0.02, f64::from) }
        }
        _ => WeightInit::XavierUniform,
    }
}

fn batch_tokens(spec: &TrainingSpec, seq_len: usize, problems: &mut Problems) -> usize {
    let tokens = size("training.batch_tokens", spec.batch_tokens, DEFAULT_BATCH_TOKENS, problems);
    let written = ["seq_len", "training.batch_tokens"].iter().try_for_each(|f| problems.check(f));
    if written.is_ok() && !tokens.is_multiple_of(seq_len) {
        let above = tokens.div_ceil(seq_len).saturating_mul(seq_len);
        let nearest = if above <= MAX_ELEMENTS { above } else { above - seq_len };
        problems
            .error(
                "training.batch_tokens",
                format!("`{tokens}` is not a multiple of seq_len `{seq_len}`"),
            )
            .hint(match nearest / seq_len {
                1 => format!("use `{nearest}`, which is one row"),
                rows => format!("use `{nearest}`, which is {rows} rows"),
            });
    }
    tokens
}

/// Parts of a batch; they have the same number of rows.
fn accumulation(spec: &TrainingSpec, seq_len: usize, problems: &mut Problems) -> usize {
    let parts = positive(spec.grad_accum_steps).unwrap_or(1);
    let rows = positive(spec.batch_tokens).unwrap_or(DEFAULT_BATCH_TOKENS) / seq_len;
    let written = ["seq_len", "training.batch_tokens"].iter().try_for_each(|f| problems.check(f));
    if written.is_err() || rows.is_multiple_of(parts) {
        return parts;
    }
    let nearest = (1..=rows.max(1)).rev().find(|n| *n <= parts && rows.is_multiple_of(*n));
    problems
        .error(
            "training.grad_accum_steps",
            format!("a batch has `{rows}` rows, which do not make `{parts}` equal parts"),
        )
        .hint(format!(
            "use `{}`, or another `batch_tokens`: it is the whole batch of an update",
            nearest.unwrap_or(1)
        ));
    1
}

fn check(spec: &TrainingSpec, problems: &mut Problems) {
    let late = spec.qat_start.filter(|start| *start > 0);
    if let (Some(start), true) = (late, spec.qat.as_deref().unwrap_or("none") == "none") {
        problems
            .error("training.qat_start", format!("`{start}` has no effect without `qat`"))
            .hint("set `qat` to `int8` or `int6`, or leave `qat_start` out");
    }
    if !spec.phases.is_empty() {
        let explicit = [spec.embed_lr, spec.matrix_lr, spec.scalar_lr, spec.head_lr];
        if spec.lr.is_none() && explicit.iter().any(|lr| nonzero(*lr).is_some()) {
            problems.warn(
                "training.phases",
                "group learning rates are multiplied by phase.lr / training.lr, and training.lr is not given (`0.0003`)",
            );
        }
    }
}

/// A 0 of one group has always meant the default; only that of `weight_decay` itself is a 0.
fn warn_of_zero_decays(spec: &TrainingSpec, default: f32, problems: &mut Problems) {
    let groups = [
        ("embed_weight_decay", spec.embed_weight_decay),
        ("matrix_weight_decay", spec.matrix_weight_decay),
        ("scalar_weight_decay", spec.scalar_weight_decay),
        ("head_weight_decay", spec.head_weight_decay),
    ];
    for (field, _) in groups.iter().filter(|(_, decay)| *decay == Some(0.0) && default != 0.0) {
        let message = format!("`0` means the default here, weight_decay `{default}`");
        problems
            .warn(format!("training.{field}"), message)
            .hint("set `weight_decay` to `0`, and give the groups that decay a value of their own");
    }
}

/// A tied head is updated with the embedding, by the embedding's learning rate.
pub fn warn_of_tied_head(training: &Training, problems: &mut Problems) {
    let (head, embed) = (training.head.lr, training.embed.lr);
    if head != embed {
        let message = format!(
            "`{head}` has no effect with `tie_embeddings`: the head is the embedding, whose learning rate is `{embed}`"
        );
        problems.warn("training.head_lr", message).hint("set `embed_lr` for both");
    }
}

fn positive(value: Option<i64>) -> Option<usize> {
    super::positive(value)
}

fn nonzero(value: Option<f32>) -> Option<f32> {
    value.filter(|v| *v != 0.0)
}

#[cfg(test)]
mod tests;
