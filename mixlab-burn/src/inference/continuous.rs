//! Rows that come and go while others are continued.

use burn::tensor::{Int, Tensor, TensorData};

use super::{Session, SessionError};
use crate::blocks::{Block, Memory};
use crate::data::Batch;

/// Rows of any lengths that get their next tokens in one pass, and join and leave between passes:
/// continuous batching (Yu et al., 2022, "Orca").
///
/// A model that [streams](crate::plan::Plan::is_streaming) reads each token once. Any other reads all
/// rows again for each new token, as a [`Decoder`](super::Decoder) does. A row is computed as it would
/// be alone, apart from the rounding of sums whose order depends on the rows beside it.
///
/// ```
/// # #[cfg(feature = "cpu")] {
/// # use std::sync::Arc;
/// # use burn_flex::Flex;
/// # use mixlab_burn::{inference::{ContinuousBatch, Session}, model::Model, plan::Plan};
/// # let json = r#"{"model_dim": 16, "vocab_size": 32, "seq_len": 8,
/// #     "blocks": [{"type": "plain", "heads": 2}], "training": {"batch_tokens": 64}}"#;
/// # let plan = Arc::new(Plan::parse(json, "example.json", &[])?.plan);
/// # let device = Default::default();
/// # let session = Session::<Flex>::new(Model::init(plan, &device), &device);
/// let mut batch = ContinuousBatch::new(&session);
/// batch.join(&[vec![1, 2, 3]])?; // the logits [1, V] after it
/// batch.join(&[vec![4], vec![5]])?;
/// assert_eq!(batch.advance(&[6, 7, 8])?.dims(), [3, 32]);
/// batch.keep(&[0, 2]);
/// assert_eq!([batch.row(0), batch.row(1)], [&[1, 2, 3, 6][..], &[5, 8]]);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ContinuousBatch<'a, B: mixlab_ops::Backend, K: Block> {
    session: &'a Session<B, K>,
    rows: Vec<Vec<i32>>,
    /// None if the model does not stream.
    memory: Option<Memory<B>>,
}

impl<'a, B: mixlab_ops::Backend, K: Block> ContinuousBatch<'a, B, K> {
    /// No rows yet.
    pub fn new(session: &'a Session<B, K>) -> Self {
        Self { session, rows: Vec::new(), memory: empty(session) }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The tokens of row `index`.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, index: usize) -> &[i32] {
        &self.rows[index]
    }

    /// Tokens that row `index` may still get before the model sees as many as it was planned for.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn room(&self, index: usize) -> usize {
        self.session.plan().seq_len.saturating_sub(self.rows[index].len())
    }

    /// Reads `prompts`, all of one length, as rows after those that there are; the logits `[rows, V]`
    /// of the token after each.
    ///
    /// # Errors
    /// If prompts differ in length or are empty, are longer than the plan's rows, or have an unknown
    /// id. The batch stays as it was.
    pub fn join(&mut self, prompts: &[Vec<u16>]) -> Result<Tensor<B, 2>, SessionError> {
        let lengths: Vec<usize> = prompts.iter().map(Vec::len).collect();
        let Some(&length @ 1..) = lengths.first() else {
            return Err(SessionError::Rows { rows: lengths });
        };
        if lengths.iter().any(|other| *other != length) {
            return Err(SessionError::Rows { rows: lengths });
        }
        self.fits(length)?;
        let row = |prompt: &Vec<u16>| prompt.iter().map(|token| i32::from(*token)).collect();
        let rows: Vec<Vec<i32>> = prompts.iter().map(row).collect();
        let logits = match empty(self.session) {
            Some(memory) => {
                let (tokens, _) = self.session.upload(batch(&rows, length))?;
                let (hidden, memory) = self.session.decoding().advance(tokens, memory);
                self.memory = self.memory.take().map(|all| all.join(memory));
                self.ends(hidden, length, rows.iter().map(Vec::len))
            }
            None => self.replayed(&rows)?,
        };
        self.rows.extend(rows);
        Ok(logits)
    }

    /// Adds the tokens of `tokens` to the rows, one to each; the logits `[rows, V]` of the token after.
    ///
    /// # Errors
    /// If there are no rows, or tokens are not one for each, if a row has no room, or if an id is
    /// unknown. The batch stays as it was.
    pub fn advance(&mut self, tokens: &[u16]) -> Result<Tensor<B, 2>, SessionError> {
        if tokens.len() != self.rows.len() || tokens.is_empty() {
            return Err(SessionError::Rows { rows: vec![1; tokens.len()] });
        }
        let longest = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        self.fits(longest + 1)?;
        let tokens = tokens.iter().map(|token| i32::from(*token));
        self.rows.iter_mut().zip(tokens).for_each(|(row, token)| row.push(token));
        let logits = self.continued();
        if logits.is_err() {
            self.rows.iter_mut().for_each(|row| row.truncate(row.len() - 1));
        }
        logits
    }

    /// Leaves only these rows, in this order.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn keep(&mut self, rows: &[usize]) {
        if rows.iter().copied().eq(0..self.rows.len()) {
            return;
        }
        self.rows = rows.iter().map(|row| self.rows[*row].clone()).collect();
        self.memory = match rows {
            [] => empty(self.session),
            rows => self.memory.take().map(|memory| memory.keep(rows)),
        };
    }

    fn fits(&self, tokens: usize) -> Result<(), SessionError> {
        let seq_len = self.session.plan().seq_len;
        if tokens > seq_len { Err(SessionError::TooLong { tokens, seq_len }) } else { Ok(()) }
    }

    /// Reads the last token of each row; the logits `[rows, V]` after it.
    fn continued(&mut self) -> Result<Tensor<B, 2>, SessionError> {
        if self.memory.is_none() {
            return self.replayed(&self.rows);
        }
        let last = |back: usize| -> Vec<i32> {
            self.rows.iter().map(|row| row[row.len() - back]).collect()
        };
        let x = last(1);
        let next = Batch { batch: x.len(), seq: 1, y: x.clone(), x, prev: last(2) };
        let (tokens, _) = self.session.upload(next)?;
        let memory = self.memory.take().expect("looked at above");
        let (hidden, memory) = self.session.decoding().advance(tokens, memory);
        self.memory = Some(memory);
        Ok(self.session.decoding().logits(hidden))
    }

    /// Reads `rows` whole, with zeros after their end; the logits `[rows, V]` after them.
    fn replayed(&self, rows: &[Vec<i32>]) -> Result<Tensor<B, 2>, SessionError> {
        let seq = self.session.plan().seq_len;
        let (tokens, _) = self.session.upload(batch(rows, seq))?;
        let hidden = self.session.decoding().hidden(tokens, None);
        Ok(self.ends(hidden, seq, rows.iter().map(Vec::len)))
    }

    /// The logits `[rows, V]` after the last token of each row, of whose `seq` places in `hidden`
    /// `[rows · seq, D]` it fills `lengths`.
    fn ends(
        &self,
        hidden: Tensor<B, 2>,
        seq: usize,
        lengths: impl Iterator<Item = usize>,
    ) -> Tensor<B, 2> {
        let ends: Vec<i64> =
            lengths.enumerate().map(|(row, length)| (row * seq + length - 1) as i64).collect();
        let count = [ends.len()];
        let ends = Tensor::<B, 1, Int>::from_data(TensorData::new(ends, count), &hidden.device());
        self.session.decoding().logits(hidden.select(0, ends))
    }
}

/// What a model that streams remembers of no tokens.
fn empty<B: mixlab_ops::Backend, K: Block>(session: &Session<B, K>) -> Option<Memory<B>> {
    session.model().memory().map(Memory::with_room)
}

/// `rows` in `seq` places each, with zeros after their end.
fn batch(rows: &[Vec<i32>], seq: usize) -> Batch {
    let place = |row: &Vec<i32>, at: usize| row.get(at).copied().unwrap_or(0);
    let x: Vec<i32> = rows.iter().flat_map(|row| (0..seq).map(move |at| place(row, at))).collect();
    Batch { batch: rows.len(), seq, y: x.clone(), x, prev: vec![-1; rows.len()] }
}
