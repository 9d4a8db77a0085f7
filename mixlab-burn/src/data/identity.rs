//! Which shards a run reads, to notice when they are others.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::DataError;
use super::pattern::expand;
use super::shard::ShardError;

/// Name, size and SHA-256 of each shard that `patterns` name, in the order in which loaders take them,
/// as JSON. Reads all of them, several at a time.
///
/// # Errors
/// If no shard matches or one cannot be read.
pub fn identity(patterns: &[String]) -> Result<Value, DataError> {
    let paths = expand(patterns)?;
    let of = |path: &PathBuf| -> Result<Value, DataError> {
        let failed = |source| ShardError::Io { path: path.clone(), source };
        let (bytes, sha256) = digest(path).map_err(failed)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Ok(json!({"file": name, "bytes": bytes, "sha256": sha256}))
    };
    // Threads of its own: how many compute is not decided yet.
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let found: Vec<Value> = std::thread::scope(|scope| {
        let parts = paths.chunks(paths.len().div_ceil(threads).max(1));
        let working: Vec<_> = parts
            .map(|part| scope.spawn(move || part.iter().map(of).collect::<Result<Vec<_>, _>>()))
            .collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        working.into_iter().map(join).collect::<Result<Vec<_>, DataError>>()
    })?
    .concat();
    Ok(Value::Array(found))
}

/// Size and SHA-256 of a file.
pub(crate) fn digest(path: &Path) -> std::io::Result<(u64, String)> {
    let (mut file, mut hasher) = (File::open(path)?, Sha256::new());
    let bytes = std::io::copy(&mut file, &mut hasher)?;
    Ok((bytes, hex(&hasher.finalize())))
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
