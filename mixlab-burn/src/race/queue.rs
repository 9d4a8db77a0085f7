//! The folder of a race: what is to be run, what is being run, and what came of it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Outcome, RaceError};
use crate::files::{Lock, read_small_file, regular, replace_file};

/// What is to be run; written when all else is there.
pub(super) const RACE: &str = "race.json";
const CONFIG: &str = "config.json";
const RESULT: &str = "result.json";
const LOCK: &str = "lock";
const METRICS: &str = "metrics.jsonl";
const LOG: &str = "log.txt";

/// One run of a race: a config with a seed, and what is known of it beforehand.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// What the tables call the config; unique among configs.
    pub name: String,
    /// The file that the config was copied from.
    pub source: String,
    /// Seed of initial weights and of the order of the data.
    pub seed: i64,
    /// Fields to override, as `path=value`.
    pub overrides: Vec<String>,
    /// Time that training may take; `None` for the config's number of steps.
    pub seconds: Option<f64>,
    /// Elements of the weights.
    pub parameters: u64,
    /// Training FLOPs of a step.
    pub step_flops: u64,
    /// Training FLOPs of a token.
    pub token_flops: u64,
    /// Whether no position reads a later one; otherwise its loss is not that of a language model.
    pub causal: bool,
}

/// What is the same for all runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Arguments of each run, beside its config.
    pub arguments: Vec<String>,
    /// The folder that paths among them start from.
    pub working_folder: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Written {
    settings: Settings,
    runs: Vec<Entry>,
}

/// The folder of a race. Runs are numbered from 1.
#[derive(Clone, Debug)]
pub struct Queue {
    folder: PathBuf,
    settings: Settings,
    runs: Vec<Entry>,
}

/// What came of asking for a run.
pub enum Take {
    /// It is the caller's.
    Mine(Taken),
    /// It has a result.
    Done,
    /// Another process is at it.
    Elsewhere,
}

/// A run that is the caller's until this is dropped, or the process ends.
#[derive(Debug)]
pub struct Taken {
    lock: Lock,
    folder: PathBuf,
}

impl Queue {
    /// Makes the folder of a race of `runs`, each with the text of its config.
    ///
    /// # Errors
    /// If the folder has something in it or cannot be written.
    pub fn create(
        folder: &Path,
        settings: Settings,
        runs: Vec<(Entry, String)>,
    ) -> Result<Self, RaceError> {
        let write = |path: &Path, source| RaceError::Write { path: path.to_owned(), source };
        fs::create_dir_all(folder).map_err(|e| write(folder, e))?;
        if fs::read_dir(folder).map_err(|e| write(folder, e))?.next().is_some() {
            return Err(RaceError::NotEmpty { folder: folder.to_owned() });
        }
        let count = runs.len();
        Self::fill(folder, settings, runs).inspect_err(|_| {
            // What is half made is no race, and would be in the way of the next try.
            (1..=count).for_each(|run| drop(fs::remove_dir_all(folder.join(run.to_string()))));
        })?;
        Self::open(folder)
    }

    fn fill(
        folder: &Path,
        settings: Settings,
        runs: Vec<(Entry, String)>,
    ) -> Result<(), RaceError> {
        let write = |path: &Path, source| RaceError::Write { path: path.to_owned(), source };
        let mut entries = Vec::with_capacity(runs.len());
        for (number, (entry, config)) in (1..).zip(runs) {
            let path = folder.join(number.to_string());
            fs::create_dir(&path).map_err(|e| write(&path, e))?;
            let path = path.join(CONFIG);
            fs::write(&path, config).map_err(|e| write(&path, e))?;
            entries.push(entry);
        }
        write_json(&folder.join(RACE), &Written { settings, runs: entries })
    }

    /// The race in `folder`.
    ///
    /// # Errors
    /// If there is none or it cannot be read.
    pub fn open(folder: &Path) -> Result<Self, RaceError> {
        let written: Option<Written> = read_json(&folder.join(RACE))?;
        let none = || RaceError::NoRace { folder: folder.to_owned() };
        let Written { settings, runs } = written.ok_or_else(none)?;
        let failed = |source| RaceError::Read { path: folder.to_owned(), source };
        Ok(Self { folder: folder.canonicalize().map_err(failed)?, settings, runs })
    }

    /// The folder, as an absolute path.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What is the same for all runs.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// All runs with their numbers.
    pub fn runs(&self) -> impl ExactSizeIterator<Item = (usize, &Entry)> {
        self.runs.iter().enumerate().map(|(index, run)| (index + 1, run))
    }

    /// Run `number`.
    ///
    /// # Errors
    /// If there is none.
    pub fn run(&self, number: usize) -> Result<&Entry, RaceError> {
        let run = number.checked_sub(1).and_then(|index| self.runs.get(index));
        run.ok_or(RaceError::NoRun { number, count: self.runs.len() })
    }

    /// What came of run `number`, if it is known.
    ///
    /// # Errors
    /// If its result cannot be read.
    pub fn outcome(&self, number: usize) -> Result<Option<Outcome>, RaceError> {
        read_json(&self.folder.join(number.to_string()).join(RESULT))
    }

    /// The outcomes of all runs, in their order.
    ///
    /// # Errors
    /// As [`Queue::outcome`].
    pub fn outcomes(&self) -> Result<Vec<Option<Outcome>>, RaceError> {
        (1..=self.runs.len()).map(|number| self.outcome(number)).collect()
    }

    /// Takes run `number`, unless it is done or another process has taken it.
    ///
    /// # Errors
    /// If there is no such run, or its folder cannot be written.
    pub fn take(&self, number: usize) -> Result<Take, RaceError> {
        self.run(number)?;
        if self.outcome(number)?.is_some() {
            return Ok(Take::Done);
        }
        let folder = self.folder.join(number.to_string());
        let path = folder.join(LOCK);
        let failed = |source| RaceError::Write { path: path.clone(), source };
        let Some(lock) = Lock::take(&path).map_err(failed)? else { return Ok(Take::Elsewhere) };
        if !lock.is_exclusive() {
            // Two workers would do one run.
            return Err(failed(io::Error::new(
                io::ErrorKind::Unsupported,
                "this file system knows no locks",
            )));
        }
        // Another process may have ended it between the look and the lock.
        match self.outcome(number)? {
            Some(_) => Ok(Take::Done),
            None => Ok(Take::Mine(Taken { lock, folder })),
        }
    }
}

impl Taken {
    /// Its config.
    pub fn config(&self) -> PathBuf {
        self.folder.join(CONFIG)
    }

    /// Where its metrics go.
    pub fn metrics(&self) -> PathBuf {
        self.folder.join(METRICS)
    }

    /// Where what it prints goes.
    pub fn log(&self) -> PathBuf {
        self.folder.join(LOG)
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The lock once more: a process that inherits it keeps the run taken as long as it lives.
    ///
    /// # Errors
    /// If the system has no more handles.
    pub fn lock(&self) -> io::Result<File> {
        self.lock.share()
    }

    /// Removes what an earlier try has left.
    ///
    /// # Errors
    /// If a file cannot be removed.
    pub fn clear(&self) -> Result<(), RaceError> {
        for path in [self.metrics(), self.log()] {
            match fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(RaceError::Write { path, source: e });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes what came of it, the last thing that a run does.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(self, outcome: &Outcome) -> Result<(), RaceError> {
        write_json(&self.folder.join(RESULT), outcome)
    }
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), RaceError> {
    let failed = |source| RaceError::Write { path: path.to_owned(), source };
    let text = serde_json::to_string_pretty(value).map_err(|e| failed(e.into()))?;
    replace_file(path, |file| writeln!(file, "{text}")).map_err(failed)
}

/// What `path` holds; `None` if there is no such file.
fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, RaceError> {
    let text = match regular(path).and_then(read_small_file) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|source| RaceError::Read { path: path.to_owned(), source })?,
    };
    let damaged =
        |e: serde_json::Error| RaceError::Damaged { path: path.to_owned(), reason: e.to_string() };
    serde_json::from_slice(&text).map(Some).map_err(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::race::Finished;

    fn race(folder: &Path) -> Queue {
        let run = |seed| (Entry { seed, ..Entry::default() }, "{}".to_string());
        Queue::create(folder, Settings::default(), vec![run(1), run(2)]).unwrap()
    }

    #[test]
    fn a_run_is_taken_once_and_done_once() {
        let folder = tempfile::tempdir().unwrap();
        let queue = race(folder.path());
        let Take::Mine(taken) = queue.take(1).unwrap() else { panic!("nobody has it") };
        assert!(matches!(queue.take(1).unwrap(), Take::Elsewhere));
        drop(taken);
        let Take::Mine(taken) = queue.take(1).unwrap() else { panic!("it was given up") };
        let outcome = Outcome::Done(Finished { last_loss: 0.1 + 0.2, ..Finished::default() });
        taken.finish(&outcome).unwrap();
        assert!(matches!(queue.take(1).unwrap(), Take::Done));
        assert_eq!(queue.outcomes().unwrap(), [Some(outcome), None]);
        assert!(matches!(queue.take(3), Err(RaceError::NoRun { number: 3, count: 2 })));
        assert!(matches!(queue.take(0), Err(RaceError::NoRun { .. })));
    }

    #[test]
    fn a_lock_is_held_as_long_as_one_of_its_copies() {
        let folder = tempfile::tempdir().unwrap();
        let queue = race(folder.path());
        let Take::Mine(taken) = queue.take(2).unwrap() else { panic!("nobody has it") };
        let copy = taken.lock().unwrap();
        drop(taken);
        assert!(matches!(queue.take(2).unwrap(), Take::Elsewhere));
        drop(copy);
        assert!(matches!(queue.take(2).unwrap(), Take::Mine(_)));
    }

    #[test]
    fn a_race_is_read_back_and_never_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let queue = race(folder.path());
        assert_eq!(Queue::open(folder.path()).unwrap().runs, queue.runs);
        let again = Queue::create(folder.path(), Settings::default(), Vec::new());
        let error = again.unwrap_err();
        assert!(matches!(error, RaceError::NotEmpty { .. }));
        assert!(error.to_string().contains("`--resume "), "{error}");
        let elsewhere = Queue::open(&folder.path().join("1"));
        assert!(matches!(elsewhere, Err(RaceError::NoRace { .. })));
        fs::write(folder.path().join("1/result.json"), "{").unwrap();
        assert!(matches!(queue.take(1), Err(RaceError::Damaged { .. })));
        // As if its making had been broken off.
        fs::remove_file(folder.path().join(RACE)).unwrap();
        let half = Queue::create(folder.path(), Settings::default(), Vec::new()).unwrap_err();
        assert!(half.to_string().contains("no whole race"), "{half}");
    }
}
