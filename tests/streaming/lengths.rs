//! Rows of several lengths that join and leave have the logits that each has alone.

use std::fs;
use std::path::Path;

use burn_flex::Flex;
use mixlab_burn::blocks::Builtin;
use mixlab_burn::inference::{ContinuousBatch, Decoder, Session, SessionError};
use mixlab_burn::plan::Plan;

use super::{SEQ, VOCAB, plan};
use crate::isolation::model;

type Batch<'a> = ContinuousBatch<'a, Flex, Builtin>;

/// Rows that differ in every token.
const ROWS: usize = 5;

fn token(row: usize, at: usize, vocab: usize) -> u16 {
    ((row * 11 + at * at * 3 + at * 5 + 2) % vocab) as u16
}

fn prompt(row: usize, length: usize, vocab: usize) -> Vec<u16> {
    (0..length).map(|at| token(row, at, vocab)).collect()
}

/// What comes and goes, and whether the rest gets a token then.
enum Event {
    Join(&'static [usize], usize),
    Keep(&'static [usize]),
    Advance(usize),
}

use Event::{Advance, Join, Keep};

/// Short rows after long ones, long after short, two at once, the longest and the shortest leave, the
/// order changes, nobody is left, and a row begins anew.
const EVENTS: [Event; 19] = [
    Join(&[0], 2),
    Advance(2),
    Join(&[1], 1),
    Advance(1),
    Join(&[2, 3], 6),
    Advance(3),
    Keep(&[3, 1, 0]),
    Advance(1),
    Join(&[4], 5),
    Advance(1),
    Keep(&[1, 2, 3]),
    Join(&[2], 3),
    Advance(2),
    Keep(&[2, 3]),
    Advance(1),
    Keep(&[]),
    Join(&[0, 1], 4),
    Advance(2),
    Keep(&[1]),
];

/// The logits of each row alone, after each of its tokens.
fn alone(session: &Session<Flex>, seq: usize) -> Vec<Vec<Vec<f32>>> {
    let row = |row: usize| {
        let mut decoder = Decoder::new(session, 1);
        let logits = |at: usize| {
            decoder.push(&[vec![token(row, at, session.plan().vocab)]]).unwrap();
            decoder.logits().unwrap().into_data().to_vec().unwrap()
        };
        (0..seq).map(logits).collect()
    };
    (0..ROWS).map(row).collect()
}

fn check(name: &str, plan: &Plan) {
    let session = Session::<Flex>::new(model(plan), &Default::default());
    let (vocab, seq) = (plan.vocab, plan.seq_len.min(SEQ));
    let expected = alone(&session, seq);
    let mut batch = Batch::new(&session);
    let mut names: Vec<usize> = Vec::new();
    for (number, event) in EVENTS.iter().enumerate() {
        let rows = match event {
            Join(rows, length) => {
                let prompts: Vec<_> = rows.iter().map(|row| prompt(*row, *length, vocab)).collect();
                let logits = batch.join(&prompts).unwrap();
                names.extend(*rows);
                vec![(logits, names.len() - rows.len())]
            }
            Keep(rows) => {
                batch.keep(rows);
                names = rows.iter().map(|row| names[*row]).collect();
                vec![]
            }
            Advance(times) => {
                let mut advance = || {
                    let next = names.iter().enumerate();
                    let next = next.map(|(i, row)| token(*row, batch.row(i).len(), vocab));
                    let next: Vec<u16> = next.collect();
                    (batch.advance(&next).unwrap(), 0)
                };
                (0..*times).map(|_| advance()).collect()
            }
        };
        // Each pass is compared after the last of its event: lengths are those at the end.
        if let Some((logits, first)) = rows.into_iter().last() {
            let logits: Vec<f32> = logits.into_data().to_vec().unwrap();
            for (i, got) in logits.chunks_exact(vocab).enumerate() {
                let (row, length) = (names[first + i], batch.row(first + i).len());
                near(
                    &format!("{name}: event {number}, row {row}"),
                    got,
                    &expected[row][length - 1],
                );
            }
        }
    }
    assert_eq!((batch.len(), batch.row(0).len()), (1, 6), "{name}");
}

fn near(what: &str, got: &[f32], expected: &[f32]) {
    let largest = expected.iter().fold(0f32, |most, z| most.max(z.abs()));
    let error = got.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
    assert!(error <= 1e-5 * largest, "{what}: off by {:e}", error / largest);
}

#[test]
fn rows_that_come_and_go_are_computed_as_they_are_alone() {
    let mixed = r#"{"type": "plain", "heads": 2}, {"type": "mamba"}, {"type": "rwkv"},
        {"type": "retnet", "heads": 2}, {"type": "token_blend"}, {"type": "mamba3"}"#;
    for (blocks, options) in [
        (r#"{"type": "plain", "heads": 4}"#, ""),
        (r#"{"type": "plain", "heads": 4, "kv_heads": 2, "xsa": true}"#, ""),
        (r#"{"type": "plain", "heads": 4, "kv_heads": 1, "rope_dims": 2}"#, ""),
        (r#"{"type": "retnet", "heads": 4, "initial_decay": 0.9}"#, ""),
        (r#"{"type": "plain", "heads": 4}, {"type": "plain", "heads": 4, "kv_source": 1}"#, ""),
        (mixed, r#""unet": true, "bigram_vocab_size": 50, "bigram_dim": 8,"#),
        // Those that read the whole row again.
        (r#"{"type": "plain", "heads": 2}, {"type": "perceiver", "heads": 2}"#, ""),
    ] {
        check(blocks, &plan(blocks, options));
    }
}

#[test]
fn rows_of_every_golden_config_come_and_go() {
    let mut count = 0;
    for case in crate::golden::cases() {
        let file = format!("{}/golden/cases/{case}/config.json", env!("CARGO_MANIFEST_DIR"));
        let plan = Plan::read(&file, &[]).unwrap().plan;
        if plan.is_streaming() && plan.seq_len >= 16 {
            check(&case, &plan);
            count += 1;
        }
    }
    assert!(count > 20, "{count} of them stream");
}

#[test]
fn rows_of_every_custom_block_of_the_examples_come_and_go() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let small = ["model_dim=32", "vocab_size=64", "seq_len=32"].map(String::from);
        let text = fs::read_to_string(&path).unwrap();
        let plan = Plan::read(path.to_str().unwrap(), &small);
        if let (true, Ok(planned)) = (text.contains("custom"), plan) {
            check(path.to_str().unwrap(), &planned.plan);
            count += 1;
        }
    }
    assert!(count >= 1, "{count} of them have blocks in JSON");
}

#[test]
fn a_request_that_does_not_fit_leaves_the_batch_as_it_was() {
    let blocks = r#"{"type": "plain", "heads": 2}, {"type": "mamba"}"#;
    let plan = plan(blocks, "");
    let session = Session::<Flex>::new(model(&plan), &Default::default());
    let expected = alone(&session, 4);
    let mut batch = Batch::new(&session);
    assert!(matches!(batch.advance(&[]), Err(SessionError::Rows { .. })));
    batch.join(&[prompt(0, 3, VOCAB)]).unwrap();
    let unknown = VOCAB as u16;
    assert!(matches!(batch.join(&[]), Err(SessionError::Rows { .. })));
    assert!(matches!(batch.join(&[vec![]]), Err(SessionError::Rows { .. })));
    assert!(matches!(batch.join(&[vec![1], vec![1, 2]]), Err(SessionError::Rows { .. })));
    assert!(matches!(batch.join(&[vec![1; SEQ + 1]]), Err(SessionError::TooLong { .. })));
    assert!(matches!(batch.join(&[vec![unknown]]), Err(SessionError::Data(_))));
    assert!(matches!(batch.advance(&[1, 2]), Err(SessionError::Rows { .. })));
    assert!(matches!(batch.advance(&[unknown]), Err(SessionError::Data(_))));
    assert_eq!((batch.len(), batch.room(0)), (1, SEQ - 3));
    let logits: Vec<f32> =
        batch.advance(&[token(0, 3, VOCAB)]).unwrap().into_data().to_vec().unwrap();
    near("after refusals", &logits, &expected[0][3]);
    batch.join(&[prompt(1, SEQ, VOCAB)]).unwrap();
    assert!(
        matches!(batch.advance(&[1, 2]), Err(SessionError::TooLong { tokens, .. }) if tokens == SEQ + 1)
    );
}
