//! Ops over lists of tensors, for many small tensors in one launch.
//!
//! An op's number of inputs is part of its type: a list is cut into groups of few lengths, so that
//! few types are compiled.

use burn_backend::tensor::FloatTensor;

use super::all;
use crate::{Axes, Backend, Mismatch, Op, Spec};

/// The next group: 16, 4 or 1 of `items`, if any are left.
pub(crate) fn group<I: ExactSizeIterator>(items: &mut I) -> Option<Vec<I::Item>> {
    let size = [16, 4, 1].into_iter().find(|&size| size <= items.len())?;
    Some(items.take(size).collect())
}

/// The spec of `[factor, …]`, the first input of an update, and those of the others.
pub(crate) fn factor_first(inputs: &[Spec]) -> Result<(&Spec, &[Spec]), Mismatch> {
    let (factor, others) = inputs.split_first().ok_or_else(|| Mismatch::new("it has no inputs"))?;
    Axes::default().of("factor", factor, ["n"])?;
    Ok((factor, others))
}

/// Runs an op over one group, `inputs` being as many as it has for 1, 4 or 16 tensors.
pub(crate) fn execute_group<B, O, const ONE: usize, const FOUR: usize, const SIXTEEN: usize>(
    op: &O,
    inputs: Vec<FloatTensor<B>>,
) -> Vec<FloatTensor<B>>
where
    B: Backend,
    O: Op<ONE> + Op<FOUR> + Op<SIXTEEN>,
{
    match inputs.len() {
        n if n == ONE => B::execute::<O, ONE>(op, all(inputs), vec![]),
        n if n == FOUR => B::execute::<O, FOUR>(op, all(inputs), vec![]),
        _ => B::execute::<O, SIXTEEN>(op, all(inputs), vec![]),
    }
}
