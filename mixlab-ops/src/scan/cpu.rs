//! The moving averages for burn-flex: step by step over time, side by side over channels, which
//! reads and writes everything once where a prefix scan would do so several times.

use burn_flex::FlexTensor;

use crate::plumbing::cpu::{column_sums, each_row, tensor};

/// Sequences `[B, T, C]` with gates `[B, T, C]`, or `[C]` for all of them.
struct Sequences<'a> {
    t: usize,
    c: usize,
    u: &'a [f32],
    gates: &'a [f32],
    /// From the gates of one step to those of the next: zero if they stay the same.
    stride: usize,
    /// The states before the first step, `[B, C]`; empty if they are zero.
    initial: &'a [f32],
}

impl Sequences<'_> {
    #[inline(always)]
    fn gates(&self, row: usize) -> &[f32] {
        &self.gates[row * self.stride..][..self.c]
    }

    /// The state before the first step of batch row `batch`, unless it is zero.
    #[inline(always)]
    fn initial(&self, batch: usize) -> Option<&[f32]> {
        self.initial.get(batch * self.c..(batch + 1) * self.c)
    }

    /// `h ← a ⊙ h + (1 − a) ⊙ u` over the time of batch row `batch`.
    #[inline(always)]
    fn average(&self, batch: usize, h: &mut [f32]) {
        let Self { t, c, u, .. } = *self;
        for step in 0..t {
            let row = batch * t + step;
            let (u, a) = (&u[row * c..][..c], self.gates(row));
            let (before, now) = h.split_at_mut(step * c);
            let before = before.rchunks(c).next().or(self.initial(batch));
            for i in 0..c {
                let kept = before.map_or(0.0, |before| a[i] * before[i]);
                now[i] = kept + (1.0 - a[i]) * u[i];
            }
        }
    }

    /// Gradients of `u` and of the gates of each step, given the states `h` and their gradient `g`;
    /// returns that of the state before the first step.
    #[inline(always)]
    fn gradient(
        &self,
        batch: usize,
        [h, g]: [&[f32]; 2],
        [du, dgates]: [&mut [f32]; 2],
    ) -> Vec<f32> {
        let Self { t, c, u, .. } = *self;
        let mut s = vec![0.0; c];
        for step in (0..t).rev() {
            let row = batch * t + step;
            let [u, g] = [u, g].map(|x| &x[row * c..][..c]);
            let a = self.gates(row);
            let [du, da] = [&mut *du, &mut *dgates].map(|x| &mut x[step * c..][..c]);
            let before =
                if step > 0 { Some(&h[(row - 1) * c..][..c]) } else { self.initial(batch) };
            for i in 0..c {
                s[i] += g[i];
                du[i] = (1.0 - a[i]) * s[i];
                da[i] = s[i] * (before.map_or(0.0, |before| before[i]) - u[i]);
                s[i] *= a[i];
            }
        }
        s
    }
}

fn with_sequences<R>(
    [u, gates]: [&FlexTensor; 2],
    initial: Option<&FlexTensor>,
    f: impl FnOnce(Sequences<'_>) -> R,
) -> R {
    let [_, t, c] = u.layout().shape().dims();
    let stride = if gates.layout().num_dims() == 1 { 0 } else { c };
    let [u, gates] = [u, gates].map(FlexTensor::to_contiguous);
    let initial = initial.map(FlexTensor::to_contiguous);
    let initial = initial.as_ref().map_or(&[][..], |x| x.storage());
    f(Sequences { t, c, u: u.storage(), gates: gates.storage(), stride, initial })
}

/// All states `[B, T, C]`, from those before the first step `[B, C]` if there are any; `gates` is
/// `[B, T, C]` or `[C]`.
pub(crate) fn average(
    u: &FlexTensor,
    gates: &FlexTensor,
    initial: Option<&FlexTensor>,
) -> FlexTensor {
    let [b, t, c] = u.layout().shape().dims();
    let [h] = with_sequences([u, gates], initial, |x| {
        each_row(
            b,
            t * c,
            [t * c],
            #[inline(always)]
            |range, [h]| {
                for (batch, h) in range.zip(h.chunks_mut(t * c)) {
                    x.average(batch, h);
                }
            },
        )
    });
    tensor(h, [b, t, c])
}

/// Gradients of `u`, of the gates and, if there are any, of the states before the first step, given
/// `[u, gates, h, g]` with the states `h` and their gradient `g`.
pub(crate) fn average_gradient(
    [u, gates, h, g]: [&FlexTensor; 4],
    initial: Option<&FlexTensor>,
) -> Vec<FlexTensor> {
    let [b, t, c] = u.layout().shape().dims();
    let [h, g] = [h, g].map(FlexTensor::to_contiguous);
    let [h, g] = [&h, &g].map(|x| x.storage::<f32>());
    let before = if initial.is_some() { c } else { 0 };
    let [du, dgates, dinitial] = with_sequences([u, gates], initial, |x| {
        each_row(
            b,
            2 * t * c,
            [t * c, t * c, before],
            #[inline(always)]
            |range, [du, da, dinitial]| {
                let parts = du.chunks_mut(t * c).zip(da.chunks_mut(t * c));
                for ((n, batch), (du, da)) in range.enumerate().zip(parts) {
                    let s = x.gradient(batch, [h, g], [du, da]);
                    dinitial[n * before..][..before].copy_from_slice(&s[..before]);
                }
            },
        )
    });
    let dgates = if gates.layout().num_dims() == 3 {
        tensor(dgates, [b, t, c])
    } else {
        let sums = column_sums(
            b * t,
            c,
            #[inline(always)]
            |row, sums| sums.iter_mut().zip(&dgates[row * c..]).for_each(|(sum, x)| *sum += x),
        );
        tensor(sums, [c])
    };
    let dinitial = initial.map(|_| tensor(dinitial, [b, c]));
    [tensor(du, [b, t, c]), dgates].into_iter().chain(dinitial).collect()
}
