//! What is different in the config or the data of a run that is taken up.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

/// A place where two JSON values differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The place, as in `training.lr` or `data.train[0].sha256`.
    pub path: String,
    /// The value there before, if there was one.
    pub then: Option<Value>,
    /// The value there now, if there is one.
    pub now: Option<Value>,
}

impl Change {
    /// Whether `name` means this place: the path itself, what it begins with, or its last name.
    pub fn is_called(&self, name: &str) -> bool {
        let rest = self.path.strip_prefix(name);
        let last = self.path.rsplit('.').next();
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
            || last == Some(name)
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value: &Option<Value>| {
            value.as_ref().map_or("not given".into(), |value| format!("`{}`", short(value)))
        };
        write!(f, "{}: {} then, {} now", self.path, text(&self.then), text(&self.now))
    }
}

/// A value cut to what fits a line.
fn short(value: &Value) -> String {
    const MOST: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// All places where `now` differs from `then`, which are called `root`, in order.
pub fn changes(root: &str, then: &Value, now: &Value) -> Vec<Change> {
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    flatten(root.into(), then, &mut before);
    flatten(root.into(), now, &mut after);
    let paths: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let differ = paths.into_iter().filter(|path| before.get(*path) != after.get(*path));
    let change = |path: &String| Change {
        path: path.clone(),
        then: before.get(path).map(|value| (*value).clone()),
        now: after.get(path).map(|value| (*value).clone()),
    };
    differ.map(change).collect()
}

/// The leaves of `value` by their paths.
fn flatten<'a>(path: String, value: &'a Value, into: &mut BTreeMap<String, &'a Value>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let dot = if path.is_empty() { "" } else { "." };
                flatten(format!("{path}{dot}{name}"), field, into);
            }
        }
        Value::Array(items) => {
            let items = items.iter().enumerate();
            items.for_each(|(i, item)| flatten(format!("{path}[{i}]"), item, into));
        }
        leaf => drop(into.insert(path, leaf)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_difference_has_its_path_and_both_values() {
        let then = json!({"training": {"lr": 0.1, "steps": 60}, "blocks": [{"type": "plain"}]});
        let now = json!({"training": {"lr": 0.2, "steps": 60, "seed": 3}, "blocks": []});
        let found: Vec<_> = changes("", &then, &now).iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "blocks[0].type: `\"plain\"` then, not given now",
                "training.lr: `0.1` then, `0.2` now",
                "training.seed: not given then, `3` now",
            ]
        );
        let change = &changes("data", &json!({"train": [1]}), &json!({"train": [2]}))[0];
        for (name, called) in
            [("data", true), ("data.train", true), ("dat", false), ("data.train[0]", true)]
        {
            assert_eq!(change.is_called(name), called, "{name}");
        }
        assert!(changes("", &then, &now)[1].is_called("lr"));
    }
}
