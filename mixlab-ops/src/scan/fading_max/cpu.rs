//! The fading maximum for burn-flex: step by step over time, side by side over channels.

use burn_flex::FlexTensor;

use crate::plumbing::cpu::{each_row, tensor};

pub(super) fn fading_max(u: &FlexTensor, rate: &FlexTensor) -> FlexTensor {
    let [b, t, c] = u.layout().shape().dims();
    let [u, rate] = [u, rate].map(FlexTensor::to_contiguous);
    let [u, rate] = [&u, &rate].map(|x| x.storage::<f32>());
    let [m] = each_row(
        b,
        t * c,
        [t * c],
        #[inline(always)]
        |range, [m]| {
            m.copy_from_slice(&u[range.start * t * c..range.end * t * c]);
            for m in m.chunks_mut(t * c) {
                for step in 1..t {
                    let (before, now) = m.split_at_mut(step * c);
                    let (before, now) = (&before[(step - 1) * c..], &mut now[..c]);
                    for i in 0..c {
                        now[i] = now[i].max(before[i] + rate[i]);
                    }
                }
            }
        },
    );
    tensor(m, [b, t, c])
}
