//! How fast a model of 8 blocks of width 512 decodes on the processor, beside what its memory allows:
//! a token reads every weight once.
//!
//! `cargo bench -p mixlab-burn --bench decoding [-- mamba]`

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use burn_flex::Flex;
use mixlab_burn::inference::{Decoder, Session};
use mixlab_burn::model::Model;
use mixlab_burn::plan::Plan;
use mixlab_burn::weights::layout;
use rayon::prelude::*;

const BLOCKS: [&str; 6] = [
    r#"{"type": "plain", "heads": 8}"#,
    r#"{"type": "retnet", "heads": 8}"#,
    r#"{"type": "mamba"}"#,
    r#"{"type": "mamba3"}"#,
    r#"{"type": "rwkv"}"#,
    r#"{"type": "token_blend"}, {"type": "swiglu"}"#,
];
/// Tokens before those that are timed.
const LENGTHS: [usize; 2] = [16, 1024];
/// Tokens that are timed.
const TOKENS: usize = 200;
/// Tokens over which memory must not grow.
const MANY: usize = 10_000;

fn session(block: &str) -> Session<Flex> {
    let blocks = [block; 8].join(", ");
    let json = format!(
        r#"{{"model_dim": 512, "vocab_size": 1024, "seq_len": 2048, "blocks": [{blocks}],
            "training": {{"batch_tokens": 2048}}}}"#
    );
    let plan = Plan::parse(&json, "decoding", &[]).expect("a valid config").plan;
    let device = Default::default();
    Session::new(Model::init(Arc::new(plan), &device), &device)
}

fn decode(decoder: &mut Decoder<'_, Flex, mixlab_burn::blocks::Builtin>, tokens: Vec<u16>) {
    decoder.push(&[tokens]).expect("one row");
    black_box(decoder.logits().expect("known tokens").into_data());
}

/// Seconds a token after `length` of them: the median.
fn seconds(session: &Session<Flex>, length: usize) -> f64 {
    let mut decoder = Decoder::new(session, 1);
    decode(&mut decoder, (0..length as u16).collect());
    let mut times: Vec<f64> = (0..TOKENS as u16)
        .map(|token| {
            let start = Instant::now();
            decode(&mut decoder, vec![token]);
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[TOKENS / 2]
}

/// Bytes a second that all threads read together: the best of some passes over more than caches hold.
fn reading() -> f64 {
    let data = vec![1f32; 64 << 20];
    let pass = || {
        let start = Instant::now();
        let sum: f32 = data
            .par_chunks(1 << 18)
            .map(|part| {
                let mut sums = [0f32; 64];
                for x in part.as_chunks::<64>().0 {
                    sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += x);
                }
                sums.iter().sum::<f32>()
            })
            .sum();
        black_box(sum);
        4.0 * data.len() as f64 / start.elapsed().as_secs_f64()
    };
    (0..7).map(|_| pass()).fold(0.0, f64::max)
}

/// Bytes that this process has in memory.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = status.split_whitespace().nth(1).and_then(|n| n.parse::<f64>().ok());
    pages.unwrap_or(f64::NAN) * 4096.0
}

/// Memory before and after many tokens, with a window that slides.
fn growth(session: &Session<Flex>) -> [f64; 2] {
    let mut decoder = Decoder::new(session, 1);
    let mut run = |tokens: usize| {
        for token in 0..tokens {
            if decoder.room() == 0 {
                decoder.slide();
            }
            decode(&mut decoder, vec![(token % 1000) as u16]);
        }
        resident()
    };
    [run(2100), run(MANY)]
}

fn main() {
    // As the command line does: a thread of the pool hands out work sooner than one outside of it.
    rayon::scope(|_| measure());
}

fn measure() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let chosen =
        |block: &&&str| wanted.is_empty() || wanted.iter().any(|w| block.contains(w.as_str()));
    let rate = reading();
    println!("reading: {:.1} GB/s on {} threads", rate / 1e9, rayon::current_num_threads());
    for block in BLOCKS.iter().filter(chosen) {
        let session = session(block);
        let weights: usize = layout(session.model()).iter().map(|weight| weight.len()).sum();
        // Of the embedding a token reads one row.
        let bytes = 4.0 * (weights - session.plan().vocab * session.plan().dim) as f64;
        let bound = bytes / rate.max(reading());
        let times = LENGTHS.map(|length| seconds(&session, length));
        let [short, long] = times.map(|time| format!("{:.2} ms", 1e3 * time));
        println!(
            "{block}: {short} after 16 tokens, {long} after 1024 ({:.2}x); {:.0} MB of weights, {:.2} of the bound",
            times[1] / times[0],
            bytes / 1e6,
            bound / times[0]
        );
    }
    if wanted.iter().any(|w| w == "memory") {
        let [before, after] = growth(&session(BLOCKS[0]));
        println!("memory: {:.1} MB, and {:.1} MB {MANY} tokens later", before / 1e6, after / 1e6);
    }
}
