//! `docs/config-reference.md`, from the tables that read a config.

use mixlab_burn::config::{Config, Field, FieldKind};

use super::assert_written;
use super::links::slug;

const FILE: &str = "docs/config-reference.md";

const HEAD: &str = "\
# Config reference

Every field that a config can have. This page is written by a test from the tables in
`mixlab-burn/src/config/`: change a field there, then run
`UPDATE_DOCS=1 cargo test --test all docs::reference`.

- The text is JSON; `//` begins a comment. A name that is not in these tables is an error.
- Names are found in any case. A field that is given twice in the same spelling counts once, the
  last one; two spellings of one name are an error.
- `null`, and for strings `\"\"`, mean the same as leaving the field out.
- Integers are written without fraction or exponent.
- Fields of blocks are one flat list. A block reads those that its type uses and ignores the rest,
  but the range of every field is checked. What a type needs and how it computes stands at the top
  of its file in `mixlab-burn/src/blocks/`.
- What depends on several fields is checked after this, when the config is planned.
";

/// The tables of `fields` and of all objects in them, in the order of the text.
fn tables(title: &str, path: &str, fields: &[Field], out: &mut String) {
    out.push_str(&format!("\n## {title}\n\n"));
    out.push_str("| field | type | default | values | meaning |\n|---|---|---|---|---|\n");
    for field in fields {
        out.push_str(&row(path, field));
    }
    for field in fields {
        let inner = inner_path(path, field);
        if let FieldKind::Object(fields) | FieldKind::List(&FieldKind::Object(fields)) = field.kind
        {
            tables(&format!("`{inner}`"), &format!("{inner}."), fields, out);
        }
    }
}

fn inner_path(path: &str, field: &Field) -> String {
    let list = if matches!(field.kind, FieldKind::List(_)) { "[]" } else { "" };
    format!("{path}{}{list}", field.name)
}

fn row(path: &str, field: &Field) -> String {
    let kind = match field.kind {
        FieldKind::Object(_) | FieldKind::List(FieldKind::Object(_)) => {
            format!("[{}](#{})", field.kind, slug(&inner_path(path, field)))
        }
        kind => kind.to_string(),
    };
    let default = field.default.map_or("**required**".into(), |text| default(field, text));
    let cells =
        [format!("`{}`", field.name), kind, default, field.rule.to_string(), field.doc.into()];
    format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | "))
}

/// Values are set as code, explanations are not.
fn default(field: &Field, text: &str) -> String {
    let is_value = serde_json::from_str::<serde_json::Value>(text).is_ok()
        || field.rule.choices().is_some_and(|choices| choices.contains(&text));
    if is_value { format!("`{text}`") } else { text.to_owned() }
}

#[test]
fn the_config_reference_is_what_the_tables_say() {
    let mut text = HEAD.to_owned();
    tables("Top level", "", Config::FIELDS, &mut text);
    assert_written(FILE, &text);
}
