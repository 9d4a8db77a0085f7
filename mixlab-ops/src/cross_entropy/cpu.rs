//! Softmax cross-entropy for burn-flex: reads the logits, and in the gradient writes only it.

use burn_flex::FlexTensor;

use crate::plumbing::cpu::{each_row, exp, indices, maximum, sum, tensor};

/// The loss and the log-sum-exp of each row, both `[N]`.
pub(super) fn losses(z: &FlexTensor, targets: &FlexTensor) -> Option<[FlexTensor; 2]> {
    let [n, v] = z.layout().shape().dims();
    let (z, targets) = (z.to_contiguous(), indices(targets)?);
    let z = z.storage::<f32>();
    let buffers = each_row(
        n,
        v,
        [1, 1],
        #[inline(always)]
        |range, [nll, log_sum_exp]| {
            for ((row, nll), log_sum_exp) in range.zip(nll).zip(log_sum_exp) {
                let z = &z[row * v..][..v];
                let max = maximum(z);
                let total = sum(
                    v,
                    #[inline(always)]
                    |s, i| s + exp(z[i] - max),
                );
                *log_sum_exp = total.ln() + max;
                *nll = *log_sum_exp - z[targets[row]];
            }
        },
    );
    Some(buffers.map(|x| tensor(x, [n])))
}

/// The gradient `[N, V]` of the logits.
pub(super) fn gradient(inputs: &[FlexTensor; 3], targets: &FlexTensor) -> Option<FlexTensor> {
    let [n, v] = inputs[0].layout().shape().dims();
    let targets = indices(targets)?;
    let [z, log_sum_exp, g] = inputs.each_ref().map(FlexTensor::to_contiguous);
    let [z, log_sum_exp, g] = [&z, &log_sum_exp, &g].map(|x| x.storage::<f32>());
    let [dz] = each_row(
        n,
        v,
        [v],
        #[inline(always)]
        |range, [dz]| {
            for (row, dz) in range.zip(dz.chunks_mut(v)) {
                let z = &z[row * v..][..v];
                for i in 0..v {
                    dz[i] = exp(z[i] - log_sum_exp[row]) * g[row];
                }
                dz[targets[row]] -= g[row];
            }
        },
    );
    Some(tensor(dz, [n, v]))
}
