//! A session answers as the original did, and what it remembers changes nothing but the time.

use std::ops::ControlFlow;
use std::path::Path;

use burn::tensor::Tensor;
use burn_flex::Flex;
use mixlab_burn::data::Batch;
use mixlab_burn::data::logprobs::Logprobs;
use mixlab_burn::data::shard::{Layout, Shard};
use mixlab_burn::inference::{Decoder, End, Generation, Sampling, Session, SessionError};
use mixlab_burn::plan::Plan;

use crate::isolation::model;

const VOCAB: usize = 31;
const SEQ: usize = 12;

fn plan(blocks: &str, options: &str) -> Plan {
    let json = format!(
        r#"{{"model_dim": 16, "vocab_size": {VOCAB}, "seq_len": {SEQ}, "mlp_mult": 1.5, {options}
            "training": {{"batch_tokens": 24}}, "blocks": [{blocks}]}}"#
    );
    Plan::parse(&json, "inference.json", &[]).unwrap_or_else(|e| panic!("{blocks}\n{e}")).plan
}

fn session(blocks: &str, options: &str) -> Session<Flex> {
    Session::new(model(&plan(blocks, options)), &Default::default())
}

const MIXED: &str = r#"{"type": "plain", "heads": 4, "kv_heads": 2}, {"type": "rwkv"},
    {"type": "mamba"}, {"type": "token_blend"}, {"type": "plain", "heads": 4, "kv_heads": 2, "kv_source": 1}"#;
const BIGRAMS: &str = r#""bigram_vocab_size": 40, "unet": true,"#;
const AHEAD: &str =
    r#"{"type": "plain", "heads": 2}, {"type": "bottleneck", "heads": 2, "num_latents": 3}"#;

fn tokens(count: usize) -> Vec<u16> {
    (0..count).map(|k| ((k * k * 3 + k * 5 + 2) % VOCAB) as u16).collect()
}

fn numbers<const D: usize>(x: Tensor<Flex, D>) -> Vec<f32> {
    x.into_data().to_vec().unwrap()
}

fn apart(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let largest = b.iter().fold(0f32, |most, z| most.max(z.abs()));
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max) / largest
}

/// Logits after `row`, which the model sees from its beginning on, padded with zeros to the plan's
/// length: as the original computes them.
fn replayed(session: &Session<Flex>, row: &[u16]) -> Vec<f32> {
    let mut x: Vec<i32> = row.iter().map(|token| i32::from(*token)).collect();
    x.resize(session.plan().seq_len, 0);
    let batch = Batch { batch: 1, seq: x.len(), y: x.clone(), x, prev: vec![-1] };
    numbers(session.logits(batch).unwrap().narrow(1, row.len() - 1, 1))
}

#[test]
fn a_decoder_gives_the_logits_of_the_whole_row() {
    for (blocks, options) in [(MIXED, ""), (MIXED, BIGRAMS), (AHEAD, "")] {
        let (session, row) = (session(blocks, options), tokens(SEQ));
        for prompt in [1, 2, 7, SEQ - 1] {
            for piece in [1, 3] {
                let mut decoder = Decoder::new(&session, 1);
                let mut end = prompt;
                decoder.push(&[row[..prompt].to_vec()]).unwrap();
                loop {
                    let logits = numbers(decoder.logits().unwrap());
                    let error = apart(&logits, &replayed(&session, &row[..end]));
                    assert!(error <= 1e-5, "{blocks}: {error:e} after {end}");
                    assert_eq!((decoder.len(), decoder.room()), (end, SEQ - end));
                    if end == SEQ {
                        break;
                    }
                    let next = SEQ.min(end + piece);
                    decoder.push(&[row[end..next].to_vec()]).unwrap();
                    end = next;
                }
            }
        }
    }
}

#[test]
fn a_decoder_that_slides_sees_the_later_half_and_nothing_else() {
    for blocks in [MIXED, AHEAD] {
        let (session, row) = (session(blocks, BIGRAMS), tokens(SEQ + 1));
        let mut decoder = Decoder::new(&session, 1);
        decoder.push(&[row[..SEQ].to_vec()]).unwrap();
        decoder.logits().unwrap();
        assert_eq!(decoder.room(), 0);
        decoder.slide();
        assert_eq!(decoder.room(), SEQ / 2);
        decoder.push(&[row[SEQ..].to_vec()]).unwrap();
        let logits = numbers(decoder.logits().unwrap());
        assert!(apart(&logits, &replayed(&session, &row[SEQ / 2..])) <= 1e-5, "{blocks}");
    }
}

#[test]
fn a_clone_of_a_decoder_goes_its_own_way() {
    let (session, row) = (session(MIXED, ""), tokens(SEQ));
    let mut one = Decoder::new(&session, 1);
    one.push(&[row[..5].to_vec()]).unwrap();
    one.logits().unwrap();
    let mut other = one.clone();
    let after = |decoder: &mut Decoder<'_, _, _>, piece: &[u16]| {
        decoder.push(&[piece.to_vec()]).unwrap();
        numbers(decoder.logits().unwrap())
    };
    for at in 5..9 {
        let expected = replayed(&session, &row[..=at]);
        assert!(apart(&after(&mut one, &row[at..=at]), &expected) <= 1e-5);
        let strayed = [&row[..5], &vec![3; at - 4]].concat();
        assert!(apart(&after(&mut other, &[3]), &replayed(&session, &strayed)) <= 1e-5);
    }
}

#[test]
fn rows_side_by_side_are_those_alone() {
    let session = session(MIXED, BIGRAMS);
    let prompts = [tokens(4), vec![9, 8, 7, 6], tokens(4)];
    let options = Generation { max_tokens: 6, seed: 5, ..Generation::default() };
    let go_on = |_, _| ControlFlow::Continue(());
    let together = session.generate(&prompts, &options, go_on).unwrap();
    for (i, prompt) in prompts.iter().enumerate() {
        let options = Generation { seed: 5 + i as i64, ..options.clone() };
        let alone = session.generate(std::slice::from_ref(prompt), &options, go_on).unwrap();
        assert_eq!(together[i], alone[0]);
    }
    assert_ne!(together[0].tokens, together[2].tokens);
}

#[test]
fn a_row_ends_where_it_should_and_others_go_on() {
    let session = session(MIXED, "");
    let generate = |options: &Generation, ends: usize| {
        let mut told = Vec::new();
        let rows = session.generate(&[tokens(4), tokens(4)], options, |row, token| {
            told.push((row, token));
            if row == 0 && told.len() > ends {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        let rows = rows.unwrap();
        let of = |row: usize| told.iter().filter(|t| t.0 == row).map(|t| t.1).collect::<Vec<_>>();
        assert_eq!([of(0), of(1)], [rows[0].tokens.clone(), rows[1].tokens.clone()]);
        rows.into_iter().map(|row| (row.tokens.len(), row.end)).collect::<Vec<_>>()
    };
    let options = Generation { max_tokens: 5, ..Generation::default() };
    assert_eq!(generate(&options, 99), [(5, End::MaxTokens), (5, End::MaxTokens)]);
    assert_eq!(generate(&options, 2), [(2, End::Stopped), (5, End::MaxTokens)]);
    let options = Generation { max_tokens: 50, ..options };
    assert_eq!(generate(&options, 999), [(8, End::SeqLen), (8, End::SeqLen)]);
    let options = Generation { slide: true, ..options };
    assert_eq!(generate(&options, 999), [(50, End::MaxTokens), (50, End::MaxTokens)]);
}

#[test]
fn what_cannot_be_decoded_is_refused() {
    let session = session(MIXED, "");
    let refused = |prompts: &[Vec<u16>], options: &Generation| {
        let go_on = |_, _| ControlFlow::Continue(());
        let error = session.generate(prompts, options, go_on).unwrap_err();
        assert!(error.to_string().contains("hint: "), "{error}");
        error
    };
    let options = Generation::default();
    assert!(matches!(refused(&[], &options), SessionError::Rows { .. }));
    assert!(matches!(refused(&[tokens(2), tokens(3)], &options), SessionError::Rows { .. }));
    let long = [tokens(SEQ + 1)];
    assert!(matches!(refused(&long, &options), SessionError::TooLong { tokens: 13, .. }));
    assert!(matches!(refused(&[vec![1, 31]], &options), SessionError::Data(_)));
    let sampling = Sampling { top_p: 2.0, ..Sampling::default() };
    let options = Generation { sampling, ..options };
    assert!(matches!(
        refused(&[tokens(2)], &options),
        SessionError::Sampling { name: "top_p", .. }
    ));
    let empty = Batch { batch: 1, seq: 0, x: vec![], y: vec![], prev: vec![-1] };
    assert!(matches!(session.loss(empty), Err(SessionError::Data(_))));
    assert!(matches!(session.token_losses(&[1]), Err(SessionError::NothingToScore { .. })));
}

#[test]
fn every_shape_of_batch_has_the_same_losses() {
    let (session, row) = (session(MIXED, ""), tokens(SEQ + 1));
    let whole = session.losses(Batch::from_tokens(&row, SEQ).unwrap()).unwrap();
    let short = session.losses(Batch::from_tokens(&row[..6], 5).unwrap()).unwrap();
    assert!(apart(&short, &whole[..5]) < 1e-5);
    let batch = Batch::from_tokens(&tokens(4 * SEQ + 1), SEQ).unwrap();
    let mean = session.losses(batch.clone()).unwrap().iter().sum::<f32>() / (4 * SEQ) as f32;
    assert!((session.loss(batch.clone()).unwrap() - f64::from(mean)).abs() < 1e-5);
    let layers = session.layers(batch.clone()).unwrap();
    assert_eq!(layers.len(), 6);
    let hidden = numbers(session.hidden(batch).unwrap());
    assert_eq!(numbers(layers[5].clone()), hidden);
    assert_ne!(numbers(layers[4].clone()), hidden);
}

#[test]
fn losses_of_tokens_are_those_that_the_original_wrote() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let case = golden.join("cases/plain_swiglu");
    let config = case.join("config.json");
    let weights = case.join("final.safetensors");
    let session =
        Session::<Flex>::open(config.to_str().unwrap(), &weights, &Default::default()).unwrap();
    let written = Logprobs::read(&golden.join("cli/logprobs.bin")).unwrap();
    let path = golden.join("data/char64/val_00000.bin");
    let mut tokens = Shard::open(&path, Layout::Header).unwrap().read().unwrap();
    tokens.truncate(written.records.len() + 1);
    let losses = session.token_losses(&tokens).unwrap();
    assert_eq!(losses.len(), written.records.len());
    for (i, (loss, (token, expected))) in losses.iter().zip(&written.records).enumerate() {
        assert_eq!(tokens[i + 1], *token);
        assert!((loss - expected).abs() <= 1e-5 * expected, "{i}: {loss} instead of {expected}");
    }
}
