//! Draws `custom` blocks: chains of pieces, each from a value `[BT, D]` named `h` to another.
//!
//! Pieces keep numbers small, and are continuous: where a comparison may turn out differently in two
//! programs, both sides are equal.

use serde_json::{Value, json};

use super::draw::Chance;

/// What is written so far.
struct Draft {
    weights: Vec<Value>,
    ops: Vec<Value>,
}

impl Draft {
    /// A weight of the given sizes, whose name it returns.
    fn weight(&mut self, shape: &[&str]) -> String {
        let name = format!("w{}", self.weights.len());
        self.weights.push(json!({"name": name, "shape": shape}));
        name
    }

    fn op(&mut self, op: &str, inputs: &[&str], output: &str, params: Value) {
        self.ops.push(json!({"op": op, "inputs": inputs, "output": output, "params": params}));
    }

    fn plain(&mut self, op: &str, inputs: &[&str], output: &str) {
        self.op(op, inputs, output, json!({}));
    }

    /// `output ← h · w`, with a new `w` `[D, …]`.
    fn product(&mut self, width: &str, output: &str) {
        let w = self.weight(&["D", width]);
        self.plain("matmul", &["h", &w], output);
    }

    fn reshape(&mut self, from: &str, to: &str, shape: &[&str]) {
        self.op("reshape", &[from], to, json!({"shape": shape}));
    }

    fn transpose(&mut self, name: &str, axes: &[usize]) {
        self.op("transpose", &[name], name, json!({"axes": axes}));
    }
}

type Piece = fn(&mut Draft, &mut Chance);

/// All pieces, and how they are called.
const PIECES: [(&str, Piece); 18] = [
    ("elementwise", elementwise),
    ("two values", two_values),
    ("comparison", comparison),
    ("reduction", reduction),
    ("norm", norm),
    ("product", product),
    ("halves", halves),
    ("scan", scan),
    ("scan_tv", scan_tv),
    ("matrix_scan", matrix_scan),
    ("conv1d", conv1d),
    ("attention", attention),
    ("own attention", own_attention),
    ("looked up", looked_up),
    ("doubled", doubled),
    ("cumsum", cumsum),
    ("shift", shift),
    ("whole row", whole_row),
];

/// A block of one to four pieces.
pub fn block(chance: &mut Chance, heads: usize) -> Value {
    let mut draft = Draft { weights: Vec::new(), ops: Vec::new() };
    let scale = draft.weight(&["D"]);
    draft.plain("rmsnorm", &["x", &scale], "h");
    let mut names = Vec::new();
    for _ in 0..chance.of(&[1, 2, 3, 4]) {
        let (name, piece) = chance.of(&PIECES);
        names.push(name);
        piece(&mut draft, chance);
    }
    draft.plain("tanh", &["h"], "h");
    let out = draft.weight(&["D", "D"]);
    draft.plain("matmul", &["h", &out], "h");
    draft.plain("add", &["x", "h"], "x");
    let Draft { weights, ops } = draft;
    json!({"type": "custom", "name": names.join(", "), "heads": heads, "weights": weights, "ops": ops})
}

fn elementwise(d: &mut Draft, chance: &mut Chance) {
    for _ in 0..3 {
        one_by_one(d, chance);
    }
}

fn one_by_one(d: &mut Draft, chance: &mut Chance) {
    d.plain(chance.of(&["tanh", "sigmoid"]), &["h"], "h");
    let chosen = chance.of(&[
        "neg",
        "square",
        "sqrt",
        "rsqrt",
        "exp",
        "log",
        "abs",
        "relu",
        "silu",
        "gelu",
        "softplus",
        "pow",
        "clamp",
        "scalar_mul",
    ]);
    match chosen {
        "sqrt" | "rsqrt" | "log" => {
            d.plain("softplus", &["h"], "h");
            d.plain(chosen, &["h"], "h");
        }
        "pow" => {
            d.plain("softplus", &["h"], "h");
            d.op("pow", &["h"], "h", json!({"exponent": 1.5}));
        }
        "clamp" => {
            let bounds =
                [json!({"min": -0.5, "max": 0.25}), json!({"max": 0.3}), json!({"min": 0.1})];
            d.op("clamp", &["h"], "h", chance.of(&bounds));
        }
        "scalar_mul" => d.op("scalar_mul", &["h"], "h", json!({"scalar": -1.5})),
        simple => d.plain(simple, &["h"], "h"),
    }
}

fn two_values(d: &mut Draft, chance: &mut Chance) {
    d.product("D", "other");
    d.plain("tanh", &["other"], "other");
    match chance.of(&["add", "sub", "mul", "div", "maximum", "minimum"]) {
        "div" => {
            d.plain("exp", &["other"], "other");
            d.plain("div", &["h", "other"], "h");
        }
        op => d.plain(op, &["h", "other"], "h"),
    }
}

/// `h − other` on one side of their equality, 0 on the other.
fn comparison(d: &mut Draft, chance: &mut Chance) {
    d.product("D", "other");
    d.plain("sub", &["h", "other"], "apart");
    d.op("full", &[], "none", json!({"shape": ["1", "D"], "value": 0.0}));
    let op = chance.of(&["greater", "greater_equal", "less", "less_equal"]);
    d.plain(op, &["h", "other"], "is");
    d.plain("where", &["is", "apart", "none"], "h");
}

fn reduction(d: &mut Draft, chance: &mut Chance) {
    let op = chance.of(&["sum", "mean", "max", "min"]);
    d.op(op, &["h"], "one", json!({"axis": -1}));
    d.plain("tanh", &["one"], "one");
    d.plain(chance.of(&["add", "sub", "mul"]), &["h", "one"], "h");
}

fn norm(d: &mut Draft, chance: &mut Chance) {
    match chance.of(&["rmsnorm", "layernorm", "layernorm with bias", "softmax"]) {
        "softmax" => d.op("softmax", &["h"], "h", json!({"axis": -1})),
        "layernorm" => d.plain("layernorm", &["h"], "h"),
        "rmsnorm" => {
            let scale = d.weight(&["D"]);
            d.plain("rmsnorm", &["h", &scale], "h");
        }
        _ => {
            let (scale, bias) = (d.weight(&["D"]), d.weight(&["D"]));
            d.plain("layernorm", &["h", &scale, &bias], "h");
        }
    }
}

fn product(d: &mut Draft, chance: &mut Chance) {
    let width = chance.of(&["D", "FFN", "2D", "7"]);
    d.product(width, "wide");
    d.plain("silu", &["wide"], "wide");
    let back = d.weight(&[width, "D"]);
    d.plain("matmul", &["wide", &back], "h");
}

/// Even channels, then odd ones.
fn halves(d: &mut Draft, _: &mut Chance) {
    d.op("slice", &["h"], "even", json!({"axis": 1, "step": 2}));
    d.op("slice", &["h"], "odd", json!({"axis": 1, "start": 1, "step": 2}));
    d.op("concat", &["even", "odd"], "h", json!({"axis": 1}));
}

fn scan(d: &mut Draft, _: &mut Chance) {
    let decay = d.weight(&["D"]);
    d.op("scan", &["h", &decay], "h", json!({"B": "B", "T": "T", "D": "D"}));
}

fn scan_tv(d: &mut Draft, _: &mut Chance) {
    d.product("D", "gate");
    d.plain("sigmoid", &["gate"], "gate");
    d.op("scan_tv", &["h", "gate"], "h", json!({"B": "B", "T": "T", "D": "D"}));
}

/// `Σ q·H` of a matrix that keys and values write to.
fn matrix_scan(d: &mut Draft, _: &mut Chance) {
    for name in ["key", "value", "gate", "query"] {
        d.product("HD", name);
    }
    d.plain("sigmoid", &["gate"], "gate");
    d.plain("outer", &["key", "value"], "update");
    let sizes = json!({"B": "B", "T": "T", "Da": "HD", "Db": "HD"});
    d.op("matrix_scan", &["update", "gate"], "state", sizes);
    d.reshape("query", "query", &["BT", "1", "HD"]);
    d.plain("matmul", &["query", "state"], "read");
    d.reshape("read", "read", &["BT", "HD"]);
    let out = d.weight(&["HD", "D"]);
    d.plain("matmul", &["read", &out], "h");
}

fn conv1d(d: &mut Draft, chance: &mut Chance) {
    let taps = d.weight(&[chance.of(&["1", "3", "4"]), "D"]);
    d.plain("conv1d", &["h", &taps], "h");
}

fn attention(d: &mut Draft, chance: &mut Chance) {
    for name in ["q", "k"] {
        d.product("D", name);
        d.reshape(name, name, &["B", "T", "H", "HD"]);
        d.transpose(name, &[0, 2, 1, 3]);
    }
    let mut key = "k";
    if chance.once_in(2) {
        let turned = json!({"op": "rope", "inputs": ["q", "k"], "outputs": ["q", "r"],
            "params": {"T": "T", "head_dim": "HD", "start": chance.of(&[0, 3])}});
        d.ops.push(turned);
        key = "r";
    }
    d.plain("attention", &["q", key, "k"], "y");
    d.transpose("y", &[0, 2, 1, 3]);
    d.reshape("y", "h", &["BT", "D"]);
}

/// Attention in its single operations.
fn own_attention(d: &mut Draft, _: &mut Chance) {
    for name in ["q", "k"] {
        d.product("D", name);
        d.reshape(name, name, &["B", "T", "H", "HD"]);
    }
    d.op("transpose", &["q"], "v", json!({"axes": [0, 2, 1, 3]}));
    d.transpose("q", &[0, 2, 1, 3]);
    d.transpose("k", &[0, 2, 3, 1]);
    d.plain("matmul", &["q", "k"], "scores");
    d.plain("causal_mask", &["scores"], "scores");
    d.op("softmax", &["scores"], "scores", json!({"axis": -1}));
    d.plain("matmul", &["scores", "v"], "y");
    d.transpose("y", &[0, 2, 1, 3]);
    d.reshape("y", "h", &["BT", "D"]);
}

/// A row of a table for each position, of which there may be more than rows.
fn looked_up(d: &mut Draft, chance: &mut Chance) {
    let table = d.weight(&["10", "D"]);
    let start = chance.of(&[0, -3]);
    d.op("arange", &[], "places", json!({"start": start, "end": "T"}));
    if start < 0 {
        d.op("slice", &["places"], "places", json!({"axis": 0, "start": 3}));
    }
    d.plain("embed", &[&table, "places"], "at");
    d.reshape("h", "rows", &["B", "T", "D"]);
    d.plain("add", &["rows", "at"], "rows");
    d.reshape("rows", "h", &["BT", "D"]);
}

/// Twice as much where the value is equal to itself.
fn doubled(d: &mut Draft, _: &mut Chance) {
    d.plain("equal", &["h", "h"], "same");
    d.plain("add", &["same", "h"], "h");
    d.op("dropout", &["h"], "h", json!({"rate": 0.5}));
}

fn cumsum(d: &mut Draft, _: &mut Chance) {
    d.op("scalar_mul", &["h"], "h", json!({"scalar": 0.2}));
    d.reshape("h", "rows", &["B", "T", "D"]);
    d.op("cumsum", &["rows"], "rows", json!({"axis": 1}));
    d.reshape("rows", "h", &["BT", "D"]);
}

/// The value of the token before.
fn shift(d: &mut Draft, _: &mut Chance) {
    d.reshape("h", "rows", &["B", "T", "D"]);
    d.op("slice", &["rows"], "before", json!({"axis": 1, "end": -1}));
    d.op("full", &[], "none", json!({"shape": ["B", "1", "D"], "value": 0.0}));
    d.op("concat", &["none", "before"], "rows", json!({"axis": 1}));
    d.reshape("rows", "h", &["BT", "D"]);
}

fn whole_row(d: &mut Draft, chance: &mut Chance) {
    d.reshape("h", "rows", &["B", "T", "D"]);
    d.op(chance.of(&["mean", "max"]), &["rows"], "one", json!({"axis": 1}));
    d.plain("add", &["rows", "one"], "rows");
    d.reshape("rows", "h", &["BT", "D"]);
}
