//! The shape rule of an op, put together from small checks.
//!
//! An [`Op`](crate::Op) says in one place which shapes and types it takes and what comes out of
//! them. Kernels and bodies rely on that, so the rule is checked before any of them runs, once for
//! each execution. Axes go by the letters of the docs: an axis whose letter was seen before must be
//! as long as then.
//!
//! ```
//! use burn::tensor::DType;
//! use mixlab_ops::{Axes, Spec};
//!
//! let [x, weight] = [Spec::new([2, 3], DType::F32), Spec::new([4, 5], DType::F32)];
//! let mut axes = Axes::default();
//! let [n, k] = axes.of("x", &x, ["N", "K"]).unwrap();
//! assert_eq!([n, k], [2, 3]);
//! let mismatch = axes.of("weight", &weight, ["K", "M"]).unwrap_err();
//! assert_eq!(mismatch.to_string(), "`weight` should be [K, M] with K = 3");
//! ```

use core::fmt::{self, Display, Formatter};

use burn::tensor::{DType, Shape, TensorMetadata};
use smallvec::SmallVec;

use crate::Op;

/// Shape and element type of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Length of each axis.
    pub shape: Shape,
    /// Element type.
    pub dtype: DType,
}

impl Spec {
    /// The spec of tensors with this shape and element type.
    pub fn new(shape: impl Into<Shape>, dtype: DType) -> Self {
        Self { shape: shape.into(), dtype }
    }

    /// The spec of `x`, a primitive of any backend.
    pub fn of(x: &impl TensorMetadata) -> Self {
        Self { shape: x.shape(), dtype: x.dtype() }
    }
}

impl Display for Spec {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.dtype.name(), self.shape.as_slice())
    }
}

/// What about the inputs of an op does not fit its shape rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Mismatch(String);

impl Mismatch {
    /// A mismatch in words: what should be, lower case and without a final period.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// A mismatch in the words of `text` unless `fits`.
    ///
    /// # Errors
    /// If not `fits`.
    pub fn unless(fits: bool, text: impl FnOnce() -> String) -> Result<(), Self> {
        if fits { Ok(()) } else { Err(Self(text())) }
    }
}

/// The axes of an op's inputs, by their letters.
#[derive(Clone, Debug, Default)]
pub struct Axes {
    /// Rules have few letters: a rule that is checked for each execution allocates nothing for them.
    known: SmallVec<[(&'static str, usize); 8]>,
}

impl Axes {
    /// The lengths of the axes of input `what`. An axis called `1` has length one; no axis is empty.
    ///
    /// # Errors
    /// If `x` has another number of axes, or one of a length that does not fit its letter.
    pub fn of<const D: usize>(
        &mut self,
        what: &str,
        x: &Spec,
        letters: [&'static str; D],
    ) -> Result<[usize; D], Mismatch> {
        let lengths = <[usize; D]>::try_from(x.shape.as_slice());
        let lengths = lengths.map_err(|_| self.unlike(what, letters))?;
        let fits = |(letter, length)| self.length(letter).is_none_or(|expected| expected == length);
        if !letters.into_iter().zip(lengths).all(fits) {
            return Err(self.unlike(what, letters));
        }
        Mismatch::unless(!lengths.contains(&0), || format!("`{what}` should have no empty axis"))?;
        for (letter, length) in letters.into_iter().zip(lengths) {
            if self.length(letter).is_none() {
                self.known.push((letter, length));
            }
        }
        Ok(lengths)
    }

    fn length(&self, letter: &str) -> Option<usize> {
        let seen = self.known.iter().find(|(known, _)| *known == letter);
        if letter == "1" { Some(1) } else { seen.map(|(_, length)| *length) }
    }

    fn unlike<const D: usize>(&self, what: &str, letters: [&'static str; D]) -> Mismatch {
        let seen = self.known.iter().filter(|(letter, _)| letters.contains(letter));
        let seen: Vec<String> =
            seen.map(|(letter, length)| format!("{letter} = {length}")).collect();
        let with = if seen.is_empty() { "" } else { " with " };
        let letters = letters.join(", ");
        Mismatch(format!("`{what}` should be [{letters}]{with}{}", seen.join(", ")))
    }
}

/// Checks that inputs, each with its name, have one element type: that of the first.
///
/// # Errors
/// If one has another.
pub fn same_type(inputs: &[(&str, &Spec)]) -> Result<(), Mismatch> {
    let Some(((first, like), others)) = inputs.split_first() else { return Ok(()) };
    for (what, x) in others {
        Mismatch::unless(x.dtype == like.dtype, || {
            format!("`{what}` should be {} as `{first}` is", like.dtype.name())
        })?;
    }
    Ok(())
}

/// The `N` index tensors of an op, of 32 or 64 bits.
///
/// # Errors
/// If there are more or fewer, or of another type.
pub fn indices<const N: usize>(ints: &[Spec]) -> Result<&[Spec; N], Mismatch> {
    use DType::{I32, I64, U32, U64};
    let all = ints.try_into().map_err(|_| {
        Mismatch(format!("it takes {N} tensors of indices, and was given {}", ints.len()))
    })?;
    let wide = ints.iter().all(|x| matches!(x.dtype, I32 | I64 | U32 | U64));
    Mismatch::unless(wide, || "indices should be integers of 32 or 64 bits".into())?;
    Ok(all)
}

/// Checks that `groups` key/value heads can be shared out among `heads` query heads.
pub(crate) fn divides(groups: usize, heads: usize) -> Result<(), Mismatch> {
    Mismatch::unless(heads.is_multiple_of(groups), || {
        format!("Hk = {groups} should divide H = {heads}")
    })
}

/// Checks that `dtype`, which an attribute asks for, is one of floats.
///
/// # Errors
/// If it is not.
pub(crate) fn float(dtype: DType) -> Result<DType, Mismatch> {
    Mismatch::unless(dtype.is_float(), || {
        format!("a result of {} is none of floats", dtype.name())
    })?;
    Ok(dtype)
}

/// Shapes and types of the outputs of `op`, after checking that it takes these inputs.
///
/// # Panics
/// If it does not, naming the op, its inputs and what does not fit.
pub(crate) fn checked<O: Op<N>, const N: usize>(
    op: &O,
    inputs: &[impl TensorMetadata; N],
    ints: &[impl TensorMetadata],
) -> Vec<Spec> {
    let inputs = inputs.each_ref().map(Spec::of);
    let ints: Vec<Spec> = ints.iter().map(Spec::of).collect();
    let outputs = op.outputs(&inputs, &ints);
    outputs.unwrap_or_else(|mismatch| refuse(O::NAME, inputs.iter().chain(&ints), &mismatch))
}

#[cold]
fn refuse<'a>(op: &str, inputs: impl Iterator<Item = &'a Spec>, mismatch: &Mismatch) -> ! {
    let inputs: Vec<String> = inputs.map(Spec::to_string).collect();
    panic!("`{op}` does not take ({}): {mismatch}", inputs.join(", "))
}

#[cfg(all(test, feature = "cpu"))]
mod tests;
