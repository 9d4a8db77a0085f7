//! Each JSON snippet of the documentation is a config, or a block, that plans.

use std::fs;
use std::path::PathBuf;

use mixlab_burn::plan::Plan;

use super::{files, root, shown};

/// A fenced snippet and where it begins.
struct Snippet {
    place: String,
    text: String,
}

/// The documents that are read: pages, notes of examples, and the comments of blocks.
fn documents() -> Vec<PathBuf> {
    let root = root();
    let mut found = vec![root.join("README.md")];
    found.retain(|path| path.exists());
    found.extend(files(&root.join("docs"), "md"));
    found.extend(files(&root.join("examples"), "md"));
    found.extend(files(&root.join("mixlab-burn/src/blocks"), "rs"));
    found
}

/// The Markdown of a document: all of a page, the comments of a source file.
fn markdown(path: &PathBuf) -> String {
    let text = fs::read_to_string(path).unwrap();
    if path.extension().is_some_and(|e| e == "md") {
        return text;
    }
    let comment = |line: &str| {
        let line = line.trim_start();
        let rest = line.strip_prefix("//!").or_else(|| line.strip_prefix("///"));
        rest.map_or("", |rest| rest.strip_prefix(' ').unwrap_or(rest)).to_owned()
    };
    text.lines().map(comment).collect::<Vec<_>>().join("\n")
}

fn snippets(path: &PathBuf) -> Vec<Snippet> {
    let text = markdown(path);
    let mut found: Vec<Snippet> = Vec::new();
    let mut open = false;
    for (index, line) in text.lines().enumerate() {
        match line.trim() {
            "```json" => {
                open = true;
                let place = format!("{}:{}", shown(path), index + 1);
                found.push(Snippet { place, text: String::new() });
            }
            "```" => open = false,
            _ if open => found.last_mut().unwrap().text += &format!("{line}\n"),
            _ => {}
        }
    }
    found
}

/// The whole config that a snippet stands for.
fn config(snippet: &str) -> Result<String, String> {
    if snippet.contains("\"blocks\"") {
        return Ok(snippet.to_owned());
    }
    if snippet.contains("\"type\"") {
        Ok(format!("{{\"model_dim\": 128, \"vocab_size\": 256, \"blocks\": [\n{snippet}]}}"))
    } else {
        Err("neither a config nor a block; mark other JSON as `jsonc` or `text`".into())
    }
}

fn check(snippet: &Snippet) -> Result<(), String> {
    let text = config(&snippet.text).map_err(|problem| format!("{}: {problem}", snippet.place))?;
    Plan::<mixlab_burn::blocks::Builtin>::parse(&text, &snippet.place, &[])
        .map(|_| ())
        .map_err(|error| error.to_string())
}

#[test]
fn every_json_snippet_plans_without_errors() {
    let all: Vec<_> = documents().iter().flat_map(snippets).collect();
    assert!(all.len() >= 3, "only {} snippets were found", all.len());
    let failures: Vec<_> = all.iter().filter_map(|snippet| check(snippet).err()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_snippet_that_is_wrong_is_named_with_its_place() {
    let wrong = |text: &str| check(&Snippet { place: "a.md:3".into(), text: text.into() });
    assert_eq!(wrong("{\"type\": \"swiglu\"} // gated\n"), Ok(()));
    assert!(wrong("{\"type\": \"swigul\"}\n").unwrap_err().starts_with("a.md:3:2: blocks[0].type"));
    assert!(wrong("{\"loss\": 4.5}\n").unwrap_err().contains("neither a config nor a block"));
}
