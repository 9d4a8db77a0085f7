//! Which part of a model an operation belongs to.

/// A part of a model, in the order of execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The embedding of tokens and of bigrams.
    Embedding,
    /// The block with this index, and the skip that is added before it.
    Block(usize),
    /// The final norm and the output head.
    Head,
}

impl Part {
    /// Says that the operations from here on are of this part: a captured forward notes it.
    pub fn enter<B: mixlab_ops::Backend>(self, device: &B::Device) {
        B::enter(device, self.scope());
    }

    /// The number by which a program knows this part.
    fn scope(self) -> usize {
        match self {
            Self::Embedding => 0,
            Self::Head => 1,
            Self::Block(index) => index + 2,
        }
    }

    /// The part that a program of a model knows by number `scope`.
    pub fn of(scope: usize) -> Self {
        match scope {
            0 => Self::Embedding,
            1 => Self::Head,
            block => Self::Block(block - 2),
        }
    }
}
