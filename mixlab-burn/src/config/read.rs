//! Nodes → typed fields. A value that does not fit is reported and skipped, so
//! that one pass finds everything that is wrong.

use serde_json::Number;

use super::fields::{Field, FieldKind, Rule};
use super::node::{Node, Value};
use super::problem::{Problem, Problems, nearest, nearest_hint};

/// A type that a field can have.
pub trait FromNode: Default {
    /// How the reference names the type.
    const KIND: FieldKind;

    /// The value of `node`; `None` after a report if the type or the rule is broken.
    fn read(node: &Node, rule: Rule, reader: &mut Reader<'_>) -> Option<Self>;
}

/// Where in the config the reading is, and where to report.
pub struct Reader<'a> {
    pub(super) path: String,
    problems: &'a mut Problems,
}

impl<'a> Reader<'a> {
    /// A reader at the top of a config.
    pub fn new(problems: &'a mut Problems) -> Self {
        Self { path: String::new(), problems }
    }

    /// Checks that `node` is an object with known keys, each given once.
    pub fn open(&mut self, node: &Node, fields: &'static [Field]) -> Option<()> {
        if !matches!(node.value, Value::Object(_)) {
            return self.expected("an object", node);
        }
        let mut seen: Vec<(&str, &str)> = Vec::new();
        for (key, _) in node.members() {
            let Some(field) = fields.iter().find(|field| field.name.eq_ignore_ascii_case(key))
            else {
                let path = self.path_of(key);
                self.problems.error(path, "unknown field").hint(unknown_hint(key, fields));
                continue;
            };
            match seen.iter().find(|(name, _)| *name == field.name) {
                Some((_, first)) => {
                    let message = format!(
                        "`{key}` repeats `{first}`: upper and lower case are the same here"
                    );
                    let path = self.path_of(key);
                    self.problems.error(path, message).hint("keep one of them");
                }
                None => seen.push((field.name, key)),
            }
        }
        Some(())
    }

    /// The field of an object, or the default of its type if it is absent or wrong.
    pub fn field<T: FromNode>(&mut self, object: &Node, field: &Field) -> T {
        let node = object.get(field.name).filter(|node| !means_absent(node, field));
        if node.is_none() && field.default.is_some() {
            return T::default();
        }
        let outer = self.path.len();
        if outer > 0 {
            self.path.push('.');
        }
        self.path += field.name;
        let reported = self.problems.len();
        let value = match node {
            Some(node) => T::read(node, field.rule, self),
            None => {
                let message =
                    format!("this field is required ({})", described(field.kind, field.rule));
                self.problems.error(&self.path, message).hint(addition(field));
                None
            }
        };
        self.problems.hint_from(reported, || usage(field));
        self.path.truncate(outer);
        value.unwrap_or_default()
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    pub(super) fn error(&mut self, message: impl Into<String>) -> &mut Problem {
        self.problems.error(&self.path, message)
    }

    /// Reports that something else stands here.
    pub(super) fn expected<T>(&mut self, what: &str, node: &Node) -> Option<T> {
        self.error(format!("expected {what}, found {}", node.describe()));
        None
    }

    /// The text of a number, or a report that `node` is none.
    pub(super) fn number<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n str> {
        match &node.value {
            Value::Number(text) => Some(text),
            Value::String(text) if serde_json::from_str::<Number>(text).is_ok() => {
                let message = format!("expected {what}, found {}", node.describe());
                self.error(message).hint("remove the quotes");
                None
            }
            _ => self.expected(what, node),
        }
    }

    /// `value` if the rule admits it, or a report.
    pub(super) fn in_range<T>(
        &mut self,
        value: T,
        as_f64: f64,
        rule: Rule,
        node: &Node,
    ) -> Option<T> {
        if rule.admits_number(as_f64) {
            Some(value)
        } else {
            self.expected(&format!("a value {rule}"), node)
        }
    }
}

/// `null` and the empty string mean the same as leaving a field out.
fn means_absent(node: &Node, field: &Field) -> bool {
    match &node.value {
        Value::Null => true,
        Value::String(text) => {
            field.kind == FieldKind::Str && field.rule.normalize(text).is_empty()
        }
        _ => false,
    }
}

/// How to mend a missing field.
fn addition(field: &Field) -> String {
    format!("add it: {}", meaning(field))
}

/// How to mend a value: what the field takes, and what it means.
fn usage(field: &Field) -> String {
    let values = match field.rule.choices() {
        Some(_) => field.rule.to_string(),
        None => with_article(described(field.kind, field.rule)),
    };
    format!("`{}` is {values}: {}", field.name, meaning(field))
}

fn with_article(text: String) -> String {
    let article = if text.starts_with(['i', 'o']) { "an" } else { "a" };
    format!("{article} {text}")
}

/// What a field means, as a part of a sentence.
fn meaning(field: &Field) -> String {
    let mut text = field.doc.trim_end_matches('.').to_owned();
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    text
}

fn described(kind: FieldKind, rule: Rule) -> String {
    format!("{kind} {rule}").trim_end().to_owned()
}

/// The nearest known name, the object in which the name is known, or all names.
fn unknown_hint(key: &str, fields: &'static [Field]) -> String {
    let names: Vec<_> = fields.iter().map(|field| field.name).collect();
    let holds = |fields: &[Field]| fields.iter().any(|field| field.name == key);
    let home = fields.iter().find_map(|field| match field.kind {
        FieldKind::Object(inner) if holds(inner) => Some(field.name.to_owned()),
        FieldKind::List(FieldKind::Object(inner)) if holds(inner) => {
            Some(format!("{}[…]", field.name))
        }
        _ => None,
    });
    match home {
        Some(home) if nearest(key, names.iter().copied()).is_none() => {
            format!("`{key}` belongs in `{home}`")
        }
        _ => nearest_hint(key, "fields", &names),
    }
}
