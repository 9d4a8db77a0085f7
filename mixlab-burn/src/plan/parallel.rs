//! `parallel_residual`: `plain` and `swiglu` blocks in pairs.
//!
//! A pair needs no block type of its own: the `plain` block leaves its normed stream, and the
//! `swiglu` block after it reads that instead of norming again. So weights, sharing and counting
//! stay at the level of single blocks. Here are the rules of what forms a pair.

use crate::config::{Config, Problems};

/// Reports what keeps the blocks from forming pairs.
pub fn check(config: &Config, problems: &mut Problems) {
    if config.parallel_residual != Some(true) {
        return;
    }
    if config.unet == Some(true) {
        problems
            .error("unet", "cannot be combined with `parallel_residual`")
            .hint("leave one of the two out");
    }
    let mut paired = true;
    for (index, (spec, kind)) in
        config.blocks.iter().zip(["plain", "swiglu"].iter().cycle()).enumerate()
    {
        if spec.kind != *kind {
            paired = false;
            let message = format!("`{}` cannot stand where a pair has its `{kind}`", spec.kind);
            problems.error(format!("blocks[{index}].type"), message).hint(HINT);
        }
    }
    let count = config.blocks.len();
    if paired && !count.is_multiple_of(2) {
        problems.error("blocks", format!("`{count}` blocks do not form pairs")).hint(HINT);
    }
}

const HINT: &str = "with `parallel_residual` the blocks are `plain`, `swiglu`, `plain`, `swiglu` …";

#[cfg(test)]
mod tests {
    use crate::blocks::Builtin;
    use crate::plan::Plan;

    /// Errors (or, without any, warnings) of a parallel model of `blocks`.
    fn problems(blocks: &str, more: &str) -> Vec<String> {
        let json = format!(
            r#"{{"model_dim": 8, "vocab_size": 11, "parallel_residual": true{more}, "blocks": [{blocks}]}}"#
        );
        let line = |p: &crate::config::Problem| format!("{}: {}", p.path, p.message);
        match Plan::<Builtin>::parse(&json, "test.json", &[]) {
            Ok(planned) => planned.warnings.iter().map(|w| line(&w.problem)).collect(),
            Err(error) => error.problems().map(line).collect(),
        }
    }

    const PAIR: &str = r#"{"type": "plain", "heads": 2}, {"type": "swiglu"}"#;

    #[test]
    fn pairs_are_accepted_in_silence() {
        assert_eq!(problems(&format!("{PAIR}, {PAIR}"), ""), [""; 0]);
    }

    #[test]
    fn a_lone_block_or_another_type_is_an_error() {
        let odd = format!(r#"{PAIR}, {{"type": "plain", "heads": 2}}"#);
        assert_eq!(problems(&odd, ""), ["blocks: `3` blocks do not form pairs"]);
        let other = format!(r#"{PAIR}, {{"type": "mlp"}}, {{"type": "swiglu"}}"#);
        let expected = ["blocks[2].type: `mlp` cannot stand where a pair has its `plain`"];
        assert_eq!(problems(&other, ""), expected);
        let swapped = r#"{"type": "swiglu"}, {"type": "plain", "heads": 2}"#;
        assert_eq!(problems(swapped, "").len(), 2);
    }

    #[test]
    fn a_u_net_or_reused_keys_are_errors() {
        let expected = ["unet: cannot be combined with `parallel_residual`"];
        assert_eq!(problems(PAIR, r#", "unet": true"#), expected);
        let reuse = format!(
            r#"{PAIR}, {{"type": "plain", "heads": 2, "kv_source": 1}}, {{"type": "swiglu"}}"#
        );
        let expected = ["blocks[2].kv_source: block `1` cannot be reused with `parallel_residual`"];
        assert_eq!(problems(&reuse, ""), expected);
    }

    #[test]
    fn options_without_effect_are_named() {
        let json = r#"{"type": "plain", "heads": 2, "rope_dims": 2, "xsa": true,
            "skip_attention": true}, {"type": "swiglu"}"#;
        let expected = ["rope_dims", "xsa", "skip_attention"]
            .map(|field| format!("blocks[0].{field}: has no effect with `parallel_residual`"));
        assert_eq!(problems(json, ""), expected);
    }

    #[test]
    fn whole_heads_rotate_whatever_the_options_say() {
        let odd = r#"{"type": "plain", "heads": 8, "skip_attention": true}, {"type": "swiglu"}"#;
        let expected = "blocks[0].heads: head width `1` is odd, and rotation needs pairs";
        assert_eq!(problems(odd, ""), [expected]);
    }

    #[cfg(feature = "cpu")]
    #[test]
    fn a_pair_can_share_one_of_its_halves() {
        use crate::data::Batch;
        use crate::model::Model;
        use crate::weights::{fill, layout, values};
        use burn_flex::Flex;

        let model = |more: &str| -> Model<Flex> {
            let json = format!(
                r#"{{"model_dim": 8, "vocab_size": 11, "parallel_residual": true{more},
                    "blocks": [{PAIR}, {PAIR}]}}"#
            );
            let plan = Plan::<Builtin>::parse(&json, "test.json", &[]).unwrap().plan;
            Model::init(plan.into(), &Default::default())
        };
        let logits = |model: &Model<Flex>| {
            let x = vec![3, 1, 4, 1, 5, 9];
            let batch = Batch { batch: 2, seq: 3, y: x.clone(), x, prev: vec![-1, -1] };
            let (tokens, _) = model.upload(batch, &Default::default());
            model.forward(tokens).into_data()
        };
        let shared = model(r#", "recurrence": [0, 1, 0, 3]"#);
        // Three weights before the blocks, 7 of a `plain`, 3 of a `swiglu` without its norm.
        assert_eq!(layout(&shared).len(), 3 + 7 + 3 + 3);
        let stored = values(&shared);
        let copied = fill(model(""), |i, _| {
            let from = match i {
                0..13 => i,
                13..20 => i - 10,
                _ => i - 7,
            };
            Some(stored[from].clone())
        });
        assert_eq!(logits(&shared), logits(&copied));
    }
}
