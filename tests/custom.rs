//! What mixlab 0.10.1 refuses about `custom` blocks is refused here, at the right place.

use std::fs;
use std::path::Path;

use mixlab_burn::plan::Plan;
use serde_json::Value;

#[test]
fn custom_blocks_that_the_original_rejects_are_refused_at_their_place() {
    let places = [
        ("custom_no_name", "blocks[0].name"),
        ("custom_bad_op", "blocks[0].ops[0].op"),
        ("custom_bad_shape", "blocks[0].weights[0].shape[0]"),
        ("custom_no_weights", "blocks[0].weights"),
    ];
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/cli/errors/errors.json");
    let cases: Vec<Value> = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let is_custom = |case: &&Value| case["name"].as_str().unwrap().starts_with("custom_");
    let found: Vec<_> = cases.iter().filter(is_custom).collect();
    assert_eq!(found.len(), places.len());
    for (case, (name, place)) in found.into_iter().zip(places) {
        assert_eq!(case["name"], name);
        let planned: Result<_, _> = Plan::<mixlab_burn::blocks::Builtin>::parse(
            &case["config"].to_string(),
            "bad.json",
            &[],
        );
        let error = planned.expect_err(name);
        assert!(error.problems().any(|problem| problem.path == place), "{name}: {error}");
    }
}
