//! Losses of a run, summed up.

use super::{Scored, TrueBytes};

/// Sums over scored tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Total {
    /// Their losses in nats.
    pub nats: f64,
    /// How many there are.
    pub tokens: usize,
    /// The bytes of text that they stand for, if that is known.
    pub bytes: Option<f64>,
}

impl Total {
    /// Mean loss in nats per token.
    pub fn nll(&self) -> f64 {
        self.nats / self.tokens as f64
    }

    /// Bits per byte of text, if its bytes are known and there are some.
    pub fn bpb(&self) -> Option<f64> {
        let bytes = self.bytes.filter(|bytes| *bytes > 0.0)?;
        Some(self.nats / std::f64::consts::LN_2 / bytes)
    }

    /// Adds what a batch of `tokens` scored.
    pub fn add(&mut self, scored: &Scored, tokens: &[u16], bytes: Option<&TrueBytes>) {
        self.nats += scored.losses.iter().map(|loss| f64::from(*loss)).sum::<f64>();
        self.tokens += scored.losses.len();
        if let Some(bytes) = bytes {
            let scored = scored.first..scored.first + scored.losses.len();
            *self.bytes.get_or_insert(0.0) += bytes.of(tokens, scored);
        }
    }
}
