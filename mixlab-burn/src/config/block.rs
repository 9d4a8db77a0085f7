//! One entry of `blocks`: a flat record with the fields of all block types.

use serde_json::{Map, Value};

use super::fields::{Rule, fields};

fields! {
    /// A block as it was written. Which fields a block type uses, and which of
    /// them it requires, is up to that type.
    BlockSpec {
        /// Block type.
        kind as "type": String = required, Rule::Word;
        /// Name of a `custom` block, for messages and listings.
        name: Option<String> = "none";
        /// Blocks with the same group name share one set of weights.
        weight_group: Option<String> = "own weights", Rule::Trimmed;
        /// Publishes the output of the block under this name, for the `source_stream` of later
        /// blocks.
        stream: Option<String> = "not published", Rule::Trimmed;
        /// Number of attention heads (H).
        heads: Option<i64> = "required by attention blocks; 1 in `custom`";
        /// Number of key/value heads of `plain`; must divide `heads`, 0 means as many.
        kv_heads: Option<i64> = "`heads`", Rule::AtLeast(0.0);
        /// Lets `plain` read keys and values of the block with this number, counted from 1; 0 and
        /// below mean its own.
        kv_source: Option<i64> = "0";
        /// Number of channels of each head of `plain` that RoPE rotates; 0 means all.
        rope_dims: Option<i64> = "0", Rule::Even;
        /// Initial value of a learned gain on the attention scores of `plain`, one for each head; 0
        /// means none.
        qk_gain: Option<f32> = "0", Rule::AtLeast(0.0);
        /// Removes from the attention output of `plain` its part along the token's own value.
        xsa: Option<bool> = "false";
        /// Keeps the attention weights of `plain`, but leaves attention out.
        skip_attention: Option<bool> = "false";
        /// Width of the recurrent state in `mamba` and `mamba3`; 0 and below mean the default.
        inner_dim: Option<i64> = "`model_dim`";
        /// Number of latents; 0 and below mean the default.
        num_latents: Option<i64> = "32 in `perceiver`, 4 in `bottleneck`";
        /// Stream that a `cross_attention` block attends to.
        source_stream: Option<String> = "required by `cross_attention`", Rule::Trimmed;
        /// Read for compatibility; no built-in block uses it.
        decay: Option<f64> = "unused";
        /// Factor a token by which the heads of a `retnet` block fade at the start, in (1/e, 1).
        initial_decay: Option<f64> = "e^−½ ≈ 0.607";
        /// Activation of an `mlp` block.
        activation: Option<String> = "silu",
            Rule::WordOf(&["silu", "gelu", "relu", "leaky_relu_sq"]);
        /// Slope of `leaky_relu_sq` below zero; 0 means the default, with a warning.
        leaky_slope: Option<f32> = "0.5", Rule::AtLeast(0.0);
        /// Weights of a `custom` block, in the order of the weight file.
        weights: Vec<CustomWeight> = "[]";
        /// Operations of a `custom` block, in the order of execution.
        ops: Vec<CustomOp> = "[]";
        /// Settings of a block type that another crate defines; not checked here.
        options: Map<String, Value> = "{}";
    }
}

fields! {
    /// One weight of a `custom` block.
    CustomWeight {
        /// Name under which operations and the weight file know it.
        name: String = required;
        /// One size per dimension, as symbols (`D`, `HD`, `FFN`, `2D` …) or integers in quotes.
        shape: Vec<String> = required, Rule::NonEmpty;
    }
}

fields! {
    /// One operation of a `custom` block.
    CustomOp {
        /// Name of the operation.
        op: String = required, Rule::Word;
        /// What it reads: `x` (the residual stream), weights, or results of earlier operations.
        inputs: Vec<String> = "[]";
        /// Name of its one result.
        output: Option<String> = "required without `outputs`";
        /// Names of its results, if it has several; wins over `output`.
        outputs: Vec<String> = "[]";
        /// Parameters of the operation; not checked here.
        params: Map<String, Value> = "{}";
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{BASE, config, error, errors};

    #[test]
    fn each_range_of_a_block_is_checked() {
        for (field, range) in [
            ("kv_heads=-1", "≥ 0"),
            ("qk_gain=-1", "≥ 0"),
            ("leaky_slope=-1", "≥ 0"),
            ("rope_dims=3", "≥ 0 and even"),
            ("rope_dims=-2", "≥ 0 and even"),
        ] {
            let value = field.split_once('=').unwrap().1;
            let message = error(&format!("blocks[0].{field}"));
            assert!(
                message.ends_with(&format!("expected a value {range}, found `{value}`")),
                "{message}"
            );
        }
        let choices = "one of `silu`, `gelu`, `relu`, `leaky_relu_sq`";
        assert_eq!(
            error("blocks[0].activation=zz"),
            format!("blocks[0].activation: expected {choices}, found `zz`")
        );
        let accepted = [
            "blocks[0].heads=-1",
            "blocks[0].kv_source=-1",
            "blocks[0].inner_dim=-1",
            "blocks[0].activation= GELU ",
            "blocks[0].decay=-9",
        ];
        assert_eq!(errors(BASE, &accepted), [""; 0]);
    }

    #[test]
    fn a_custom_block_keeps_its_weights_ops_and_free_params() {
        let config = config(
            r#"{"model_dim": 32, "vocab_size": 64, "blocks": [{"type": "custom", "name": "n",
                "weights": [{"name": " w ", "shape": ["D", "2D"]}],
                "ops": [{"op": " RMSNorm ", "inputs": ["x", " w "], "outputs": ["x"],
                 "params": {"eps": 1e-5, "Zz": "T"}}]}]}"#,
        );
        let block = &config.blocks[0];
        let shape = ["D", "2D"].map(str::to_owned).to_vec();
        assert_eq!(block.weights, [CustomWeight { name: " w ".into(), shape }]);
        let op = &block.ops[0];
        assert_eq!(
            (op.op.as_str(), op.inputs[1].as_str(), op.outputs[0].as_str()),
            ("rmsnorm", " w ", "x")
        );
        assert_eq!((op.output.as_deref(), &op.params["eps"]), (None, &serde_json::json!(1e-5)));
        assert!(op.params.contains_key("Zz"));
    }
}
