//! The `params` of an operation: what a row of the table declares, read from what was written.
//!
//! Parameters are read by name. Some operations also take all their integers in one list, `shape`
//! or `axes`, in the order in which the row declares them: the only form that mixlab 0.10.1
//! understands for them.

mod idle;
mod read;

use super::shape::{Extent, Size};

pub(super) use idle::is_idle;
pub use read::Misplaced;

/// A parameter as a row declares it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Param {
    /// Its key.
    pub name: &'static str,
    /// Its type.
    pub kind: ParamKind,
    /// Whether it must be there, and what holds if not.
    pub presence: Presence,
}

/// The type of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamKind {
    /// A size: an integer or a symbol.
    Int,
    /// A number.
    Float,
    /// A list of sizes.
    List,
    /// A list of all `Int` parameters of the row, in order; excludes their names.
    Positional,
}

/// What holds when a parameter is left out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Presence {
    /// Leaving it out is a mistake.
    Required,
    /// The operation finds out by itself, or does without.
    Optional,
    /// This value holds.
    Default(f64),
}

#[derive(Clone, Debug, PartialEq)]
enum ParamValue {
    Int(Size),
    Float(f32),
    List(Vec<Size>),
}

impl ParamValue {
    fn varies(&self) -> bool {
        match self {
            Self::Int(size) => size.varies(),
            Self::Float(_) => false,
            Self::List(sizes) => sizes.iter().any(|size| size.varies()),
        }
    }
}

/// The parameters of one operation, defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Params(Vec<(&'static str, ParamValue)>);

impl Params {
    fn get(&self, name: &str) -> Option<&ParamValue> {
        self.0.iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// Whether any of them depends on the length of rows.
    pub fn vary(&self) -> bool {
        self.0.iter().any(|(_, value)| value.varies())
    }

    /// Whether one of `names` depends on the length of rows.
    pub fn varies(&self, names: &[&str]) -> bool {
        names.iter().filter_map(|name| self.get(name)).any(ParamValue::varies)
    }

    /// The parameters as JSON: sizes as integers or as the symbols of what they depend on.
    pub fn to_json(&self) -> serde_json::Value {
        let value = |value: &ParamValue| -> serde_json::Value {
            match value {
                ParamValue::Int(size) => size.to_json(),
                ParamValue::Float(number) => (*number).into(),
                ParamValue::List(sizes) => sizes.iter().map(|size| size.to_json()).collect(),
            }
        };
        self.0.iter().map(|(name, held)| ((*name).to_owned(), value(held))).collect()
    }

    /// The same parameters with the integers `names` holding each other's values: the `n`-th name
    /// gets what the `n`-th of `from` had.
    pub fn renamed(&self, from: &[&str], names: &[&'static str]) -> Self {
        let value = |name: &str| self.get(name).expect("a row's own parameter").clone();
        let renamed = names.iter().zip(from).map(|(name, old)| (*name, value(old)));
        Self(renamed.collect())
    }
}

/// One execution of an operation as its shape rule sees it.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// The operation's parameters.
    pub params: &'a Params,
    /// How much data there is.
    pub extent: Extent,
}

impl Site<'_> {
    /// An integer that may have been left out.
    pub fn given(&self, name: &str) -> Option<i64> {
        match self.params.get(name) {
            Some(ParamValue::Int(size)) => Some(size.at(self.extent)),
            _ => None,
        }
    }

    /// An integer that its row requires or gives a default.
    pub fn int(&self, name: &str) -> i64 {
        self.given(name).expect("a declared integer")
    }

    /// A number that may have been left out.
    pub fn given_float(&self, name: &str) -> Option<f32> {
        match self.params.get(name) {
            Some(ParamValue::Float(value)) => Some(*value),
            _ => None,
        }
    }

    /// A number that its row requires or gives a default.
    pub fn float(&self, name: &str) -> f32 {
        self.given_float(name).expect("a declared number")
    }

    /// A list that may have been left out.
    pub fn list(&self, name: &str) -> Option<Vec<i64>> {
        match self.params.get(name) {
            Some(ParamValue::List(sizes)) => {
                Some(sizes.iter().map(|size| size.at(self.extent)).collect())
            }
            _ => None,
        }
    }
}
