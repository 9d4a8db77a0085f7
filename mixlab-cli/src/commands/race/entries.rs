//! From a folder of configs to the runs of a race.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use mixlab_burn::blocks::Block;
use mixlab_burn::files::read_small_file;
use mixlab_burn::plan::{Plan, Planned};
use mixlab_burn::program::Counts;
use mixlab_burn::race::{Entry, configs};
use serde_json::json;

use crate::cli;

/// The runs of a race, by seed and then by config: after a while all configs have been met.
pub struct Entries {
    /// How many configs there are.
    pub configs: usize,
    /// Each run with the text of its config.
    pub runs: Vec<(Entry, String)>,
    /// Numbers of runs that need not be tried, and why.
    pub refused: Vec<(usize, String)>,
}

/// A config as its file has it.
struct Candidate<K> {
    source: String,
    text: String,
    /// What it says, or what is wrong.
    plan: Result<Arc<Plan<K>>, String>,
}

/// Reads all configs of `folder`.
pub fn of<K: Block>(options: &cli::Race, folder: &Path) -> anyhow::Result<Entries> {
    let paths = configs(folder)?;
    let candidates: Vec<Candidate<K>> =
        paths.iter().map(|path| candidate(options, path)).collect::<anyhow::Result<_>>()?;
    warn_of_different_terms(options, &candidates);
    let names = names(&candidates);
    let (mut runs, mut refused) = (Vec::new(), Vec::new());
    for turn in 0..options.seeds as i64 {
        for (candidate, name) in candidates.iter().zip(&names) {
            let (entry, problem) = candidate.entry(options, name, turn)?;
            runs.push((entry, candidate.text.clone()));
            refused.extend(problem.map(|problem| (runs.len(), problem)));
        }
    }
    Ok(Entries { configs: candidates.len(), runs, refused })
}

fn candidate<K: Block>(options: &cli::Race, path: &Path) -> anyhow::Result<Candidate<K>> {
    let source = path.to_str().context("the name of a config is not UTF-8\n  hint: rename it")?;
    // Why it cannot be read, the plan says.
    let text = read_small_file(path).unwrap_or_default();
    let plan = match Plan::<K>::read(source, &options.set) {
        Ok(Planned { plan, .. }) => Ok(Arc::new(plan)),
        Err(error) => Err(error.to_string()),
    };
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok(Candidate { source: source.into(), text, plan })
}

/// A name for each: the config's, with its file where several have the same.
fn names<K: Block>(candidates: &[Candidate<K>]) -> Vec<String> {
    let name = |candidate: &Candidate<K>| match &candidate.plan {
        Ok(plan) => plan.name.clone(),
        Err(_) => candidate.source.clone(),
    };
    let mut count: HashMap<String, usize> = HashMap::new();
    candidates.iter().for_each(|candidate| *count.entry(name(candidate)).or_default() += 1);
    let unique = |candidate: &Candidate<K>| match name(candidate) {
        name if count[&name] > 1 => format!("{name} ({})", candidate.source),
        name => name,
    };
    candidates.iter().map(unique).collect()
}

/// Says where configs are not trained on the same terms, which may be what is wanted.
fn warn_of_different_terms<K: Block>(options: &cli::Race, candidates: &[Candidate<K>]) {
    let differ = |of: &dyn Fn(&Plan<K>) -> i64| {
        let mut values =
            candidates.iter().filter_map(|c| c.plan.as_ref().ok()).map(|plan| of(plan));
        let first = values.next();
        values.any(|value| Some(value) != first)
    };
    if options.budget.is_none() && differ(&|plan| plan.training.steps as i64) {
        eprintln!(
            "warning: the configs train for different numbers of steps\n  hint: `--budget tokens=N` or `--set training.steps=N` makes them equal"
        );
    }
    if options.seeds > 1 && differ(&|plan| plan.training.seed) {
        eprintln!(
            "warning: the configs have different seeds, and no pairs to compare\n  hint: `--set training.seed=N` makes them equal"
        );
    }
    if differ(&|plan| plan.vocab as i64) {
        eprintln!(
            "warning: the configs have different vocabularies: losses per token do not compare"
        );
    }
}

impl<K: Block> Candidate<K> {
    /// The run with seed number `turn`, and why it need not be tried, if so.
    fn entry(
        &self,
        options: &cli::Race,
        name: &str,
        turn: i64,
    ) -> anyhow::Result<(Entry, Option<String>)> {
        let blank = Entry { name: name.into(), source: self.source.clone(), ..Entry::default() };
        let plan = match &self.plan {
            Ok(plan) => plan,
            Err(reason) => {
                return Ok((Entry { seed: turn, causal: true, ..blank }, Some(reason.clone())));
            }
        };
        let counts = Counts::of(plan)?;
        let seed = plan.training.seed.wrapping_add(turn);
        // The copy of the config would have another name, and the file's is the default.
        let mut overrides = options.set.clone();
        overrides.push(format!("name={}", json!(plan.name)));
        overrides.push(format!("training.seed={seed}"));
        let steps = options.budget.and_then(|budget| budget.steps(&counts));
        overrides.extend(steps.into_iter().flat_map(|steps| set_steps(plan, steps)));
        let entry = Entry {
            seed,
            overrides,
            seconds: options.budget.and_then(|budget| budget.seconds()),
            parameters: counts.parameters as u64,
            step_flops: counts.training_flops(),
            token_flops: counts.flops_per_token(),
            causal: plan.is_causal(),
            ..blank
        };
        Ok((entry, None))
    }
}

/// The overrides with which a plan trains for `steps`; phases are stretched alike.
pub fn set_steps<K: Block>(plan: &Plan<K>, steps: u64) -> Vec<String> {
    let phases = &plan.training.phases;
    if phases.is_empty() {
        return vec![format!("training.steps={steps}")];
    }
    let all = plan.training.steps as f64;
    let share = |phase: usize| (phase as f64 * steps as f64 / all).round().max(1.0);
    let phases = phases.iter().enumerate();
    phases.map(|(i, phase)| format!("training.phases[{i}].steps={}", share(phase.steps))).collect()
}
