//! The types that a field can have: how each is read from a node.

use serde_json::{Map, Value as Json};

use super::fields::{FieldKind, Rule};
use super::node::{Node, Value};
use super::problem::nearest;
use super::read::{FromNode, Reader};

impl<T: FromNode> FromNode for Option<T> {
    const KIND: FieldKind = T::KIND;

    fn read(node: &Node, rule: Rule, reader: &mut Reader<'_>) -> Option<Self> {
        T::read(node, rule, reader).map(Some)
    }
}

impl FromNode for i64 {
    const KIND: FieldKind = FieldKind::Int;

    fn read(node: &Node, rule: Rule, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.number(node, "an integer")?;
        match text.parse::<i64>() {
            Ok(value) => reader.in_range(value, value as f64, rule, node),
            Err(_) if text.contains(['.', 'e', 'E']) => {
                let message = format!("expected an integer, found {}", node.describe());
                reader.error(message).hint("integers are written without fraction and exponent");
                None
            }
            Err(_) => reader.expected("an integer of 64 bits", node),
        }
    }
}

impl FromNode for f64 {
    const KIND: FieldKind = FieldKind::F64;

    fn read(node: &Node, rule: Rule, reader: &mut Reader<'_>) -> Option<Self> {
        match reader.number(node, "a number")?.parse::<f64>() {
            Ok(value) if value.is_finite() => reader.in_range(value, value, rule, node),
            _ => reader.expected("a number in the range of 64-bit floats", node),
        }
    }
}

impl FromNode for f32 {
    const KIND: FieldKind = FieldKind::F32;

    fn read(node: &Node, rule: Rule, reader: &mut Reader<'_>) -> Option<Self> {
        // Straight to 32 bits: by way of 64 a few decimals would round twice.
        let text = reader.number(node, "a number")?;
        match text.parse::<f32>() {
            // A 0 often means the default, which nobody asked for who wrote this.
            Ok(0.0) if !is_zero(text) => {
                reader.expected("0, or a number that is not 0 in 32 bits (at least 1e-45)", node)
            }
            Ok(value) if value.is_finite() => reader.in_range(value, value.into(), rule, node),
            _ => reader.expected("a number in the range of 32-bit floats (about ±3.4e38)", node),
        }
    }
}

/// Whether a number is 0 as it is written.
fn is_zero(text: &str) -> bool {
    let digits = text.split(['e', 'E']).next().unwrap_or_default();
    !digits.contains(|c: char| ('1'..='9').contains(&c))
}

impl FromNode for bool {
    const KIND: FieldKind = FieldKind::Bool;

    fn read(node: &Node, _: Rule, reader: &mut Reader<'_>) -> Option<Self> {
        match node.value {
            Value::Bool(value) => Some(value),
            _ => reader.expected("`true` or `false`", node),
        }
    }
}

impl FromNode for String {
    const KIND: FieldKind = FieldKind::Str;

    fn read(node: &Node, rule: Rule, reader: &mut Reader<'_>) -> Option<Self> {
        let text = match &node.value {
            Value::String(text) => rule.normalize(text),
            Value::Number(text) => {
                let hint = format!("put it in quotes: `\"{text}\"`");
                reader.error(format!("expected a string, found `{text}`")).hint(hint);
                return None;
            }
            _ => return reader.expected("a string", node),
        };
        match rule.choices() {
            Some(choices) if !choices.contains(&text.as_str()) => {
                let problem = reader.error(format!("expected {rule}, found `{text}`"));
                if let Some(found) = nearest(text.trim(), choices.iter().copied()) {
                    problem.hint(format!("did you mean `{found}`?"));
                }
                None
            }
            _ => Some(text),
        }
    }
}

/// An entry that is wrong becomes a default one, so that indices stay true.
impl<T: FromNode> FromNode for Vec<T> {
    const KIND: FieldKind = FieldKind::List(&T::KIND);

    fn read(node: &Node, rule: Rule, reader: &mut Reader<'_>) -> Option<Self> {
        let Value::List(items) = &node.value else {
            return reader.expected(&format!("a {}", Self::KIND), node);
        };
        if items.is_empty() && rule == Rule::NonEmpty {
            reader.error("expected at least one entry, found an empty list");
            return None;
        }
        let outer = reader.path.len();
        let read = |(index, item)| {
            reader.path.push_str(&format!("[{index}]"));
            let value = T::read(item, Rule::Any, reader);
            reader.path.truncate(outer);
            value.unwrap_or_default()
        };
        Some(items.iter().enumerate().map(read).collect())
    }
}

impl FromNode for Map<String, Json> {
    const KIND: FieldKind = FieldKind::Free;

    fn read(node: &Node, _: Rule, reader: &mut Reader<'_>) -> Option<Self> {
        let Json::Object(map) = node.to_json() else {
            return reader.expected("an object", node);
        };
        match beyond_f64(node) {
            Some(number) => reader.expected("numbers in the range of 64-bit floats", number),
            None => Some(map),
        }
    }
}

/// A number within `node` that plain JSON values cannot hold.
fn beyond_f64(node: &Node) -> Option<&Node> {
    match &node.value {
        Value::Number(text) => (!text.parse::<f64>().is_ok_and(f64::is_finite)).then_some(node),
        Value::List(items) => items.iter().find_map(beyond_f64),
        Value::Object(members) => members.iter().find_map(|(_, node)| beyond_f64(node)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fields::Field;
    use super::super::problem::Problems;
    use super::super::text::parse_file;
    use super::*;

    fn read<T: FromNode>(value: &str, rule: Rule) -> Result<T, String> {
        let tree = parse_file(&format!("{{\"a\": {value}}}")).unwrap();
        let field = Field { name: "a", kind: T::KIND, default: Some(""), doc: "A letter.", rule };
        let mut problems = Problems::default();
        let value = Reader::new(&mut problems).field(&tree, &field);
        match problems.iter().next() {
            Some(problem) => {
                Err(format!("{}|{}", problem.message, problem.hint.as_deref().unwrap_or_default()))
            }
            None => Ok(value),
        }
    }

    #[test]
    fn an_integer_has_no_fraction_exponent_or_quotes() {
        assert_eq!(read::<i64>("-7", Rule::Any), Ok(-7));
        assert_eq!(read::<i64>("-0", Rule::Any), Ok(0));
        assert_eq!(read::<i64>("9223372036854775807", Rule::Any), Ok(i64::MAX));
        let error = |value| read::<i64>(value, Rule::Any).unwrap_err();
        let written = "integers are written without fraction and exponent";
        assert_eq!(error("4.0"), format!("expected an integer, found `4.0`|{written}"));
        assert_eq!(error("4e0"), format!("expected an integer, found `4e0`|{written}"));
        assert_eq!(error("\"4\""), "expected an integer, found the string `4`|remove the quotes");
        assert_eq!(
            error("9223372036854775808"),
            "expected an integer of 64 bits, found `9223372036854775808`|`a` is an integer: a letter"
        );
        assert_eq!(
            error("\"inf\""),
            "expected an integer, found the string `inf`|`a` is an integer: a letter"
        );
        assert_eq!(error("[4]"), "expected an integer, found a list|`a` is an integer: a letter");
        assert_eq!(error("true"), "expected an integer, found `true`|`a` is an integer: a letter");
    }

    #[test]
    fn a_number_may_be_written_as_an_integer_and_must_fit_its_width() {
        assert_eq!(read::<f64>("3", Rule::Any), Ok(3.0));
        assert_eq!(read::<f32>("0.1", Rule::Any), Ok(0.1));
        assert_eq!(read::<f64>("1e39", Rule::Any), Ok(1e39));
        assert_eq!(
            read::<f32>("1e39", Rule::Any).unwrap_err(),
            "expected a number in the range of 32-bit floats (about ±3.4e38), found `1e39`|`a` is a number: a letter"
        );
        assert!(read::<f64>("1e309", Rule::Any).unwrap_err().contains("64-bit"));
        for small in ["1e-46", "-2e-400", "0.00000000000000000000000000000000000000000000001"] {
            assert!(read::<f32>(small, Rule::Any).unwrap_err().contains("0 in 32 bits"), "{small}");
        }
        for zero in ["0", "-0.0", "0e9", "0.0E-99"] {
            assert_eq!(read::<f32>(zero, Rule::Any), Ok(0.0));
        }
        assert_eq!(
            read::<f32>("false", Rule::Any).unwrap_err(),
            "expected a number, found `false`|`a` is a number: a letter"
        );
    }

    #[test]
    fn a_decimal_is_rounded_to_32_bits_once() {
        // Just above the middle of two 32-bit neighbours, by less than 64 bits can tell.
        let text = "1.00000005960464477539062501";
        assert_eq!(read::<f32>(text, Rule::Any).unwrap().to_bits(), 1.0f32.to_bits() + 1);
    }

    #[test]
    fn a_value_out_of_range_is_reported_with_the_range() {
        assert_eq!(
            read::<i64>("-1", Rule::AtLeast(0.0)).unwrap_err(),
            "expected a value ≥ 0, found `-1`|`a` is an integer ≥ 0: a letter"
        );
        assert_eq!(
            read::<f32>("2", Rule::Within(0.0, 1.0)).unwrap_err(),
            "expected a value from 0 to 1, found `2`|`a` is a number from 0 to 1: a letter"
        );
        assert_eq!(read::<f64>("0", Rule::AtLeast(0.0)), Ok(0.0));
    }

    #[test]
    fn booleans_and_strings_are_not_guessed() {
        assert_eq!(read::<bool>("true", Rule::Any), Ok(true));
        assert_eq!(
            read::<bool>("1", Rule::Any).unwrap_err(),
            "expected `true` or `false`, found `1`|`a` is a boolean: a letter"
        );
        assert_eq!(
            read::<String>("16", Rule::Any).unwrap_err(),
            "expected a string, found `16`|put it in quotes: `\"16\"`"
        );
    }

    #[test]
    fn null_and_an_empty_string_mean_absent() {
        assert_eq!(read::<Option<i64>>("null", Rule::Above(0.0)), Ok(None));
        assert_eq!(read::<Option<i64>>("0", Rule::Any), Ok(Some(0)));
        assert_eq!(read::<Option<String>>("\"\"", Rule::OneOf(&["x"])), Ok(None));
        assert_eq!(read::<Option<String>>("\"  \"", Rule::Trimmed), Ok(None));
        assert_eq!(read::<Option<String>>("\" \"", Rule::Any), Ok(Some(" ".into())));
        assert_eq!(read::<Option<Vec<i64>>>("[]", Rule::Any), Ok(Some(vec![])));
    }

    #[test]
    fn a_choice_is_exact_unless_it_is_a_word() {
        assert_eq!(
            read::<String>("\" INT8 \"", Rule::WordOf(&["none", "int8"])),
            Ok("int8".into())
        );
        assert_eq!(
            read::<String>("\"AdamW\"", Rule::OneOf(&["muon", "adamw"])).unwrap_err(),
            "expected one of `muon`, `adamw`, found `AdamW`|did you mean `adamw`?"
        );
        assert_eq!(
            read::<String>("\"sgd\"", Rule::OneOf(&["muon", "adamw"])).unwrap_err(),
            "expected one of `muon`, `adamw`, found `sgd`|`a` is one of `muon`, `adamw`: a letter"
        );
    }

    #[test]
    fn a_free_object_keeps_all_that_json_can_hold() {
        let map: Map<String, Json> = read("{\"b\": [1, 2.5], \"A\": null}", Rule::Any).unwrap();
        assert_eq!(Json::from(map), serde_json::json!({"b": [1, 2.5], "A": null}));
        let error = |value| read::<Map<String, Json>>(value, Rule::Any).unwrap_err();
        assert_eq!(error("[]"), "expected an object, found a list|`a` is an object: a letter");
        let range = "expected numbers in the range of 64-bit floats, found `1e999`|`a` is an object: a letter";
        assert_eq!(error("{\"a\": [1, 1e999]}"), range);
    }

    #[test]
    fn a_wrong_entry_of_a_list_leaves_the_others_in_place() {
        let tree = parse_file(r#"{"a": [1, "x", 3]}"#).unwrap();
        let mut problems = Problems::default();
        let field =
            Field { name: "a", kind: FieldKind::Int, default: None, doc: "", rule: Rule::Any };
        let list: Vec<i64> = Reader::new(&mut problems).field(&tree, &field);
        assert_eq!(list, [1, 0, 3]);
        assert!(problems.is_bad("a[1]") && !problems.is_bad("a[0]"));
        assert_eq!(
            read::<Vec<i64>>("{}", Rule::Any).unwrap_err(),
            "expected a list of integers, found an object|`a` is a list of integers: a letter"
        );
        assert!(read::<Vec<i64>>("[]", Rule::NonEmpty).unwrap_err().contains("at least one entry"));
    }
}
