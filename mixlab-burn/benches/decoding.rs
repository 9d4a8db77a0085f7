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

/// Seconds a token after `length` of them, seconds in which `bytes` are read, and in which as many are
/// moved by a copy, which reads half of them and writes the other; medians of turns of one each, so
/// that what else the machine does slows down all.
fn seconds(session: &Session<Flex>, length: usize, bytes: usize) -> [f64; 3] {
    let data = vec![1f32; bytes / 4];
    let mut to = vec![0f32; data.len() / 2];
    let mut decoder = Decoder::new(session, 1);
    decode(&mut decoder, (0..length as u16).collect());
    let mut times = [(); 3].map(|()| Vec::with_capacity(TOKENS));
    for token in 0..TOKENS as u16 {
        let start = Instant::now();
        decode(&mut decoder, vec![token]);
        times[0].push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        black_box(sum(&data));
        times[1].push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        copy(&mut to, &data);
        times[2].push(start.elapsed().as_secs_f64());
    }
    times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[TOKENS / 2]
    })
}

/// The sum of `data`, read by all threads.
fn sum(data: &[f32]) -> f32 {
    let part = |part: &[f32]| {
        let mut sums = [0f32; 64];
        for x in part.as_chunks::<64>().0 {
            sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += x);
        }
        sums.iter().sum::<f32>()
    };
    data.par_chunks(1 << 16).map(part).sum()
}

/// Fills `to` with the beginning of `data`, by all threads.
fn copy(to: &mut [f32], data: &[f32]) {
    let parts = to.par_chunks_mut(1 << 16).zip(data.par_chunks(1 << 16));
    parts.for_each(|(to, from)| to.copy_from_slice(&from[..to.len()]));
    black_box(to);
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
    for block in BLOCKS.iter().filter(chosen) {
        let session = session(block);
        let weights: usize = layout(session.model()).iter().map(|weight| weight.len()).sum();
        // Of the embedding a token reads one row.
        let bytes = 4 * (weights - session.plan().vocab * session.plan().dim);
        let [[short, read, copied], [long, ..]] =
            LENGTHS.map(|length| seconds(&session, length, bytes));
        println!(
            "{block}: {:.2} ms after 16 tokens, {:.2} ms after 1024 ({:.2}x); {:.0} MB of weights, \
             read in {:.2} ms ({:.1} GB/s): {:.2} of that bound; a copy moves as much in {:.2} ms: {:.2}",
            1e3 * short,
            1e3 * long,
            long / short,
            bytes as f64 / 1e6,
            1e3 * read,
            bytes as f64 / read / 1e9,
            read / short,
            1e3 * copied,
            copied / short,
        );
    }
    if wanted.iter().any(|w| w == "memory") {
        let [before, after] = growth(&session(BLOCKS[0]));
        println!("memory: {:.1} MB, and {:.1} MB {MANY} tokens later", before / 1e6, after / 1e6);
    }
}
