//! Rows that are read token by token.

use burn::tensor::Tensor;

use super::{Session, SessionError};
use crate::blocks::{Block, Memory};
use crate::data::Batch;

/// Rows of tokens side by side, and what the model remembers of them.
///
/// New tokens are read in one pass, however many there are. A model that [streams](crate::plan::Plan::is_streaming)
/// reads each token once. Any other reads the whole row again for each new token, padded with zeros to
/// the plan's length as mixlab 0.10.1 does, so that what looks ahead sees what it saw there.
///
/// A clone is a fork: rows go on from one beginning in several ways, and what is remembered is copied
/// when one of them writes.
pub struct Decoder<'a, B: mixlab_ops::Backend, K: Block> {
    session: &'a Session<B, K>,
    /// All tokens of each row.
    rows: Vec<Vec<i32>>,
    /// The first token of each row that the model sees.
    start: usize,
    /// The first token of each row that the memory has not.
    unread: usize,
    /// None if the model does not stream.
    memory: Option<Memory<B>>,
}

impl<B: mixlab_ops::Backend, K: Block> Clone for Decoder<'_, B, K> {
    fn clone(&self) -> Self {
        Self { rows: self.rows.clone(), memory: self.memory.clone(), ..*self }
    }
}

impl<'a, B: mixlab_ops::Backend, K: Block> Decoder<'a, B, K> {
    /// Rows without tokens, as many as `rows`.
    pub fn new(session: &'a Session<B, K>, rows: usize) -> Self {
        let memory = session.model().memory().map(Memory::with_room);
        Self { session, rows: vec![Vec::new(); rows], start: 0, unread: 0, memory }
    }

    /// Tokens of each row.
    pub fn len(&self) -> usize {
        self.rows.first().map_or(0, Vec::len)
    }

    /// Whether rows have no tokens.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tokens that each row may still get before the model sees as many as it was planned for.
    pub fn room(&self) -> usize {
        self.session.plan().seq_len.saturating_sub(self.len() - self.start)
    }

    /// Adds the tokens of each of `pieces` to its row.
    ///
    /// # Errors
    /// If pieces are not one for each row, of one length and not empty.
    pub fn push(&mut self, pieces: &[Vec<u16>]) -> Result<(), SessionError> {
        let lengths: Vec<usize> = pieces.iter().map(Vec::len).collect();
        let even = lengths.iter().all(|n| *n == lengths[0]);
        if lengths.len() != self.rows.len() || !even || lengths.first().is_none_or(|n| *n == 0) {
            return Err(SessionError::Rows { rows: lengths });
        }
        for (row, piece) in self.rows.iter_mut().zip(pieces) {
            row.extend(piece.iter().map(|token| i32::from(*token)));
        }
        Ok(())
    }

    /// Whether rows are no longer than the model sees.
    pub(super) fn fits(&self) -> Result<(), SessionError> {
        let (tokens, seq_len) = (self.len() - self.start, self.session.plan().seq_len);
        if tokens > seq_len { Err(SessionError::TooLong { tokens, seq_len }) } else { Ok(()) }
    }

    /// Forgets the older half of what the model sees, so that there is room again. What is left is
    /// read anew: a model sees no trace of what it forgot.
    pub fn slide(&mut self) {
        let kept = (self.session.plan().seq_len / 2).max(1).min(self.len());
        self.start = self.len() - kept;
        self.unread = self.start;
        self.memory = self.session.model().memory().map(Memory::with_room);
    }

    /// Reads what was pushed since the last call, and returns the logits `[rows, V]` of the token after
    /// each row.
    ///
    /// # Errors
    /// If nothing was pushed, if rows are longer than the plan's, or if an id is unknown.
    pub fn logits(&mut self) -> Result<Tensor<B, 2>, SessionError> {
        let (end, model, seq_len) =
            (self.len(), self.session.decoding(), self.session.plan().seq_len);
        if end == self.unread {
            return Err(SessionError::Rows { rows: vec![0; self.rows.len()] });
        }
        self.fits()?;
        let (first, seq) = match self.memory {
            Some(_) => (self.unread, end - self.unread),
            None => (self.start, seq_len),
        };
        let (tokens, _) = self.session.upload(self.batch(first, seq))?;
        let rows = self.rows.len();
        let logits = B::awake(self.session.device(), || {
            let hidden = match self.memory.take() {
                Some(memory) => {
                    let (hidden, memory) = model.advance(tokens, memory);
                    self.memory = Some(memory);
                    hidden
                }
                None => model.hidden(tokens, None),
            };
            let [n, dim] = hidden.dims();
            let hidden = hidden.reshape([rows, n / rows, dim]).narrow(1, end - first - 1, 1);
            model.logits(hidden.reshape([rows, dim]))
        });
        self.unread = end;
        Ok(logits)
    }

    /// The `seq` tokens of each row from `first` on, with zeros after their end.
    fn batch(&self, first: usize, seq: usize) -> Batch {
        let token = |row: &Vec<i32>, at: usize| row.get(at).copied().unwrap_or(0);
        let x: Vec<i32> = self
            .rows
            .iter()
            .flat_map(|row| (first..first + seq).map(|at| token(row, at)))
            .collect();
        let before = |row: &Vec<i32>| if first == self.start { -1 } else { row[first - 1] };
        let prev = self.rows.iter().map(before).collect();
        Batch { batch: self.rows.len(), seq, y: x.clone(), x, prev }
    }
}
