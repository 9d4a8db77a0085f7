//! Requests that mixlab 0.10.1 rejects.

use std::fs;

use serde_json::Value;

use super::{folder, mixlab, stderr};

/// What the original refuses is refused, and the message names the field or the value.
#[test]
fn what_the_original_rejects_is_rejected() {
    let text = fs::read_to_string(folder().join("golden/cli/errors/errors.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
    let temporary = tempfile::tempdir().unwrap();
    let mut failures = Vec::new();
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        let path = temporary.path().join(format!("{}.json", name.replace(['/', ' '], "_")));
        let config =
            case["config"].as_str().map_or_else(|| case["config"].to_string(), str::to_string);
        fs::write(&path, config).unwrap();
        let mut arguments =
            vec!["-mode", case["mode"].as_str().unwrap(), "-config", path.to_str().unwrap()];
        arguments.extend(case["extra"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()));
        let output = mixlab(&arguments);
        let code = output.status.code();
        let rejected =
            case["rejected"] == true && !ACCEPTED.contains(&name) || REFUSED.contains(&name);
        let message = stderr(&output);
        let named = !rejected || message.contains(word(name, case));
        if rejected != matches!(code, Some(1 | 2)) || code == Some(101) || !named {
            failures.push(format!("{name}: exit {code:?}: {message}"));
        }
    }
    assert!(cases.len() >= 75 && failures.is_empty(), "{}", failures.join("\n"));
}

/// The original crashes or has no default here; these run.
const ACCEPTED: [&str; 4] =
    ["arch_no_train", "cross_attention_arch", "cross_attention_x", "retnet_crash"];
/// The original lets these mistakes pass.
const REFUSED: [&str; 3] =
    ["trailing_garbage", "training.optimizer=sgd", "training.weight_init=zz"];

/// The field that a message about a case must name.
fn word<'a>(name: &'a str, case: &'a Value) -> &'a str {
    if let Some(field) = name.strip_prefix("training.") {
        return field.split(['=']).next().unwrap();
    }
    let fields = [
        ("unknown_field", "foo"),
        ("unknown_block_field", "zzz"),
        ("unknown_block", "zzz"),
        ("no_blocks", "blocks"),
        ("no_dim", "model_dim"),
        ("no_vocab", "vocab_size"),
        ("bad_json", "expected"),
        ("plain_no_heads", "heads"),
        ("heads_not_div", "heads"),
        ("kv_heads", "kv_heads"),
        ("qk_gain", "qk_gain"),
        ("rope", "rope_dims"),
        ("kv_source", "kv_source"),
        ("recur", "recurrence"),
        ("wg_", "weight_group"),
        ("bigram", "bigram_vocab_size"),
        ("mlp_mult", "mlp_mult"),
        ("dropout", "dropout"),
        ("mlp_act", "activation"),
        ("mlp_slope", "leaky_slope"),
        ("parallel", "parallel_residual"),
        ("cross_attention", "blocks["),
        ("custom", "blocks[0]"),
        ("bad_quant", "quant"),
        ("missing_config", "nope.json"),
        ("arch_nomatch", "/nonexistent/"),
    ];
    let known = fields.iter().find(|(prefix, _)| name.starts_with(prefix));
    known.map_or_else(
        || case["mode"].as_str().filter(|m| *m == "zzz").unwrap_or("error"),
        |(_, f)| f,
    )
}
