//! Products of few rows, as tokens are that are read one at a time, with a matrix: that is read once,
//! as it lies in memory, and nothing of it is packed or copied.
//!
//! Sums have another order than in products of more rows; here as there the bits of a row do not
//! depend on how many there are. So that a row of a small model has the same bits beside others as
//! alone, several rows are taken only of matrices whose reading is what takes the time.

use core::array;
use core::ops::Range;

use super::lanes::{Lanes, WIDTH, prefetch, total, wide};
use super::matrix::{Matrix, Product};
use super::split::parallel_if;

/// Rows that are few.
const ROWS: usize = 4;
/// Elements of the matrix that a task has at most: each begins its sums anew, which have to be added.
const TASK: usize = 1 << 18;
/// Elements of the matrix that make a second task worth it.
const SEVERAL: usize = 1 << 16;
/// Elements of a matrix that is not read from a core's first cache, so that several rows share the
/// time of one.
const LARGE: usize = 1 << 16;
/// Places of the matrix that are read side by side, row by row.
const STREAMS: usize = 8;
/// The same, column by column: more sums at a time do not fit the registers.
const PAIR: usize = 2;

/// Whether [`multiply`] takes this product.
pub(super) fn takes(a: Matrix<'_>, b: Matrix<'_>) -> bool {
    let few = a.rows == 1 || a.rows <= ROWS && b.rows * b.columns >= LARGE;
    few && a.column_stride == 1 && (b.column_stride == 1 || b.row_stride == 1)
}

/// As [`super::multiply`], for sizes above zero that fit their slices.
pub(super) fn multiply(
    to: &mut [f32],
    row_stride: usize,
    a: Matrix<'_>,
    b: Matrix<'_>,
    product: Product,
) {
    let sums = multiplied(a, b, product.threads);
    for (to, sums) in to.chunks_mut(row_stride).zip(sums.chunks(b.columns)) {
        for (to, sum) in to.iter_mut().zip(sums) {
            *to = if product.add { sum.mul_add(product.factor, *to) } else { sum * product.factor };
        }
    }
}

/// As [`super::multiplied`], likewise.
pub(super) fn multiplied(a: Matrix<'_>, b: Matrix<'_>, threads: bool) -> Vec<f32> {
    match a.rows {
        1 => product_of::<1>(a, b, threads),
        2 => product_of::<2>(a, b, threads),
        3 => product_of::<3>(a, b, threads),
        _ => product_of::<ROWS>(a, b, threads),
    }
}

fn product_of<const R: usize>(a: Matrix<'_>, b: Matrix<'_>, threads: bool) -> Vec<f32> {
    let rows = array::from_fn(|r| &a.data[r * a.row_stride..][..a.columns]);
    if b.column_stride == 1 {
        by_rows::<R>(rows, b, threads)
    } else {
        by_columns::<R>(rows, b, threads)
    }
}

/// Adds `x b`, of one row and on this thread, to `sums`; rows of `b` are contiguous.
#[inline(always)]
pub(crate) fn add_row(sums: &mut [f32], x: &[f32], b: Matrix<'_>) {
    add_rows::<1>(sums, [x], b, 0..b.rows);
}

/// Sets `dots` to `x b`, of one row and on this thread; columns of `b` are contiguous.
#[inline(always)]
pub(crate) fn set_row(dots: &mut [f32], x: &[f32], b: Matrix<'_>) {
    set_columns::<1>(dots, [x], b, 0..b.columns);
}

/// The parts of `0..len` that tasks have, where one has `width` elements: all of one size but the last,
/// and an even number of them, or a multiple of four, so that threads end together.
fn parts(len: usize, width: usize) -> Vec<Range<usize>> {
    let count = match (len * width).div_ceil(TASK) {
        1 | 2 if len * width <= SEVERAL => 1,
        1 | 2 => 2,
        several => several.next_multiple_of(4),
    };
    let step = len.div_ceil(count).next_multiple_of(STREAMS);
    (0..len).step_by(step).map(|first| first..len.min(first + step)).collect()
}

/// The products `[R, n]` row by row of `b`, whose rows are contiguous: each adds its share to all sums.
fn by_rows<const R: usize>(x: [&[f32]; R], b: Matrix<'_>, threads: bool) -> Vec<f32> {
    let n = b.columns;
    let shares = parallel_if(threads, parts(b.rows, n), |range| {
        let mut share = vec![0.0; R * n];
        wide(
            #[inline(always)]
            || add_rows(&mut share, x, b, range),
        );
        share
    });
    let mut shares = shares.into_iter();
    let mut sums = shares.next().unwrap_or_default();
    wide(
        #[inline(always)]
        || {
            for share in shares {
                sums.iter_mut().zip(share).for_each(|(sum, share)| *sum += share);
            }
        },
    );
    sums
}

/// Adds the products with the rows `range` of `b`. They are read in streams that begin far apart: the
/// processor fetches each ahead, which it does not for neighbouring rows of one page.
#[inline(always)]
fn add_rows<const R: usize>(sums: &mut [f32], x: [&[f32]; R], b: Matrix<'_>, range: Range<usize>) {
    let length = range.len() / STREAMS;
    for k in range.start..range.start + length {
        add_streams::<R, STREAMS>(sums, x, b, array::from_fn(|s| k + s * length));
    }
    for k in range.start + STREAMS * length..range.end {
        add_streams::<R, 1>(sums, x, b, [k]);
    }
}

/// Adds the products with the rows `at` of `b`.
#[inline(always)]
fn add_streams<const R: usize, const S: usize>(
    sums: &mut [f32],
    x: [&[f32]; R],
    b: Matrix<'_>,
    at: [usize; S],
) {
    let n = b.columns;
    let rows: [&[f32]; S] = array::from_fn(|s| &b.data[at[s] * b.row_stride..][..n]);
    let x: [[f32; S]; R] = array::from_fn(|r| array::from_fn(|s| x[r][at[s]]));
    let whole = n - n % WIDTH;
    for j in (0..whole).step_by(WIDTH) {
        rows.iter().for_each(|row| prefetch(row, j));
        let b: [Lanes; S] = array::from_fn(|s| lanes(&rows[s][j..j + WIDTH]));
        for r in 0..R {
            let to = &mut sums[r * n + j..][..WIDTH];
            let mut sum = lanes(to);
            for s in 0..S {
                for i in 0..WIDTH {
                    sum[i] = b[s][i].mul_add(x[r][s], sum[i]);
                }
            }
            to.copy_from_slice(&sum);
        }
    }
    for j in whole..n {
        for r in 0..R {
            let sum = &mut sums[r * n + j];
            (0..S).for_each(|s| *sum = rows[s][j].mul_add(x[r][s], *sum));
        }
    }
}

#[inline(always)]
fn lanes(x: &[f32]) -> Lanes {
    array::from_fn(|i| x[i])
}

/// The products `[R, n]` column by column of `b`, whose columns are contiguous: each sum is a dot
/// product.
fn by_columns<const R: usize>(x: [&[f32]; R], b: Matrix<'_>, threads: bool) -> Vec<f32> {
    let parts = parts(b.columns, b.rows);
    let found = parallel_if(threads, parts.clone(), |range| {
        let mut dots = vec![0.0; R * range.len()];
        wide(
            #[inline(always)]
            || set_columns(&mut dots, x, b, range),
        );
        dots
    });
    let mut all = vec![0.0; R * b.columns];
    for (range, dots) in parts.into_iter().zip(found) {
        for (r, dots) in dots.chunks(range.len()).enumerate() {
            all[r * b.columns..][range.clone()].copy_from_slice(dots);
        }
    }
    all
}

/// Sets the products `[R, range]` with some columns of `b`, which are read in streams as in
/// [`add_rows`].
#[inline(always)]
fn set_columns<const R: usize>(
    dots: &mut [f32],
    x: [&[f32]; R],
    b: Matrix<'_>,
    range: Range<usize>,
) {
    let length = range.len() / PAIR;
    for at in 0..length {
        set_pair::<R, PAIR>(dots, x, b, &range, array::from_fn(|s| at + s * length));
    }
    for at in PAIR * length..range.len() {
        set_pair::<R, 1>(dots, x, b, &range, [at]);
    }
}

/// Sets the products with the columns `at` of `range`.
#[inline(always)]
fn set_pair<const R: usize, const S: usize>(
    dots: &mut [f32],
    x: [&[f32]; R],
    b: Matrix<'_>,
    range: &Range<usize>,
    at: [usize; S],
) {
    let columns = at.map(|at| &b.data[(range.start + at) * b.column_stride..][..b.rows]);
    let found = dots_with(x, columns);
    for (r, found) in found.iter().enumerate() {
        (0..S).for_each(|s| dots[r * range.len() + at[s]] = found[s]);
    }
}

/// The dot products of each of `x` with each of `columns`, side by side.
#[inline(always)]
fn dots_with<const R: usize, const S: usize>(
    x: [&[f32]; R],
    columns: [&[f32]; S],
) -> [[f32; S]; R] {
    let len = columns[0].len();
    let whole = len - len % WIDTH;
    let mut strands = [[[0.0; WIDTH]; S]; R];
    for at in (0..whole).step_by(WIDTH) {
        let y: [Lanes; S] = array::from_fn(|s| lanes(&columns[s][at..at + WIDTH]));
        for r in 0..R {
            let x = lanes(&x[r][at..at + WIDTH]);
            for s in 0..S {
                for i in 0..WIDTH {
                    strands[r][s][i] = y[s][i].mul_add(x[i], strands[r][s][i]);
                }
            }
        }
    }
    for at in whole..len {
        for r in 0..R {
            for s in 0..S {
                strands[r][s][0] = columns[s][at].mul_add(x[r][at], strands[r][s][0]);
            }
        }
    }
    strands.map(|strands| strands.map(total))
}

#[cfg(test)]
mod tests {
    use super::super::multiply;
    use super::*;

    fn numbers(len: usize) -> Vec<f32> {
        (0..len).map(|i| (i * 7 % 11) as f32 - 5.0).collect()
    }

    #[test]
    fn few_rows_are_multiplied_either_way_whatever_lies_between_rows() {
        let sizes = [(1, 1), (17, 5), (6, 33), (300, 700), (1025, 130)];
        for (rows_of_a, (k, n)) in (1..=ROWS).flat_map(|m| sizes.map(|size| (m, size))) {
            let (x, data) = (numbers(rows_of_a * (k + 1)), numbers((k + 2) * (n + 2)));
            let rows =
                Matrix { data: &data, rows: k, columns: n, row_stride: n + 2, column_stride: 1 };
            let columns =
                Matrix { data: &data, rows: n, columns: k, row_stride: k + 2, column_stride: 1 };
            for (b, add) in [(rows, false), (columns.transposed(), true)] {
                let a = Matrix { columns: k, ..Matrix::whole(&x, k + 1) };
                assert_eq!(takes(a, b), rows_of_a == 1 || k * n >= LARGE);
                let mut to = vec![1.0; rows_of_a * (n + 1)];
                let product = Product { factor: 0.5, add, threads: true };
                multiply(&mut to, n + 1, a, b, product);
                for (place, got) in to.into_iter().enumerate() {
                    let (r, j) = (place / (n + 1), place % (n + 1));
                    let term = |i: usize| {
                        x[r * (k + 1) + i] * b.data[i * b.row_stride + j * b.column_stride]
                    };
                    let start = if add { 1.0 } else { 0.0 };
                    let expected =
                        if j == n { 1.0 } else { start + 0.5 * (0..k).map(term).sum::<f32>() };
                    assert_eq!(got, expected, "{rows_of_a} {k} {n}: {r} {j}");
                }
            }
        }
    }

    #[test]
    fn neither_threads_nor_other_rows_change_a_bit() {
        let (x, b) = (numbers(ROWS * 500), numbers(500 * 700));
        let x: Vec<f32> = x.iter().map(|x| x * 0.1).collect();
        let run = |x: &[f32], b: Matrix<'_>, threads| {
            let mut to = vec![0.0; x.len() / 500 * b.columns];
            let product = Product { threads, ..Product::default() };
            multiply(&mut to, b.columns, Matrix::whole(x, 500), b, product);
            to
        };
        for b in [Matrix::whole(&b, 700), Matrix::whole(&b, 500).transposed()] {
            let all = run(&x, b, true);
            for few in 1..=ROWS {
                assert_eq!(run(&x[..few * 500], b, false), all[..few * 700]);
            }
        }
    }
}
