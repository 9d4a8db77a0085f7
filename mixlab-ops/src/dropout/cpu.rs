//! Dropout for burn-flex: one pass over memory, on all cores.

use burn_flex::FlexTensor;

use super::{Dropout, WORDS, matrix};
use crate::plumbing::cpu::{each_row, tensor};

/// Work of an element beside that of copying one, about: it decides how many rows make a task.
const COST: usize = 8;

pub(super) fn dropout(op: &Dropout, x: &FlexTensor) -> FlexTensor {
    let shape = x.layout().shape().clone();
    let (rows, columns) = matrix(&shape.to_vec());
    let x = x.to_contiguous();
    let x = x.storage::<f32>();
    let (scale, threshold) = (op.scale(), op.threshold());
    let [y] = each_row(
        rows,
        columns * COST,
        [columns],
        #[inline(always)]
        |range, [y]| {
            let xs = x[range.start * columns..range.end * columns].chunks(columns.max(1));
            for ((row, y), x) in range.zip(y.chunks_mut(columns.max(1))).zip(xs) {
                let blocks = y.chunks_mut(WORDS).zip(x.chunks(WORDS)).enumerate();
                for (block, (y, x)) in blocks {
                    let words = op.words(row, block);
                    for ((y, x), word) in y.iter_mut().zip(x).zip(words) {
                        *y = if word < threshold { 0.0 } else { x * scale };
                    }
                }
            }
        },
    );
    tensor(y, shape)
}
