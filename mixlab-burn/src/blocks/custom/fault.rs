//! What is wrong with a part of a `custom` block, before its place is known.

/// A mistake and the way out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}\n  hint: {hint}")]
pub struct Fault {
    /// What is wrong, with the value that is.
    pub message: String,
    /// The way out.
    pub hint: String,
}

impl Fault {
    /// The mistake `message`, with the way out.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }
}
