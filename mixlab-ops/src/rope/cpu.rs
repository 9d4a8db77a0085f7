//! Rotary positions for burn-flex: one pass over the stream, whatever the layout of the heads.

use burn_flex::FlexTensor;

use super::Rope;
use crate::plumbing::cpu::{Heads, each_row, streamed};

pub(super) fn rope(op: &Rope, x: &FlexTensor) -> FlexTensor {
    let x = Heads::new(x);
    let [b, h, t, hd] = x.dims;
    let pairs = op.dims / 2;
    let [cos, sin] = op.angles(t);
    let [y] = each_row(
        b * t,
        h * hd,
        [h * hd],
        #[inline(always)]
        |range, [y]| {
            for (row, y) in range.zip(y.chunks_mut(h * hd)) {
                let at = row % t * pairs;
                let (cos, sin) = (&cos[at..][..pairs], &sin[at..][..pairs]);
                for (head, y) in y.chunks_mut(hd).enumerate() {
                    let x = x.row(row / t, head, row % t);
                    let ((x, x_rest), (y, y_rest)) = (x.split_at(op.dims), y.split_at_mut(op.dims));
                    let (x, y) =
                        (&x.as_chunks::<2>().0[..pairs], &mut y.as_chunks_mut::<2>().0[..pairs]);
                    for i in 0..pairs {
                        let [even, odd] = x[i];
                        y[i] = [even * cos[i] - odd * sin[i], even * sin[i] + odd * cos[i]];
                    }
                    y_rest.copy_from_slice(x_rest);
                }
            }
        },
    );
    streamed(y, x.dims)
}
