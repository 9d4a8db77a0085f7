//! Matrix products on strided slices: of few rows in `row.rs`, of more in `packed.rs`.

use core::mem::MaybeUninit;
use core::ops::Range;

use burn_flex::FlexTensor;

use super::{packed, row};

/// A matrix within a slice: element `(i, j)` is at `i · row_stride + j · column_stride`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a> {
    pub data: &'a [f32],
    pub rows: usize,
    pub columns: usize,
    pub row_stride: usize,
    pub column_stride: usize,
}

/// A view of `x` without negative strides; a copy only if it has some.
pub(crate) fn forward_strided(x: &FlexTensor) -> FlexTensor {
    if x.layout().strides().iter().all(|s| *s >= 0) { x.clone() } else { x.to_contiguous() }
}

impl<'a> Matrix<'a> {
    /// The elements of a [`forward_strided`] tensor of rank 2.
    pub fn of(x: &'a FlexTensor) -> Self {
        let [rows, columns] = x.layout().shape().dims();
        let [row_stride, column_stride] = [0, 1].map(|axis| x.layout().strides()[axis] as usize);
        let data = &x.storage()[x.layout().start_offset()..];
        Self { data, rows, columns, row_stride, column_stride }
    }

    /// A row-major matrix of all of `data`.
    pub fn whole(data: &'a [f32], columns: usize) -> Self {
        let rows = data.len().checked_div(columns).unwrap_or(0);
        Self { data, rows, columns, row_stride: columns, column_stride: 1 }
    }

    pub fn transposed(self) -> Self {
        let Self { data, rows, columns, row_stride, column_stride } = self;
        Self {
            data,
            rows: columns,
            columns: rows,
            row_stride: column_stride,
            column_stride: row_stride,
        }
    }

    pub fn rows(self, range: Range<usize>) -> Self {
        assert!(
            range.start < range.end && range.end <= self.rows,
            "rows {range:?} of {}",
            self.rows
        );
        Self { data: &self.data[range.start * self.row_stride..], rows: range.len(), ..self }
    }

    pub(super) fn fits(&self) -> bool {
        let last = (self.rows - 1) * self.row_stride + (self.columns - 1) * self.column_stride;
        last < self.data.len()
    }
}

/// How [`multiply`] combines a product with what is there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Product {
    /// Multiplies the product.
    pub factor: f32,
    /// Adds to the destination instead of overwriting it.
    pub add: bool,
    /// Uses several threads where it pays; the result is the same.
    pub threads: bool,
}

impl Default for Product {
    fn default() -> Self {
        Self { factor: 1.0, add: false, threads: false }
    }
}

/// `to ← factor · a b [+ to]`, where the rows of `to` lie `row_stride` apart.
pub(crate) fn multiply(
    to: &mut [f32],
    row_stride: usize,
    a: Matrix<'_>,
    b: Matrix<'_>,
    product: Product,
) {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    assert_eq!(k, b.rows, "inner sizes");
    if m * n * k == 0 {
        if !product.add && n > 0 {
            to.chunks_mut(row_stride).take(m).for_each(|row| row[..n].fill(0.0));
        }
        return;
    }
    assert!(a.fits() && b.fits() && n <= row_stride && (m - 1) * row_stride + n <= to.len());
    if row::takes(a, b) {
        return row::multiply(&mut to[..(m - 1) * row_stride + n], row_stride, a, b, product);
    }
    // SAFETY: a product writes nothing that is not a number.
    let to = unsafe { &mut *(&raw mut *to as *mut [MaybeUninit<f32>]) };
    // SAFETY: what is there are numbers.
    unsafe { packed::multiply(&mut to[..(m - 1) * row_stride + n], row_stride, a, b, product) }
}

/// The product `a b` in memory of its own.
pub(crate) fn multiplied(a: Matrix<'_>, b: Matrix<'_>, threads: bool) -> Vec<f32> {
    assert_eq!(a.columns, b.rows, "inner sizes");
    let len = a.rows * b.columns;
    if len * a.columns == 0 {
        return vec![0.0; len];
    }
    assert!(a.fits() && b.fits());
    if row::takes(a, b) {
        return row::multiplied(a, b, threads);
    }
    let mut to = Vec::with_capacity(len);
    let product = Product { threads, ..Product::default() };
    // SAFETY: a product that adds to nothing reads nothing of what is there, and writes all of it.
    unsafe {
        packed::multiply(&mut to.spare_capacity_mut()[..len], b.columns, a, b, product);
        to.set_len(len);
    }
    to
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(len: usize) -> Vec<f32> {
        (0..len).map(|i| (i * 7 % 11) as f32 - 5.0).collect()
    }

    #[test]
    fn strided_products_add_to_strided_rows() {
        let (a, b) = (numbers(5 * 9), numbers(4 * 6));
        // a is [3, 4] in rows of 9, b [4, 5] stored transposed in rows of 4.
        let a = Matrix { data: &a, rows: 3, columns: 4, row_stride: 9, column_stride: 2 };
        let b = Matrix { data: &b, rows: 5, columns: 4, row_stride: 4, column_stride: 1 };
        let mut to = vec![1.0; 3 * 7];
        let product = Product { factor: 0.5, add: true, threads: true };
        multiply(&mut to, 7, a, b.transposed(), product);
        for (i, j) in (0..3 * 7).map(|n| (n / 7, n % 7)) {
            let dot = |j| (0..4).map(|k| a.data[i * 9 + k * 2] * b.data[j * 4 + k]).sum::<f32>();
            let expected = if j < 5 { 1.0 + 0.5 * dot(j) } else { 1.0 };
            assert_eq!(to[i * 7 + j], expected, "({i}, {j})");
        }
    }

    #[test]
    fn products_in_memory_of_their_own_are_whole_whatever_their_size() {
        for (m, k, n) in [(0, 3, 2), (5, 0, 3), (2, 3, 0), (1, 9, 7), (6, 5, 17), (70, 3, 40)] {
            let (a, b) = (numbers(m * k), numbers(k * n));
            let [a, b] = [(&a, m, k), (&b, k, n)]
                .map(|(data, rows, columns)| Matrix { rows, ..Matrix::whole(data, columns) });
            let expected = (0..m * n).map(|at| {
                let (i, j) = (at / n, at % n);
                (0..k).map(|l| a.data[i * k + l] * b.data[l * n + j]).sum::<f32>()
            });
            assert_eq!(multiplied(a, b, true), expected.collect::<Vec<_>>(), "{m} {k} {n}");
        }
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let (a, b) = (numbers(257 * 190), numbers(190 * 130));
        let a: Vec<f32> = a.iter().map(|x| x * 0.1).collect();
        let run = |threads| {
            let mut to = vec![0.0; 257 * 130];
            let product = Product { threads, ..Product::default() };
            multiply(&mut to, 130, Matrix::whole(&a, 190), Matrix::whole(&b, 130), product);
            to
        };
        assert_eq!(run(false), run(true));
    }
}
