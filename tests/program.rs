//! Models are planned, counted and drawn without their weights.

use std::sync::Arc;

use mixlab_burn::blocks::Builtin;
use mixlab_burn::plan::Plan;
use mixlab_burn::program::{Counts, describe, diagram};

/// Plans, counts, lists and draws `blocks`, of which there are `count`.
fn check(blocks: &str, count: usize, sizes: &str, parameters: std::ops::Range<usize>) {
    let config = format!(
        r#"{{"name": "large", {sizes}, "blocks": [{blocks}], "training": {{"batch_tokens": 4096}}}}"#
    );
    let plan = Arc::new(Plan::<Builtin>::parse(&config, "large.json", &[]).unwrap().plan);
    let counts = Counts::of(&plan).unwrap();
    let program = describe(&plan, [plan.batch(), plan.seq_len]).unwrap();
    let (listing, picture) = (program.to_string(), diagram(&plan, &program));
    assert!(parameters.contains(&counts.parameters), "{} parameters", counts.parameters);
    assert!(listing.lines().count() > counts.ops);
    assert!(picture.contains(&format!("{}  ", count - 1)), "{picture}");
}

#[test]
fn mixed_blocks_are_counted_and_drawn() {
    let six = r#"{"type": "plain", "heads": 8}, {"type": "swiglu"}, {"type": "mamba"},
        {"type": "rwkv"}, {"type": "retnet", "heads": 8}, {"type": "perceiver", "heads": 8}"#;
    let blocks = [six; 4].join(",");
    let sizes = r#""model_dim": 512, "vocab_size": 8192, "seq_len": 512"#;
    check(&blocks, 24, sizes, 30_000_000..90_000_000);
}

/// Two terabytes of weights: whoever allocates them does not get to the end.
#[test]
fn weights_that_no_memory_holds_are_counted_and_drawn() {
    let pair = r#"{"type": "plain", "heads": 16}, {"type": "swiglu"}"#;
    let blocks = [pair; 120].join(",");
    let sizes = r#""model_dim": 16384, "vocab_size": 50304, "seq_len": 1024"#;
    check(&blocks, 240, sizes, 500_000_000_000..600_000_000_000);
}
