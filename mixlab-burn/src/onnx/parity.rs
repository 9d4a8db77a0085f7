//! Whether a file computes what the model computes: onnxruntime beside the model itself.

use std::ops::ControlFlow;
use std::path::Path;

use super::runtime::{Runner, RuntimeError};
use crate::blocks::Block;
use crate::data::Batch;
use crate::inference::{Generation, Sampling, Session, SessionError};
use crate::random::Generator;

/// Rows of the batches that are compared.
const ROWS: [usize; 2] = [1, 3];
/// Tokens of the rows that are compared, besides the plan's.
const LENGTHS: [usize; 3] = [1, 2, 7];
/// Tokens that are generated.
const GREEDY: usize = 64;

/// Why nothing was compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParityError {
    /// onnxruntime did not run the file.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The model did not run.
    #[error(transparent)]
    Session(#[from] SessionError),
}

/// How far a file is from the model that it was exported from. Differences are shares of the largest
/// logit of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Parity {
    /// Rows, tokens, and the largest difference in a pass over all of them.
    pub whole: Vec<(usize, usize, f32)>,
    /// The largest difference where rows are read in pieces, if the file has a state.
    pub pieces: Option<f32>,
    /// How many greedy tokens were compared.
    pub greedy: usize,
    /// How far below the file's best token the model's was at most, each after the same tokens.
    pub behind: f32,
}

impl Parity {
    /// The largest of all differences.
    pub fn worst(&self) -> f32 {
        let whole = self.whole.iter().map(|(_, _, difference)| *difference);
        // NaN is worse than anything.
        let worse = |a: f32, b: f32| if a.is_nan() || a > b { a } else { b };
        whole.chain(self.pieces).chain([self.behind]).fold(0.0, worse)
    }
}

/// Compares the file at `path` with the model of `session` on random tokens: one row and three, of 1, 2
/// and 7 tokens and of the plan's length, read at once and, if the file has a state, in pieces; and on the
/// 64 tokens that the model generates, each the likeliest one.
///
/// # Errors
/// If there is no onnxruntime, or if one of both does not run.
pub fn parity<B: mixlab_ops::Backend, K: Block>(
    session: &Session<B, K>,
    path: &Path,
) -> Result<Parity, ParityError> {
    let mut runner = Runner::open(path)?;
    let mut draws = Generator::new(42);
    let plan = session.plan();
    let mut lengths: Vec<usize> = LENGTHS.into_iter().filter(|n| *n < plan.seq_len).collect();
    lengths.push(plan.seq_len);
    lengths.retain(|length| plan.supports(*length).is_ok());
    let (mut whole, mut pieces) = (Vec::new(), None);
    for rows in ROWS {
        for &length in &lengths {
            let count = rows * length;
            let ids: Vec<i64> = (0..count).map(|_| draws.intn(plan.vocab as u64) as i64).collect();
            let expected = logits(session, &ids, rows)?;
            let start = runner.start(rows)?;
            let (found, _) = runner.read(&ids, rows, start)?;
            whole.push((rows, length, difference(&found, &expected)));
            if runner.is_stateful() {
                let found = in_pieces(&mut runner, &ids, rows, plan.vocab)?;
                let difference = difference(&found, &expected);
                pieces = Some(pieces.map_or(difference, |most: f32| most.max(difference)));
            }
        }
    }
    let (greedy, behind) = greedy(session, &mut runner, &mut draws)?;
    Ok(Parity { whole, pieces, greedy, behind })
}

/// The model's logits `[rows, T, V]` of `ids` `[rows, T]`, flat.
fn logits<B: mixlab_ops::Backend, K: Block>(
    session: &Session<B, K>,
    ids: &[i64],
    rows: usize,
) -> Result<Vec<f32>, ParityError> {
    let x: Vec<i32> = ids.iter().map(|id| *id as i32).collect();
    let seq = x.len() / rows;
    let batch = Batch { batch: rows, seq, y: x.clone(), x, prev: vec![-1; rows] };
    let logits = session.logits(batch)?.into_data().convert::<f32>();
    Ok(logits.into_vec().expect("converted above"))
}

/// The largest difference of `found` from `expected`, as a share of the largest number that is expected.
fn difference(found: &[f32], expected: &[f32]) -> f32 {
    if found.len() != expected.len() {
        return f32::NAN;
    }
    let largest = expected.iter().fold(0f32, |most, x| most.max(x.abs()));
    let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    // A NaN stays.
    let most = differences.fold(0f32, |most, x| if x.is_nan() || x > most { x } else { most });
    most / largest.max(f32::MIN_POSITIVE)
}

/// The file's logits where rows are read in pieces: the first half, then a token at a time.
fn in_pieces(
    runner: &mut Runner,
    ids: &[i64],
    rows: usize,
    vocab: usize,
) -> Result<Vec<f32>, RuntimeError> {
    let length = ids.len() / rows;
    let mut all = vec![Vec::with_capacity(length * vocab); rows];
    let (mut left, mut at) = (runner.start(rows)?, 0);
    while at < length {
        let count = if at == 0 { length.div_ceil(2) } else { 1 };
        let piece = ids.chunks_exact(length).flat_map(|row| &row[at..at + count]);
        let piece: Vec<i64> = piece.copied().collect();
        let (logits, next) = runner.read(&piece, rows, left)?;
        for (row, logits) in all.iter_mut().zip(logits.chunks_exact(count * vocab)) {
            row.extend_from_slice(logits);
        }
        (left, at) = (next, at + count);
    }
    Ok(all.concat())
}

/// How many tokens the model generated from a random prompt, and how far below the file's best token
/// they were at most, as a share of its largest logit.
fn greedy<B: mixlab_ops::Backend, K: Block>(
    session: &Session<B, K>,
    runner: &mut Runner,
    draws: &mut Generator,
) -> Result<(usize, f32), ParityError> {
    let plan = session.plan();
    let prompt: Vec<u16> =
        (0..plan.seq_len.min(4)).map(|_| draws.intn(plan.vocab as u64) as u16).collect();
    let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
    let options = Generation { max_tokens: GREEDY, sampling, ..Generation::default() };
    let rows = session.generate(&[prompt], &options, |_, _| ControlFlow::Continue(()))?;
    let all = rows[0].prompt.iter().chain(&rows[0].tokens).map(|token| i64::from(*token));
    let (all, first) = (all.collect::<Vec<_>>(), rows[0].prompt.len());
    let (mut left, mut behind) = (runner.start(1)?, 0f32);
    for at in first..all.len() {
        let (logits, last) = if runner.is_stateful() {
            let piece = if at == first { &all[..at] } else { &all[at - 1..at] };
            let (logits, next) = runner.read(piece, 1, left)?;
            left = next;
            (logits, piece.len() - 1)
        } else {
            let mut row = all[..at].to_vec();
            if !plan.is_streaming() {
                // What looks ahead sees there what it sees in `generate`.
                row.resize(plan.seq_len, 0);
            }
            let start = runner.start(1)?;
            (runner.read(&row, 1, start)?.0, at - 1)
        };
        let logits = &logits[last * plan.vocab..][..plan.vocab];
        let best = logits.iter().copied().fold(f32::MIN, f32::max);
        let largest = logits.iter().fold(f32::MIN_POSITIVE, |most, x| most.max(x.abs()));
        let gap = (best - logits[all[at] as usize]) / largest;
        behind = if gap.is_nan() { gap } else { behind.max(gap) };
    }
    Ok((all.len() - first, behind))
}
