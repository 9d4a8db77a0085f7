//! Params from JSON.

use serde_json::{Map, Value as Json};

use super::{Param, ParamKind, ParamValue, Params, Presence};
use crate::blocks::custom::fault::Fault;
use crate::blocks::custom::shape::{Size, Symbols};
use crate::config::nearest_hint;

/// A mistake in the parameter `key`; an empty key stands for the whole of `params`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misplaced {
    /// The key in `params`.
    pub key: String,
    /// What is wrong there.
    pub fault: Fault,
}

impl Params {
    /// Reads the parameters that `declared` knows.
    ///
    /// # Errors
    /// One for each value of a wrong type, each unknown name and each missing parameter.
    pub fn read(
        declared: &'static [Param],
        written: &Map<String, Json>,
        symbols: &Symbols,
    ) -> Result<Self, Vec<Misplaced>> {
        let mut values = Vec::new();
        let mut wrong = Vec::new();
        for (key, json) in written {
            let read = match declared.iter().find(|param| param.name == key) {
                Some(param) => read(param, declared, json, symbols),
                None => Err(unknown(key, declared)),
            };
            match read {
                Ok(found) => values.extend(found),
                Err(fault) => wrong.push(Misplaced { key: key.clone(), fault }),
            }
        }
        wrong.extend(repeated(declared, written));
        if wrong.is_empty() {
            wrong.extend(fill(declared, &mut values));
        }
        if wrong.is_empty() { Ok(Self(values)) } else { Err(wrong) }
    }
}

/// The values that one key gives: several for a positional list.
fn read(
    param: &Param,
    declared: &'static [Param],
    json: &Json,
    symbols: &Symbols,
) -> Result<Vec<(&'static str, ParamValue)>, Fault> {
    let one = |value| Ok(vec![(param.name, value)]);
    match param.kind {
        ParamKind::Int => one(ParamValue::Int(size(json, symbols)?)),
        ParamKind::Float => one(ParamValue::Float(float(json)?)),
        ParamKind::List => one(ParamValue::List(list(json, symbols)?)),
        ParamKind::Positional => {
            let sizes = list(json, symbols)?;
            let names: Vec<_> = ints(declared).collect();
            if sizes.len() > names.len() {
                return Err(Fault::new(
                    format!(
                        "has `{}` entries, at most `{}` mean something",
                        sizes.len(),
                        names.len()
                    ),
                    format!("the entries are {}, in this order", names.join(", ")),
                ));
            }
            Ok(names.into_iter().zip(sizes.into_iter().map(ParamValue::Int)).collect())
        }
    }
}

fn ints(declared: &'static [Param]) -> impl Iterator<Item = &'static str> {
    declared.iter().filter(|param| param.kind == ParamKind::Int).map(|param| param.name)
}

/// Integers given both in a list and by name, or in two lists.
fn repeated(declared: &'static [Param], written: &Map<String, Json>) -> Option<Misplaced> {
    let of_kind = |kind: ParamKind| {
        let names = declared.iter().filter(move |param| param.kind == kind).map(|param| param.name);
        names.filter(|name| written.contains_key(*name)).collect::<Vec<_>>()
    };
    let lists = of_kind(ParamKind::Positional);
    let rest = [&lists[1.min(lists.len())..], &of_kind(ParamKind::Int)].concat();
    let (list, other) = (lists.first()?, rest.first()?);
    let fault = Fault::new(
        format!("gives the integers of this operation by position, and `{other}` gives one again"),
        format!("write either `{list}` or names"),
    );
    Some(Misplaced { key: (*list).into(), fault })
}

fn unknown(key: &str, declared: &'static [Param]) -> Fault {
    let known: Vec<_> = declared.iter().map(|param| param.name).collect();
    let hint = match known.as_slice() {
        [] => "this operation has no parameters".into(),
        known => nearest_hint(key, "parameters of this operation", known),
    };
    Fault::new(format!("this operation has no parameter `{key}`"), hint)
}

/// Adds defaults to `values`, and reports what has none.
fn fill(
    declared: &'static [Param],
    values: &mut Vec<(&'static str, ParamValue)>,
) -> Vec<Misplaced> {
    let mut missing = Vec::new();
    for param in declared {
        if values.iter().any(|(name, _)| *name == param.name) {
            continue;
        }
        match (param.presence, param.kind) {
            (Presence::Default(value), ParamKind::Float) => {
                values.push((param.name, ParamValue::Float(value as f32)));
            }
            (Presence::Default(value), _) => {
                values.push((param.name, ParamValue::Int(Size::Fixed(value as i64))));
            }
            (Presence::Optional, _) => {}
            (Presence::Required, _) => missing.push(Misplaced {
                key: String::new(),
                fault: Fault::new(
                    format!("`{}` is missing", param.name),
                    format!("add `\"params\": {{\"{}\": …}}`", param.name),
                ),
            }),
        }
    }
    missing
}

fn size(json: &Json, symbols: &Symbols) -> Result<Size, Fault> {
    match json {
        Json::String(text) => Size::parse(text, symbols),
        Json::Number(number) => {
            let whole = number.as_f64().filter(|n| n.fract() == 0.0 && n.abs() < 9e15);
            let value = number.as_i64().or(whole.map(|n| n as i64));
            value.map(Size::Fixed).ok_or_else(|| wrong_type("an integer or a symbol", json))
        }
        _ => Err(wrong_type("an integer or a symbol", json)),
    }
}

fn float(json: &Json) -> Result<f32, Fault> {
    let value = match json {
        Json::String(text) => text.trim().parse::<f32>().ok(),
        // Straight from the text to 32 bits: by way of 64 a few decimals would round twice.
        Json::Number(number) => number.to_string().parse::<f32>().ok(),
        _ => None,
    };
    value.filter(|v| v.is_finite()).ok_or_else(|| wrong_type("a number", json))
}

fn list(json: &Json, symbols: &Symbols) -> Result<Vec<Size>, Fault> {
    let Json::Array(items) = json else { return Err(wrong_type("a list", json)) };
    items.iter().map(|item| size(item, symbols)).collect()
}

fn wrong_type(expected: &str, found: &Json) -> Fault {
    let hint = "sizes are integers or symbols such as `D` and `BT`; other parameters are numbers";
    Fault::new(format!("expected {expected}, found `{found}`"), hint)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::blocks::custom::params::Site;
    use crate::blocks::custom::shape::Extent;

    const DECLARED: &[Param] = &[
        Param { name: "shape", kind: ParamKind::Positional, presence: Presence::Optional },
        Param { name: "axes", kind: ParamKind::Positional, presence: Presence::Optional },
        Param { name: "T", kind: ParamKind::Int, presence: Presence::Optional },
        Param { name: "step", kind: ParamKind::Int, presence: Presence::Default(1.0) },
        Param { name: "base", kind: ParamKind::Float, presence: Presence::Default(1e4) },
        Param { name: "sizes", kind: ParamKind::List, presence: Presence::Optional },
    ];
    const SYMBOLS: Symbols = Symbols { dim: 16, vocab: 37, heads: 4 };
    const EXTENT: Extent = Extent { batch: 2, seq: 12 };

    fn read_all(json: Json) -> Result<Params, Vec<Misplaced>> {
        let Json::Object(map) = json else { panic!("an object") };
        Params::read(DECLARED, &map, &SYMBOLS)
    }

    fn errors(json: Json) -> Vec<String> {
        let found = read_all(json).unwrap_err();
        found.into_iter().map(|m| format!("{}: {}", m.key, m.fault.message)).collect()
    }

    #[test]
    fn values_are_read_by_name_and_missing_ones_have_defaults() {
        let params = read_all(json!({"T": "T/2", "sizes": ["BT", 3, "-1", 2.0], "base": "500"}));
        let site = Site { params: &params.unwrap(), extent: EXTENT };
        assert_eq!((site.int("T"), site.int("step"), site.float("base")), (6, 1, 500.0));
        assert_eq!(site.list("sizes"), Some(vec![24, 3, -1, 2]));
        let params = read_all(json!({})).unwrap();
        let site = Site { params: &params, extent: EXTENT };
        assert_eq!((site.given("T"), site.int("step"), site.float("base")), (None, 1, 1e4));
        assert_eq!(site.list("sizes"), None);
    }

    #[test]
    fn a_positional_list_gives_the_integers_in_the_order_of_the_row() {
        for key in ["shape", "axes"] {
            let params = read_all(json!({key: ["T", 5]})).unwrap();
            let site = Site { params: &params, extent: EXTENT };
            assert_eq!((site.int("T"), site.int("step")), (12, 5));
        }
        let too_many = "axes: has `3` entries, at most `2` mean something";
        assert_eq!(errors(json!({"axes": [1, 2, 3]})), [too_many]);
        let again = "gives the integers of this operation by position, and `step` gives one again";
        assert_eq!(errors(json!({"axes": [1], "step": 2})), [format!("axes: {again}")]);
        assert!(errors(json!({"axes": [1], "shape": [1]}))[0].contains("`axes` gives one again"));
    }

    #[test]
    fn all_wrong_values_are_reported_at_once() {
        let found = errors(json!({"T": 1.5, "step": true, "base": null, "sizes": 3, "stpe": 1}));
        let expected = [
            "T: expected an integer or a symbol, found `1.5`",
            "step: expected an integer or a symbol, found `true`",
            "base: expected a number, found `null`",
            "sizes: expected a list, found `3`",
            "stpe: this operation has no parameter `stpe`",
        ];
        assert_eq!(found, expected);
        assert_eq!(errors(json!({"T": "Q"})), ["T: `Q` is not a size"]);
        assert_eq!(errors(json!({"base": "1e39"})), ["base: expected a number, found `\"1e39\"`"]);
    }

    #[test]
    fn a_required_parameter_must_be_there() {
        const REQUIRED: &[Param] =
            &[Param { name: "scalar", kind: ParamKind::Float, presence: Presence::Required }];
        let found = Params::read(REQUIRED, &Map::new(), &SYMBOLS).unwrap_err();
        assert_eq!(found[0].fault.message, "`scalar` is missing");
    }
}
