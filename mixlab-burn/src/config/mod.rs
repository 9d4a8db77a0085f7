//! JSON text → [`Config`]: exactly what was written, typed, each value in its
//! own range, with all mistakes of a file reported at once.
//!
//! ```text
//! text ─ text.rs ─→ Node tree ─ path.rs (--set) ─→ Node tree ─ read.rs, values.rs ─→ Config
//!                                                      └→ Source: places, problems
//! ```
//!
//! Each field is declared once, in `model.rs`, `block.rs` or `training.rs`.
//! Rules about several fields belong to the plan, which reports into the same
//! [`Problems`] before [`Source::finish`] makes one result of them.

mod block;
mod fields;
mod model;
mod node;
mod path;
mod problem;
mod read;
mod shorten;
mod source;
mod text;
mod training;
mod values;

pub use block::{BlockSpec, CustomOp, CustomWeight};
pub use fields::{Field, FieldKind, Rule};
pub use model::Config;
pub use node::{Node, Origin, Value};
pub use problem::{ConfigError, Finding, Problem, Problems, Reported, nearest, nearest_hint};
pub use shorten::shortened;
pub use source::Source;
pub use training::{PhaseSpec, TrainingSpec};

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::files;
use read::{FromNode, Reader};

impl Config {
    /// Reads a config from JSON text with `//` comments. `name` stands for the
    /// file in errors and is the name of a config that has none; each of
    /// `overrides` is a `path=value` that replaces a field.
    ///
    /// Wrong types, ranges and unknown fields are no failure yet: they wait in
    /// [`Source::problems`].
    ///
    /// # Errors
    /// If the text is not one JSON object, or an override leads nowhere.
    pub fn parse(
        text: &str,
        name: &str,
        overrides: &[String],
    ) -> Result<(Self, Source), ConfigError> {
        let (mut config, source) = parse(text, name, overrides)?;
        config.name_after(name);
        Ok((config, source))
    }

    /// Reads a config file. A relative path that does not exist is looked for
    /// once more from the parent of the working directory.
    ///
    /// # Errors
    /// As [`Config::parse`], or if the file cannot be read.
    pub fn read(
        path: impl AsRef<Path>,
        overrides: &[String],
    ) -> Result<(Self, Source), ConfigError> {
        let path = path.as_ref();
        let (bytes, found) = read_file(path)?;
        let found = found.display().to_string();
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
            let problem =
                Problem::new("", "the text is not UTF-8").with_hint("save the file as UTF-8");
            ConfigError::at(format!("{found}:{line}"), problem)
        })?;
        let (mut config, source) = parse(&text, &found, overrides)?;
        config.name_after(&path.display().to_string());
        Ok((config, source))
    }

    /// A config that consists of one block in a stream of width `dim`, from the block's JSON object
    /// with `//` comments; everything else has its default. `name` stands for the text in errors.
    ///
    /// # Errors
    /// As [`Config::parse`].
    pub fn of_block(text: &str, name: &str, dim: usize) -> Result<(Self, Source), ConfigError> {
        let block = object(text, name)?;
        let number = |n: usize| Node::from(Value::Number(n.to_string()));
        let fields = [
            ("model_dim", number(dim)),
            ("vocab_size", number(1)),
            ("blocks", Node::from(Value::List(vec![block]))),
        ];
        let fields = fields.map(|(key, node)| (key.to_owned(), node)).into();
        let (mut config, source) = read_root(Node::from(Value::Object(fields)), name, &[]);
        config.name_after(name);
        Ok((config, source))
    }

    fn name_after(&mut self, path: &str) {
        if self.name.is_empty() {
            path.clone_into(&mut self.name);
        }
    }
}

fn parse(text: &str, name: &str, overrides: &[String]) -> Result<(Config, Source), ConfigError> {
    let mut root = object(text, name)?;
    let refused: Vec<_> = overrides
        .iter()
        .enumerate()
        .filter_map(|(number, text)| {
            let problem = path::apply_override(&mut root, text, number).err()?;
            Some(Finding { place: source::override_place(text), problem })
        })
        .collect();
    if !refused.is_empty() {
        return Err(ConfigError::new(refused, 0));
    }
    Ok(read_root(root, name, overrides))
}

/// The JSON object that `text` is.
fn object(text: &str, name: &str) -> Result<Node, ConfigError> {
    text::parse_file(text).map_err(|error| {
        let (line, column) = text::line_and_column(text, error.offset);
        let problem = Problem::new("", error.message).with_hint(error.hint);
        ConfigError::at(format!("{name}:{line}:{column}"), problem)
    })
}

fn read_root(root: Node, name: &str, overrides: &[String]) -> (Config, Source) {
    let mut problems = Problems::default();
    let config: Option<Config> = FromNode::read(&root, Rule::Any, &mut Reader::new(&mut problems));
    let source = Source::new(name, root, overrides, problems);
    (config.unwrap_or_default(), source)
}

/// The bytes of a file and the path under which it was found.
fn read_file(path: &Path) -> Result<(Vec<u8>, PathBuf), ConfigError> {
    let unreadable = |problem: String, hint: &str| {
        let problem = Problem::new("", problem).with_hint(hint);
        ConfigError::at(path.display().to_string(), problem)
    };
    if path.as_os_str().is_empty() {
        let problem = Problem::new("", "the path of the config file is empty");
        return Err(ConfigError::at("config", problem.with_hint("name a file of JSON")));
    }
    let error = match files::read_small_file(path) {
        Ok(bytes) => return Ok((bytes, path.to_owned())),
        Err(error) => error,
    };
    let hint = files::hint(&error);
    if error.kind() != ErrorKind::NotFound || path.is_absolute() {
        return Err(unreadable(format!("cannot read the config file: {error}"), hint));
    }
    let above = Path::new("..").join(path);
    let error = match files::read_small_file(&above) {
        Ok(bytes) => return Ok((bytes, above)),
        Err(error) => error,
    };
    let above = above.display();
    let problem = match error.kind() {
        ErrorKind::NotFound => {
            format!("there is no such config file, and no `{above}` either")
        }
        _ => format!("there is no such config file, and `{above}` cannot be read: {error}"),
    };
    Err(unreadable(problem, files::hint(&error)))
}

#[cfg(test)]
mod tests;
