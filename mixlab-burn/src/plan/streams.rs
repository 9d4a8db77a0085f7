//! What flows between blocks: published streams have names of their own, and information that
//! flows backwards in time is worth a warning.

use std::collections::HashMap;

use crate::blocks::{Block, Time};
use crate::config::{BlockSpec, Problems, Reported};

/// The names under which blocks publish their outputs.
pub struct Streams<'a> {
    /// The block that publishes each name.
    publishers: HashMap<&'a str, usize>,
    /// The names, with their blocks, in order.
    names: Vec<(usize, &'a str)>,
}

impl<'a> Streams<'a> {
    /// The streams of `specs`; reports names that are already taken.
    pub fn of(specs: &'a [BlockSpec], problems: &mut Problems) -> Self {
        let mut streams = Self { publishers: HashMap::new(), names: Vec::new() };
        for (index, spec) in specs.iter().enumerate() {
            let Some(name) = spec.stream.as_deref() else { continue };
            let first = *streams.publishers.entry(name).or_insert(index);
            streams.names.push((index, name));
            let taken = match name {
                "x" => "the name of the residual stream".to_string(),
                "x0" => "the name of the embedding stream".to_string(),
                _ if first < index => format!("already published by block `{first}`"),
                _ => continue,
            };
            let path = format!("blocks[{index}].stream");
            problems.report(path, format!("`{name}` is {taken}"), "choose another name");
        }
        streams
    }

    /// The first block that publishes `name`.
    pub fn publisher(&self, name: &str) -> Option<usize> {
        self.publishers.get(name).copied()
    }

    /// The names that blocks before `index` publish, in order.
    pub fn before(&self, index: usize) -> impl Iterator<Item = &'a str> {
        self.names.iter().take_while(move |(block, _)| *block < index).map(|(_, name)| *name)
    }
}

/// Blocks that are listed in a message.
const LISTED: usize = 8;

/// Gives one warning for all blocks in which a position reads later ones.
pub fn warn_of_future<K: Block>(
    specs: &[BlockSpec],
    blocks: &[Result<K, Reported>],
    problems: &mut Problems,
) {
    let sees =
        |block: &Result<K, Reported>| block.as_ref().is_ok_and(|block| block.time() == Time::Whole);
    let found: Vec<usize> = (0..blocks.len()).filter(|i| sees(&blocks[*i])).collect();
    let Some((first, others)) = found.split_first() else { return };
    let listed: Vec<String> = others.iter().take(LISTED).map(|i| format!("`{i}`")).collect();
    let more = if others.len() > LISTED { " …" } else { "" };
    let others = match listed.as_slice() {
        [] => String::new(),
        [other] => format!(" (and so in block {other})"),
        list => format!(" (and so in blocks {}{more})", list.join(", ")),
    };
    let through = blocks[*first].as_ref().ok().and_then(Block::looks_ahead);
    let through = through.map(|what| format!(" through {what}")).unwrap_or_default();
    let message = format!(
        "in a `{}` block every position sees the tokens after it{through}{others}: the loss is not that of a language model",
        specs[*first].kind
    );
    problems.warn(format!("blocks[{first}].type"), message);
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use crate::blocks::Builtin;
    use crate::blocks::testing::{errors, planned, warnings};

    #[test]
    fn a_stream_needs_a_name_of_its_own() {
        let json = r#"{"type": "mlp", "stream": "low"}, {"type": "mlp", "stream": "x"},
            {"type": "mlp", "stream": " low "}, {"type": "mlp", "stream": "x0"},
            {"type": "mlp", "stream": ""}"#;
        assert_eq!(
            errors::<Builtin>(json),
            [
                "blocks[1].stream: `x` is the name of the residual stream",
                "blocks[2].stream: `low` is already published by block `0`",
                "blocks[3].stream: `x0` is the name of the embedding stream",
            ]
        );
    }

    #[test]
    fn a_step_knows_what_it_publishes() {
        let json = r#"{"type": "mlp", "stream": "low"}, {"type": "mlp"}"#;
        let steps = planned::<Builtin>(json).unwrap().plan.steps;
        assert_eq!((steps[0].stream.as_deref(), steps[1].stream.as_deref()), (Some("low"), None));
    }

    #[test]
    fn blocks_that_see_the_future_get_one_warning() {
        assert_eq!(warnings::<Builtin>(r#"{"type": "retnet", "heads": 2}"#), [""; 0]);
        let perceiver = r#"{"type": "perceiver", "heads": 2}"#;
        let bottleneck = r#"{"type": "bottleneck", "heads": 2}"#;
        let cross = r#"{"type": "cross_attention", "heads": 2, "source_stream": "x"}"#;
        for block in [perceiver, bottleneck, cross] {
            let json = format!(r#"{{"type": "mlp"}}, {block}"#);
            let [warning] = warnings::<Builtin>(&json).try_into().unwrap();
            assert!(warning.starts_with("blocks[1].type: in a `"), "{warning}");
            assert!(!planned::<Builtin>(&json).unwrap().plan.is_causal());
        }
        let json = format!(r#"{perceiver}, {{"type": "mlp"}}, {cross}, {bottleneck}"#);
        let [warning] = warnings::<Builtin>(&json).try_into().unwrap();
        let expected = "blocks[0].type: in a `perceiver` block every position sees the tokens after it (and so in blocks `2`, `3`):";
        assert!(warning.starts_with(expected), "{warning}");
    }
}
