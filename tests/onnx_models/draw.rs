//! Draws configs: any block type, any option, and custom blocks of any operations.

use mixlab_burn::random::Generator;
use serde_json::{Map, Value, json};

use super::custom;

/// The block types that a config may name, `custom` more often than others.
const KINDS: [&str; 13] = [
    "plain",
    "plain",
    "swiglu",
    "mlp",
    "mamba",
    "mamba3",
    "rwkv",
    "retnet",
    "token_blend",
    "perceiver",
    "bottleneck",
    "custom",
    "custom",
];

/// A stream of choices.
pub struct Chance(Generator);

impl Chance {
    /// The stream of `seed`.
    pub fn new(seed: i64) -> Self {
        Self(Generator::new(seed))
    }

    /// One of `options`, each as likely.
    pub fn of<T: Clone>(&mut self, options: &[T]) -> T {
        options[self.0.intn(options.len() as u64) as usize].clone()
    }

    /// True once in `n` times.
    pub fn once_in(&mut self, n: u64) -> bool {
        self.0.intn(n) == 0
    }

    /// A number around 0, with standard deviation 1.
    pub fn normal(&mut self) -> f32 {
        self.0.normal() as f32
    }
}

/// A config that may break a rule across fields: who plans it finds out.
pub fn config(chance: &mut Chance, name: &str) -> Value {
    let heads = chance.of(&[1, 2, 3, 4]);
    let width = chance.of(&[2, 4, 6, 8]);
    let parallel = chance.once_in(8);
    let count = chance.of(&[1, 2, 2, 3, 3, 4, 6]);
    let mut blocks: Vec<Value> = Vec::new();
    for index in 0..count {
        let kind = if parallel { ["plain", "swiglu"][index % 2] } else { chance.of(&KINDS) };
        blocks.push(block(chance, kind, heads, width));
    }
    if chance.once_in(3) {
        reuse_keys(&mut blocks);
    }
    if !parallel && chance.once_in(8) {
        blocks[0]["stream"] = json!("s");
        blocks.push(json!({"type": "cross_attention", "heads": heads, "source_stream": "s"}));
    }
    let mut config = json!({
        "name": name,
        "model_dim": heads * width,
        "vocab_size": chance.of(&[2, 11, 32, 50]),
        "seq_len": chance.of(&[1, 2, 8, 12, 19]),
        "mlp_mult": chance.of(&[1.0, 2.0, 2.67]),
        "parallel_residual": parallel,
        "blocks": blocks,
        "training": {"batch_tokens": 12 * 8 * 19},
    });
    let fields = config.as_object_mut().expect("written above");
    for (field, rarity) in
        [("tie_embeddings", 3), ("block_scales", 4), ("resid_mix", 4), ("unet", 4)]
    {
        if chance.once_in(rarity) {
            fields.insert(field.into(), json!(true));
        }
    }
    if chance.once_in(3) {
        fields.insert("bigram_vocab_size".into(), json!(chance.of(&[2, 31, 64])));
        fields.insert("bigram_dim".into(), json!(chance.of(&[0, 5])));
    }
    if chance.once_in(3) {
        fields.insert("logit_softcap".into(), json!(chance.of(&[2.0, 30.0])));
    }
    share(chance, fields);
    config
}

/// Lets blocks have the weights of others.
fn share(chance: &mut Chance, config: &mut Map<String, Value>) {
    let blocks = config["blocks"].as_array_mut().expect("a config has blocks");
    let count = blocks.len();
    if chance.once_in(6) {
        // All blocks once more, or the first.
        let again = chance.of(&[1, count]);
        blocks.extend_from_within(..again);
        let owners = (0..count).chain(0..again).collect::<Vec<_>>();
        config.insert("recurrence".into(), json!(owners));
    } else if chance.once_in(6) {
        let shared = chance.of(&(0..count).collect::<Vec<_>>());
        blocks[shared]["weight_group"] = json!("g");
        let copy = blocks[shared].clone();
        blocks.push(copy);
    }
}

/// Lets the last `plain` block read keys and values of the first.
fn reuse_keys(blocks: &mut [Value]) {
    let mut plain = (0..blocks.len()).filter(|index| blocks[*index]["type"] == "plain");
    if let (Some(first), Some(last)) = (plain.next(), plain.next_back()) {
        blocks[last]["kv_heads"] = blocks[first]["kv_heads"].clone();
        blocks[last]["kv_source"] = json!(first + 1);
    }
}

fn block(chance: &mut Chance, kind: &str, heads: usize, width: usize) -> Value {
    if kind == "custom" {
        return custom::block(chance, heads);
    }
    let mut block = json!({"type": kind});
    match kind {
        "plain" => plain(chance, &mut block, heads, width),
        "retnet" if chance.once_in(2) => {
            block["heads"] = json!(heads);
            block["initial_decay"] = json!(chance.of(&[0.4, 0.99]));
        }
        "retnet" | "perceiver" | "bottleneck" => block["heads"] = json!(heads),
        "mamba" | "mamba3" if chance.once_in(2) => block["inner_dim"] = json!(10),
        "mlp" => {
            block["activation"] = json!(chance.of(&["silu", "gelu", "relu", "leaky_relu_sq"]));
            block["leaky_slope"] = json!(0.3);
        }
        _ => {}
    }
    if ["perceiver", "bottleneck"].contains(&kind) {
        block["num_latents"] = json!(chance.of(&[1, 3, 5]));
    }
    block
}

fn plain(chance: &mut Chance, block: &mut Value, heads: usize, width: usize) {
    block["heads"] = json!(heads);
    if chance.once_in(2) {
        block["kv_heads"] = json!(chance.of(&[1, 2, 3]));
    }
    if chance.once_in(3) {
        block["rope_dims"] = json!(chance.of(&[2, width]));
    }
    if chance.once_in(3) {
        block["qk_gain"] = json!(1.5);
    }
    if chance.once_in(4) {
        block["xsa"] = json!(true);
    }
    if chance.once_in(8) {
        block["skip_attention"] = json!(true);
    }
}
