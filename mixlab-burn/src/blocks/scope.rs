//! What a block may know while its options are planned, and where its problems go.

use crate::config::{BlockSpec, Problems, nearest_hint};

/// The model around one block that is being planned.
pub struct Scope<'a> {
    /// Width of the residual stream, `D`.
    pub dim: usize,
    /// Width of feed-forward layers, `F = max(D, round(D · mlp_mult))`.
    pub ffn: usize,
    /// Vocabulary size, `V`.
    pub vocab: usize,
    /// Tokens in a row, `T`.
    pub seq_len: usize,
    /// Rows of a training batch, `B`.
    pub batch: usize,
    /// Whether residual branches end in a learned `[D]` scale.
    pub block_scales: bool,
    /// Whether blocks that can mix in the embedding stream do so.
    pub resid_mix: bool,
    /// Whether pairs of `plain` and `swiglu` run side by side.
    pub parallel: bool,
    /// Dropout rate of residual branches.
    pub dropout: f32,
    /// Position of this block among all blocks, from 0.
    pub index: usize,
    /// All blocks as written.
    pub specs: &'a [BlockSpec],
    pub(crate) problems: &'a mut Problems,
}

impl Scope<'_> {
    /// Reports a mistake in `field` of this block.
    pub fn error(&mut self, field: &str, message: impl Into<String>, hint: impl Into<String>) {
        let path = format!("blocks[{}].{field}", self.index);
        self.problems.error(path, message).hint(hint);
    }

    /// Whether an error was reported at `field` of this block or around it.
    pub fn is_bad(&self, field: &str) -> bool {
        self.problems.is_bad(&format!("blocks[{}].{field}", self.index))
    }

    /// Reports something in `field` of this block that is legal and surprising.
    pub fn warn(&mut self, field: &str, message: impl Into<String>) {
        self.problems.warn(format!("blocks[{}].{field}", self.index), message);
    }

    /// Reports a block type that nothing answers to.
    pub fn unknown_type(&mut self, kind: &str, known: &[&str]) {
        let hint = nearest_hint(kind, "block types", known);
        self.error("type", format!("there is no block type `{kind}`"), hint);
    }

    /// `heads` of an attention block: present, positive, and a divisor of `D`.
    pub fn heads(&mut self, spec: &BlockSpec) -> Option<usize> {
        if self.is_bad("heads") {
            return None;
        }
        let Some(heads) = spec.heads else {
            let hint = format!("add `\"heads\": N`, where N divides model_dim `{}`", self.dim);
            self.error("heads", format!("a `{}` block needs `heads`", spec.kind), hint);
            return None;
        };
        let Some(count) = usize::try_from(heads).ok().filter(|h| *h > 0) else {
            self.error("heads", format!("`{heads}` is not positive"), "use at least 1");
            return None;
        };
        if !self.dim.is_multiple_of(count) {
            let message = format!("`{count}` does not divide model_dim `{}`", self.dim);
            let divisors: Vec<String> = (1..=self.dim)
                .filter(|d| self.dim.is_multiple_of(*d))
                .map(|d| d.to_string())
                .collect();
            self.error("heads", message, format!("use one of {}", divisors.join(", ")));
            return None;
        }
        Some(count)
    }

    /// [`Scope::heads`] of an attention that rotates whole heads: their width must be even.
    pub fn rotary_heads(&mut self, spec: &BlockSpec) -> Option<usize> {
        let heads = self.heads(spec)?;
        let width = self.dim / heads;
        if width.is_multiple_of(2) {
            return Some(heads);
        }
        let message = format!("head width `{width}` is odd, and rotation needs pairs");
        self.error("heads", message, "rotary channels come in pairs within one head");
        None
    }

    /// Width of a recurrent state: `inner_dim` if it is positive, else `D`.
    pub fn inner_dim(&self, spec: &BlockSpec) -> usize {
        let given = spec.inner_dim.and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
        given.unwrap_or(self.dim)
    }
}
