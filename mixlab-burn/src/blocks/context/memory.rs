//! What tokens leave behind for those after them.

use std::collections::{BTreeMap, BTreeSet};

use burn::tensor::{Int, Tensor, backend::Backend};
use burn_backend::tensor::FloatTensor;

use super::Flow;

/// What one door keeps. Before the first token it is as good as zeros, along axes that grow as good as
/// nothing: a state that is carried outside of a program begins so. Its first axis counts the rows of
/// the batch, or is a whole multiple of them, row by row.
pub type State<B> = Vec<FloatTensor<B>>;

/// What the tokens of each row of a batch leave behind for those after them.
///
/// A clone is a fork: both go on from here, and what they share is copied when one of them writes.
#[derive(Clone, Debug)]
pub struct Memory<B: Backend> {
    pub(super) past: usize,
    /// Rows of the batch; none before the first token.
    pub(super) batch: Option<usize>,
    /// Whether what grows lies in buffers with room for more.
    pub(super) room: bool,
    /// The last token of each row `[B, 1]`, if the model reads pairs of tokens.
    pub(super) last: Option<Tensor<B, 2, Int>>,
    /// By place of the block and door within it.
    pub(super) kept: BTreeMap<(usize, usize), State<B>>,
    /// Where keys and values are kept, which grow along their third axis.
    pub(super) growing: BTreeSet<(usize, usize)>,
    /// Places before the first token of each row, if rows may differ in length.
    pub(super) padding: Option<Vec<usize>>,
}

impl<B: Backend> Memory<B> {
    /// The memory before the first token.
    pub(crate) fn new() -> Self {
        Self {
            past: 0,
            batch: None,
            room: false,
            last: None,
            kept: BTreeMap::new(),
            growing: BTreeSet::new(),
            padding: None,
        }
    }

    /// The same, with keys and values in buffers that grow by doubling. A pass writes its own at the
    /// end, in place unless a fork reads them too; without room it copies them all into new tensors of
    /// just their size.
    #[must_use]
    pub fn with_room(self) -> Self {
        Self { room: true, ..self }
    }

    /// What `past` tokens in each of `batch` rows left at doors, by place of the block and door within
    /// it.
    #[cfg(feature = "onnx")]
    pub(crate) fn left(
        past: usize,
        batch: usize,
        kept: BTreeMap<(usize, usize), State<B>>,
    ) -> Self {
        Self { past, batch: Some(batch), kept, ..Self::new() }
    }

    /// What is kept, by place of the block and door within it.
    #[cfg(feature = "onnx")]
    pub(crate) fn into_kept(self) -> BTreeMap<(usize, usize), State<B>> {
        self.kept
    }

    /// The last token of each row `[B, 1]`, if there was one and the model reads pairs of tokens.
    pub(crate) fn last(&self) -> Option<Tensor<B, 2, Int>> {
        self.last.clone()
    }

    /// The same after rows that end in the tokens `last` `[B, 1]`.
    pub(crate) fn after(self, last: Option<Tensor<B, 2, Int>>) -> Self {
        Self { last, ..self }
    }

    /// Tokens of each row so far; of the longest, where [rows of several lengths](Memory::join) are.
    pub fn past(&self) -> usize {
        self.past
    }

    /// Where something is kept: the place of the block in the stack, and the door within it.
    pub fn doors(&self) -> impl Iterator<Item = (usize, usize)> {
        self.kept.keys().copied()
    }
}

impl<B: Backend> Flow<B> {
    /// Goes on from `memory`.
    ///
    /// # Panics
    /// If its rows are not as many as those of this pass.
    pub(crate) fn go_on(&mut self, memory: Memory<B>) {
        let batch = memory.batch.unwrap_or(self.batch);
        assert_eq!(batch, self.batch, "rows of the memory and rows of the batch");
        self.memory = Some(memory);
    }

    /// The memory after the tokens of this pass, if it keeps one.
    pub(crate) fn into_memory(self) -> Option<Memory<B>> {
        let memory = self.memory?;
        Some(Memory { past: memory.past + self.seq, batch: Some(self.batch), ..memory })
    }

    /// Turns to the block at `index`, which has the weights of the block at `owner`.
    pub(crate) fn enter(&mut self, index: usize, owner: usize) {
        (self.index, self.owner, self.door) = (index, owner, 0);
    }

    /// Tokens of each row before this pass; of the longest, where [rows of several
    /// lengths](Memory::join) are: [`Flow::positions`] has those of each.
    pub fn past(&self) -> usize {
        self.memory.as_ref().map_or(0, Memory::past)
    }

    /// Whether what grows lies in buffers with room for more.
    pub(super) fn has_room(&self) -> bool {
        self.memory.as_ref().is_some_and(|memory| memory.room)
    }

    /// Notes that the door which the running block went through last keeps keys and values.
    pub(super) fn grows(&mut self) {
        let key = (self.index, self.door - 1);
        if let Some(memory) = &mut self.memory {
            memory.growing.insert(key);
        }
    }

    /// The one place that reads and writes memory: `run` is given what was left at this door, if
    /// this pass goes on from a memory that has been here, and returns a value and what it leaves,
    /// which is made only if it is kept.
    pub fn through<T, K: FnOnce() -> State<B>>(
        &mut self,
        run: impl FnOnce(&Self, Option<State<B>>) -> (T, K),
    ) -> T {
        let key = (self.index, self.door);
        self.door += 1;
        let before = self.memory.as_mut().and_then(|memory| memory.kept.remove(&key));
        let (value, after) = run(self, before);
        if let Some(memory) = &mut self.memory {
            memory.kept.insert(key, after());
        }
        value
    }
}
