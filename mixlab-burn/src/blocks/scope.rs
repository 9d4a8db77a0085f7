//! What a block may know while its options are planned, and where its problems go.

use std::any::Any;

use super::Block;
use crate::config::{BlockSpec, Problems, Reported, nearest_hint};
use crate::plan::{MAX_ELEMENTS, Streams};

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
    /// Whether that mixing starts as the stream alone instead of random.
    pub identity_mix: bool,
    /// Whether pairs of `plain` and `swiglu` run side by side.
    pub parallel: bool,
    /// Dropout rate of residual branches.
    pub dropout: f32,
    /// Position of this block among all blocks, from 0.
    pub index: usize,
    /// All blocks as written.
    pub specs: &'a [BlockSpec],
    pub(crate) earlier: &'a dyn Earlier,
    pub(crate) streams: &'a Streams<'a>,
    pub(crate) problems: &'a mut Problems,
}

/// The blocks before one that is being planned, whatever set their types are of.
pub(crate) trait Earlier {
    /// Block `index` as its own type, `None` if it is none of those before.
    fn planned(&self, index: usize) -> Option<Result<&dyn Any, Reported>>;
}

impl<K: Block> Earlier for Vec<Result<K, Reported>> {
    fn planned(&self, index: usize) -> Option<Result<&dyn Any, Reported>> {
        self.get(index).map(|block| block.as_ref().map(K::as_any).map_err(|reported| *reported))
    }
}

impl Scope<'_> {
    /// Reports a mistake in `field` of this block.
    pub fn error(
        &mut self,
        field: &str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Reported {
        self.problems.report(format!("blocks[{}].{field}", self.index), message, hint)
    }

    /// Whether `field` of this block is what the user wrote.
    ///
    /// # Errors
    /// If an error was reported there, or around it.
    pub fn check(&self, field: &str) -> Result<(), Reported> {
        self.problems.check(&format!("blocks[{}].{field}", self.index))
    }

    /// Whether [`Scope::check`] fails.
    pub fn is_bad(&self, field: &str) -> bool {
        self.check(field).is_err()
    }

    /// The options of block `index`, if it stands before this one and is a `T`.
    ///
    /// # Errors
    /// If that block has a mistake.
    pub fn earlier<T: Block>(&self, index: usize) -> Result<Option<&T>, Reported> {
        let block = self.earlier.planned(index).transpose()?;
        Ok(block.and_then(|block| block.downcast_ref()))
    }

    /// Reports something in `field` of this block that is legal and surprising.
    pub fn warn(&mut self, field: &str, message: impl Into<String>) {
        self.problems.warn(format!("blocks[{}].{field}", self.index), message);
    }

    /// Reports a block type that nothing answers to.
    pub fn unknown_type(&mut self, kind: &str, known: &[&str]) -> Reported {
        // Of errors that are only counted nobody sees the hint.
        let full = self.problems.is_full();
        let hint = if full { String::new() } else { nearest_hint(kind, "block types", known) };
        self.error("type", format!("there is no block type `{kind}`"), hint)
    }

    /// `heads` of an attention block.
    ///
    /// # Errors
    /// Unless it is there, positive, and a divisor of `D`.
    pub fn heads(&mut self, spec: &BlockSpec) -> Result<usize, Reported> {
        self.check("heads")?;
        self.problems.check("model_dim")?;
        let dim = self.dim;
        let Some(heads) = spec.heads else {
            let hint = format!("add `\"heads\": N`, where N divides model_dim `{dim}`");
            return Err(self.error(
                "heads",
                format!("a `{}` block needs `heads`", spec.kind),
                hint,
            ));
        };
        let Some(count) = usize::try_from(heads).ok().filter(|h| *h > 0) else {
            return Err(self.error(
                "heads",
                format!("`{heads}` is not positive"),
                "use at least 1",
            ));
        };
        if dim.is_multiple_of(count) {
            return Ok(count);
        }
        let message = format!("`{count}` does not divide model_dim `{dim}`");
        let divisors: Vec<_> = divisors_near(dim, count).iter().map(usize::to_string).collect();
        Err(self.error("heads", message, format!("use one of {}", divisors.join(", "))))
    }

    /// [`Scope::heads`] of an attention that rotates whole heads.
    ///
    /// # Errors
    /// As [`Scope::heads`], and if the width of a head is odd.
    pub fn rotary_heads(&mut self, spec: &BlockSpec) -> Result<usize, Reported> {
        let heads = self.heads(spec)?;
        let width = self.dim / heads;
        if width.is_multiple_of(2) {
            return Ok(heads);
        }
        let message = format!("head width `{width}` is odd, and rotation needs pairs");
        Err(self.error("heads", message, "rotary channels come in pairs within one head"))
    }

    /// Width of a recurrent state: `inner_dim` if it is positive, else `D`.
    ///
    /// # Errors
    /// As [`Scope::size`].
    pub fn inner_dim(&mut self, spec: &BlockSpec) -> Result<usize, Reported> {
        let given = spec.inner_dim.and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
        let Some(inner) = given else { return Ok(self.dim) };
        self.size("inner_dim", inner, self.dim.max(self.batch * self.seq_len))
    }

    /// `size` of this block, which `field` gives, where a tensor has `each` elements for one of it.
    ///
    /// # Errors
    /// If that tensor would have more than [`MAX_ELEMENTS`].
    pub fn size(&mut self, field: &str, size: usize, each: usize) -> Result<usize, Reported> {
        let most = MAX_ELEMENTS / each.max(1);
        if size <= most {
            return Ok(size);
        }
        let message = format!("`{size}` is more than `{most}`");
        let hint = format!("no tensor has more than `{MAX_ELEMENTS}` elements");
        Err(self.error(field, message, hint))
    }
}

/// The divisors of `n` that are nearest to `wanted`, in order: what could have been meant.
fn divisors_near(n: usize, wanted: usize) -> Vec<usize> {
    const SHOWN: usize = 8;
    let small = (1..=n.isqrt()).filter(|d| n.is_multiple_of(*d));
    let mut divisors: Vec<usize> = small.flat_map(|d| [d, n / d]).collect();
    divisors.sort_unstable_by_key(|d| (d.abs_diff(wanted), *d));
    divisors.dedup();
    divisors.truncate(SHOWN);
    divisors.sort_unstable();
    divisors
}

#[cfg(test)]
mod tests {
    use super::divisors_near;

    #[test]
    fn the_nearest_divisors_are_found_at_once_however_large_the_number() {
        assert_eq!(divisors_near(12, 5), [1, 2, 3, 4, 6, 12]);
        assert_eq!(divisors_near(16, 3), [1, 2, 4, 8, 16]);
        assert_eq!(divisors_near(1, 7), [1]);
        assert_eq!(divisors_near(2_147_483_647, 7), [1, 2_147_483_647]);
        assert_eq!(divisors_near(1 << 30, 100), [1, 2, 4, 8, 16, 32, 64, 128]);
    }
}
