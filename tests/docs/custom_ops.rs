//! `docs/custom-ops.md`, from the table of operations of `custom` blocks.

use mixlab_burn::blocks::custom::ops::{ROWS, Row};
use mixlab_burn::blocks::custom::{Param, ParamKind, Presence};

use super::assert_written;

const FILE: &str = "docs/custom-ops.md";

const HEAD: &str = "\
# Operations of `custom` blocks

A `custom` block is a program in the config: weights with names and sizes, and operations on named
values. This page is written by a test from the table in
`mixlab-burn/src/blocks/custom/ops/table.rs`: change a row there, then run
`UPDATE_DOCS=1 cargo test --test all docs::custom_ops`.

```json
{
    \"type\": \"custom\",
    \"name\": \"attention with a short convolution\",
    \"heads\": 4,
    \"weights\": [
        {\"name\": \"taps\", \"shape\": [\"4\", \"D\"]},
        {\"name\": \"wq\", \"shape\": [\"D\", \"D\"]},
        {\"name\": \"wk\", \"shape\": [\"D\", \"D\"]},
        {\"name\": \"wo\", \"shape\": [\"D\", \"D\"]}
    ],
    \"ops\": [
        {\"op\": \"layernorm\", \"inputs\": [\"x\"], \"output\": \"n\"},
        {\"op\": \"conv1d\", \"inputs\": [\"n\", \"taps\"], \"output\": \"n\"},
        {\"op\": \"matmul\", \"inputs\": [\"n\", \"wq\"], \"output\": \"q\"},
        {\"op\": \"matmul\", \"inputs\": [\"n\", \"wk\"], \"output\": \"k\"},
        {\"op\": \"reshape\", \"inputs\": [\"q\"], \"output\": \"q\", \"params\": {\"shape\": [\"B\", \"T\", \"H\", \"HD\"]}},
        {\"op\": \"reshape\", \"inputs\": [\"k\"], \"output\": \"k\", \"params\": {\"shape\": [\"B\", \"T\", \"H\", \"HD\"]}},
        {\"op\": \"transpose\", \"inputs\": [\"q\"], \"output\": \"q\", \"params\": {\"axes\": [0, 2, 1, 3]}},
        {\"op\": \"transpose\", \"inputs\": [\"k\"], \"output\": \"k\", \"params\": {\"axes\": [0, 2, 1, 3]}},
        {\"op\": \"rope\", \"inputs\": [\"q\", \"k\"], \"outputs\": [\"q\", \"r\"], \"params\": {\"T\": \"T\", \"head_dim\": \"HD\"}},
        {\"op\": \"attention\", \"inputs\": [\"q\", \"r\", \"k\"], \"output\": \"y\"},
        {\"op\": \"transpose\", \"inputs\": [\"y\"], \"output\": \"y\", \"params\": {\"axes\": [0, 2, 1, 3]}},
        {\"op\": \"reshape\", \"inputs\": [\"y\"], \"output\": \"y\", \"params\": {\"shape\": [\"BT\", \"D\"]}},
        {\"op\": \"matmul\", \"inputs\": [\"y\", \"wo\"], \"output\": \"y\"},
        {\"op\": \"add\", \"inputs\": [\"x\", \"y\"], \"output\": \"x\"}
    ]
}
```

- `x` is the residual stream `[BT, D]`. Writing to `x` replaces it: add to it where a residual
  connection is meant. At the end it must have its shape again.
- A weight of one axis starts at zero and is seen as one row `[1, n]`. Matrices start like all
  matrices. Which optimizer updates a weight follows from its name and shape, as elsewhere.
- `output` names the one result; `outputs` names several. A name can be written again; operations
  see what it meant when their turn came.
- Sizes are integers, or `D` (model_dim), `T` (seq_len), `V` (vocab_size), `B` (rows of the batch),
  `BT`, `H` (heads), `HD` (`D / H`), `FFN` (`⌊2.67·D⌋`), `T/2`, or a number times `D` such as `2D`
  and `0.5D`. In the shapes of weights they are all strings, and `B` is 1.
- Shapes are checked before anything runs, at the training batch size and at others. Elementwise
  operations align shapes at their last axes and repeat axes of length 1.
- An operation whose result never reaches `x` is named in a warning and not run.
- The last column says what an operation does along T, from which planning works out three things.
  A block in which no token depends on later ones is *causal*; if one does, a warning names the first
  operation by which it does. A causal block *streams* if every operation *keeps* each token's values
  at its step or *remembers* what was before: it can go on from where a shorter row ended, and be
  exported with its state. One that needs *whole rows* is given the row again instead.
- Planning assumes the worst where it does not know better: of a `T` that is spread over several axes
  (`T/2`), of a mask that is computed from `arange` (write it as `exp` of `causal_mask` of `full`), of
  a product of two matrices of scores, and of a weight that is rewritten from tokens.

";

/// The rows as a Markdown table.
fn table() -> String {
    let mut text = String::from(
        "| operation | inputs | parameters | result | along T |\n|---|---|---|---|---|\n",
    );
    for row in ROWS {
        let names: Vec<_> = row.names.iter().map(|name| format!("`{name}`")).collect();
        let params: Vec<_> = row.params.iter().map(param).collect();
        let (inputs, along) = (row.inputs.join(", "), row.along.doc().to_owned());
        let cells = [names.join(", "), inputs, params.join(", "), result(row), along];
        text.push_str(&format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | ")));
    }
    text
}

fn result(row: &Row) -> String {
    match row.outputs {
        1 => row.doc.to_owned(),
        count => format!("{} ({count} results)", row.doc),
    }
}

fn param(param: &Param) -> String {
    let Param { name, kind, presence } = param;
    let kind = match kind {
        ParamKind::Int => "size",
        ParamKind::Float => "number",
        ParamKind::List => "sizes",
        ParamKind::Positional => return format!("`{name}`: all sizes in one list, by position"),
    };
    match presence {
        Presence::Required => format!("`{name}`: {kind}"),
        Presence::Optional => format!("`{name}`: {kind}, optional"),
        Presence::Default(value) => format!("`{name}`: {kind} = {value}"),
    }
}

#[test]
fn the_page_of_operations_is_what_the_table_says() {
    assert_written(FILE, &format!("{HEAD}{}", table()));
}
