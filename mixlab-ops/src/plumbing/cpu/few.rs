//! Products of a matrix with few rows, as one token is: the other matrix is read once, in the order
//! in which it lies in memory, and nothing of it is packed or copied.

use core::ops::Range;

use super::lanes::{WIDTH, total, wide};
use super::matrix::{Matrix, Product};
use super::split::parallel;

/// Rows that are few: with more of them, arithmetic begins to take longer than reading.
const ROWS: usize = 4;
/// Elements of `b` that a task has at most.
const TASK: usize = 1 << 16;
/// Places of `b` that are read side by side, row by row.
const STREAMS: usize = 4;
/// The same, column by column: more sums at a time do not fit the registers.
const PAIR: usize = 2;

/// Whether [`multiply`] takes this product.
pub(super) fn takes(a: Matrix<'_>, b: Matrix<'_>) -> bool {
    a.rows <= ROWS && a.column_stride == 1 && (b.column_stride == 1 || b.row_stride == 1)
}

/// As [`super::multiply`], for sizes above zero that fit their slices.
pub(super) fn multiply(
    to: &mut [f32],
    row_stride: usize,
    a: Matrix<'_>,
    b: Matrix<'_>,
    product: Product,
) {
    let (size, sums) = match b.column_stride == 1 {
        true => (b.columns, by_rows(a, b, product.threads)),
        false => (b.columns, by_columns(a, b, product.threads)),
    };
    for (to, sums) in to.chunks_mut(row_stride).zip(sums.chunks(size)) {
        for (to, sum) in to.iter_mut().zip(sums) {
            *to = if product.add { sum.mul_add(product.factor, *to) } else { sum * product.factor };
        }
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

/// `a b` row by row of `b`, whose rows are contiguous: each adds its share to all results.
fn by_rows(a: Matrix<'_>, b: Matrix<'_>, threads: bool) -> Vec<f32> {
    let n = b.columns;
    let shares = each(parts(b.rows, n), threads, |range| {
        let mut share = vec![0.0; a.rows * n];
        wide(
            #[inline(always)]
            || add_rows(&mut share, a, b, range),
        );
        share
    });
    let mut shares = shares.into_iter();
    let mut total = shares.next().unwrap_or_default();
    for share in shares {
        total.iter_mut().zip(share).for_each(|(total, share)| *total += share);
    }
    total
}

/// Adds the products with the rows `range` of `b`. They are read in streams that begin far apart: the
/// processor fetches each ahead, which it does not for neighbouring rows of one page.
#[inline(always)]
fn add_rows(share: &mut [f32], a: Matrix<'_>, b: Matrix<'_>, range: Range<usize>) {
    let n = b.columns;
    let length = range.len() / STREAMS;
    for k in range.start..range.start + length {
        let rows: [&[f32]; STREAMS] =
            core::array::from_fn(|s| &b.data[(k + s * length) * b.row_stride..][..n]);
        for (i, share) in share.chunks_exact_mut(n).enumerate() {
            let at = i * a.row_stride + k;
            let x: [f32; STREAMS] = core::array::from_fn(|s| a.data[at + s * length]);
            for j in 0..n {
                let pair = [rows[0][j].mul_add(x[0], share[j]), rows[1][j] * x[1]];
                let pair = [rows[2][j].mul_add(x[2], pair[0]), rows[3][j].mul_add(x[3], pair[1])];
                share[j] = pair[0] + pair[1];
            }
        }
    }
    for k in range.start + STREAMS * length..range.end {
        let row = &b.data[k * b.row_stride..][..n];
        for (i, share) in share.chunks_exact_mut(n).enumerate() {
            let x = a.data[i * a.row_stride + k];
            share.iter_mut().zip(row).for_each(|(share, b)| *share = b.mul_add(x, *share));
        }
    }
}

/// `a b` column by column of `b`, whose columns are contiguous: each result is a dot product.
fn by_columns(a: Matrix<'_>, b: Matrix<'_>, threads: bool) -> Vec<f32> {
    let (m, n, k) = (a.rows, b.columns, b.rows);
    let parts = each(parts(n, k), threads, |range| {
        let mut dots = vec![0.0; m * range.len()];
        wide(
            #[inline(always)]
            || set_columns(&mut dots, a, b, range),
        );
        dots
    });
    let mut all = Vec::with_capacity(m * n);
    for i in 0..m {
        all.extend(parts.iter().flat_map(|dots| {
            let width = dots.len() / m;
            &dots[i * width..(i + 1) * width]
        }));
    }
    all
}

/// Sets the products with the columns `range` of `b`, which are read in streams as in [`add_rows`].
#[inline(always)]
fn set_columns(dots: &mut [f32], a: Matrix<'_>, b: Matrix<'_>, range: Range<usize>) {
    let (k, width) = (b.rows, range.len());
    let length = width / PAIR;
    let column = |at: usize| &b.data[(range.start + at) * b.column_stride..][..k];
    for i in 0..a.rows {
        let row = &a.data[i * a.row_stride..][..k];
        let dots = &mut dots[i * width..][..width];
        for at in 0..length {
            let columns: [&[f32]; PAIR] = core::array::from_fn(|s| column(at + s * length));
            let found = dots_with(row, columns);
            (0..PAIR).for_each(|s| dots[at + s * length] = found[s]);
        }
        for (at, dot) in dots.iter_mut().enumerate().skip(PAIR * length) {
            [*dot] = dots_with(row, [column(at)]);
        }
    }
}

/// The dot products of `row` with each of `columns`, side by side.
#[inline(always)]
fn dots_with<const S: usize>(row: &[f32], columns: [&[f32]; S]) -> [f32; S] {
    let whole = row.len() - row.len() % WIDTH;
    let mut strands = [[0.0; WIDTH]; S];
    for at in (0..whole).step_by(WIDTH) {
        let x = &row[at..at + WIDTH];
        for s in 0..S {
            let y = &columns[s][at..at + WIDTH];
            for i in 0..WIDTH {
                strands[s][i] = y[i].mul_add(x[i], strands[s][i]);
            }
        }
    }
    for at in whole..row.len() {
        (0..S).for_each(|s| strands[s][0] = columns[s][at].mul_add(row[at], strands[s][0]));
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

    /// Element by element.
    fn naive(a: Matrix<'_>, b: Matrix<'_>, i: usize, j: usize) -> f32 {
        let term = |k: usize| {
            a.data[i * a.row_stride + k * a.column_stride]
                * b.data[k * b.row_stride + j * b.column_stride]
        };
        (0..b.rows).map(term).sum()
    }

    #[test]
    fn few_rows_are_multiplied_either_way_whatever_lies_between_rows() {
        for (m, k, n) in [(1, 1, 1), (1, 17, 5), (4, 6, 33), (2, 300, 700), (3, 1025, 130)] {
            let a = numbers(m * (k + 3));
            let a = Matrix { data: &a, rows: m, columns: k, row_stride: k + 3, column_stride: 1 };
            let data = numbers((k + 2) * (n + 2));
            let rows =
                Matrix { data: &data, rows: k, columns: n, row_stride: n + 2, column_stride: 1 };
            let columns =
                Matrix { data: &data, rows: n, columns: k, row_stride: k + 2, column_stride: 1 };
            for (b, add) in [(rows, false), (columns.transposed(), true)] {
                assert!(takes(a, b));
                let mut to = vec![1.0; m * (n + 1)];
                let product = Product { factor: 0.5, add, threads: true };
                multiply(&mut to, n + 1, a, b, product);
                for (i, j) in (0..m * (n + 1)).map(|at| (at / (n + 1), at % (n + 1))) {
                    let start = if add { 1.0 } else { 0.0 };
                    let expected = if j < n { start + 0.5 * naive(a, b, i, j) } else { 1.0 };
                    assert_eq!(to[i * (n + 1) + j], expected, "{m} {k} {n}: ({i}, {j})");
                }
            }
        }
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let (a, b) = (numbers(500), numbers(500 * 300));
        let a: Vec<f32> = a.iter().map(|x| x * 0.1).collect();
        let run = |threads| {
            let mut to = vec![0.0; 300];
            let product = Product { threads, ..Product::default() };
            multiply(&mut to, 300, Matrix::whole(&a, 500), Matrix::whole(&b, 300), product);
            to
        };
        assert_eq!(run(false), run(true));
    }
}
