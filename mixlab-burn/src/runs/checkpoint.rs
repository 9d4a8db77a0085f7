//! A checkpoint that was written.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{CheckpointError, tensors};
use crate::data::identity::digest;
use crate::files::{read_small_file, regular};
use crate::train::State;

/// Version of the manifest.
pub(super) const FORMAT: u64 = 1;

/// A checkpoint whose files are what its manifest says.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Steps done.
    pub step: usize,
    /// The file of weights.
    pub weights: PathBuf,
    /// The config of the run.
    pub config: Value,
    /// The shards of the run.
    pub data: Value,
    /// The backend and the number format of products.
    pub place: Value,
    /// Everything but the weights.
    pub state: State,
}

/// A checkpoint that was passed over.
#[derive(Clone, Debug, PartialEq)]
pub struct Skipped {
    /// Its manifest.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: String,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.path.display(), self.problem)
    }
}

impl Checkpoint {
    /// The newest whole checkpoint of `folder`, and those after it that are broken.
    ///
    /// # Errors
    /// If there is none.
    pub fn newest(folder: &Path) -> Result<(Self, Vec<Skipped>), CheckpointError> {
        let mut skipped = Vec::new();
        for (_, path) in manifests(folder)?.into_iter().rev() {
            match Self::open(folder, &path) {
                Ok(found) => return Ok((found, skipped)),
                Err(problem) => skipped.push(Skipped { path, problem }),
            }
        }
        let folder = folder.to_owned();
        Err(match skipped.into_iter().next() {
            Some(newest) => CheckpointError::AllBroken { folder, newest: Box::new(newest) },
            None => CheckpointError::None { folder },
        })
    }

    fn open(folder: &Path, path: &Path) -> Result<Self, String> {
        let text = regular(path).and_then(read_small_file).map_err(|error| error.to_string())?;
        let mut manifest: Value = serde_json::from_slice(&text)
            .map_err(|error| format!("it is cut off or no JSON: {error}"))?;
        if manifest["format"] != FORMAT {
            return Err(format!("format `{}` is not `{FORMAT}`", manifest["format"]));
        }
        let [weights, state] = ["weights", "state"].map(|role| checked(folder, &manifest[role]));
        let (weights, state) = (weights?, state?);
        let numbers = manifest["numbers"].as_object().cloned().unwrap_or_default();
        let numbers = numbers.into_iter().map(|(name, value)| {
            let number = value.as_u64().ok_or_else(|| format!("`{name}` is no number"))?;
            Ok((name, number))
        });
        let numbers = numbers.collect::<Result<BTreeMap<_, _>, String>>()?;
        let step = manifest["step"].as_u64().ok_or("it has no step")?;
        if numbers.get("step") != Some(&step) {
            return Err(format!("its step `{step}` is not that of its numbers"));
        }
        Ok(Self {
            step: step as usize,
            weights,
            config: manifest["config"].take(),
            data: manifest["data"].take(),
            place: manifest["place"].take(),
            state: State { tensors: tensors::read(&state)?, numbers },
        })
    }
}

/// The file of an entry of a manifest, which has the size and the digest that it says.
fn checked(folder: &Path, entry: &Value) -> Result<PathBuf, String> {
    let name = entry["file"].as_str().ok_or("it names no file")?;
    let path = folder.join(Path::new(name).file_name().ok_or("it names no file")?);
    let found = regular(&path).and_then(digest);
    let (bytes, sha256) = found.map_err(|error| format!("`{name}`: {error}"))?;
    let size = entry["bytes"].as_u64().unwrap_or(0);
    if bytes != size {
        return Err(format!("`{name}` has `{bytes}` bytes instead of `{size}`"));
    }
    if entry["sha256"] == sha256 {
        Ok(path)
    } else {
        Err(format!("the content of `{name}` is not what was written"))
    }
}

/// Step and manifest of each checkpoint in `folder`, the oldest first; none if there is no folder.
pub(super) fn manifests(folder: &Path) -> Result<Vec<(usize, PathBuf)>, CheckpointError> {
    let failed = |source| CheckpointError::io("read", folder, source);
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let step = name.strip_prefix("step_").and_then(|name| name.strip_suffix(".json"));
        if let Some(step) = step.and_then(|step| step.parse().ok()) {
            found.push((step, path));
        }
    }
    found.sort();
    Ok(found)
}
