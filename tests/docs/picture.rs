//! The picture of `README.md` is what `count --diagram` draws of its example.

use std::fs;
use std::sync::Arc;

use mixlab_burn::blocks::Builtin;
use mixlab_burn::plan::Plan;
use mixlab_burn::program::{describe, diagram};

use super::{assert_written, root};

const FILE: &str = "docs/unet_transformer.svg";
const EXAMPLE: &str = "examples/unet_transformer.json";

#[test]
fn the_picture_of_the_readme_is_what_count_draws() {
    let config = root().join(EXAMPLE).display().to_string();
    let plan = Arc::new(Plan::<Builtin>::read(&config, &[]).unwrap().plan);
    let drawn = diagram(&plan, &describe(&plan, [1, plan.seq_len]).unwrap());
    assert_written(FILE, &drawn);
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.contains(FILE) && readme.contains(EXAMPLE), "README.md does not show {FILE}");
}
