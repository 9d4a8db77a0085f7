//! Exclusive self-attention for burn-flex: one pass over the stream.

use burn_flex::FlexTensor;

use crate::plumbing::cpu::{Heads, each_row, streamed, sum};

/// `x·v / (v·v + 10⁻⁸)`.
#[inline(always)]
fn along(x: &[f32], v: &[f32]) -> f32 {
    let dot = |x: &[f32]| sum([v, x], |s, [v, x], _| x.mul_add(v, s));
    dot(x) / (dot(v) + 1e-8)
}

pub(super) fn xsa(y: &FlexTensor, v: &FlexTensor) -> FlexTensor {
    let [y, v] = [y, v].map(Heads::new);
    let [b, h, t, hd] = y.dims;
    let groups = v.dims[1];
    let [z] = each_row(
        b * t,
        h * hd,
        [h * hd],
        #[inline(always)]
        |range, [z]| {
            for (row, z) in range.zip(z.chunks_mut(h * hd)) {
                for (head, z) in z.chunks_mut(hd).enumerate() {
                    let v = v.row(row / t, head * groups / h, row % t);
                    let y = y.row(row / t, head, row % t);
                    let c = along(y, v);
                    for i in 0..hd {
                        z[i] = y[i] - v[i] * c;
                    }
                }
            }
        },
    );
    streamed(z, [b, h, t, hd])
}

pub(super) fn gradient(inputs: &[FlexTensor; 3]) -> [FlexTensor; 2] {
    let [y, v, g] = inputs.each_ref().map(Heads::new);
    let [b, h, t, hd] = y.dims;
    let groups = v.dims[1];
    let [dy, dv] = each_row(
        b * t,
        2 * h * hd,
        [h * hd, groups * hd],
        #[inline(always)]
        |range, [dy, dv]| {
            let rows = dy.chunks_mut(h * hd).zip(dv.chunks_mut(groups * hd));
            for (row, (dy, dv)) in range.zip(rows) {
                for (head, dy) in dy.chunks_mut(hd).enumerate() {
                    let group = head * groups / h;
                    let v = v.row(row / t, group, row % t);
                    let [y, g] = [&y, &g].map(|x| x.row(row / t, head, row % t));
                    let (c, e) = (along(y, v), along(g, v));
                    let dv = &mut dv[group * hd..][..hd];
                    for i in 0..hd {
                        dy[i] = g[i] - v[i] * e;
                        dv[i] += (v[i] * (c * 2.0) - y[i]) * e - g[i] * c;
                    }
                }
            }
        },
    );
    [streamed(dy, y.dims), streamed(dv, v.dims)]
}
