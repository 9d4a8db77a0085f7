//! Steps into a buffer of burn-flex, whose own assignment copies what it is given first.

use burn_flex::FlexTensor;

use crate::plumbing::cpu::{Heads, whole};

/// Writes `new` into `buffer` from step `start` on; copies the buffer only if another tensor reads it
/// too, or if it is a view.
pub(super) fn insert(buffer: FlexTensor, new: &FlexTensor, start: usize) -> FlexTensor {
    let mut buffer = whole(buffer);
    let [_, heads, room, width] = buffer.layout().shape().dims::<4>();
    let new = Heads::new(new);
    let [batches, _, steps, _] = new.dims;
    let to = buffer.storage_mut::<f32>();
    for (b, h) in (0..batches * heads).map(|n| (n / heads, n % heads)) {
        let first = ((b * heads + h) * room + start) * width;
        let rows = to[first..first + steps * width].chunks_exact_mut(width);
        rows.enumerate().for_each(|(t, row)| row.copy_from_slice(new.row(b, h, t)));
    }
    buffer
}
