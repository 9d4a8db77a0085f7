//! Lengths as functions of the dynamic axes.
//!
//! A length that was seen at several sizes of the axes is solved as a sum of products of at most two or
//! three of them with whole factors, such as `T`, `B·T`, `P + T` or `4·T`. There are two sizes more than
//! factors, so that a form which only happens to fit is found out.

/// `c₀ + Σ cᵢ mᵢ` over the products `mᵢ` of a [`Basis`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Extent(Vec<i64>);

impl Extent {
    /// Its value, if it depends on no axis.
    pub fn constant(&self) -> Option<i64> {
        self.0[1..].iter().all(|c| *c == 0).then_some(self.0[0])
    }

    /// The difference of two of them.
    pub fn minus(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a - b).collect())
    }

    /// The sum of two of them.
    pub fn plus(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a + b).collect())
    }

    /// Whether it is `other`, of which no factor is more than one, and something more.
    pub fn has(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(mine, others)| *others == 0 || mine == others)
    }

    /// The constant, and each other product that it has by its place in the basis, with its factor.
    pub fn terms(&self) -> (i64, impl Iterator<Item = (usize, i64)> + '_) {
        let terms = self.0.iter().copied().enumerate().skip(1).filter(|(_, c)| *c != 0);
        (self.0[0], terms)
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
}

/// Lengths that rarely are those of a module.
pub(super) const LENGTHS: [usize; 11] = [3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37];
/// Lengths for modules that take no longer ones.
pub(super) const SHORT: [usize; 7] = [2, 3, 4, 5, 6, 7, 8];
/// Lengths for modules that take no shorter ones.
pub(super) const LONG: [usize; 11] = [61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107];

impl Basis {
    /// Products of at most `degree` of so many dynamic axes, which are captured at some of `lengths`; none
    /// if there are more axes than lengths.
    pub fn new(axes: usize, degree: usize, lengths: &[usize]) -> Option<Self> {
        if axes > lengths.len() {
            return None;
        }
        let mut products = vec![vec![]];
        let mut last = products.clone();
        for _ in 0..degree {
            let longer = |product: &Vec<usize>| {
                let first = product.last().copied().unwrap_or(0);
                let product = product.clone();
                (first..axes).map(move |axis| [&product[..], &[axis]].concat())
            };
            last = last.iter().flat_map(longer).collect();
            products.extend(last.clone());
        }
        let mut basis = Self { axes, products, sizes: Vec::new(), inverse: Vec::new() };
        let mut state = 1u64;
        loop {
            let count = basis.products.len() + if axes == 0 { 0 } else { 2 };
            basis.sizes.clear();
            while basis.sizes.len() < count {
                let sizes = distinct(axes, lengths, &mut state);
                if !basis.sizes.contains(&sizes) {
                    basis.sizes.push(sizes);
                }
            }
            let rows = basis.sizes[..basis.products.len()].iter();
            let rows = rows.map(|sizes| basis.row(sizes)).collect();
            if let Some(inverse) = inverse(rows) {
                basis.inverse = inverse;
                return Some(basis);
            }
        }
    }

    /// The products at `sizes`.
    fn row(&self, sizes: &[usize]) -> Vec<f64> {
        let product = |of: &Vec<usize>| of.iter().map(|a| sizes[*a]).product::<usize>() as f64;
        self.products.iter().map(product).collect()
    }

    /// The axes whose product is the `place`-th of the basis.
    pub fn product(&self, place: usize) -> &[usize] {
        &self.products[place]
    }

    /// The length of axis `axis` itself.
    pub fn axis(&self, axis: usize) -> Extent {
        Extent((0..self.products.len()).map(|i| i64::from(i == axis + 1)).collect())
    }

    /// A length that is always `value`.
    pub fn fixed(&self, value: i64) -> Extent {
        Extent((0..self.products.len()).map(|i| if i == 0 { value } else { 0 }).collect())
    }

    /// What gives `values`, one for each of the sizes; none if no sum of products does.
    pub fn solve(&self, values: &[i64]) -> Option<Extent> {
        let solved = self.inverse.iter().map(|row| {
            row.iter().zip(values).map(|(f, v)| f * *v as f64).sum::<f64>().round() as i64
        });
        let extent = Extent(solved.collect());
        let fits = self.sizes.iter().zip(values).all(|(sizes, value)| {
            let row = self.row(sizes);
            row.iter().zip(&extent.0).map(|(p, c)| *p as i64 * c).sum::<i64>() == *value
        });
        fits.then_some(extent)
    }

    /// The sizes of capture `at`, as `batch = 3, sequence = 7`.
    pub fn describe(&self, names: &[String], at: usize) -> String {
        let pairs =
            names.iter().zip(&self.sizes[at]).map(|(name, size)| format!("{name} = {size}"));
        debug_assert_eq!(names.len(), self.axes);
        pairs.collect::<Vec<_>>().join(", ")
    }
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

    fn values(basis: &Basis, of: impl Fn(&[usize]) -> usize) -> Vec<i64> {
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
        let terms: Vec<_> = terms.map(|(place, c)| (basis.product(place).to_vec(), c)).collect();
        assert_eq!((constant, terms), (7, vec![(vec![2], 1), (vec![0, 1], 4)]));
    }

    #[test]
    fn products_of_three_are_solved_with_a_larger_basis() {
        let image = |s: &[usize]| 2 * s[0] * s[1] * s[2];
        let basis = Basis::new(3, 2, &LENGTHS).unwrap();
        assert_eq!(basis.solve(&values(&basis, image)), None);
        let basis = Basis::new(3, 3, &LENGTHS).unwrap();
        let found = basis.solve(&values(&basis, image)).unwrap();
        let terms = found.terms().1.map(|(place, c)| (basis.product(place).to_vec(), c));
        assert_eq!(terms.collect::<Vec<_>>(), [(vec![0, 1, 2], 2)]);
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
        assert!(Basis::new(12, 2, &LENGTHS).is_none());
    }

    #[test]
    fn halves_and_powers_of_three_are_no_sums_of_products() {
        let basis = Basis::new(2, 2, &LENGTHS).unwrap();
        assert_eq!(basis.solve(&values(&basis, |s| s[1] / 2)), None);
        assert_eq!(basis.solve(&values(&basis, |s| s[1].pow(3))), None);
        assert_eq!(basis.solve(&values(&basis, |s| s[1].next_power_of_two())), None);
    }
}
