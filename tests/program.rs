//! Large models are planned, counted and drawn without their weights.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mixlab_burn::blocks::Builtin;
use mixlab_burn::plan::Plan;
use mixlab_burn::program::{Counts, describe, diagram};

/// How long planning, counting, listing and drawing may take.
const LIMIT: Duration = Duration::from_millis(200);

fn check(blocks: &str, sizes: &str, parameters: std::ops::Range<usize>) {
    let config = format!(
        r#"{{"name": "large", {sizes}, "blocks": [{blocks}], "training": {{"batch_tokens": 4096}}}}"#
    );
    let start = Instant::now();
    let plan = Arc::new(Plan::<Builtin>::parse(&config, "large.json", &[]).unwrap().plan);
    let counts = Counts::of(&plan).unwrap();
    let listing = describe(&plan).unwrap().to_string();
    let picture = diagram(&plan);
    let elapsed = start.elapsed();
    assert!(parameters.contains(&counts.parameters), "{} parameters", counts.parameters);
    assert!(listing.lines().count() > counts.ops && picture.contains("23  "));
    assert!(elapsed < LIMIT, "took {elapsed:?}");
}

#[test]
fn twenty_four_mixed_blocks_take_less_than_a_fifth_of_a_second() {
    let six = r#"{"type": "plain", "heads": 8}, {"type": "swiglu"}, {"type": "mamba"},
        {"type": "rwkv"}, {"type": "retnet", "heads": 8}, {"type": "perceiver", "heads": 8}"#;
    let blocks = [six; 4].join(",");
    check(
        &blocks,
        r#""model_dim": 512, "vocab_size": 8192, "seq_len": 512"#,
        30_000_000..90_000_000,
    );
}

#[test]
fn a_billion_parameters_take_less_than_a_fifth_of_a_second() {
    let pair = r#"{"type": "plain", "heads": 16}, {"type": "swiglu"}"#;
    let blocks = [pair; 12].join(",");
    check(
        &blocks,
        r#""model_dim": 2304, "vocab_size": 50304, "seq_len": 1024"#,
        1_000_000_000..1_500_000_000,
    );
}
