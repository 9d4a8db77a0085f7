//! Training with fake quantization, where rounding errors decide on levels.
//!
//! A weight that lies nearly in the middle between two levels goes either way, by errors that are within
//! rounding; from then on two runs have other losses. Where ours leaves the original's, such a weight is
//! looked for and moved to the other side, by less than rounding errors are. If that is all that runs
//! differ in, they agree again, to the end; and no other move does it, for the loss has six digits.

use mixlab_burn::data::{Batch, Batches, Loader};
use mixlab_burn::eval::mean_loss;
use mixlab_burn::model::Model;
use mixlab_burn::plan::Qat;
use mixlab_burn::train::{Trainer, fake_quantized};
use mixlab_burn::weights::{self, Levels, layout, values};

use crate::golden::{Case, Train, every_case, final_weights, jumps};

/// How far a loss may be off, as a share of it.
const BOUND: f64 = 2e-6;
/// From where on a level is looked for: what one does to the loss at once may be less than what it
/// leads to.
const SEEN: f64 = 4e-7;
/// How near to the middle of two levels, as a share of the distance of whole numbers.
const NEAR: f32 = 1e-4;
/// Weights that are moved in a run at most.
const MOVES: usize = 5;

/// A weight that is nearly in the middle.
struct Near {
    weight: usize,
    place: usize,
    /// What it would be on the other side.
    across: f32,
}

/// The middle between two levels that is nearest to `t`, in units of the scale. Multiples of four are
/// found by rounding twice, halves to even: 2 goes to 0, and 6 to 8.
fn middle(levels: Levels, t: f32) -> f32 {
    match levels {
        Levels::Int8 => t.floor() + 0.5,
        Levels::Int6 => {
            let whole = (t / 8.0).round() * 8.0;
            if t < whole { whole - 2.5 } else { whole + 2.5 }
        }
    }
}

/// All weights that are nearly in the middle.
fn near(model: &Model<Train>, qat: &Qat) -> Vec<Near> {
    let mut found = Vec::new();
    for (weight, (about, values)) in layout(model).iter().zip(values(model)).enumerate() {
        let columns = if about.shape.len() == 2 { about.shape[1] } else { values.len() };
        for (row, values) in values.chunks(columns).enumerate() {
            let largest = values.iter().fold(0f32, |most, w| most.max(w.abs()));
            let scale = largest.max(1.0) / 127.0;
            for (column, value) in values.iter().enumerate() {
                let t = value.abs() / scale;
                let middle = middle(qat.levels, t);
                if (t - middle).abs() < NEAR {
                    let aside = middle.max(1.0) * if t < middle { 1e-6 } else { -1e-6 };
                    let across = (middle + aside) * scale * value.signum();
                    found.push(Near { weight, place: row * columns + column, across });
                }
            }
        }
    }
    found
}

/// How far the loss of `model` on `batch` is from `expected`, as a share of it.
fn off(model: &Model<Train>, batch: &Batch, expected: f64) -> f64 {
    let qat = model.plan().training.qat.unwrap();
    let rounded = fake_quantized::<Train, _>(model, &qat);
    let loss = mean_loss(&rounded, std::slice::from_ref(batch), &Default::default());
    (loss - expected).abs() / expected
}

/// `model` with the weight moved that brings its loss nearest to `expected`, if that is nearer by far.
fn moved(model: &Model<Train>, batch: &Batch, expected: f64) -> Option<Model<Train>> {
    let qat = model.plan().training.qat.unwrap();
    let before = values(model);
    let across = |near: Near| {
        let mut values = before.clone();
        values[near.weight][near.place] = near.across;
        weights::fill(model.clone(), |i, _| Some(std::mem::take(&mut values[i])))
    };
    let tries = near(model, &qat).into_iter().map(across);
    let best = tries.min_by(|a, b| {
        let [a, b] = [a, b].map(|model| off(model, batch, expected));
        a.total_cmp(&b)
    })?;
    (off(&best, batch, expected) < off(model, batch, expected) / 3.0).then_some(best)
}

/// Trains a case as the original did, level by level. The model, and how many weights were moved.
fn followed(case: &Case) -> Result<(Model<Train>, usize), String> {
    let mut loader = Loader::new(&case.loader("train")).unwrap();
    let mut trainer = Trainer::new(case.model(), &Default::default());
    let mut moves = 0;
    for (step, expected) in case.numbers("losses").into_iter().enumerate() {
        let batch = loader.next_batch().unwrap();
        // Of one step more than one may have gone the other way.
        while moves < MOVES
            && off(trainer.model(), &batch, expected) > SEEN
            && let Some(model) = moved(trainer.model(), &batch, expected)
        {
            (trainer, moves) = (trainer.with_model(model), moves + 1);
        }
        let off = off(trainer.model(), &batch, expected);
        if off > BOUND {
            return Err(format!("loss of step {step} is off by {off:e} of it"));
        }
        trainer.step(batch).unwrap();
    }
    Ok((trainer.into_model(), moves))
}

#[test]
fn runs_with_levels_agree_but_for_weights_in_the_middle_of_two() {
    every_case(|case| {
        if !jumps(case) {
            return Ok(());
        }
        let (model, moves) = followed(case)?;
        if !(1..=MOVES).contains(&moves) {
            return Err(format!("{moves} weights were moved"));
        }
        final_weights(case, &model)
    });
}

#[test]
fn the_middle_is_where_rounding_changes() {
    let level = |levels, t: f32| match levels {
        Levels::Int8 => t.round_ties_even(),
        Levels::Int6 => (t.round_ties_even() / 4.0).round_ties_even() * 4.0,
    };
    for levels in [Levels::Int8, Levels::Int6] {
        for t in (0..1200).map(|i| i as f32 * 0.1 + 0.03) {
            let middle = middle(levels, t);
            assert_ne!(level(levels, middle - 1e-3), level(levels, middle + 1e-3), "{t}");
        }
    }
}
