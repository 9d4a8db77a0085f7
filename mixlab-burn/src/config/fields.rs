//! The table of fields: each field of a config is declared once, by `fields!`.
//!
//! From one declaration come the struct, its reader and its rows in the table,
//! of which the reference, the schema and the hints for unknown names are made.

use std::fmt;

/// One field as it is documented and checked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Field {
    /// Its key in the JSON text.
    pub name: &'static str,
    /// The type of its value.
    pub kind: FieldKind,
    /// What holds when the field is left out; `None` for a required field.
    pub default: Option<&'static str>,
    /// What the field means.
    pub doc: &'static str,
    /// Which values it takes.
    pub rule: Rule,
}

/// The JSON type of a field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FieldKind {
    /// An integer of 64 bits, written without fraction or exponent.
    Int,
    /// A number that is kept with 32 bits.
    F32,
    /// A number that is kept with 64 bits.
    F64,
    /// `true` or `false`.
    Bool,
    /// A string; an empty one means the same as leaving the field out.
    Str,
    /// An object with any keys.
    Free,
    /// A list of one kind.
    List(&'static FieldKind),
    /// An object with these fields and no others.
    Object(&'static [Field]),
}

impl fmt::Display for FieldKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FieldKind::Int => f.write_str("integer"),
            FieldKind::F32 | FieldKind::F64 => f.write_str("number"),
            FieldKind::Bool => f.write_str("boolean"),
            FieldKind::Str => f.write_str("string"),
            FieldKind::Free | FieldKind::Object(_) => f.write_str("object"),
            FieldKind::List(kind) => write!(f, "list of {kind}s"),
        }
    }
}

/// The range of a field, as far as one value alone can break it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// Every value of the type.
    Any,
    /// Numbers ≥ the bound.
    AtLeast(f64),
    /// Numbers > the bound.
    Above(f64),
    /// Numbers from the first bound to the second, both included.
    Within(f64, f64),
    /// Numbers from the first bound, included, to the second, excluded.
    Below(f64, f64),
    /// 0, which turns the feature off, or numbers ≥ the bound.
    ZeroOrFrom(f64),
    /// Even integers ≥ 0.
    Even,
    /// Lists with at least one entry.
    NonEmpty,
    /// Strings, read without the space around them.
    Trimmed,
    /// Strings, read without the space around them and in lower case.
    Word,
    /// One of these strings, spelled exactly.
    OneOf(&'static [&'static str]),
    /// One of these strings, read as a [`Rule::Word`].
    WordOf(&'static [&'static str]),
}

impl Rule {
    /// Whether the number is in the range; rules for other types admit all.
    pub fn admits_number(&self, value: f64) -> bool {
        match *self {
            Rule::AtLeast(low) => value >= low,
            Rule::Above(low) => value > low,
            Rule::Within(low, high) => (low..=high).contains(&value),
            Rule::Below(low, high) => (low..high).contains(&value),
            Rule::ZeroOrFrom(low) => value == 0.0 || value >= low,
            Rule::Even => value >= 0.0 && value % 2.0 == 0.0,
            _ => true,
        }
    }

    /// The strings that the rule names, if it names any.
    pub fn choices(&self) -> Option<&'static [&'static str]> {
        match *self {
            Rule::OneOf(choices) | Rule::WordOf(choices) => Some(choices),
            _ => None,
        }
    }

    /// The string as the rule reads it.
    pub fn normalize(&self, text: &str) -> String {
        match self {
            Rule::Trimmed => text.trim().to_owned(),
            Rule::Word | Rule::WordOf(_) => text.trim().to_lowercase(),
            _ => text.to_owned(),
        }
    }
}

/// Writes the range as it stands in the reference and in errors; nothing if
/// every value is allowed.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Any | Rule::Trimmed | Rule::Word => Ok(()),
            Rule::AtLeast(low) => write!(f, "≥ {low}"),
            Rule::Above(low) => write!(f, "> {low}"),
            Rule::Within(low, high) => write!(f, "from {low} to {high}"),
            Rule::Below(low, high) => write!(f, "≥ {low} and < {high}"),
            Rule::ZeroOrFrom(low) => write!(f, "= 0 or ≥ {low}"),
            Rule::Even => f.write_str("≥ 0 and even"),
            Rule::NonEmpty => f.write_str("with at least one entry"),
            Rule::OneOf(choices) | Rule::WordOf(choices) => {
                write!(f, "one of `{}`", choices.join("`, `"))
            }
        }
    }
}

/// Declares a struct whose fields are read from a JSON object.
///
/// Each field is a doc comment, a name (with `as "key"` where the key is no
/// Rust name), a type, the default as text (or `required`) and, where not every
/// value is allowed, a [`Rule`].
macro_rules! fields {
    (
        $(#[doc = $struct_doc:literal])+
        $struct:ident {
            $(
                $(#[doc = $doc:literal])+
                $field:ident $(as $key:literal)? : $ty:ty = $default:tt $(, $rule:expr)? ;
            )+
        }
    ) => {
        $(#[doc = $struct_doc])+
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct $struct {
            $( $(#[doc = $doc])+ pub $field: $ty, )+
        }

        impl $struct {
            /// All fields, in the order of the reference.
            pub const FIELDS: &'static [$crate::config::Field] = &[
                $( fields!(@row [$($doc)+] [$field $($key)?] [$ty] [$default] [$($rule)?]) ),+
            ];
        }

        impl $crate::config::read::FromNode for $struct {
            const KIND: $crate::config::FieldKind = $crate::config::FieldKind::Object(Self::FIELDS);

            fn read(
                node: &$crate::config::Node,
                _: $crate::config::Rule,
                reader: &mut $crate::config::read::Reader<'_>,
            ) -> Option<Self> {
                reader.open(node, Self::FIELDS)?;
                Some(Self {
                    $( $field: reader.field(
                        node,
                        const { &fields!(
                            @row [$($doc)+] [$field $($key)?] [$ty] [$default] [$($rule)?]
                        ) },
                    ), )+
                })
            }
        }
    };
    (@row [$($doc:literal)+] [$($key:tt)+] [$ty:ty] [$default:tt] [$($rule:expr)?]) => {
        $crate::config::Field {
            name: fields!(@key $($key)+),
            kind: <$ty as $crate::config::read::FromNode>::KIND,
            default: fields!(@default $default),
            doc: concat!($($doc),+).trim_ascii(),
            rule: fields!(@rule $($rule)?),
        }
    };
    (@key $field:ident) => { stringify!($field) };
    (@key $field:ident $key:literal) => { $key };
    (@default required) => { None };
    (@default $default:literal) => { Some($default) };
    (@rule) => { $crate::config::Rule::Any };
    (@rule $rule:expr) => { $rule };
}
pub(crate) use fields;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BlockSpec, Config, TrainingSpec};

    fn field(fields: &'static [Field], name: &str) -> Field {
        *fields.iter().find(|field| field.name == name).expect("the field exists")
    }

    #[test]
    fn a_row_holds_key_kind_default_doc_and_rule() {
        let row = field(Config::FIELDS, "model_dim");
        assert_eq!((row.kind, row.default, row.rule), (FieldKind::Int, None, Rule::Above(0.0)));
        assert!(row.doc.starts_with("Width of the residual stream"), "{}", row.doc);
        assert_eq!(field(BlockSpec::FIELDS, "type").kind, FieldKind::Str);
        let two_lines = field(BlockSpec::FIELDS, "stream").doc;
        assert!(two_lines.ends_with("`source_stream` of later blocks."), "{two_lines}");
        assert_eq!(field(Config::FIELDS, "recurrence").kind.to_string(), "list of integers");
        assert_eq!(field(Config::FIELDS, "training").kind, FieldKind::Object(TrainingSpec::FIELDS));
    }

    /// All fields of a struct and of the structs in it.
    fn all(fields: &'static [Field]) -> Vec<Field> {
        let inner = |field: &Field| match field.kind {
            FieldKind::Object(fields) | FieldKind::List(&FieldKind::Object(fields)) => all(fields),
            _ => Vec::new(),
        };
        fields.iter().flat_map(|field| [vec![*field], inner(field)].concat()).collect()
    }

    #[test]
    fn every_rule_fits_the_kind_of_its_field() {
        for field in all(Config::FIELDS) {
            let fits = match field.rule {
                Rule::Any => true,
                Rule::NonEmpty => matches!(field.kind, FieldKind::List(_)),
                Rule::Trimmed | Rule::Word | Rule::OneOf(_) | Rule::WordOf(_) => {
                    field.kind == FieldKind::Str
                }
                Rule::Even => field.kind == FieldKind::Int,
                _ => matches!(field.kind, FieldKind::Int | FieldKind::F32 | FieldKind::F64),
            };
            assert!(fits, "{}: {:?} on {}", field.name, field.rule, field.kind);
        }
    }

    #[test]
    fn every_default_that_is_a_choice_is_one_of_the_choices() {
        for field in all(Config::FIELDS) {
            if let (Some(choices), Some(default)) = (field.rule.choices(), field.default) {
                assert!(choices.contains(&default), "{}: {default}", field.name);
            }
        }
    }

    #[test]
    fn each_range_admits_its_bounds_as_it_says() {
        let admitted = |rule: Rule| {
            [-2.0, -1.0, 0.0, 0.5, 1.0, 2.0, 3.0].map(|value| rule.admits_number(value))
        };
        assert_eq!(admitted(Rule::AtLeast(0.0)), [false, false, true, true, true, true, true]);
        assert_eq!(admitted(Rule::Above(0.0)), [false, false, false, true, true, true, true]);
        assert_eq!(
            admitted(Rule::Within(0.0, 1.0)),
            [false, false, true, true, true, false, false]
        );
        assert_eq!(
            admitted(Rule::Below(0.0, 1.0)),
            [false, false, true, true, false, false, false]
        );
        assert_eq!(admitted(Rule::ZeroOrFrom(2.0)), [false, false, true, false, false, true, true]);
        assert_eq!(admitted(Rule::Even), [false, false, true, false, false, true, false]);
    }
}
