//! Lengths as functions of the dynamic axes.
//!
//! A length that was seen at several sizes of the axes is solved as a sum of products of at most two or
//! three of them with whole factors, such as `T`, `B·T`, `P + T` or `4·T`. There are two sizes more than
//! factors, so that a form which only happens to fit is found out.
//!
//! Where a module divides lengths, as a window with a stride does, there are many sizes, and what is no
//! sum of products is a [`Quotient`] of one: from then on it counts as an axis.

mod quotient;

use std::collections::BTreeMap;

pub(super) use quotient::Quotient;

/// `Σ cᵢ mᵢ` over products `mᵢ` of axes and quotients, by their numbers in a [`Basis`]; the constant is
/// the factor of the empty product.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Extent(BTreeMap<Vec<usize>, i64>);

impl Extent {
    fn new(terms: impl IntoIterator<Item = (Vec<usize>, i64)>) -> Self {
        Self(terms.into_iter().filter(|(_, factor)| *factor != 0).collect())
    }

    /// A length that is always `value`.
    pub fn fixed(value: i64) -> Self {
        Self::new([(vec![], value)])
    }

    /// Its value, if it depends on no axis.
    pub fn constant(&self) -> Option<i64> {
        self.0.keys().all(Vec::is_empty).then(|| self.terms().0)
    }

    /// The difference of two of them.
    pub fn minus(&self, other: &Self) -> Self {
        self.with(other, -1)
    }

    /// The sum of two of them.
    pub fn plus(&self, other: &Self) -> Self {
        self.with(other, 1)
    }

    fn with(&self, other: &Self, times: i64) -> Self {
        let mut terms = self.0.clone();
        for (product, factor) in &other.0 {
            *terms.entry(product.clone()).or_insert(0) += times * factor;
        }
        Self::new(terms)
    }

    /// Whether it is `other`, of which no factor is more than one, and something more.
    pub fn has(&self, other: &Self) -> bool {
        other.0.iter().all(|(product, factor)| self.0.get(product) == Some(factor))
    }

    /// The constant, and each other product that it has with its factor.
    pub fn terms(&self) -> (i64, impl Iterator<Item = (&[usize], i64)>) {
        let others = self.0.iter().filter(|(product, _)| !product.is_empty());
        let constant = self.0.get(&[][..]).copied().unwrap_or(0);
        (constant, others.map(|(product, factor)| (&product[..], *factor)))
    }
}

/// The sizes of the axes to capture at, and the products that lengths are made of.
pub(super) struct Basis {
    axes: usize,
    /// The axes of each product, in order; none for the constant.
    products: Vec<Vec<usize>>,
    /// One size for each axis, for each capture.
    pub sizes: Vec<Vec<usize>>,
    /// From values at the first sizes to factors.
    inverse: Vec<Vec<f64>>,
    /// What lengths are divided to; none where they must not be.
    divided: Option<quotient::Divided>,
}

/// Lengths that rarely are those of a module, even and odd.
pub(super) const LENGTHS: [usize; 14] = [3, 5, 7, 10, 11, 13, 14, 17, 19, 22, 23, 29, 34, 37];
/// Lengths for modules that take no longer ones.
pub(super) const SHORT: [usize; 7] = [2, 3, 4, 5, 6, 7, 8];
/// Lengths for modules that take no shorter ones.
pub(super) const LONG: [usize; 11] = [61, 67, 70, 73, 79, 82, 89, 94, 99, 103, 107];
/// From where on, and in what steps, modules that divide lengths are captured: such as take all, none that
/// are short, none that are long, and multiples alone.
pub(super) const DIVIDED: [(usize, usize); 9] =
    [(61, 1), (1009, 1), (5, 1), (61, 2), (61, 4), (31, 8), (11, 16), (5, 32), (5, 64)];

impl Basis {
    /// Products of at most `degree` of so many dynamic axes, which are captured at some of `lengths`; none
    /// if there are more axes than lengths.
    pub fn new(axes: usize, degree: usize, lengths: &[usize]) -> Option<Self> {
        let sizes = |count: usize, state: &mut u64| {
            let mut sizes = Vec::new();
            while sizes.len() < count {
                let one = distinct(axes, lengths, state);
                if !sizes.contains(&one) {
                    sizes.push(one);
                }
            }
            sizes
        };
        (axes <= lengths.len()).then(|| Self::solvable(axes, degree, sizes))
    }

    /// As [`new`](Self::new), for modules that divide lengths: each axis is captured at many lengths, the
    /// multiples of `step` from the `start`-th on; none for many axes.
    pub fn dividing(axes: usize, start: usize, step: usize) -> Option<Self> {
        // In strides of a prime, so that they have all remainders, and are far apart.
        let lengths: Vec<usize> = (0..48).map(|at| step * (start + 37 * at)).collect();
        let sizes = |_, state: &mut u64| permuted(axes, &lengths, state);
        let mut basis =
            (1..=MOST_DIVIDED).contains(&axes).then(|| Self::solvable(axes, 2, sizes))?;
        basis.divided = Some(quotient::Divided::new(&basis.sizes, axes));
        Some(basis)
    }

    /// Of the sizes that `draw` makes, at least so many, the first ones that lengths can be solved at.
    fn solvable(
        axes: usize,
        degree: usize,
        draw: impl Fn(usize, &mut u64) -> Vec<Vec<usize>>,
    ) -> Self {
        let mut products = vec![vec![]];
        let mut last = products.clone();
        for _ in 0..degree {
            last = last.iter().flat_map(|product| longer(product, axes)).collect();
            products.extend(last.clone());
        }
        let count = products.len() + if axes == 0 { 0 } else { 2 };
        let mut basis =
            Self { axes, products, sizes: Vec::new(), inverse: Vec::new(), divided: None };
        let mut state = 1u64;
        loop {
            basis.sizes = draw(count, &mut state);
            let rows = basis.sizes[..basis.products.len()].iter();
            let rows = rows.map(|sizes| basis.row(sizes)).collect();
            if let Some(inverse) = inverse(rows) {
                basis.inverse = inverse;
                return basis;
            }
        }
    }

    /// The products at `sizes`.
    fn row(&self, sizes: &[usize]) -> Vec<f64> {
        let product = |of: &Vec<usize>| of.iter().map(|a| sizes[*a]).product::<usize>() as f64;
        self.products.iter().map(product).collect()
    }

    /// The length of axis `axis` itself.
    pub fn axis(&self, axis: usize) -> Extent {
        Extent::new([(vec![axis], 1)])
    }

    /// The quotient that counts as axis `number`; none if it is an axis.
    pub fn quotient(&self, number: usize) -> Option<&Quotient> {
        self.divided.as_ref()?.quotients.get(number.checked_sub(self.axes)?)
    }

    /// What gives `values`, one for each of the sizes; none if no sum of products does.
    pub fn solve(&self, values: &[i64]) -> Option<Extent> {
        let solved = self.inverse.iter().map(|row| {
            row.iter().zip(values).map(|(f, v)| f * *v as f64).sum::<f64>().round() as i64
        });
        let factors: Vec<i64> = solved.collect();
        let fits = self.sizes.iter().zip(values).all(|(sizes, value)| {
            let row = self.row(sizes);
            let terms = row.iter().zip(&factors).map(|(p, c)| i128::from(*c) * *p as i128);
            terms.sum::<i128>() == i128::from(*value)
        });
        let sum = || Extent::new(self.products.iter().cloned().zip(factors));
        fits.then(sum).or_else(|| self.divided.as_ref()?.solve(values))
    }

    /// As [`solve`](Self::solve), with a new quotient if need be, rather of one of `near`.
    pub fn solve_or_divide(&mut self, values: &[i64], near: &[Extent]) -> Option<Extent> {
        self.solve(values).or_else(|| self.divided.as_mut()?.divide(values, near))
    }

    /// The sizes of capture `at`, as `batch = 3, sequence = 7`.
    pub fn describe(&self, names: &[String], at: usize) -> String {
        let pairs =
            names.iter().zip(&self.sizes[at]).map(|(name, size)| format!("{name} = {size}"));
        debug_assert_eq!(names.len(), self.axes);
        pairs.collect::<Vec<_>>().join(", ")
    }
}

/// Axes of modules that divide lengths, of which many products are tried.
const MOST_DIVIDED: usize = 5;

/// `product` with one more factor, a later one or the last once more.
fn longer(product: &[usize], axes: usize) -> impl Iterator<Item = Vec<usize>> + use<> {
    let first = product.last().copied().unwrap_or(0);
    let product = product.to_vec();
    (first..axes).map(move |axis| [&product[..], &[axis]].concat())
}

/// Different ones of `lengths` for so many axes.
fn distinct(axes: usize, lengths: &[usize], state: &mut u64) -> Vec<usize> {
    let mut left = lengths.to_vec();
    let mut draw = |_| {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        left.remove((*state >> 33) as usize % left.len())
    };
    (0..axes).map(&mut draw).collect()
}

/// Sizes of which each axis takes each of `lengths` once, and that are all different at any time.
fn permuted(axes: usize, lengths: &[usize], state: &mut u64) -> Vec<Vec<usize>> {
    let order = distinct(lengths.len(), lengths, state);
    let places: Vec<usize> = (0..lengths.len()).collect();
    let starts = distinct(axes, &places, state);
    let at = |at: usize| starts.iter().map(|start| order[(start + at) % order.len()]).collect();
    (0..order.len()).map(at).collect()
}

/// The inverse of a square matrix (Gauss and Jordan, with the largest pivot); none if it has none.
fn inverse(mut rows: Vec<Vec<f64>>) -> Option<Vec<Vec<f64>>> {
    let n = rows.len();
    for (i, row) in rows.iter_mut().enumerate() {
        row.extend((0..n).map(|j| f64::from(u8::from(i == j))));
    }
    for column in 0..n {
        let size = |row: &Vec<f64>| row[column].abs();
        let pivot = (column..n).max_by(|a, b| size(&rows[*a]).total_cmp(&size(&rows[*b])))?;
        rows.swap(column, pivot);
        let factor = rows[column][column];
        if factor.abs() < 1e-6 {
            return None;
        }
        rows[column].iter_mut().for_each(|x| *x /= factor);
        let pivot = rows[column].clone();
        for (i, row) in rows.iter_mut().enumerate().filter(|(i, _)| *i != column) {
            debug_assert_ne!(i, column);
            let factor = row[column];
            row.iter_mut().zip(&pivot).for_each(|(x, p)| *x -= factor * p);
        }
    }
    Some(rows.into_iter().map(|row| row[n..].to_vec()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn values(basis: &Basis, of: impl Fn(&[usize]) -> usize) -> Vec<i64> {
        basis.sizes.iter().map(|sizes| of(sizes) as i64).collect()
    }

    #[test]
    fn lengths_are_solved_for_any_number_of_axes() {
        for axes in 0..=4 {
            let basis = Basis::new(axes, 2, &LENGTHS).unwrap();
            let fixed = basis.solve(&values(&basis, |_| 12)).unwrap();
            assert_eq!(fixed.constant(), Some(12));
            for axis in 0..axes {
                let found = basis.solve(&values(&basis, |sizes| sizes[axis])).unwrap();
                assert_eq!(found, basis.axis(axis));
                assert_eq!(found.constant(), None);
            }
        }
    }

    #[test]
    fn sums_and_products_are_solved() {
        let basis = Basis::new(3, 2, &LENGTHS).unwrap();
        let found = basis.solve(&values(&basis, |s| 4 * s[0] * s[1] + s[2] + 7)).unwrap();
        let (constant, terms) = found.terms();
        let terms: Vec<_> = terms.collect();
        assert_eq!((constant, terms), (7, vec![(&[0, 1][..], 4), (&[2], 1)]));
    }

    #[test]
    fn products_of_three_are_solved_with_a_larger_basis() {
        let image = |s: &[usize]| 2 * s[0] * s[1] * s[2];
        let basis = Basis::new(3, 2, &LENGTHS).unwrap();
        assert_eq!(basis.solve(&values(&basis, image)), None);
        let basis = Basis::new(3, 3, &LENGTHS).unwrap();
        let found = basis.solve(&values(&basis, image)).unwrap();
        assert_eq!(found.terms().1.collect::<Vec<_>>(), [(&[0, 1, 2][..], 2)]);
    }

    #[test]
    fn no_lengths_are_captured_twice() {
        for axes in 1..=4 {
            let basis = Basis::new(axes, 2, &SHORT).unwrap();
            let mut sizes = basis.sizes.clone();
            sizes.sort();
            sizes.dedup();
            assert_eq!(sizes.len(), basis.sizes.len());
        }
        for (start, step) in DIVIDED {
            let sizes = Basis::dividing(MOST_DIVIDED, start, step).unwrap().sizes;
            let differ =
                |one: &Vec<usize>| one.iter().enumerate().all(|(i, n)| !one[..i].contains(n));
            assert!(sizes.iter().all(differ));
        }
        assert!(Basis::new(LENGTHS.len() + 1, 2, &LENGTHS).is_none());
    }

    #[test]
    fn quotients_and_powers_of_four_are_no_sums_of_products() {
        for (axes, lengths) in (1..=4).flat_map(|n| [(n, &LENGTHS[..]), (n, &SHORT), (n, &LONG)]) {
            let basis = Basis::new(axes, 2, lengths).unwrap();
            for axis in 0..axes {
                for by in 2..=4 {
                    assert_eq!(basis.solve(&values(&basis, |s| s[axis] / by)), None);
                    assert_eq!(basis.solve(&values(&basis, |s| s[axis] / by * by)), None);
                }
                assert_eq!(basis.solve(&values(&basis, |s| s[axis].pow(4))), None);
            }
        }
        let basis = Basis::new(2, 2, &LENGTHS).unwrap();
        assert_eq!(basis.solve(&values(&basis, |s| s[1].next_power_of_two())), None);
    }
}
