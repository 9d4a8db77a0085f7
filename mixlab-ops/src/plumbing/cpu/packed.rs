//! Products by the `gemm` crate, which packs panels of both operands.
//!
//! It reads rows of the first matrix and writes rows of the result a dozen at a time. Where these lie a
//! multiple of 2 KiB apart, as the rows of most models do, their lines belong in a few sets of the
//! cache, which has room for eight in each, and push each other out: that takes up to 2.3 times as long.
//! So such rows are moved apart, a block of them at a time.

use core::mem::MaybeUninit;

use gemm::Parallelism;

use super::matrix::{Matrix, Product};
use super::split::parallel_if;

/// Multiplications that make a second thread pay: about 0.05 ms of work.
const LARGE: usize = 1 << 22;
/// Rows of a block: with 1,024 columns half of a second-level cache.
const BLOCK: usize = 128;
/// Rows that a cache holds, however they lie.
const FEW: usize = 8;
/// Elements between rows whose lines collide: 2 KiB.
const COLLIDING: usize = 512;
/// Elements that move rows apart: a line.
const GAP: usize = 16;

/// As [`super::multiply`], where `to` ends with the last row of the product.
///
/// # Safety
/// Sizes must be above zero, operands within their slices, and `to` numbers if the product adds to them.
pub(super) unsafe fn multiply(
    to: &mut [MaybeUninit<f32>],
    row_stride: usize,
    a: Matrix<'_>,
    b: Matrix<'_>,
    product: Product,
) {
    let threads = product.threads && a.rows * a.columns * b.columns >= LARGE;
    if a.rows <= FEW || !(collide(row_stride) || rows_collide(a)) {
        // SAFETY: as the caller says.
        return unsafe { gemm(to, row_stride, a, b, Product { threads, ..product }) };
    }
    let starts = (0..a.rows).step_by(BLOCK);
    let blocks: Vec<_> = to.chunks_mut(BLOCK * row_stride).zip(starts).collect();
    let inner = threads && blocks.len() < rayon::current_num_threads();
    parallel_if(threads, blocks, |(to, first)| {
        let rows = a.rows(first..a.rows.min(first + BLOCK));
        // SAFETY: as the caller says, of some rows.
        unsafe { block(to, row_stride, rows, b, Product { threads: inner, ..product }) }
    });
}

/// Whether rows so far apart collide.
fn collide(row_stride: usize) -> bool {
    row_stride.is_multiple_of(COLLIDING)
}

/// Whether those of `a` do, if they are read one after the other.
fn rows_collide(a: Matrix<'_>) -> bool {
    a.column_stride == 1 && collide(a.row_stride)
}

/// [`multiply`] of one block of rows, with copies of those that collide.
///
/// # Safety
/// As [`multiply`].
unsafe fn block(
    to: &mut [MaybeUninit<f32>],
    row_stride: usize,
    a: Matrix<'_>,
    b: Matrix<'_>,
    product: Product,
) {
    let copy = rows_collide(a).then(|| apart(a));
    let a = match &copy {
        Some(data) => Matrix { data, row_stride: a.columns + GAP, ..a },
        None => a,
    };
    if !collide(row_stride) {
        // SAFETY: as the caller says; a copy has all elements of its rows.
        return unsafe { gemm(to, row_stride, a, b, product) };
    }
    let (n, stride) = (b.columns, b.columns + GAP);
    let mut rows: Vec<f32> = Vec::with_capacity(a.rows * stride);
    let rows = rows.spare_capacity_mut();
    // SAFETY: as above; nothing is read of what is there.
    unsafe { gemm(rows, stride, a, b, Product { add: false, ..product }) };
    for (to, row) in to.chunks_mut(row_stride).zip(rows.chunks(stride)) {
        let to = &mut to[..n];
        if !product.add {
            to.copy_from_slice(&row[..n]);
            continue;
        }
        // SAFETY: the product has written these, and the caller those.
        let (to, row) = unsafe { (to.assume_init_mut(), row[..n].assume_init_ref()) };
        to.iter_mut().zip(row).for_each(|(to, x)| *to += x);
    }
}

/// The rows of `a` with gaps between them.
fn apart(a: Matrix<'_>) -> Vec<f32> {
    let mut copy = Vec::with_capacity(a.rows * (a.columns + GAP));
    for row in a.data.chunks(a.row_stride).take(a.rows) {
        copy.extend_from_slice(&row[..a.columns]);
        copy.extend_from_slice(&[0.0; GAP]);
    }
    copy
}

/// `to ← factor · a b [+ to]`.
///
/// # Safety
/// As [`multiply`].
unsafe fn gemm(
    to: &mut [MaybeUninit<f32>],
    row_stride: usize,
    a: Matrix<'_>,
    b: Matrix<'_>,
    product: Product,
) {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    assert!(n <= row_stride && (m - 1) * row_stride + n <= to.len());
    let parallelism = if product.threads { Parallelism::Rayon(0) } else { Parallelism::None };
    let strides = |x: Matrix<'_>| (x.column_stride as isize, x.row_stride as isize);
    let ((a_column, a_row), (b_column, b_row)) = (strides(a), strides(b));
    let (from, with) = (a.data.as_ptr(), b.data.as_ptr());
    // SAFETY: operands are within their slices, the assertion keeps the product within `to`, its rows
    // do not overlap, and `to` is borrowed mutably, so it overlaps neither operand. It is read if the
    // product adds to it: then the caller says that there are numbers.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            to.as_mut_ptr().cast::<f32>(),
            1,
            row_stride as isize,
            product.add,
            from,
            a_column,
            a_row,
            with,
            b_column,
            b_row,
            1.0,
            product.factor,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::matrix::{multiplied, multiply};
    use super::*;

    fn numbers(len: usize) -> Vec<f32> {
        (0..len).map(|i| (i * 7 % 11) as f32 - 5.0).collect()
    }

    #[test]
    fn rows_that_collide_have_the_products_of_rows_that_do_not() {
        let (m, k) = (2 * BLOCK + 5, 40);
        let data = numbers(m * (k + COLLIDING));
        for n in [COLLIDING, 1024, 600] {
            let b = numbers(k * n);
            let b = Matrix::whole(&b, n);
            for row_stride in [k, COLLIDING] {
                let a = Matrix { data: &data, rows: m, columns: k, row_stride, column_stride: 1 };
                let expected = |i: usize, j: usize| {
                    let term = |l: usize| data[i * row_stride + l] * b.data[l * n + j];
                    (0..k).map(term).sum::<f32>()
                };
                let mut sums = vec![1.0; (m - 1) * 1024 + n];
                let product = Product { factor: 0.5, add: true, threads: true };
                multiply(&mut sums, 1024, a, b, product);
                let products = multiplied(a, b, true);
                for (i, j) in (0..m * n).step_by(7).map(|at| (at / n, at % n)) {
                    assert_eq!(products[i * n + j], expected(i, j), "{n} {row_stride} ({i}, {j})");
                    assert_eq!(sums[i * 1024 + j], 1.0 + 0.5 * expected(i, j));
                }
                let between = (0..m - 1).flat_map(|i| &sums[i * 1024 + n..(i + 1) * 1024]);
                assert!(between.into_iter().all(|x| *x == 1.0), "what is between rows stays");
            }
        }
    }

    #[test]
    fn neither_threads_nor_blocks_change_a_bit() {
        let (a, b) = (numbers((BLOCK + 70) * 300), numbers(300 * COLLIDING));
        let a: Vec<f32> = a.iter().map(|x| x * 0.1).collect();
        let (a, b) = (Matrix::whole(&a, 300), Matrix::whole(&b, COLLIDING));
        let [one, several] = [false, true].map(|threads| multiplied(a, b, threads));
        assert!(one == several);
        let last = multiplied(a.rows(BLOCK..a.rows), b, false);
        assert!(one[BLOCK * COLLIDING..] == last);
    }

    /// Prints the rate of products of one thread, of weights whose rows collide and of some that are a
    /// line wider.
    #[test]
    #[ignore = "a measurement"]
    fn rates() {
        let data = numbers(2048 * 1100);
        for (n, k, m) in [(1024, 128, 1024), (1024, 512, 512), (1024, 1024, 1024)] {
            for m in [m, m + GAP] {
                let [x, w, g] = [(n, k), (k, m), (n, m)]
                    .map(|(rows, columns)| Matrix::whole(&data[..rows * columns], columns));
                let products = [(x, w), (g, w.transposed()), (x.transposed(), g)];
                let rates = products.map(|(a, b)| {
                    let seconds = fastest(|| drop(multiplied(a, b, false)));
                    2.0 * (n * k * m) as f64 / seconds / 1e9
                });
                println!(
                    "{n} x {k} x {m}: x w {:.0}, g wT {:.0}, xT g {:.0} GFLOP/s",
                    rates[0], rates[1], rates[2]
                );
            }
        }
    }

    /// Seconds of the fastest of some runs.
    fn fastest(run: impl Fn()) -> f64 {
        let times = (0..40).map(|_| {
            let start = std::time::Instant::now();
            run();
            start.elapsed().as_secs_f64()
        });
        times.fold(f64::INFINITY, f64::min)
    }
}
