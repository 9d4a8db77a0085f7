//! The matrix recurrence for burn-flex: step by step over time, side by side over the matrix.

use burn_flex::FlexTensor;

use crate::plumbing::cpu::{each_row, sum, tensor};

pub(super) fn states(update: &FlexTensor, gate: &FlexTensor) -> FlexTensor {
    let [b, t, da, db] = update.layout().shape().dims();
    let [update, gate] = [update, gate].map(FlexTensor::to_contiguous);
    let [update, gate] = [&update, &gate].map(|x| x.storage::<f32>());
    let size = t * da * db;
    let [h] = each_row(
        b,
        size,
        [size],
        #[inline(always)]
        |range, [h]| {
            h.copy_from_slice(&update[range.start * size..range.end * size]);
            for (batch, h) in range.zip(h.chunks_mut(size)) {
                for row in da..t * da {
                    let (before, now) = h.split_at_mut(row * db);
                    let (before, now) = (&before[(row - da) * db..], &mut now[..db]);
                    let gate = gate[batch * t * da + row];
                    for i in 0..db {
                        now[i] += gate * before[i];
                    }
                }
            }
        },
    );
    tensor(h, [b, t, da, db])
}

/// Gradients of the updates and of the gates, given `[gate, h, g]`.
pub(super) fn gradient(inputs: &[FlexTensor; 3]) -> [FlexTensor; 2] {
    let [b, t, da, db] = inputs[1].layout().shape().dims();
    let [gate, h, g] = inputs.each_ref().map(FlexTensor::to_contiguous);
    let [gate, h, g] = [&gate, &h, &g].map(|x| x.storage::<f32>());
    let size = t * da * db;
    let [s, dgate] = each_row(
        b,
        2 * size,
        [size, t * da],
        #[inline(always)]
        |range, [s, dgate]| {
            s.copy_from_slice(&g[range.start * size..range.end * size]);
            let parts = s.chunks_mut(size).zip(dgate.chunks_mut(t * da));
            for (batch, (s, dgate)) in range.zip(parts) {
                let (gate, h) = (&gate[batch * t * da..], &h[batch * size..]);
                for row in (da..t * da).rev() {
                    let (before, now) = s.split_at_mut(row * db);
                    let (before, now) = (&mut before[(row - da) * db..][..db], &now[..db]);
                    let h = &h[(row - da) * db..][..db];
                    dgate[row] = sum(db, |s, i| now[i].mul_add(h[i], s));
                    for i in 0..db {
                        before[i] += gate[row] * now[i];
                    }
                }
            }
        },
    );
    [tensor(s, [b, t, da, db]), tensor(dgate, [b, t, da])]
}
