//! Where a config comes from: turns a path such as `blocks[0].heads` into the
//! line where it was written, and the collected problems into a result.

use super::node::{Node, Origin};
use super::path::nearest_node;
use super::problem::{ConfigError, Finding, Problems};
use super::shorten::{self, shortened};

/// The text behind a config, and what was found wrong with it so far.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// The file as it is named in errors.
    pub name: String,
    /// All that is wrong; later checks add theirs before [`Source::finish`].
    pub problems: Problems,
    root: Node,
    overrides: Vec<String>,
}

impl Source {
    pub(super) fn new(name: &str, root: Node, overrides: &[String], problems: Problems) -> Self {
        Self { name: name.to_owned(), problems, root, overrides: overrides.to_vec() }
    }

    /// Where the value at `path` was written: `file.json:12`, or the `--set`
    /// that gave it. For a value that is absent, the place of what is around it.
    pub fn place(&self, path: &str) -> String {
        match nearest_node(&self.root, path).origin {
            Origin::File { line, .. } => format!("{}:{line}", self.name),
            Origin::Override(number) => override_place(&self.overrides[number]),
            Origin::Code if self.name.is_empty() => "config".to_owned(),
            Origin::Code => self.name.clone(),
        }
    }

    /// The config as JSON after overrides, for logs and checkpoints.
    pub fn to_json(&self) -> serde_json::Value {
        self.root.to_json()
    }

    /// The fields of the object at `path` as they were written, under the names of the reference.
    pub fn settings(&self, path: &str) -> Vec<(String, serde_json::Value)> {
        let members = nearest_node(&self.root, path).members().iter();
        members.map(|(key, node)| (key.to_lowercase(), node.to_json())).collect()
    }

    /// Ends the checks: the warnings, or the errors, in the order of the file.
    /// The collector is empty afterwards.
    ///
    /// # Errors
    /// If an error was reported; warnings are left out then.
    pub fn finish(&mut self) -> Result<Vec<Finding>, ConfigError> {
        let problems = std::mem::take(&mut self.problems);
        let failed = problems.has_errors();
        let mut shown: Vec<_> =
            problems.iter().filter(|problem| problem.warning != failed).collect();
        shown.sort_by_cached_key(|problem| nearest_node(&self.root, &problem.path).origin);
        let findings = shown
            .into_iter()
            .map(|problem| Finding { place: self.place(&problem.path), problem: problem.clone() })
            .collect();
        if failed { Err(ConfigError::new(findings, problems.dropped())) } else { Ok(findings) }
    }
}

/// How an override is named in errors.
pub(super) fn override_place(text: &str) -> String {
    format!("--set {}", shortened(&shorten::value(text)))
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    use super::*;

    fn source(text: &str, overrides: &[&str]) -> Source {
        let overrides: Vec<_> = overrides.iter().map(|text| (*text).to_owned()).collect();
        let (_, mut source) = Config::parse(text, "a.json", &overrides).expect("the text is JSON");
        source.problems = Problems::default();
        source
    }

    const TEXT: &str =
        "{\n\"model_dim\": 8,\n\"blocks\": [\n{\"type\": \"mlp\"},\n{\"type\":\n\"plain\"}]}";

    #[test]
    fn a_path_is_placed_at_its_line_or_at_what_is_around_it() {
        let source = source(TEXT, &["training.lr=1e-3", "blocks[0].activation=relu"]);
        assert_eq!(source.place("model_dim"), "a.json:2");
        assert_eq!(source.place("blocks[1].type"), "a.json:6");
        assert_eq!(source.place("blocks[1].heads"), "a.json:5");
        assert_eq!(source.place("blocks[0].heads"), "a.json:4");
        assert_eq!(source.place("vocab_size"), "a.json:1");
        assert_eq!(source.place("training.lr"), "--set training.lr=1e-3");
        assert_eq!(source.place("training.qat_start"), "--set training.lr=1e-3");
        assert_eq!(source.place("blocks[0].activation"), "--set blocks[0].activation=relu");
        assert_eq!(Source::default().place("model_dim"), "config");
    }

    #[test]
    fn errors_come_in_the_order_of_the_file_and_warnings_only_without_them() {
        let mut source = source(TEXT, &["training.lr=1e-3"]);
        for path in ["training.lr", "blocks[1].type", "blocks[0].heads", "model_dim"] {
            source.problems.error(path, "wrong");
        }
        source.problems.warn("blocks[0]", "odd");
        let error = source.finish().unwrap_err();
        let paths: Vec<_> = error.problems().map(|problem| problem.path.as_str()).collect();
        assert_eq!(paths, ["model_dim", "blocks[0].heads", "blocks[1].type", "training.lr"]);
        source.problems.warn("blocks[0]", "odd");
        assert_eq!(source.finish().unwrap()[0].to_string(), "a.json:4: blocks[0]: odd");
        assert_eq!(source.finish().unwrap(), []);
    }

    #[test]
    fn the_log_shows_the_config_after_overrides() {
        let json = source("{\"seq_len\": 4} // four", &["seq_len=8", "name=x"]).to_json();
        assert_eq!(json, serde_json::json!({"seq_len": 8, "name": "x"}));
    }
}
