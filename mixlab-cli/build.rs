//! What `--version` says besides the version: the commit that was built, and the features.

use std::{env, process::Command};

fn main() {
    println!("cargo::rerun-if-env-changed=MIXLAB_COMMIT");
    let given = env::var("MIXLAB_COMMIT").ok().filter(|commit| !commit.is_empty());
    // Other builds than releases would be built again after each commit.
    let release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let asked = || release.then(commit).flatten();
    let mut words: Vec<String> = given.or_else(asked).into_iter().collect();
    words.extend(features());
    println!("cargo::rustc-env=MIXLAB_BUILD={}", words.join(" "));
}

/// The commit of the repository that this is built in, with a plus if files differ from it; none in
/// a package.
fn commit() -> Option<String> {
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    println!("cargo::rerun-if-changed={log}");
    git(&["describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=+"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = output.status.success().then_some(output.stdout)?;
    Some(String::from_utf8(text).ok()?.trim().to_string())
}

/// The backends and formats that were asked for, by their names in Cargo.toml.
fn features() -> Vec<String> {
    let of = |name: String| {
        name.strip_prefix("CARGO_FEATURE_").map(|name| name.to_lowercase().replace('_', "-"))
    };
    let mut features: Vec<String> = env::vars().filter_map(|(name, _)| of(name)).collect();
    features.retain(|name| name != "default");
    features.sort();
    features
}
