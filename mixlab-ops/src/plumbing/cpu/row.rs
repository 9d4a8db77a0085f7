//! Products of one row, as a token is, with a matrix: that is read once, as it lies in memory, and
//! nothing of it is packed or copied.
//!
//! Sums have another order than in products of several rows, where the bits of a row do not depend on
//! how many there are.

use core::ops::Range;

use super::lanes::{WIDTH, total, wide};
use super::matrix::{Matrix, Product};
use super::split::parallel;

/// Elements of the matrix that a task has at most.
const TASK: usize = 1 << 16;
/// Places of the matrix that are read side by side, row by row.
const STREAMS: usize = 4;
/// The same, column by column: more sums at a time do not fit the registers.
const PAIR: usize = 2;

/// Whether [`multiply`] takes this product.
pub(super) fn takes(a: Matrix<'_>, b: Matrix<'_>) -> bool {
    a.rows == 1 && a.column_stride == 1 && (b.column_stride == 1 || b.row_stride == 1)
}

/// As [`super::multiply`], for sizes above zero that fit their slices.
pub(super) fn multiply(to: &mut [f32], a: Matrix<'_>, b: Matrix<'_>, product: Product) {
    let row = &a.data[..a.columns];
    let sums = if b.column_stride == 1 {
        by_rows(row, b, product.threads)
    } else {
        by_columns(row, b, product.threads)
    };
    for (to, sum) in to.iter_mut().zip(sums) {
        *to = if product.add { sum.mul_add(product.factor, *to) } else { sum * product.factor };
    }
}

/// The parts of `0..len` that tasks have, where one has `width` elements: all of one size but the last,
/// and a multiple of four of them, so that threads end together.
fn parts(len: usize, width: usize) -> Vec<Range<usize>> {
    let count = match (len * width).div_ceil(TASK) {
        1 => 1,
        several => several.next_multiple_of(4),
    };
    let step = len.div_ceil(count).next_multiple_of(STREAMS);
    (0..len).step_by(step).map(|first| first..len.min(first + step)).collect()
}

/// Runs `body` on each part, on several threads if `threads`: the parts are the same.
fn each<R: Send>(
    parts: Vec<Range<usize>>,
    threads: bool,
    body: impl Fn(Range<usize>) -> R + Sync,
) -> Vec<R> {
    if threads { parallel(parts, body) } else { parts.into_iter().map(body).collect() }
}

/// The product row by row of `b`, whose rows are contiguous: each adds its share to all sums.
fn by_rows(x: &[f32], b: Matrix<'_>, threads: bool) -> Vec<f32> {
    let n = b.columns;
    let shares = each(parts(b.rows, n), threads, |range| {
        let mut share = vec![0.0; n];
        wide(
            #[inline(always)]
            || add_rows(&mut share, x, b, range),
        );
        share
    });
    let mut shares = shares.into_iter();
    let mut sums = shares.next().unwrap_or_default();
    for share in shares {
        sums.iter_mut().zip(share).for_each(|(sum, share)| *sum += share);
    }
    sums
}

/// Adds the products with the rows `range` of `b`. They are read in streams that begin far apart: the
/// processor fetches each ahead, which it does not for neighbouring rows of one page.
#[inline(always)]
fn add_rows(sums: &mut [f32], x: &[f32], b: Matrix<'_>, range: Range<usize>) {
    let n = sums.len();
    let length = range.len() / STREAMS;
    for k in range.start..range.start + length {
        let rows: [&[f32]; STREAMS] =
            core::array::from_fn(|s| &b.data[(k + s * length) * b.row_stride..][..n]);
        let x: [f32; STREAMS] = core::array::from_fn(|s| x[k + s * length]);
        for j in 0..n {
            let pair = [rows[0][j].mul_add(x[0], sums[j]), rows[1][j] * x[1]];
            let pair = [rows[2][j].mul_add(x[2], pair[0]), rows[3][j].mul_add(x[3], pair[1])];
            sums[j] = pair[0] + pair[1];
        }
    }
    let rest = range.start + STREAMS * length..range.end;
    for (k, x) in rest.clone().zip(&x[rest]) {
        let row = &b.data[k * b.row_stride..][..n];
        sums.iter_mut().zip(row).for_each(|(sum, b)| *sum = b.mul_add(*x, *sum));
    }
}

/// The product column by column of `b`, whose columns are contiguous: each sum is a dot product.
fn by_columns(x: &[f32], b: Matrix<'_>, threads: bool) -> Vec<f32> {
    let parts = each(parts(b.columns, b.rows), threads, |range| {
        let mut dots = vec![0.0; range.len()];
        wide(
            #[inline(always)]
            || set_columns(&mut dots, x, b, range.start),
        );
        dots
    });
    parts.concat()
}

/// Sets the products with the columns of `b` from `first` on, which are read in streams as in
/// [`add_rows`].
#[inline(always)]
fn set_columns(dots: &mut [f32], x: &[f32], b: Matrix<'_>, first: usize) {
    let length = dots.len() / PAIR;
    let column = |at: usize| &b.data[(first + at) * b.column_stride..][..x.len()];
    for at in 0..length {
        let found: [f32; PAIR] =
            dots_with(x, core::array::from_fn::<_, PAIR, _>(|s| column(at + s * length)));
        (0..PAIR).for_each(|s| dots[at + s * length] = found[s]);
    }
    for (at, dot) in dots.iter_mut().enumerate().skip(PAIR * length) {
        [*dot] = dots_with(x, [column(at)]);
    }
}

/// The dot products of `x` with each of `columns`, side by side.
#[inline(always)]
fn dots_with<const S: usize>(x: &[f32], columns: [&[f32]; S]) -> [f32; S] {
    let whole = x.len() - x.len() % WIDTH;
    let mut strands = [[0.0; WIDTH]; S];
    for at in (0..whole).step_by(WIDTH) {
        let x = &x[at..at + WIDTH];
        for s in 0..S {
            let y = &columns[s][at..at + WIDTH];
            for i in 0..WIDTH {
                strands[s][i] = y[i].mul_add(x[i], strands[s][i]);
            }
        }
    }
    for at in whole..x.len() {
        (0..S).for_each(|s| strands[s][0] = columns[s][at].mul_add(x[at], strands[s][0]));
    }
    strands.map(total)
}

#[cfg(test)]
mod tests {
    use super::super::multiply;
    use super::*;

    fn numbers(len: usize) -> Vec<f32> {
        (0..len).map(|i| (i * 7 % 11) as f32 - 5.0).collect()
    }

    #[test]
    fn a_row_is_multiplied_either_way_whatever_lies_between_rows() {
        for (k, n) in [(1, 1), (17, 5), (6, 33), (300, 700), (1025, 130)] {
            let (x, data) = (numbers(k), numbers((k + 2) * (n + 2)));
            let rows =
                Matrix { data: &data, rows: k, columns: n, row_stride: n + 2, column_stride: 1 };
            let columns =
                Matrix { data: &data, rows: n, columns: k, row_stride: k + 2, column_stride: 1 };
            for (b, add) in [(rows, false), (columns.transposed(), true)] {
                let a = Matrix::whole(&x, k);
                assert!(takes(a, b));
                let mut to = vec![1.0; n + 1];
                let product = Product { factor: 0.5, add, threads: true };
                multiply(&mut to, n + 1, a, b, product);
                assert_eq!(to.pop(), Some(1.0), "what is not of the row stays");
                for (j, got) in to.into_iter().enumerate() {
                    let term = |i: usize| x[i] * b.data[i * b.row_stride + j * b.column_stride];
                    let start = if add { 1.0 } else { 0.0 };
                    assert_eq!(got, start + 0.5 * (0..k).map(term).sum::<f32>(), "{k} {n}: {j}");
                }
            }
        }
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let (x, b) = (numbers(500), numbers(500 * 300));
        let x: Vec<f32> = x.iter().map(|x| x * 0.1).collect();
        let run = |threads| {
            let mut to = vec![0.0; 300];
            let product = Product { threads, ..Product::default() };
            multiply(&mut to, 300, Matrix::whole(&x, 500), Matrix::whole(&b, 300), product);
            to
        };
        assert_eq!(run(false), run(true));
    }
}
