//! Paths such as `blocks[0].heads`, and `--set path=value` on top of them.

use super::node::{Node, Origin, Value, position};
use super::problem::Problem;
use super::text;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Segment<'a> {
    Key(&'a str),
    Index(usize),
}

/// Splits `a.b[0].c`; `None` if the text is no path.
fn segments(path: &str) -> Option<Vec<Segment<'_>>> {
    let mut segments = Vec::new();
    for part in path.split('.') {
        let (key, mut rest) = part.split_at(part.find('[').unwrap_or(part.len()));
        if key.is_empty() {
            return None;
        }
        segments.push(Segment::Key(key));
        while !rest.is_empty() {
            let (index, after) = rest.strip_prefix('[')?.split_once(']')?;
            segments.push(Segment::Index(index.parse().ok()?));
            rest = after;
        }
    }
    Some(segments)
}

/// The value at `path`, or the nearest one around it that exists.
pub(super) fn nearest_node<'a>(root: &'a Node, path: &str) -> &'a Node {
    let mut node = root;
    for segment in segments(path).unwrap_or_default() {
        let next = match (segment, &node.value) {
            (Segment::Key(key), _) => node.get(key),
            (Segment::Index(index), Value::List(items)) => items.get(index),
            _ => None,
        };
        match next {
            Some(next) => node = next,
            None => break,
        }
    }
    node
}

/// Applies the `number`-th `--set path=value` to the tree. The value is JSON if
/// it reads as JSON, else a string.
pub(super) fn apply_override(root: &mut Node, text: &str, number: usize) -> Result<(), Problem> {
    let example = "for example `--set training.steps=20` or `--set blocks[0].heads=8`";
    let refuse = |message: String| Problem::new("", message).with_hint(example);
    let Some((path, value)) = text.split_once('=') else {
        return Err(refuse(format!("expected `path=value`, found `{text}`")));
    };
    let path = path.trim();
    let Some(segments) = segments(path) else {
        return Err(refuse(format!("`{path}` is no path of a field")));
    };
    let origin = Origin::Override(number);
    let mut node = root;
    for (depth, segment) in segments.iter().enumerate() {
        node = descend(node, *segment, origin).map_err(|why| {
            let around = name(&segments[..depth]);
            Problem::new("", format!("`{around}` {why}")).with_hint(example)
        })?;
    }
    let string = || Node { origin, value: Value::String(value.to_owned()) };
    *node = text::parse_value(value, origin).unwrap_or_else(string);
    Ok(())
}

/// One segment down, through objects that are made where nothing is yet.
fn descend<'a>(
    node: &'a mut Node,
    segment: Segment<'_>,
    origin: Origin,
) -> Result<&'a mut Node, String> {
    if let (Segment::Key(_), Value::Null) = (segment, &node.value) {
        *node = Node { origin, value: Value::Object(Vec::new()) };
    }
    let found = node.describe().to_string();
    match (segment, &mut node.value) {
        (Segment::Key(key), Value::Object(members)) => {
            let at = position(members, key).unwrap_or_else(|| {
                members.push((key.to_owned(), Node { origin, value: Value::Null }));
                members.len() - 1
            });
            Ok(&mut members[at].1)
        }
        (Segment::Key(_), _) => Err(format!("is {found}, not an object")),
        (Segment::Index(index), Value::List(items)) => {
            let count = items.len();
            let entries = if count == 1 { "entry" } else { "entries" };
            items.get_mut(index).ok_or(format!(
                "has {count} {entries}, and indices begin at 0, so `{index}` is too large"
            ))
        }
        (Segment::Index(_), Value::Null) => Err("is not given, so it has 0 entries".to_owned()),
        (Segment::Index(_), _) => Err(format!("is {found}, not a list")),
    }
}

fn name(segments: &[Segment<'_>]) -> String {
    let mut path = String::new();
    for segment in segments {
        match segment {
            Segment::Key(key) if path.is_empty() => path.push_str(key),
            Segment::Key(key) => path.extend([".", key]),
            Segment::Index(index) => path.push_str(&format!("[{index}]")),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"blocks": [{"heads": 4}], "seq_len": 16, "training": null}"#;

    fn set(overrides: &[&str]) -> Result<String, String> {
        let mut root = text::parse_file(TEXT).unwrap();
        for (number, text) in overrides.iter().enumerate() {
            apply_override(&mut root, text, number).map_err(|problem| problem.message)?;
        }
        Ok(root.to_json().to_string())
    }

    #[test]
    fn a_path_is_keys_and_indices() {
        let expected =
            vec![Segment::Key("a"), Segment::Index(0), Segment::Index(12), Segment::Key("b")];
        assert_eq!(segments("a[0][12].b"), Some(expected.clone()));
        assert_eq!(name(&expected), "a[0][12].b");
        for bad in
            ["", ".", "a.", "[0]", "a[", "a[]", "a[x]", "a[-1]", "a[0]b", "a[99999999999999999999]"]
        {
            assert_eq!(segments(bad), None, "`{bad}`");
        }
    }

    #[test]
    fn a_value_is_json_or_else_a_string() {
        let json = set(&[
            "blocks[0].heads=8",
            "seq_len=null",
            "Training.optimizer=adamw",
            "name=\"7\"",
            "x=a=b",
        ])
        .unwrap();
        assert_eq!(
            json,
            r#"{"blocks":[{"heads":8}],"seq_len":null,"training":{"optimizer":"adamw"},"name":"7","x":"a=b"}"#
        );
        assert_eq!(
            set(&["blocks=[{\"type\": \"mlp\"}]", "blocks[0].type=plain"]).unwrap(),
            r#"{"blocks":[{"type":"plain"}],"seq_len":16,"training":null}"#
        );
    }

    #[test]
    fn a_step_that_leads_nowhere_is_refused() {
        let message = |text| set(&[text]).unwrap_err();
        assert_eq!(
            message("blocks[1].heads=8"),
            "`blocks` has 1 entry, and indices begin at 0, so `1` is too large"
        );
        assert_eq!(message("layers[0].heads=8"), "`layers` is not given, so it has 0 entries");
        assert_eq!(message("seq_len.x=8"), "`seq_len` is `16`, not an object");
        assert_eq!(message("blocks[0].heads[1]=8"), "`blocks[0].heads` is `4`, not a list");
        assert_eq!(message("blocks.heads=8"), "`blocks` is a list, not an object");
        assert_eq!(message("seq_len"), "expected `path=value`, found `seq_len`");
        assert_eq!(message("=4"), "`` is no path of a field");
    }

    #[test]
    fn a_missing_field_is_placed_at_what_is_around_it() {
        let root = text::parse_file(TEXT).unwrap();
        let block = nearest_node(&root, "blocks[0]");
        assert_eq!(nearest_node(&root, "blocks[0].kv_heads.deeper"), block);
        assert_eq!(nearest_node(&root, "blocks[3]"), root.get("blocks").unwrap());
        assert_eq!(nearest_node(&root, ""), &root);
        assert_eq!(nearest_node(&root, "SEQ_LEN"), root.get("seq_len").unwrap());
    }
}
