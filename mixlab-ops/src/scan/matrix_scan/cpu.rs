//! The matrix recurrence for burn-flex: step by step over time, side by side over the matrix.

use burn_flex::FlexTensor;

use crate::plumbing::cpu::{each_row, sum, tensor};

/// `now ← now + gate ⊙ before`, with one gate for each `db` elements.
#[inline(always)]
fn add_gated(now: &mut [f32], gate: &[f32], before: &[f32], db: usize) {
    if db == 1 {
        for i in 0..gate.len() {
            now[i] += gate[i] * before[i];
        }
        return;
    }
    for (i, gate) in gate.iter().enumerate() {
        let (now, before) = (&mut now[i * db..][..db], &before[i * db..][..db]);
        for j in 0..db {
            now[j] += gate * before[j];
        }
    }
}

/// The sums of `s ⊙ h` over each `db` elements.
#[inline(always)]
fn row_sums(sums: &mut [f32], s: &[f32], h: &[f32], db: usize) {
    if db == 1 {
        for i in 0..sums.len() {
            sums[i] = s[i] * h[i];
        }
        return;
    }
    for (i, total) in sums.iter_mut().enumerate() {
        let (s, h) = (&s[i * db..][..db], &h[i * db..][..db]);
        *total = sum([s, h], |t, [s, h], _| s.mul_add(h, t));
    }
}

/// All states, from those before the first step `[B, Da, Db]` if there are any.
pub(crate) fn states(
    update: &FlexTensor,
    gate: &FlexTensor,
    initial: Option<&FlexTensor>,
) -> FlexTensor {
    let [b, t, da, db] = update.layout().shape().dims();
    let [update, gate] = [update, gate].map(FlexTensor::to_contiguous);
    let [update, gate] = [&update, &gate].map(|x| x.storage::<f32>());
    let initial = initial.map(FlexTensor::to_contiguous);
    let initial = initial.as_ref().map(|x| x.storage::<f32>());
    let (matrix, size) = (da * db, t * da * db);
    let [h] = each_row(
        b,
        size,
        [size],
        #[inline(always)]
        |range, [h]| {
            h.copy_from_slice(&update[range.start * size..range.end * size]);
            for (batch, h) in range.zip(h.chunks_mut(size)) {
                let gates = gate[batch * t * da..].chunks(da);
                let mut before = initial.map(|h| &h[batch * matrix..][..matrix]);
                for (now, gate) in h.chunks_mut(matrix).zip(gates) {
                    if let Some(before) = before {
                        add_gated(now, gate, before, db);
                    }
                    before = Some(now);
                }
            }
        },
    );
    tensor(h, [b, t, da, db])
}

/// Gradients of the updates, of the gates and, if there are any, of the states before the first
/// step, given `[gate, h, g]`.
pub(crate) fn gradient(
    [gate, h, g]: [&FlexTensor; 3],
    initial: Option<&FlexTensor>,
) -> Vec<FlexTensor> {
    let [b, t, da, db] = h.layout().shape().dims();
    let [gate, h, g] = [gate, h, g].map(FlexTensor::to_contiguous);
    let [gate, h, g] = [&gate, &h, &g].map(|x| x.storage::<f32>());
    let first = initial.map(FlexTensor::to_contiguous);
    let first = first.as_ref().map(|x| x.storage::<f32>());
    let (matrix, size) = (da * db, t * da * db);
    let width = if first.is_some() { matrix } else { 0 };
    let [s, dgate, dfirst] = each_row(
        b,
        2 * size,
        [size, t * da, width],
        #[inline(always)]
        |range, [s, dgate, dfirst]| {
            s.copy_from_slice(&g[range.start * size..range.end * size]);
            let parts = s.chunks_mut(size).zip(dgate.chunks_mut(t * da));
            for ((n, batch), (s, dgate)) in range.enumerate().zip(parts) {
                let (gate, h) = (&gate[batch * t * da..], &h[batch * size..]);
                for step in (1..t).rev() {
                    let (before, now) = s.split_at_mut(step * matrix);
                    let (before, now) = (&mut before[(step - 1) * matrix..], &now[..matrix]);
                    let gate = &gate[step * da..][..da];
                    let h = &h[(step - 1) * matrix..];
                    row_sums(&mut dgate[step * da..][..da], now, h, db);
                    add_gated(before, gate, now, db);
                }
                if let Some(first) = first {
                    let first = &first[batch * matrix..];
                    row_sums(&mut dgate[..da], s, first, db);
                    add_gated(&mut dfirst[n * matrix..][..matrix], &gate[..da], s, db);
                }
            }
        },
    );
    let dfirst = first.map(|_| tensor(dfirst, [b, da, db]));
    [tensor(s, [b, t, da, db]), tensor(dgate, [b, t, da])].into_iter().chain(dfirst).collect()
}
