//! Which rows score which tokens.

use crate::blocks::Block;
use crate::data::Batch;
use crate::inference::SessionError;
use crate::plan::Plan;

/// A row of tokens, of which the first ones may only be context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its first token.
    pub start: usize,
    /// Targets at its beginning that another row has scored.
    pub skip: usize,
}

/// How a run of tokens is cut into rows that score each of them once, but for the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Tokens in a row.
    pub seq: usize,
    /// Rows in a batch.
    pub batch: usize,
    /// Whether rows overlap.
    pub overlapping: bool,
    /// The rows, in the order of what they score.
    pub rows: Vec<Row>,
}

impl Layout {
    /// Rows of the plan's length over `tokens` tokens, in batches of the plan's size. Rows follow one
    /// another; or, with a `stride`, each begins so many tokens after the one before and scores only
    /// what that did not: with at least `seq_len − stride` tokens of context, which is how published
    /// perplexities are usually measured. Where the last row would be shorter, it reaches back. Fewer
    /// tokens than a row has are one shorter row.
    ///
    /// # Errors
    /// If there is nothing to score, or rows cannot advance by `stride`.
    pub fn of<K: Block>(
        plan: &Plan<K>,
        tokens: usize,
        stride: Option<usize>,
    ) -> Result<Self, SessionError> {
        let seq_len = plan.seq_len;
        if let Some(stride) = stride.filter(|stride| !(1..=seq_len).contains(stride)) {
            return Err(SessionError::Stride { stride, seq_len });
        }
        let pairs = tokens.saturating_sub(1);
        if pairs == 0 {
            return Err(SessionError::NothingToScore { tokens });
        }
        let seq = seq_len.min(pairs);
        let rows = rows(pairs, seq, stride.unwrap_or(seq));
        Ok(Self { seq, batch: plan.batch(), overlapping: stride.is_some(), rows })
    }

    /// The whole batches of the plan that `tokens` tokens have, as mixlab 0.10.1 exports losses of
    /// single tokens: the rest is left out.
    pub fn whole_batches<K: Block>(plan: &Plan<K>, tokens: usize) -> Self {
        let (seq, batch) = (plan.seq_len, plan.batch());
        let count = tokens.saturating_sub(1) / (seq * batch) * batch;
        let rows = (0..count).map(|i| Row { start: i * seq, skip: 0 }).collect();
        Self { seq, batch, overlapping: false, rows }
    }

    /// Tokens that are scored.
    pub fn scored(&self) -> usize {
        self.rows.iter().map(|row| self.seq - row.skip).sum()
    }

    /// The batch of `rows` of `tokens`. Its first row has no token before it, as in training, unless
    /// rows overlap.
    pub(super) fn batch(&self, rows: &[Row], tokens: &[u16]) -> Batch {
        let ids = |shift: usize| -> Vec<i32> {
            let row = |row: &Row| &tokens[row.start + shift..][..self.seq];
            rows.iter().flat_map(row).map(|id| i32::from(*id)).collect()
        };
        let known = |i: usize| i > 0 || self.overlapping;
        let before = |(i, row): (usize, &Row)| match row.start.checked_sub(1) {
            Some(at) if known(i) => i32::from(tokens[at]),
            _ => -1,
        };
        let prev = rows.iter().enumerate().map(before).collect();
        Batch { batch: rows.len(), seq: self.seq, x: ids(0), y: ids(1), prev }
    }
}

fn rows(pairs: usize, seq: usize, stride: usize) -> Vec<Row> {
    let mut rows = vec![Row { start: 0, skip: 0 }];
    let mut end = seq;
    while end < pairs {
        let next = (end + stride).min(pairs);
        rows.push(Row { start: next - seq, skip: seq - (next - end) });
        end = next;
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Targets in the order in which they are scored, and the least context of those after the first
    /// row.
    fn scored(rows: &[Row], seq: usize) -> (Vec<usize>, usize) {
        let targets = |row: &Row| (row.start + row.skip..row.start + seq).collect::<Vec<_>>();
        let least = rows[1..].iter().map(|row| row.skip).min().unwrap_or(seq);
        (rows.iter().flat_map(targets).collect(), least)
    }

    #[test]
    fn every_token_is_scored_once_and_in_order() {
        for (pairs, seq) in [(8, 8), (9, 8), (24, 8), (31, 8), (1, 1), (5, 1)] {
            for stride in 1..=seq {
                let (targets, least) = scored(&rows(pairs, seq, stride), seq);
                assert_eq!(targets, (0..pairs).collect::<Vec<_>>(), "{pairs} {seq} {stride}");
                assert!(least >= seq - stride);
            }
        }
    }

    #[test]
    fn rows_follow_one_another_without_a_stride() {
        let row = |start, skip| Row { start, skip };
        assert_eq!(rows(16, 8, 8), [row(0, 0), row(8, 0)]);
        assert_eq!(rows(19, 8, 8), [row(0, 0), row(8, 0), row(11, 5)]);
        assert_eq!(rows(12, 8, 2), [row(0, 0), row(2, 6), row(4, 6)]);
    }

    #[test]
    fn a_batch_knows_what_comes_before_its_rows() {
        let tokens: Vec<u16> = (0..20).collect();
        let rows = [Row { start: 4, skip: 0 }, Row { start: 8, skip: 0 }];
        let layout = |overlapping| Layout { seq: 4, batch: 2, overlapping, rows: vec![] };
        let batch = layout(false).batch(&rows, &tokens);
        assert_eq!(batch, Batch::from_tokens(&tokens[4..13], 4).unwrap());
        assert_eq!(batch.prev, [-1, 7]);
        assert_eq!(layout(true).batch(&rows, &tokens).prev, [3, 7]);
    }
}
