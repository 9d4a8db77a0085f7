//! Checkpoints are written by a thread: training goes on once their numbers are copied.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use burn::tensor::TensorData;
use mixlab_ops::Backend;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::checkpoint::{FORMAT, manifests};
use super::queue::{Entrance, Exit, queue};
use super::{CheckpointError, tensors};
use crate::data::identity::hex;
use crate::files::{Lock, clear, replace_file};
use crate::train::{Held, Snapshot};
use crate::weights::{Metadata, Weight, header};

/// What a checkpoint says of its run.
#[derive(Clone, Debug)]
pub struct About {
    /// The config.
    pub config: Value,
    /// The shards, as [`identity`](crate::data::identity::identity) tells them.
    pub data: Value,
    /// The backend and the number format of products.
    pub place: Value,
    /// What the file of weights says of itself.
    pub metadata: Metadata,
}

/// A checkpoint that was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Done {
    /// The file of its weights.
    pub weights: PathBuf,
    /// Tensors in that file.
    pub tensors: usize,
}

/// Writes checkpoints to a folder that is its own as long as it lives.
pub struct Writer {
    /// Taken on drop: the thread then ends.
    entrance: Option<Entrance<Message>>,
    outcomes: Receiver<Result<Done, CheckpointError>>,
    thread: Option<JoinHandle<()>>,
    /// Checkpoints that are being written.
    open: usize,
    metadata: Metadata,
    /// Held until the process ends, however that may be.
    _lock: Lock,
}

/// What goes to the thread: first what is coming, then all of that, in order.
enum Message {
    Begin(Box<Task>),
    Tensor(TensorData),
}

struct Task {
    step: usize,
    /// Header of the file of weights, and its tensors.
    weights: (String, usize),
    /// The same of the state.
    state: (String, usize),
    numbers: Value,
}

impl Writer {
    /// Takes `folder` for the checkpoints of one run, and keeps the newest `keep` of them. Between device
    /// and disk there are at most `memory` bytes; where that is less than a checkpoint, training waits
    /// for the disk.
    ///
    /// # Errors
    /// If it cannot be written to, or another run writes there.
    pub fn start(
        folder: &Path,
        keep: Option<usize>,
        memory: usize,
        about: About,
    ) -> Result<Self, CheckpointError> {
        fs::create_dir_all(folder).map_err(|e| CheckpointError::io("make", folder, e))?;
        let lock = lock(folder)?;
        let (entrance, exit) = queue(memory);
        let (done, outcomes) = channel();
        let metadata = about.metadata.clone();
        let desk = Desk { folder: folder.to_owned(), keep, about };
        let thread = std::thread::spawn(move || desk.serve(&exit, &done));
        Ok(Self {
            entrance: Some(entrance),
            outcomes,
            thread: Some(thread),
            open: 0,
            metadata,
            _lock: lock,
        })
    }

    /// The newest step that `folder` has a checkpoint of.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn latest(folder: &Path) -> Result<Option<usize>, CheckpointError> {
        Ok(manifests(folder)?.last().map(|(step, _)| *step))
    }

    /// Copies a run to host memory, from where it is written meanwhile.
    pub fn write<B: Backend>(&mut self, snapshot: Snapshot<B>) {
        let Snapshot { weights, tensors: state, numbers } = snapshot;
        let named = weights.iter().map(|held| {
            let name = held.name.split_once('_').map_or("", |(_, name)| name);
            Weight::new(name.into(), held.shape.clone())
        });
        let named: Vec<Weight> = named.collect();
        let task = Task {
            step: numbers.get("step").copied().unwrap_or(0) as usize,
            weights: (header(&named, &self.metadata), weights.len()),
            state: (tensors::header(&state), state.len()),
            numbers: json!(numbers),
        };
        self.open += 1;
        let entrance = self.entrance.as_ref().expect("taken on drop only");
        // If the thread is gone, its outcome says so.
        let _ = entrance.put(Message::Begin(Box::new(task)), 0);
        for held in weights.into_iter().chain(state) {
            let data = Held::read(held);
            let bytes = data.as_bytes().len();
            let _ = entrance.put(Message::Tensor(data), bytes);
        }
    }

    /// What became of checkpoints since the last time this was asked.
    pub fn outcomes(&mut self) -> Vec<Result<Done, CheckpointError>> {
        let outcomes: Vec<_> = self.outcomes.try_iter().collect();
        self.open -= outcomes.len();
        outcomes
    }

    /// Waits for those that are being written.
    pub fn finish(self) -> Vec<Result<Done, CheckpointError>> {
        (0..self.open).filter_map(|_| self.outcomes.recv().ok()).collect()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.entrance = None;
        if let Some(thread) = self.thread.take() {
            // It has no panics of its own, and its outcomes are of no use any more.
            let _ = thread.join();
        }
    }
}

/// Where the thread works.
struct Desk {
    folder: PathBuf,
    keep: Option<usize>,
    about: About,
}

impl Desk {
    fn serve(&self, exit: &Exit<Message>, done: &Sender<Result<Done, CheckpointError>>) {
        while let Some(message) = exit.take(|message| message) {
            let Message::Begin(task) = message else { continue };
            let count = task.weights.1 + task.state.1;
            let mut pending = Pending { exit, count };
            let outcome = self.checkpoint(&task, &mut pending);
            if outcome.is_err() {
                self.drop_parts(task.step);
            }
            // Of a failed one the rest is thrown away.
            while pending.next(|_| Ok(())).is_ok() {}
            if done.send(outcome).is_err() {
                return;
            }
        }
    }

    /// The path of a file of the checkpoint of `step`.
    fn at(&self, step: usize, ending: &str) -> PathBuf {
        self.folder.join(format!("step_{step:06}.{ending}"))
    }

    /// Removes what there is of a checkpoint that has no manifest: the next one may need the room.
    fn drop_parts(&self, step: usize) {
        if !self.at(step, "json").exists() {
            for ending in ["state", "st"] {
                // The error that matters is told already.
                let _ = remove(&self.at(step, ending));
            }
        }
    }

    fn checkpoint(&self, task: &Task, pending: &mut Pending<'_>) -> Result<Done, CheckpointError> {
        let [weights, state, manifest] =
            ["st", "state", "json"].map(|ending| self.at(task.step, ending));
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| CheckpointError::io("write", &path, source)
        };
        // A manifest of an earlier attempt would be of other files.
        remove(&manifest).map_err(failed(&manifest))?;
        let of_weights = file(&weights, &task.weights, pending).map_err(failed(&weights))?;
        let of_state = file(&state, &task.state, pending).map_err(failed(&state))?;
        let about = &self.about;
        let text = json!({
            "format": FORMAT,
            "program": concat!("mixlab-burn ", env!("CARGO_PKG_VERSION")),
            "step": task.step,
            "config": about.config,
            "data": about.data,
            "place": about.place,
            "numbers": task.numbers,
            "weights": of_weights,
            "state": of_state,
        });
        sync(&self.folder);
        let written = replace_file(&manifest, |file| writeln!(file, "{text:#}"));
        written.map_err(failed(&manifest))?;
        sync(&self.folder);
        self.forget()?;
        Ok(Done { weights, tensors: task.weights.1 })
    }

    /// Removes all but the newest checkpoints, their manifests first.
    fn forget(&self) -> Result<(), CheckpointError> {
        let Some(keep) = self.keep else { return Ok(()) };
        let all = manifests(&self.folder)?;
        for (_, manifest) in &all[..all.len().saturating_sub(keep.max(1))] {
            for path in ["json", "state", "st"].map(|ending| manifest.with_extension(ending)) {
                remove(&path).map_err(|source| CheckpointError::io("remove", &path, source))?;
            }
        }
        Ok(())
    }
}

/// The tensors of a checkpoint that have not come yet.
struct Pending<'a> {
    exit: &'a Exit<Message>,
    count: usize,
}

impl Pending<'_> {
    fn next(&mut self, use_it: impl FnOnce(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let ended = || io::Error::other("the run ended while it was copied");
        self.count = self.count.checked_sub(1).ok_or_else(ended)?;
        let taken = self.exit.take(|message| match message {
            Message::Tensor(data) => use_it(data.as_bytes()),
            Message::Begin(_) => Err(ended()),
        });
        taken.unwrap_or_else(|| Err(ended()))
    }
}

/// Writes a file of a header and the next tensors, so many; returns its entry in the manifest.
fn file(
    path: &Path,
    (header, count): &(String, usize),
    pending: &mut Pending<'_>,
) -> io::Result<Value> {
    let (mut hasher, mut bytes) = (Sha256::new(), 0);
    replace_file(path, |file| {
        let mut write = |part: &[u8]| {
            hasher.update(part);
            bytes += part.len();
            file.write_all(part)
        };
        write(&(header.len() as u64).to_le_bytes())?;
        write(header.as_bytes())?;
        (0..*count).try_for_each(|_| pending.next(&mut write))
    })?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(json!({"file": name, "bytes": bytes, "sha256": hex(&hasher.finalize())}))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Makes renames in a folder last, where the system can.
fn sync(folder: &Path) {
    if let Ok(folder) = File::open(folder) {
        // Not all systems sync folders; files are synced already.
        let _ = folder.sync_all();
    }
}

/// Takes `folder` for this process, and clears away what one left that was killed while it wrote.
fn lock(folder: &Path) -> Result<Lock, CheckpointError> {
    let path = folder.join(".lock");
    let taken = Lock::take(&path).map_err(|source| CheckpointError::io("write", &path, source))?;
    let lock = taken.ok_or_else(|| CheckpointError::Locked { folder: folder.into() })?;
    clear(folder);
    Ok(lock)
}
