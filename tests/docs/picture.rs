//! The picture of `README.md` is what `count --diagram` draws of its example.

use std::env;
use std::fs;
use std::sync::Arc;

use mixlab_burn::blocks::Builtin;
use mixlab_burn::plan::Plan;
use mixlab_burn::program::{describe, diagram};

use super::root;

const FILE: &str = "docs/unet_transformer.svg";
const EXAMPLE: &str = "examples/unet_transformer.json";

#[test]
fn the_picture_of_the_readme_is_what_count_draws() {
    let config = root().join(EXAMPLE).display().to_string();
    let plan = Arc::new(Plan::<Builtin>::read(&config, &[]).unwrap().plan);
    let drawn = diagram(&plan, &describe(&plan, [1, plan.seq_len]).unwrap());
    let path = root().join(FILE);
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &drawn).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == drawn, "{FILE} is out of date; run the test with UPDATE_DOCS=1");
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.contains(FILE) && readme.contains(EXAMPLE), "README.md does not show {FILE}");
}
