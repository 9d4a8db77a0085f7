//! Where the system keeps what can be made anew.

use std::ffi::OsString;
use std::path::PathBuf;

use super::DemoError;

/// The user's folder for caches.
///
/// # Errors
/// If the environment names none.
pub fn default_cache_root() -> Result<PathBuf, DemoError> {
    cache_root(|name| std::env::var_os(name)).ok_or(DemoError::NoCache)
}

fn cache_root(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |name| {
        let path = variable(name).map(PathBuf::from);
        path.filter(|path| path.is_absolute())
    };
    let system = if cfg!(windows) {
        absolute("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        absolute("HOME").map(|home| home.join("Library/Caches"))
    } else {
        absolute("HOME").map(|home| home.join(".cache"))
    };
    absolute("XDG_CACHE_HOME").or(system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_folder_follows_the_environment() {
        let with = |pairs: &[(&str, &str)]| {
            let find = |name: &str| pairs.iter().find(|(n, _)| *n == name);
            cache_root(|name| find(name).map(|(_, value)| value.into()))
        };
        let xdg = [("XDG_CACHE_HOME", "/cache"), ("HOME", "/people/me")];
        assert_eq!(with(&xdg), Some("/cache".into()));
        if cfg!(target_os = "linux") {
            let relative = [("XDG_CACHE_HOME", "cache"), ("HOME", "/people/me")];
            assert_eq!(with(&relative), Some("/people/me/.cache".into()));
        }
        assert_eq!(with(&[]), None);
    }
}
