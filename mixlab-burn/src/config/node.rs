//! The config as a tree: what was written, and where.

use std::fmt;

/// Where a value comes from. The order is the order in which errors are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Made by a program, not read.
    #[default]
    Code,
    /// Read from the file.
    File {
        /// Byte offset of the value.
        offset: usize,
        /// Line of the value, from 1.
        line: usize,
    },
    /// Given by the n-th `--set`, from 0.
    Override(usize),
}

/// One JSON value with its place.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Node {
    /// Where the value was written.
    pub origin: Origin,
    /// What was written.
    pub value: Value,
}

/// A JSON value; numbers keep their text, objects the order of their keys.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Value {
    /// `null`, which everywhere means the same as leaving the field out.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number as it was written.
    Number(String),
    /// A string, its escapes resolved.
    String(String),
    /// A list.
    List(Vec<Node>),
    /// An object.
    Object(Vec<(String, Node)>),
}

impl From<Value> for Node {
    /// A value that a program makes.
    fn from(value: Value) -> Self {
        Self { origin: Origin::Code, value }
    }
}

impl Node {
    /// The member `key` of an object: the exact spelling if there is one, else
    /// one that differs only in case.
    pub fn get(&self, key: &str) -> Option<&Node> {
        let members = self.members();
        let at = position(members, key)?;
        Some(&members[at].1)
    }

    /// The members of an object in the order of the text; none for other values.
    pub fn members(&self) -> &[(String, Node)] {
        match &self.value {
            Value::Object(members) => members,
            _ => &[],
        }
    }

    /// The value as plain JSON. A number beyond the range of `f64` becomes a
    /// string, because JSON values of `serde_json` cannot hold it.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Number(text) => {
                serde_json::from_str(text).map_or_else(|_| Json::String(text.clone()), Json::Number)
            }
            Value::String(text) => Json::String(text.clone()),
            Value::List(items) => Json::Array(items.iter().map(Node::to_json).collect()),
            Value::Object(members) => Json::Object(
                members.iter().map(|(key, node)| (key.clone(), node.to_json())).collect(),
            ),
        }
    }

    /// The value in an error message: itself if it is short, else what it is.
    pub fn describe(&self) -> impl fmt::Display {
        match &self.value {
            Value::Null => "`null`".to_owned(),
            Value::Bool(value) => format!("`{value}`"),
            Value::Number(text) if text.len() <= 40 => format!("`{text}`"),
            Value::Number(_) => "a very long number".to_owned(),
            Value::String(text) if text.len() <= 40 => format!("the string `{text}`"),
            Value::String(_) => "a long string".to_owned(),
            Value::List(_) => "a list".to_owned(),
            Value::Object(_) => "an object".to_owned(),
        }
    }

    /// Gives this value and all within it the same origin.
    pub(super) fn set_origin(&mut self, origin: Origin) {
        self.origin = origin;
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(|node| node.set_origin(origin)),
            Value::Object(members) => {
                members.iter_mut().for_each(|(_, node)| node.set_origin(origin))
            }
            _ => {}
        }
    }
}

/// Finds a key by its exact spelling, else by one that differs only in case.
pub(super) fn position(members: &[(String, Node)], key: &str) -> Option<usize> {
    let exact = members.iter().position(|(name, _)| name == key);
    exact.or_else(|| members.iter().position(|(name, _)| name.eq_ignore_ascii_case(key)))
}

#[cfg(test)]
mod tests {
    use super::super::text::parse_file;
    use super::*;

    #[test]
    fn a_key_matches_in_any_case_and_the_exact_one_first() {
        let node = parse_file(r#"{"Dim": 1, "dim": 2, "Other": 3}"#).unwrap();
        assert_eq!(node.get("dim").unwrap().value, Value::Number("2".into()));
        assert_eq!(node.get("DIM").unwrap().value, Value::Number("1".into()));
        assert_eq!(node.get("other").unwrap().value, Value::Number("3".into()));
        assert_eq!(node.get("others"), None);
    }

    #[test]
    fn a_tree_goes_back_to_json_in_its_order() {
        let text = r#"{"z":1,"a":[true,null,"x"],"m":{"f":2.5,"huge":1e999}}"#;
        let json = parse_file(text).unwrap().to_json().to_string();
        assert_eq!(json, text.replace("1e999", "\"1e999\""));
    }

    #[test]
    fn places_in_the_file_come_before_overrides_and_after_nothing() {
        let file = |offset| Origin::File { offset, line: 1 };
        let mut order = [Origin::Override(1), file(9), Origin::Code, Origin::Override(0), file(2)];
        order.sort();
        assert_eq!(
            order,
            [Origin::Code, file(2), file(9), Origin::Override(0), Origin::Override(1)]
        );
    }
}
