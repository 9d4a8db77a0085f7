//! `arch_race`: train several configs on the same terms, and rank them.
//!
//! Each run is a process of its own, `arch` with the run's config: one that fails, runs out of
//! memory or is killed is a row of the table, and the race goes on.

mod entries;
mod process;
mod run;
mod table;

use std::collections::HashSet;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use mixlab_burn::blocks::Block;
use mixlab_burn::data::pattern;
use mixlab_burn::race::{Entry, Outcome, Queue, Ranking, Settings, Take};

use crate::backend::BackendName;
use crate::cli;
use crate::commands::shards::DEMO;
use crate::commands::spool::is_pipe;
use crate::error::{Request, Stopped, printable};
use crate::interrupt;
use run::{Ending, Run};

/// Set on Ctrl-C or SIGTERM: runs in progress are ended, and their folders left open.
static STOP: AtomicBool = AtomicBool::new(false);

/// The flag with the name of the folder of checkpoints in that of each run.
const CHECKPOINTS: &str = "checkpoint-dir";

/// The flag with the name of the file of trained weights in the folder of each run.
const WEIGHTS: &str = "safetensors";

/// Time between looks at what other workers have done.
const PATIENCE: Duration = Duration::from_secs(1);

pub fn run<K: Block>(options: &cli::Race) -> anyhow::Result<()> {
    interrupt::act(|| STOP.store(true, Ordering::Relaxed))?;
    if let Some(path) = &options.run {
        return one(options, path);
    }
    if let Some(folder) = &options.worker {
        let queue = Queue::open(folder)?;
        work(options, &queue)?;
        return Ok(());
    }
    let queue = match (&options.resume, &options.configs) {
        (Some(folder), _) => Queue::open(folder)?,
        (None, Some(configs)) => create::<K>(options, configs)?,
        (None, None) => unreachable!("clap asks for one of them"),
    };
    let baseline =
        options.baseline.as_deref().map(|name| baseline(&entries(&queue), name)).transpose()?;
    let outcomes = queue.outcomes()?;
    let done = outcomes.iter().flatten().count();
    if options.resume.is_some() && options.talks() {
        println!(
            "=== ARCH RACE: {done} of {} runs done in {} ===",
            outcomes.len(),
            queue.folder().display()
        );
    }
    while !work(options, &queue)? {
        // Others are at what is left, or will leave it open.
        std::thread::sleep(PATIENCE);
        stopped(&queue)?;
    }
    let outcomes = queue.outcomes()?;
    let ranking = Ranking::of(queue.runs().map(|(_, run)| run).zip(outcomes.iter().cloned()));
    table::print(options, &ranking, baseline.as_deref());
    if outcomes.iter().flatten().any(|outcome| matches!(outcome, Outcome::Done(_))) {
        return Ok(());
    }
    let folder = queue.folder().display();
    let message = format!("every run failed\n  hint: the table says why; logs lie in `{folder}`");
    let wrong = |outcome: &Outcome| matches!(outcome, Outcome::Failed { config: true, .. });
    if outcomes.iter().flatten().all(wrong) {
        // Another try would end as this one did.
        return Err(Request(message).into());
    }
    anyhow::bail!(message)
}

/// What there is to be run.
fn entries(queue: &Queue) -> Vec<&Entry> {
    queue.runs().map(|(_, entry)| entry).collect()
}

/// Reads the configs and makes the folder of their race.
fn create<K: Block>(options: &cli::Race, configs: &Path) -> anyhow::Result<Queue> {
    options.quantize.rule().map_err(Request)?;
    let shards = &options.training.shards;
    if let Some(pipe) = shards.train.iter().chain(&shards.val).find(|given| is_pipe(given)) {
        return Err(Request(format!(
            "`{pipe}` is a pipe, which only one run can read\n  hint: write the shard to a file"
        ))
        .into());
    }
    if configs.is_file() {
        let path = configs.display();
        let hint = "name its folder; `arch --config` trains a single config";
        return Err(Request(format!("`--configs {path}` is a file\n  hint: {hint}")).into());
    }
    let entries = entries::of::<K>(options, configs)?;
    if let Some(name) = &options.baseline {
        baseline(&entries.runs.iter().map(|(entry, _)| entry).collect::<Vec<_>>(), name)?;
    }
    find_inputs(options)?;
    let folder = match &options.output {
        Some(folder) => folder.clone(),
        None => (1..)
            .map(|n| PathBuf::from(format!("race-{n}")))
            .find(|f| !f.exists())
            .expect("numbers do not end"),
    };
    let settings = Settings {
        arguments: arguments(options)?,
        working_folder: std::env::current_dir().context("cannot tell the working folder")?,
    };
    let (count, runs) = (entries.configs, entries.runs.len());
    let queue = Queue::create(&folder, settings, entries.runs)?;
    for (number, reason) in entries.refused {
        if let Take::Mine(taken) = queue.take(number)? {
            taken.finish(&Outcome::Failed { reason, config: true })?;
        }
    }
    if options.talks() {
        println!("=== ARCH RACE: {count} configs from {} ===", configs.display());
        println!();
        println!("{runs} runs in {}", folder.display());
    }
    Ok(queue)
}

/// Refuses data and weights that no run would find.
fn find_inputs(options: &cli::Race) -> anyhow::Result<()> {
    let shards = &options.training.shards;
    for (given, part) in [(&shards.train, "train"), (&shards.val, "val")] {
        let shards: Vec<_> = given.iter().filter(|given| *given != DEMO).collect();
        let patterns: Vec<_> = shards.iter().map(|given| pattern::in_folder(given, part)).collect();
        if !patterns.is_empty() {
            pattern::expand(&patterns)?;
        }
    }
    if let Some(path) = &options.safetensors_load {
        let failed = || format!("cannot read `{}`\n  hint: check the path", path.display());
        std::fs::metadata(path).with_context(failed)?;
    }
    Ok(())
}

/// What each run is told beside its config.
fn arguments(options: &cli::Race) -> anyhow::Result<Vec<String>> {
    let training = &options.training;
    let mut arguments = Vec::new();
    let mut add = |flag: &str, value: &str| arguments.push(format!("--{flag}={value}"));
    training.shards.train.iter().for_each(|glob| add("train", glob));
    training.shards.val.iter().for_each(|glob| add("val", glob));
    add("backend", training.machine.compute.backend.name());
    if let Some(precision) = training.machine.precision {
        add("precision", precision.name());
    }
    if let Some(path) = &options.safetensors_load {
        add("safetensors-load", path.to_str().context("a path is not UTF-8\n  hint: rename it")?);
    }
    add("log-every", &training.log_every.to_string());
    add("val-every", &training.val_every.to_string());
    if let Some(path) = &training.lut_dir {
        add("lut-dir", path.to_str().context("a path is not UTF-8\n  hint: rename it")?);
    }
    if let Some(name) = options.checkpoints() {
        add(CHECKPOINTS, name.to_str().context("a path is not UTF-8\n  hint: rename it")?);
        add("checkpoint-every", &options.saving.checkpoint_every.to_string());
    }
    if let Some(name) = options.weights() {
        add(WEIGHTS, name.to_str().context("a path is not UTF-8\n  hint: rename it")?);
    }
    if let Some(keep) = options.saving.keep {
        add("keep", &keep.to_string());
    }
    arguments.extend(options.quantize.flags());
    if training.eval {
        arguments.push("--eval".into());
    }
    if training.shards.raw_u16 {
        arguments.push("--raw-u16".into());
    }
    if training.timing {
        arguments.push("--timing".into());
    }
    if training.force {
        arguments.push("--force".into());
    }
    Ok(arguments)
}

/// Does the run whose folder is `path`; how it ends is for a scheduler to act on.
fn one(options: &cli::Race, path: &Path) -> anyhow::Result<()> {
    let wrong = || {
        Request(format!(
            "`{}` is no run of a race\n  hint: name one by its number in the folder of the race, as in `--run race-1/7`",
            path.display()
        ))
    };
    let number = path.file_name().and_then(|name| name.to_str()?.parse::<usize>().ok());
    let number = number.ok_or_else(wrong)?;
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let queue = Queue::open(folder.unwrap_or(Path::new(".")))?;
    queue.run(number)?;
    match queue.take(number)? {
        Take::Done => {}
        Take::Elsewhere => return Err(Stopped("another process is at this run".into()).into()),
        Take::Mine(taken) => {
            let run = Run { queue: &queue, number, options, slot: 0, jobs: 1 };
            if let Ending::Stopped = run.train(taken)? {
                return Err(Stopped("the run was stopped".into()).into());
            }
        }
    }
    match queue.outcome(number)? {
        Some(Outcome::Failed { reason, config: true }) => Err(Request(reason).into()),
        Some(Outcome::Failed { reason, .. }) => anyhow::bail!(reason),
        _ => Ok(()),
    }
}

/// Does every run that is open, as many at once as there are to be. Returns whether all have a result.
fn work(options: &cli::Race, queue: &Queue) -> anyhow::Result<bool> {
    let jobs = options.jobs.min(queue.runs().len()).max(1);
    let next = Mutex::new(queue.runs().map(|(number, _)| number));
    let worker = |slot: usize| -> anyhow::Result<()> {
        loop {
            let Some(number) = next.lock().expect("nobody panics with it").next() else {
                return Ok(());
            };
            stopped(queue)?;
            if let Take::Mine(taken) = queue.take(number)? {
                let run = Run { queue, number, options, slot, jobs };
                run.announce();
                if let Ending::Stopped = run.train(taken)? {
                    return stopped(queue);
                }
                run.tell()?;
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|slot| scope.spawn(move || worker(slot))).collect();
        let ended = workers.into_iter().map(|worker| worker.join().expect("workers do not panic"));
        ended.collect::<Vec<_>>().into_iter().collect::<anyhow::Result<()>>()
    })?;
    Ok(queue.outcomes()?.iter().all(Option::is_some))
}

/// An error if the race was stopped.
fn stopped(queue: &Queue) -> anyhow::Result<()> {
    if !STOP.load(Ordering::Relaxed) {
        return Ok(());
    }
    let folder = queue.folder().display();
    Err(Stopped(format!("the race was stopped\n  hint: go on with it by `--resume {folder}`"))
        .into())
}

/// The name of the config of `entries` that `name` means: its name, its file, or its file without the
/// ending.
fn baseline(entries: &[&Entry], name: &str) -> anyhow::Result<String> {
    let means = |source: &str| {
        let path = Path::new(source);
        source == name
            || [path.file_name(), path.file_stem()].into_iter().flatten().any(|part| part == name)
    };
    let by_name = entries.iter().find(|entry| entry.name == name);
    let found = by_name.or_else(|| entries.iter().find(|entry| means(&entry.source)));
    let found = found.map(|entry| entry.name.clone());
    found.ok_or_else(|| {
        let mut seen = HashSet::new();
        let names: Vec<&str> = entries
            .iter()
            .map(|entry| entry.name.as_str())
            .filter(|name| seen.insert(*name))
            .collect();
        let message = format!(
            "`--baseline {name}` is no config of this race\n  hint: its configs are `{}`",
            names.join("`, `")
        );
        Request(printable(&message)).into()
    })
}

/// Device or share of the processor for the worker in place `slot` of `jobs`.
fn placement(options: &cli::Race, slot: usize, jobs: usize) -> anyhow::Result<Vec<String>> {
    let compute = &options.training.machine.compute;
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let on_processor = matches!(compute.backend.resolve()?, BackendName::Cpu | BackendName::Candle);
    let threads = match (compute.threads, on_processor && jobs > 1) {
        (Some(threads), _) => Some(threads),
        (None, true) => Some((cores / jobs).max(1)),
        (None, false) => None,
    };
    let device = if on_processor {
        compute.device
    } else {
        compute.device + slot % compute.backend.devices()?
    };
    let threads = threads.map(|threads| format!("--threads={threads}"));
    Ok([format!("--device={device}")].into_iter().chain(threads).collect())
}
