//! Machine code where CubeCL's server finds it, each kernel in a file of its own that is read when the
//! kernel is first launched. CubeCL keeps all in one file, which every start would read whole.

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use burn::serde::{Deserialize, Serialize};
use cubecl::cache::{Cache, CacheOption};
use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
use cubecl::hash::StableHash;

/// What CubeCL keeps of a compiled kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "burn::serde")]
pub struct Compiled {
    pub entrypoint_name: String,
    pub shared_mem_bytes: usize,
    pub ptx: Vec<std::ffi::c_char>,
}

/// How CubeCL writes a kernel and what its table calls it.
#[derive(Serialize)]
#[serde(crate = "burn::serde")]
struct Entry<'a> {
    key: StableHash,
    value: &'a Compiled,
}

/// From the folder of CubeCL's table to the root of the cache.
const UP: &str = "../../../";
/// The folder of machine code in that root.
const FOLDER: &str = "machine-code";

/// CubeCL's table of kernels on disk.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    table: Cache<StableHash, String>,
}

impl Store {
    /// The one that CubeCL's server uses. `None` if its configuration names no cache.
    pub fn open() -> Option<Self> {
        let config = CubeClRuntimeConfig::get();
        config.compilation.cache.as_ref().map(|cache| Self::at(cache.root()))
    }

    fn at(root: PathBuf) -> Self {
        let table = Cache::new("ptx/toc", option(&root));
        Self { root, table }
    }

    /// Whether the server finds the kernel `key`.
    pub fn has(&self, key: StableHash) -> bool {
        let place = self.table.get(&key).map(|place| place.strip_prefix(UP));
        place.is_some_and(|ours| ours.is_none_or(|file| self.root.join(file).exists()))
    }

    /// Adds kernels. What cannot be stored is compiled by the server.
    pub fn add(&mut self, kernels: Vec<(StableHash, Compiled)>) {
        for (key, kernel) in &kernels {
            let name = format!("{FOLDER}/{key:032x}.cbor");
            if write(&self.root.join(&name), &Entry { key: *key, value: kernel }).is_ok() {
                // CubeCL panics where it cannot write.
                let insert = || self.table.insert(*key, format!("{UP}{name}")).ok();
                catch_unwind(AssertUnwindSafe(insert)).ok();
            }
        }
    }
}

/// Where CubeCL's server looks.
fn option(root: &Path) -> CacheOption {
    CacheOption::default().name("cuda").root(root)
}

/// Writes the file at once: another process may read it.
fn write(path: &Path, entry: &Entry<'_>) -> io::Result<()> {
    let mut bytes = Vec::new();
    ciborium::into_writer(entry, &mut bytes).map_err(io::Error::other)?;
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    let aside = path.with_extension(format!("{}.part", std::process::id()));
    fs::write(&aside, bytes)?;
    fs::rename(aside, path)
}

#[cfg(test)]
mod tests {
    use cubecl::compilation_cache::CompilationCache;

    use super::*;

    #[test]
    fn cubecl_finds_what_is_stored_and_what_is_gone_is_not_there() {
        let root = std::env::temp_dir().join(format!("mixlab-store-{}", std::process::id()));
        let ptx = (0..1000).map(|i| (i % 256) as u8 as std::ffi::c_char).collect();
        let kernel = Compiled { entrypoint_name: "twice".into(), shared_mem_bytes: 48, ptx };
        let key = StableHash::MAX - 5;
        let mut store = Store::at(root.clone());
        assert!(!store.has(key));
        store.add(vec![(key, kernel.clone())]);
        let cubecl = CompilationCache::<StableHash, Compiled>::new("ptx", option(&root));
        assert_eq!(cubecl.get(&key), Some(&kernel));
        assert!(store.has(key) && Store::at(root.clone()).has(key));
        fs::remove_dir_all(root.join(FOLDER)).unwrap();
        assert!(!Store::at(root.clone()).has(key));
        fs::remove_dir_all(root).unwrap();
    }
}
