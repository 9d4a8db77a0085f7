//! A program with a block type of its own: `min_gru` works in JSON configs beside the built-in
//! types, and in training, counting and weight files, as they do.
//!
//! ```sh
//! cargo run --release -p own-block -- arch --config examples/own-block/min_gru.json
//! ```

mod min_gru;

use mixlab_burn::blocks::{Block, Builtin};

mixlab_burn::blocks! {
    /// The built-in blocks and minGRU.
    pub Blocks, BlocksWeights {
        Builtin: Builtin,
        MinGru: min_gru::MinGru,
    }
}

fn main() -> std::process::ExitCode {
    mixlab_cli::run::<Blocks>()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use mixlab_burn::plan::Plan;
    use mixlab_burn::program::Counts;

    #[test]
    fn the_example_config_plans_and_counts() {
        let config = concat!(env!("CARGO_MANIFEST_DIR"), "/min_gru.json");
        let plan = Plan::<Blocks>::read(config, &[]).unwrap().plan;
        let counts = Counts::of(&Arc::new(plan)).unwrap();
        // Embedding, head, final norm; two minGRU of a norm and three matrices; two swiglu.
        let (d, i, f, v) = (128, 192, 342, 1024);
        let blocks = 2 * (d + 3 * d * i) + 2 * (d + 3 * d * f);
        assert_eq!(counts.parameters, 2 * v * d + d + blocks);
    }

    #[test]
    fn a_mistake_in_its_options_names_the_place() {
        let config = r#"{"model_dim": 8, "vocab_size": 9,
            "blocks": [{"type": "min_gru", "options": {"inner": -1}}]}"#;
        let error = Plan::<Blocks>::parse(config, "c.json", &[]).unwrap_err().to_string();
        assert!(error.starts_with("c.json:2: blocks[0].options.inner: `-1`"), "{error}");
    }
}
