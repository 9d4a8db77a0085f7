//! Losses of every token of a run.

use super::Layout;
use crate::data::Batch;
use crate::inference::SessionError;

/// What one batch scored: losses of consecutive tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// The first of these tokens.
    pub first: usize,
    /// Their losses in nats.
    pub losses: Vec<f32>,
    /// Rows so far.
    pub rows: usize,
}

/// Scores `tokens` by the rows of `layout`, a batch at a time: `losses` gives those of a batch, row by
/// row, as [`Session::losses`](crate::inference::Session::losses) and
/// [`TestTimeTraining::losses`](crate::train::TestTimeTraining::losses) do; `each` is given what a batch
/// scored, in the order of the tokens.
///
/// # Errors
/// If a loss is infinite or NaN, or `losses` or `each` fails.
pub fn score<E: From<SessionError>>(
    tokens: &[u16],
    layout: &Layout,
    mut losses: impl FnMut(Batch) -> Result<Vec<f32>, E>,
    mut each: impl FnMut(Scored) -> Result<(), E>,
) -> Result<(), E> {
    let mut done = 0;
    for rows in layout.rows.chunks(layout.batch.max(1)) {
        let all = losses(layout.batch(rows, tokens))?;
        let scored = all.chunks(layout.seq).zip(rows).flat_map(|(losses, row)| &losses[row.skip..]);
        let first = rows[0].start + rows[0].skip + 1;
        let losses: Vec<f32> = scored.copied().collect();
        if let Some(at) = losses.iter().position(|loss| !loss.is_finite()) {
            let (token, loss) = (first + at, losses[at]);
            return Err(SessionError::NotFinite { token, loss }.into());
        }
        done += rows.len();
        each(Scored { first, losses, rows: done })?;
    }
    Ok(())
}
