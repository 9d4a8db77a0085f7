//! Lengths that are divided, as by the stride of a window.

use super::Extent;

/// `⌊(of + plus) / by⌋`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Quotient {
    /// What is divided.
    pub of: Extent,
    /// What is added to it.
    pub plus: i64,
    /// What it is divided by.
    pub by: i64,
}

/// Factors of a product in which quotients may stand: rows of an image, of each of a batch.
const DEGREE: usize = 3;
/// What modules divide by: strides, and sides of patches.
const DIVISORS: std::ops::RangeInclusive<i64> = 2..=64;

/// The quotients that were found, and the products of axes and quotients.
pub(super) struct Divided {
    axes: usize,
    /// They are numbered after the axes.
    pub quotients: Vec<Quotient>,
    /// Products of at most [`DEGREE`], and their values at each of the sizes.
    products: Vec<(Vec<usize>, Vec<i64>)>,
}

impl Divided {
    /// None yet of so many axes, which have `sizes`.
    pub fn new(sizes: &[Vec<usize>], axes: usize) -> Self {
        let mut new =
            Self { axes, quotients: Vec::new(), products: vec![(vec![], vec![1; sizes.len()])] };
        for axis in 0..axes {
            new.multiply(axis, &sizes.iter().map(|sizes| sizes[axis] as i64).collect::<Vec<_>>());
        }
        new
    }

    /// Adds the products in which the axis or quotient `number` is the last.
    fn multiply(&mut self, number: usize, lengths: &[i64]) {
        let mut all = self.products.len();
        let mut start = 0;
        for _ in 0..DEGREE {
            for index in start..all {
                let (product, values) = &self.products[index];
                if product.len() < DEGREE {
                    let values = values.iter().zip(lengths).map(|(a, b)| a * b).collect();
                    self.products.push(([&product[..], &[number]].concat(), values));
                }
            }
            (start, all) = (all, self.products.len());
        }
    }

    /// One or two products with whole factors, and a constant, that give `values`.
    pub fn solve(&self, values: &[i64]) -> Option<Extent> {
        let others = &self.products[1..];
        let one = |(product, of): &(Vec<usize>, Vec<i64>)| fit([(product, of)], values);
        let two = |(at, (first, of)): (usize, &(Vec<usize>, Vec<i64>))| {
            let second = |(product, other): &(Vec<usize>, Vec<i64>)| {
                fit([(first, of), (product, other)], values)
            };
            others[at + 1..].iter().find_map(second)
        };
        others.iter().find_map(one).or_else(|| others.iter().enumerate().find_map(two))
    }

    /// A new quotient that gives `values`, or a multiple of one: of one of `near` or of what there is.
    pub fn divide(&mut self, values: &[i64], near: &[Extent]) -> Option<Extent> {
        let count = self.axes + self.quotients.len();
        let single = (0..count).map(|number| Extent::new([(vec![number], 1)]));
        let open = near.iter().filter(|extent| extent.constant().is_none());
        let dividends: Vec<Extent> = open.cloned().chain(single).collect();
        let times = values.iter().copied().fold(0, gcd);
        [1, times].into_iter().find_map(|times| {
            let parts: Vec<i64> = values.iter().map(|value| value / times.max(1)).collect();
            let of = |of: &Extent| quotient(of, &self.values(of), &parts);
            let found = dividends.iter().find_map(of)?;
            let number = self.axes + self.quotients.len();
            self.quotients.push(found);
            self.multiply(number, &parts);
            Some(Extent::new([(vec![number], times)]))
        })
    }

    /// The values of a sum of products at each of the sizes.
    fn values(&self, extent: &Extent) -> Vec<i64> {
        let mut sum = vec![0; self.products[0].1.len()];
        for (product, factor) in &extent.0 {
            let found = self.products.iter().find(|(other, _)| other == product);
            let (_, values) = found.expect("sums are of products that there are");
            sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += factor * value);
        }
        sum
    }
}

/// The quotient of `of`, which has the values `lengths`, that gives `values`.
fn quotient(of: &Extent, lengths: &[i64], values: &[i64]) -> Option<Quotient> {
    let fits = |by: i64| {
        let least = lengths.iter().zip(values).map(|(length, value)| by * value - length).max()?;
        let most = lengths.iter().zip(values).map(|(length, value)| by * value - length).min()?;
        // Where several fit, none of the lengths that the module takes tells them apart.
        let most = most + by - 1;
        let plus = if (least..=most).contains(&0) { 0 } else { least };
        (least <= most).then(|| Quotient { of: of.clone(), plus, by })
    };
    DIVISORS.into_iter().find_map(fits)
}

/// The whole factors of `products`, and the constant, with which they sum to `values`.
fn fit<const N: usize>(products: [(&Vec<usize>, &Vec<i64>); N], values: &[i64]) -> Option<Extent> {
    let step = |of: &[i64], at: usize| i128::from(of[at]) - i128::from(of[0]);
    let factors =
        factors(products.map(|(_, of)| [1, 2].map(|at| step(of, at))), |at| step(values, at))?;
    let sum = |at: usize| -> i128 {
        products.iter().zip(&factors).map(|((_, of), factor)| i128::from(of[at]) * factor).sum()
    };
    let constant = i128::from(values[0]) - sum(0);
    if !values.iter().enumerate().all(|(at, value)| sum(at) + constant == i128::from(*value)) {
        return None;
    }
    let terms =
        products.iter().zip(&factors).map(|((product, _), factor)| (product.to_vec(), *factor));
    let mut whole = Vec::new();
    for (product, factor) in terms.chain([(vec![], constant)]) {
        whole.push((product, i64::try_from(factor).ok()?));
    }
    Some(Extent::new(whole))
}

/// The whole numbers by which `steps` make the steps `to` of a sum; no zeros.
fn factors<const N: usize>(steps: [[i128; 2]; N], to: impl Fn(usize) -> i128) -> Option<[i128; N]> {
    let whole =
        |number: i128, by: i128| (by != 0 && number % by == 0 && number != 0).then(|| number / by);
    match steps[..] {
        [[a, _]] => Some([whole(to(1), a)?; N]),
        [[a, b], [c, d]] => {
            let by = a * d - b * c;
            let first = whole(to(1) * d - to(2) * c, by)?;
            let second = whole(to(2) * a - to(1) * b, by)?;
            let mut both = [first; N];
            both[N - 1] = second;
            Some(both)
        }
        _ => unreachable!("there are one or two"),
    }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a.abs() } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::super::tests::values;
    use super::super::{Basis, DIVIDED};
    use super::*;

    #[test]
    fn a_window_with_a_stride_is_one_quotient_of_its_axis() {
        for stride in 2..=16 {
            for plus in 0..stride + 3 {
                let mut basis = Basis::dividing(3, 61, 1).unwrap();
                let seen = values(&basis, |sizes| (sizes[1] + plus) / stride);
                let form = basis.solve_or_divide(&seen, &[]).unwrap();
                let (plus, by) = (plus as i64, stride as i64);
                assert_eq!(basis.quotient(3), Some(&Quotient { of: basis.axis(1), plus, by }));
                assert_eq!(form, basis.axis(3));
                assert_eq!(basis.solve(&seen), Some(form), "found again");
            }
        }
    }

    #[test]
    fn quotients_of_quotients_stand_in_sums_and_products() {
        let halved = |sizes: &[usize], axis: usize, times: u32| {
            (0..times).fold(sizes[axis], |length, _| length.div_ceil(2))
        };
        let mut basis = Basis::dividing(3, 61, 1).unwrap();
        for axis in [1, 2] {
            let mut near = basis.axis(axis);
            for times in 1..=5 {
                let seen = values(&basis, |sizes| halved(sizes, axis, times));
                near = basis.solve_or_divide(&seen, &[near]).unwrap();
                assert_eq!(near.terms().1.count(), 1);
            }
        }
        let tokens = |s: &[usize]| s[0] * (halved(s, 1, 5) * halved(s, 2, 5) + 1);
        let form = basis.solve(&values(&basis, tokens)).unwrap();
        assert_eq!(form.terms().1.collect::<Vec<_>>(), [(&[0][..], 1), (&[0, 7, 12], 1)]);
        assert_eq!(basis.solve(&values(&basis, |s| s[0].next_power_of_two())), None);
    }

    #[test]
    fn what_is_rounded_down_to_a_multiple_is_that_of_a_quotient() {
        let mut basis = Basis::dividing(1, 61, 1).unwrap();
        let form = basis.solve_or_divide(&values(&basis, |s| s[0] / 3 * 3), &[]).unwrap();
        assert_eq!(form.terms().1.collect::<Vec<_>>(), [(&[1][..], 3)]);
    }

    #[test]
    fn multiples_are_divided_without_remainders() {
        for (start, step) in DIVIDED.into_iter().filter(|(_, step)| *step > 1) {
            let mut basis = Basis::dividing(2, start, step).unwrap();
            basis.solve_or_divide(&values(&basis, |s| s[0] / step), &[]).unwrap();
            let found = basis.quotient(2).unwrap();
            assert_eq!((found.plus, found.by), (0, step as i64));
        }
    }
}
