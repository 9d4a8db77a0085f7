//! RMS norm for burn-flex: two passes over each row while it is in cache.

use burn_flex::FlexTensor;

use crate::plumbing::cpu::{column_sums, combine, each_row, fill, sum, tensor};

#[inline(always)]
fn inverse_rms(x: &[f32], eps: f32) -> f32 {
    1.0 / (sum([x], |s, [x], _| x.mul_add(x, s)) / x.len() as f32 + eps).sqrt()
}

pub(super) fn rms_norm(eps: f32, inputs: &[FlexTensor; 2]) -> FlexTensor {
    let shape = inputs[0].layout().shape().clone();
    let [x, scale] = inputs.each_ref().map(FlexTensor::to_contiguous);
    let (x, scale) = (x.storage::<f32>(), scale.storage::<f32>());
    let d = scale.len();
    let [y] = each_row(
        shape[0],
        d,
        [d],
        #[inline(always)]
        |range, [y]| {
            for (row, y) in range.zip(y.chunks_mut(d)) {
                let x = &x[row * d..][..d];
                let r = inverse_rms(x, eps);
                fill(y, [x, scale], |[x, scale]| x * r * scale);
            }
        },
    );
    tensor(y, shape)
}

pub(super) fn gradient(eps: f32, inputs: &[FlexTensor; 3]) -> [FlexTensor; 2] {
    let shape = inputs[0].layout().shape().clone();
    let [x, scale, g] = inputs.each_ref().map(FlexTensor::to_contiguous);
    let [x, scale, g] = [&x, &scale, &g].map(|x| x.storage::<f32>());
    let (n, d) = (shape[0], scale.len());
    let [dx, r] = each_row(
        n,
        2 * d,
        [d, 1],
        #[inline(always)]
        |range, [dx, r]| {
            for ((row, dx), r) in range.zip(dx.chunks_mut(d)).zip(r) {
                let (x, g) = (&x[row * d..][..d], &g[row * d..][..d]);
                *r = inverse_rms(x, eps);
                let dot = sum([g, scale, x], |s, [g, scale, x], _| (g * scale).mul_add(x, s));
                let mean = dot * *r / d as f32;
                let r = *r;
                fill(dx, [g, scale, x], |[g, scale, x]| (g * scale - x * r * mean) * r);
            }
        },
    );
    let dscale = column_sums(
        n,
        d,
        #[inline(always)]
        |row, sums| {
            let r = r[row];
            combine(sums, [&x[row * d..], &g[row * d..]], |sum, [x, g]| sum + g * x * r);
        },
    );
    [tensor(dx, shape), tensor(dscale, [d])]
}
