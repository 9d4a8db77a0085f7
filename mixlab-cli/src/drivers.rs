//! What CubeCL and graphics drivers are told: above all, where they keep compiled kernels.

use std::path::Path;

use cubecl::config::memory::PersistentMemory;
use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig, cache::CacheConfig};
use mixlab_burn::data::demo::default_cache_root;

/// How CubeCL compiles and allocates, unless a `cubecl.toml` says otherwise.
///
/// Compiled kernels stay in the user's cache folder: a second run starts in a fraction of the time.
/// Buffers have the size that was asked for: every step asks for the same sizes, and shared pages
/// would leave up to half of the device's memory unused.
pub fn configure() {
    let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
    if config.compilation.cache.is_none()
        && let Ok(root) = default_cache_root()
    {
        let folder = root.join("mixlab/kernels");
        // CubeCL panics where it cannot write.
        config.compilation.cache = takes_files(&folder).then_some(CacheConfig::File(folder));
    }
    if let PersistentMemory::Enabled = config.memory.persistent_memory {
        config.memory.persistent_memory = PersistentMemory::Enforced;
    }
    CubeClRuntimeConfig::set(config);
}

/// Whether files can be made in `folder`, which is made if it is not there.
fn takes_files(folder: &Path) -> bool {
    let file = folder.join(format!(".{}", std::process::id()));
    let made = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&file, ""));
    made.and_then(|()| std::fs::remove_file(&file)).is_ok()
}

/// Where NVIDIA's driver keeps compiled pipelines. It makes no folder that is not there.
#[cfg(feature = "wgpu")]
const FOLDER: &str = "__GL_SHADER_DISK_CACHE_PATH";
/// Whether it keeps any: by default not for root, whom most containers run as.
#[cfg(feature = "wgpu")]
const KEEPS: &str = "__GL_SHADER_DISK_CACHE";

/// Lets NVIDIA's Vulkan driver keep pipelines beside CubeCL's kernels, unless the user said what it
/// does: CubeCL keeps SPIR-V, which the driver would compile again in every run. Mesa's drivers keep
/// theirs of themselves.
///
/// # Safety
/// No other thread may be running.
#[cfg(feature = "wgpu")]
pub unsafe fn keep_pipelines() {
    if [FOLDER, KEEPS].iter().any(|name| std::env::var_os(name).is_some()) {
        return;
    }
    if let Ok(root) = default_cache_root() {
        // SAFETY: the caller's promise.
        unsafe {
            std::env::set_var(FOLDER, root.join("mixlab/pipelines"));
            std::env::set_var(KEEPS, "1");
        }
    }
}

/// Makes the folder for them.
#[cfg(feature = "wgpu")]
pub fn make_folder() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        // Without it the driver keeps nothing.
        std::fs::create_dir_all(folder).ok();
    }
}
