//! Indices that may lie outside of what they number: on every backend nothing is read or written
//! there.

use burn::tensor::{Bool, Int, Tensor, backend::Backend};
use burn_backend::tensor::IntTensor;
#[cfg(feature = "cube")]
use cubecl::prelude::*;

/// `ids` `[N]` moved into `0..count`, and which of them had to be.
pub(crate) fn within<B: Backend>(
    ids: &IntTensor<B>,
    count: usize,
) -> (Tensor<B, 1, Int>, Tensor<B, 1, Bool>) {
    let ids = Tensor::from_primitive(ids.clone());
    let inside: Tensor<B, 1, Int> = ids.clone().clamp(0, count as i64 - 1);
    (inside.clone(), ids.not_equal(inside))
}

/// `id` if it is in `0..count`, else `count`.
#[cfg(feature = "cube")]
#[cube]
pub(crate) fn known<I: cubecl::prelude::Int>(id: I, count: usize) -> usize {
    let low = u32::cast_from(id);
    // A negative one is large in 32 bits, and in 64 bits does not come back.
    let inside = (low as usize) < count && I::cast_from(low) == id;
    select(inside, low as usize, count)
}
