//! What graphics drivers are told through the environment.

use std::path::PathBuf;

use mixlab_burn::data::demo::default_cache_root;

/// Where NVIDIA's driver keeps compiled pipelines. It makes no folder that is not there.
const FOLDER: &str = "__GL_SHADER_DISK_CACHE_PATH";
/// Whether it keeps any: by default not for root, whom most containers run as.
const KEEPS: &str = "__GL_SHADER_DISK_CACHE";

/// Lets NVIDIA's Vulkan driver keep pipelines beside CubeCL's kernels, unless the user said what it
/// does: CubeCL keeps SPIR-V, which the driver would compile again in every run. Mesa's drivers keep
/// theirs of themselves.
///
/// # Safety
/// No other thread may be running.
pub unsafe fn configure() {
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
pub fn make_folder() {
    if let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) {
        // Without it the driver keeps nothing.
        std::fs::create_dir_all(folder).ok();
    }
}
