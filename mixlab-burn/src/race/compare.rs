//! How sure a difference is: paired comparison, seed by seed.
//!
//! Two configs that were trained with the same seeds on the same data share much of their luck, and
//! the differences of their pairs do without it. Their mean has a 95 % interval of
//! `t₀.₉₇₅(n − 1) · s / √n` to both sides (Student, 1908), `s` being their standard deviation.

use std::collections::HashMap;

use serde::Serialize;

/// Seeds beyond which a difference counts as not worth settling.
pub const SEEDS_AT_MOST: usize = 1000;

/// A config compared with another, the baseline.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Seeds that both were trained with.
    pub pairs: usize,
    /// Mean of its results less those of the baseline; below 0 it is better. `None` without pairs.
    pub difference: Option<f64>,
    /// 95 % interval of that; `None` with fewer than two pairs.
    pub interval: Option<[f64; 2]>,
    /// Whether the interval leaves 0 out.
    pub settled: bool,
    /// Seeds more after which it would, if difference and spread stay as they are; 0 if it does.
    /// `None` with fewer than two pairs, or if even [`SEEDS_AT_MOST`] would not do.
    pub more_seeds: Option<usize>,
}

/// Compares `results` with those of `baseline`, each with its seed.
pub fn compare(results: &[(i64, f64)], baseline: &[(i64, f64)]) -> Comparison {
    let baseline: HashMap<i64, f64> = baseline.iter().copied().collect();
    let pair = |(seed, result): &(i64, f64)| Some(result - baseline.get(seed)?);
    let differences: Vec<f64> = results.iter().filter_map(pair).collect();
    let pairs = differences.len();
    let mean = differences.iter().sum::<f64>() / pairs as f64;
    let (difference, interval) = ((pairs > 0).then_some(mean), None);
    let unknown = Comparison { pairs, difference, interval, settled: false, more_seeds: None };
    if pairs < 2 {
        return unknown;
    }
    let squares: f64 = differences.iter().map(|d| (d - mean).powi(2)).sum();
    let deviation = (squares / (pairs - 1) as f64).sqrt();
    let reach = |n: usize| quantile(n - 1) * deviation / (n as f64).sqrt();
    let settles = |n: &usize| reach(*n) < mean.abs();
    let half = reach(pairs);
    Comparison {
        interval: Some([mean - half, mean + half]),
        settled: settles(&pairs),
        more_seeds: (pairs..=pairs + SEEDS_AT_MOST).find(settles).map(|n| n - pairs),
        ..unknown
    }
}

/// The value that Student's t with `freedom` degrees of freedom exceeds with probability 0.025.
fn quantile(freedom: usize) -> f64 {
    const FEW: [f64; 10] = [
        12.706205, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912, 2.364624, 2.306004, 2.262157,
        2.228139,
    ];
    if let Some(t) = FEW.get(freedom.saturating_sub(1)) {
        return *t;
    }
    // Its expansion about the normal distribution's (Fisher and Cornish, 1960).
    let (n, z) = (freedom as f64, 1.959_963_985_f64);
    let terms = [
        (z.powi(3) + z) / 4.0,
        (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0,
        (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0,
        (79.0 * z.powi(9) + 776.0 * z.powi(7) + 1482.0 * z.powi(5)
            - 1920.0 * z.powi(3)
            - 945.0 * z)
            / 92160.0,
    ];
    z + (1..).zip(terms).map(|(power, term)| term / n.powi(power)).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (freedom, expected) in
            [(1, 12.7062), (4, 2.7764), (11, 2.2010), (20, 2.0860), (100, 1.9840)]
        {
            assert!((quantile(freedom) - expected).abs() < 1e-4, "{freedom}");
        }
    }

    #[test]
    fn pairs_are_made_by_seed_and_the_interval_is_students() {
        let base = [(1, 1.0), (2, 2.0), (3, 3.0), (9, 0.0)];
        let found = compare(&[(3, 3.1), (1, 1.3), (2, 2.2), (7, 0.0)], &base);
        assert_eq!(found.pairs, 3);
        assert!((found.difference.unwrap() - 0.2).abs() < 1e-12);
        // Differences 0.1, 0.2 and 0.3 deviate by 0.1.
        let half = 4.302653 * 0.1 / 3f64.sqrt();
        let [low, high] = found.interval.unwrap();
        assert!((low - (0.2 - half)).abs() < 1e-9 && (high - (0.2 + half)).abs() < 1e-9);
        // With four pairs, 3.182446 · 0.1 / 2 is below 0.2.
        assert_eq!((found.settled, found.more_seeds), (false, Some(1)));
    }

    #[test]
    fn what_cannot_be_known_is_not_said() {
        let none = compare(&[(1, 1.0)], &[(2, 1.0)]);
        assert_eq!((none.pairs, none.difference, none.interval), (0, None, None));
        let one = compare(&[(1, 1.5)], &[(1, 1.0)]);
        assert_eq!((one.difference, one.interval, one.settled), (Some(0.5), None, false));
        let same = compare(&[(1, 1.0), (2, 2.0)], &[(1, 1.0), (2, 2.0)]);
        assert_eq!((same.interval, same.settled, same.more_seeds), (Some([0.0; 2]), false, None));
        let clear = compare(&[(1, 1.0), (2, 1.0)], &[(1, 2.0), (2, 2.0)]);
        assert_eq!((clear.settled, clear.more_seeds), (true, Some(0)));
    }
}
