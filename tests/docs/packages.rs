//! What would be published.

use std::process::Command;

use super::root;

/// How names of files end that a package may hold.
const SOURCES: [&str; 10] = [
    ".rs",
    ".cu",
    ".h",
    ".py",
    "LICENSE",
    "README.md",
    "Cargo.lock",
    "Cargo.toml",
    "Cargo.toml.orig",
    ".cargo_vcs_info.json",
];

#[test]
fn packages_hold_sources_the_licence_and_no_data() {
    for package in ["mixlab-ops", "mixlab-burn", "mixlab-cli"] {
        let output = Command::new(env!("CARGO"))
            .args(["package", "--list", "--allow-dirty", "--offline", "-p", package])
            .current_dir(root())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let list = String::from_utf8(output.stdout).unwrap();
        for file in ["LICENSE", "README.md", "src/lib.rs"] {
            assert!(list.lines().any(|line| line == file), "{package} lacks {file}:\n{list}");
        }
        let is_source = |line: &str| SOURCES.iter().any(|end| line.ends_with(end));
        let others: Vec<&str> = list.lines().filter(|line| !is_source(line)).collect();
        assert!(others.is_empty(), "{package} holds {others:?}");
    }
}
