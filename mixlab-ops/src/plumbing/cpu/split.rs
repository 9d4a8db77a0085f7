//! Work cut into tasks by size alone, and run by as many threads as there are.

use core::mem::MaybeUninit;
use core::ops::Range;

use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::lanes::{Lanes, WIDTH, in_lanes, lanes_at, wide};
use super::tensor;

/// Elements that make a task worth handing to another thread.
pub(crate) const TASK: usize = 1 << 14;

/// Runs `body` on each task, in parallel if there are several.
pub(crate) fn parallel<T: Send, R: Send>(tasks: Vec<T>, body: impl Fn(T) -> R + Sync) -> Vec<R> {
    parallel_if(true, tasks, body)
}

/// [`parallel`] if `large` says that the tasks are worth handing out; else one after the other.
pub(crate) fn parallel_if<T: Send, R: Send>(
    large: bool,
    tasks: Vec<T>,
    body: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    if large && tasks.len() > 1 {
        tasks.into_par_iter().map(&body).collect()
    } else {
        tasks.into_iter().map(body).collect()
    }
}

/// Fills `M` new buffers, `widths[m]` elements a row in the `m`-th, with `body`, which is given
/// a range of rows and their part of each buffer, zeros. `cost` is the number of elements that one row
/// reads.
#[inline(always)]
pub(crate) fn each_row<const M: usize>(
    rows: usize,
    cost: usize,
    widths: [usize; M],
    body: impl Fn(Range<usize>, [&mut [f32]; M]) + Sync,
) -> [Vec<f32>; M] {
    // SAFETY: what is cleared is written.
    unsafe {
        filled(
            rows,
            cost,
            widths,
            #[inline(always)]
            // Cleared where it is filled next: whole buffers would leave the cache in between.
            |range, part| body(range, part.map(cleared)),
        )
    }
}

/// [`each_row`] of buffers that nobody clears.
///
/// # Safety
/// `body` must write every element that it is given.
#[inline(always)]
unsafe fn filled<const M: usize>(
    rows: usize,
    cost: usize,
    widths: [usize; M],
    body: impl Fn(Range<usize>, [&mut [MaybeUninit<f32>]; M]) + Sync,
) -> [Vec<f32>; M] {
    let height = (TASK / cost.max(1)).max(1);
    let mut buffers = widths.map(|width| Vec::with_capacity(rows * width));
    let mut at = 0;
    let mut parts = buffers.each_mut().map(|buffer: &mut Vec<f32>| {
        at += 1;
        let width = widths[at - 1];
        buffer.spare_capacity_mut()[..rows * width].chunks_mut((height * width).max(1))
    });
    let tasks = (0..rows).step_by(height).map(|first| {
        let part = parts.each_mut().map(|part| part.next().unwrap_or_default());
        (first..rows.min(first + height), part)
    });
    parallel(
        tasks.collect(),
        #[inline(always)]
        |(range, part)| {
            wide(
                #[inline(always)]
                || body(range, part),
            )
        },
    );
    for (buffer, width) in buffers.iter_mut().zip(widths) {
        // SAFETY: it has room for as many, and the tasks have written all of them: their parts are
        // those of `rows` rows, without gaps.
        unsafe { buffer.set_len(rows * width) };
    }
    buffers
}

/// `part`, filled with zeros.
fn cleared(part: &mut [MaybeUninit<f32>]) -> &mut [f32] {
    part.fill(MaybeUninit::new(0.0));
    // SAFETY: every element was written.
    unsafe { part.assume_init_mut() }
}

/// `M` new tensors of the shape of the first input, computed element by element from `N` of it.
#[inline(always)]
pub(crate) fn pointwise<const N: usize, const M: usize>(
    inputs: [&FlexTensor; N],
    body: impl Fn([Lanes; N]) -> [Lanes; M] + Sync,
) -> [FlexTensor; M] {
    let shape = inputs[0].layout().shape().clone();
    let inputs = inputs.map(FlexTensor::to_contiguous);
    let xs = inputs.each_ref().map(|x| x.storage::<f32>());
    // SAFETY: all lanes of the parts are written, and what is left of them.
    let buffers = unsafe {
        filled(
            shape.num_elements(),
            1,
            [1; M],
            #[inline(always)]
            |range, ys| {
                let xs = in_lanes(range.len(), xs.map(|x| &x[range.clone()]));
                let ys = ys.map(|y| y.as_chunks_mut::<WIDTH>());
                for at in 0..range.len() / WIDTH {
                    let results = body(lanes_at(&xs, at));
                    for m in 0..M {
                        for (y, result) in ys[m].0[at].iter_mut().zip(&results[m]) {
                            y.write(*result);
                        }
                    }
                }
                let rest = range.len() % WIDTH;
                if rest > 0 {
                    let results = body(lanes_at(&xs, range.len() / WIDTH));
                    for m in 0..M {
                        ys[m].1.write_copy_of_slice(&results[m][..rest]);
                    }
                }
            },
        )
    };
    buffers.map(|y| tensor(y, shape.clone()))
}

/// Computes `M` slices in place, element by element, from themselves and `N` others, all of one length.
#[inline(always)]
pub(crate) fn in_place<const M: usize, const N: usize>(
    to: [&mut [f32]; M],
    from: [&[f32]; N],
    body: impl Fn([Lanes; M], [Lanes; N]) -> [Lanes; M],
) {
    let len = from[0].len();
    let from = in_lanes(len, from);
    let to = to.map(|x| x[..len].as_chunks_mut::<WIDTH>());
    for at in 0..len / WIDTH {
        let mut old = [[0.0; WIDTH]; M];
        for m in 0..M {
            old[m] = to[m].0[at];
        }
        let new = body(old, lanes_at(&from, at));
        for m in 0..M {
            to[m].0[at] = new[m];
        }
    }
    let rest = len % WIDTH;
    if rest > 0 {
        let mut old = [[0.0; WIDTH]; M];
        for m in 0..M {
            old[m][..rest].copy_from_slice(to[m].1);
        }
        let new = body(old, lanes_at(&from, len / WIDTH));
        for m in 0..M {
            to[m].1.copy_from_slice(&new[m][..rest]);
        }
    }
}

/// The sums over `rows` of a row of `width` terms, which `term` adds to what it is given.
#[inline(always)]
pub(crate) fn column_sums(
    rows: usize,
    width: usize,
    add: impl Fn(usize, &mut [f32]) + Sync,
) -> Vec<f32> {
    const BLOCK: usize = 64;
    let [blocks] = each_row(
        rows.div_ceil(BLOCK),
        BLOCK * width,
        [width],
        #[inline(always)]
        |range, [sums]| {
            for (block, sums) in range.zip(sums.chunks_mut(width.max(1))) {
                for row in block * BLOCK..rows.min((block + 1) * BLOCK) {
                    add(row, sums);
                }
            }
        },
    );
    let mut total = vec![0.0; width];
    for block in blocks.chunks(width.max(1)) {
        total.iter_mut().zip(block).for_each(|(total, sum)| *total += sum);
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_visited_once_whatever_the_number_of_threads() {
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                each_row(1001, 300, [2, 1], |range, [a, b]| {
                    for ((row, a), b) in range.zip(a.chunks_mut(2)).zip(b) {
                        a.iter_mut().for_each(|a| *a += row as f32);
                        *b -= row as f32;
                    }
                })
            })
        };
        let [a, b] = run(3);
        assert_eq!(a, (0..2002).map(|i| (i / 2) as f32).collect::<Vec<_>>());
        assert_eq!(b, (0..1001).map(|i| -(i as f32)).collect::<Vec<_>>());
        assert_eq!([a, b], run(1));
    }

    #[test]
    fn a_pointwise_result_has_the_logical_order_of_a_transposed_input() {
        let x = tensor((0..33 * 7).map(|i| i as f32).collect(), [33, 7]).transpose(0, 1);
        let [y] = pointwise([&x], |[x]| [x.map(|x| x + 1.0)]);
        let expected = (0..7 * 33).map(|i| (i % 33 * 7 + i / 33 + 1) as f32);
        assert_eq!(y.storage::<f32>(), expected.collect::<Vec<_>>());
    }

    #[test]
    fn column_sums_add_every_row() {
        let sums = column_sums(1000, 3, |row, sums| {
            sums.iter_mut().zip([1.0, row as f32, 0.5]).for_each(|(s, x)| *s += x);
        });
        assert_eq!(sums, [1000.0, 499_500.0, 500.0]);
        assert!(column_sums(5, 0, |_, _| ()).is_empty());
    }
}
