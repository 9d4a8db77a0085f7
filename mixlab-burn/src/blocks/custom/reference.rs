//! The table of operations as a page of documentation.

use std::fmt::Write;

use super::ops::{ROWS, Row};
use super::params::{Default, Kind, Param};

/// The rows as a Markdown table.
pub fn markdown() -> String {
    let mut text = String::from("| operation | inputs | parameters | result |\n|---|---|---|---|\n");
    for row in ROWS {
        let names: Vec<_> = row.names.iter().map(|name| format!("`{name}`")).collect();
        let inputs = if row.inputs.is_empty() { "–".into() } else { row.inputs.join(", ") };
        let params: Vec<_> = row.params.iter().map(param).collect();
        let params = if params.is_empty() { "–".into() } else { params.join(", ") };
        let line = [names.join(" = "), inputs, params, result(row)].join(" | ");
        writeln!(text, "| {line} |").expect("a string takes any text");
    }
    text
}

/// `|` would end a cell.
fn result(row: &Row) -> String {
    let results = if row.outputs == 1 { String::new() } else { format!("({} results) ", row.outputs) };
    format!("{results}{}", row.doc).replace('|', "\\|")
}

fn param(param: &Param) -> String {
    let Param { name, kind, default } = param;
    let kind = match kind {
        Kind::Int => "size",
        Kind::Float => "number",
        Kind::List => "list of sizes",
        Kind::Positional => return format!("`{name}`: all sizes in one list"),
    };
    match default {
        Default::Required => format!("`{name}`: {kind}"),
        Default::Unset => format!("`{name}`: {kind}, optional"),
        Default::Is(value) => format!("`{name}`: {kind} = {value}"),
    }
}
