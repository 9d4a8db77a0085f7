//! The table of a race.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Entry, Finished, Outcome};

/// What all runs of one config reached: means over its seeds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Standing {
    /// The config.
    pub name: String,
    /// Elements of its weights.
    pub parameters: u64,
    /// Training FLOPs of a step.
    pub step_flops: u64,
    /// Training FLOPs of a token.
    pub token_flops: u64,
    /// Runs that were trained to their end.
    pub runs: usize,
    /// Runs that failed.
    pub failed: usize,
    /// Mean loss of the first step.
    pub first_loss: f64,
    /// Mean loss of the last step.
    pub last_loss: f64,
    /// Mean last validation loss, if all runs had one.
    pub val_loss: Option<f64>,
    /// Mean of what they are ranked by.
    pub key: f64,
    /// Standard error of that mean; `None` for a single run.
    pub standard_error: Option<f64>,
    /// Mean time of training.
    pub seconds: f64,
    /// What each run is ranked by, with its seed.
    pub keys: Vec<(i64, f64)>,
}

/// A config none of whose runs came to its end.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Failure {
    /// The config.
    pub name: String,
    /// Why, without repetitions.
    pub reasons: Vec<String>,
}

/// All configs of a race.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Ranking {
    /// Language models, the best first.
    pub ranked: Vec<Standing>,
    /// Models that see the tokens that they predict, the lowest loss first: no rank among the others.
    pub seeing_the_future: Vec<Standing>,
    /// What failed, in the order of the race.
    pub failures: Vec<Failure>,
    /// Runs without a result.
    pub open: usize,
}

impl Ranking {
    /// The table of `runs`, each with its outcome if it is known.
    pub fn of<'a>(runs: impl Iterator<Item = (&'a Entry, Option<Outcome>)>) -> Self {
        let mut ranking = Self::default();
        let mut configs: Vec<(&Entry, Vec<(i64, Outcome)>)> = Vec::new();
        let mut places = BTreeMap::new();
        for (entry, outcome) in runs {
            let place = *places.entry(&entry.name).or_insert_with(|| {
                configs.push((entry, Vec::new()));
                configs.len() - 1
            });
            match outcome {
                Some(outcome) => configs[place].1.push((entry.seed, outcome)),
                None => ranking.open += 1,
            }
        }
        for (entry, outcomes) in configs {
            ranking.add(entry, outcomes);
        }
        for list in [&mut ranking.ranked, &mut ranking.seeing_the_future] {
            list.sort_by(|a, b| a.key.total_cmp(&b.key));
        }
        ranking
    }

    fn add(&mut self, entry: &Entry, outcomes: Vec<(i64, Outcome)>) {
        let (mut finished, mut reasons, mut failed) = (Vec::new(), Vec::new(), 0);
        for (seed, outcome) in outcomes {
            match outcome {
                Outcome::Done(run) => finished.push((seed, run)),
                Outcome::Failed { reason, .. } => {
                    failed += 1;
                    if !reasons.contains(&reason) {
                        reasons.push(reason);
                    }
                }
            }
        }
        match Standing::of(entry, &finished, failed) {
            Some(standing) if entry.causal => self.ranked.push(standing),
            Some(standing) => self.seeing_the_future.push(standing),
            None if failed == 0 => {}
            None => self.failures.push(Failure { name: entry.name.clone(), reasons }),
        }
    }

    /// The standing of config `name`.
    pub fn standing(&self, name: &str) -> Option<&Standing> {
        self.ranked.iter().chain(&self.seeing_the_future).find(|standing| standing.name == name)
    }
}

impl Standing {
    fn of(entry: &Entry, finished: &[(i64, Finished)], failed: usize) -> Option<Self> {
        let runs = finished.len();
        if runs == 0 {
            return None;
        }
        let mean = |of: &dyn Fn(&Finished) -> f64| {
            finished.iter().map(|(_, run)| of(run)).sum::<f64>() / runs as f64
        };
        let validated = finished.iter().all(|(_, run)| run.val_loss.is_some());
        // All by the same measure, or their mean would be of two.
        let key = |run: &Finished| if validated { run.key() } else { run.last_loss };
        let keys: Vec<(i64, f64)> = finished.iter().map(|(seed, run)| (*seed, key(run))).collect();
        let average = mean(&key);
        let squares: f64 = keys.iter().map(|(_, key)| (key - average).powi(2)).sum();
        let error = (squares / (runs.max(2) - 1) as f64 / runs as f64).sqrt();
        Some(Self {
            name: entry.name.clone(),
            parameters: entry.parameters,
            step_flops: entry.step_flops,
            token_flops: entry.token_flops,
            runs,
            failed,
            first_loss: mean(&|run| run.first_loss),
            last_loss: mean(&|run| run.last_loss),
            val_loss: validated.then_some(average),
            key: average,
            standard_error: (runs > 1).then_some(error),
            seconds: mean(&|run| run.seconds),
            keys,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(last_loss: f64, val_loss: Option<f64>) -> Option<Outcome> {
        Some(Outcome::Done(Finished { last_loss, val_loss, ..Finished::default() }))
    }

    fn entry(name: &str, seed: i64, causal: bool) -> Entry {
        Entry { name: name.into(), seed, causal, ..Entry::default() }
    }

    #[test]
    fn the_best_comes_first_and_what_sees_the_future_apart() {
        let broken = || Some(Outcome::Failed { reason: "no".into(), config: true });
        let runs = [
            (entry("a", 1, true), done(2.0, Some(4.0))),
            (entry("a", 2, true), done(2.0, Some(2.0))),
            (entry("b", 1, true), done(1.0, Some(1.0))),
            (entry("b", 2, true), broken()),
            (entry("c", 1, false), done(0.1, None)),
            (entry("d", 1, true), broken()),
            (entry("d", 2, true), broken()),
            (entry("e", 1, true), None),
        ];
        let ranking = Ranking::of(runs.iter().map(|(run, outcome)| (run, outcome.clone())));
        let names = |list: &[Standing]| list.iter().map(|s| s.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&ranking.ranked), ["b", "a"]);
        assert_eq!(names(&ranking.seeing_the_future), ["c"]);
        assert_eq!(ranking.failures, [Failure { name: "d".into(), reasons: vec!["no".into()] }]);
        assert_eq!(ranking.open, 1);
        let [b, a] = [&ranking.ranked[0], &ranking.ranked[1]];
        assert_eq!((b.runs, b.failed, b.standard_error), (1, 1, None));
        // 4 and 2: a deviation of √2, over √2.
        assert_eq!((a.key, a.val_loss), (3.0, Some(3.0)));
        assert!((a.standard_error.unwrap() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn without_validation_in_one_run_all_count_by_their_last_loss() {
        let runs =
            [(entry("a", 1, true), done(2.0, Some(9.0))), (entry("a", 2, true), done(4.0, None))];
        let ranking = Ranking::of(runs.iter().map(|(run, outcome)| (run, outcome.clone())));
        assert_eq!((ranking.ranked[0].key, ranking.ranked[0].val_loss), (3.0, None));
    }
}
