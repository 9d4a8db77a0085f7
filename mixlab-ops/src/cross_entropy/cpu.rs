//! Softmax cross-entropy for burn-flex: reads the logits once, and takes each exponential once.

use burn_flex::FlexTensor;

use crate::plumbing::cpu::{each_row, exp, fill, indices, maximum, sum, tensor, update};

/// The loss `[N]` of each row, and the gradient of the logits if it is wanted.
pub(super) fn losses(
    z: &FlexTensor,
    targets: &FlexTensor,
    ahead: Option<f32>,
) -> Option<Vec<FlexTensor>> {
    let [n, v] = z.layout().shape().dims();
    let (z, targets) = (z.to_contiguous(), indices(targets)?);
    let z = z.storage::<f32>();
    let width = ahead.map_or(0, |_| v);
    let [nll, dz] = each_row(
        n,
        v,
        [1, width],
        #[inline(always)]
        |range, [nll, dz]| {
            let mut scratch = vec![0.0; v - width];
            let mut gradients = dz.chunks_mut(v);
            for (row, nll) in range.zip(nll) {
                let z = &z[row * v..][..v];
                let exps = gradients.next().unwrap_or(&mut scratch);
                let max = maximum(z);
                fill(
                    exps,
                    [z],
                    #[inline(always)]
                    |[z]| exp(z - max),
                );
                let total = sum([exps], |s, [e], _| s + e);
                let hit = z.get(targets[row]);
                *nll = hit.map_or(0.0, |hit| total.ln() + max - hit);
                if hit.is_none() {
                    exps.fill(0.0);
                } else if let Some(g) = ahead {
                    let share = g / total;
                    update(exps, |e| e * share);
                    exps[targets[row]] -= g;
                }
            }
        },
    );
    let dz = ahead.map(|_| tensor(dz, [n, v]));
    Some(core::iter::once(tensor(nll, [n])).chain(dz).collect())
}

/// `dz` `[N, V]`, which is for losses that have the gradient `ahead`, for the gradients `g` `[N]`.
pub(super) fn gradient(ahead: f32, [dz, g]: &[FlexTensor; 2]) -> FlexTensor {
    let [n, v] = dz.layout().shape().dims();
    let g = g.to_contiguous();
    let g = g.storage::<f32>();
    if g.iter().all(|g| *g == ahead) {
        return dz.clone();
    }
    let before = dz.to_contiguous();
    let before = before.storage::<f32>();
    let [dz] = each_row(
        n,
        v,
        [v],
        #[inline(always)]
        |range, [dz]| {
            for (row, dz) in range.zip(dz.chunks_mut(v)) {
                let factor = g[row] / ahead;
                fill(dz, [&before[row * v..]], |[before]| before * factor);
            }
        },
    );
    tensor(dz, [n, v])
}
