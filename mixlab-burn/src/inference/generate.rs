//! Rows that a model continues.

use std::ops::ControlFlow;

use rayon::prelude::*;

use super::session::read;
use super::{Decoder, Sampling, Session, SessionError};
use crate::blocks::Block;
use crate::random::Generator;

/// How rows are continued.
#[derive(Clone, Debug, PartialEq)]
pub struct Generation {
    /// Tokens that each row gets at most.
    pub max_tokens: usize,
    /// How each of them is drawn.
    pub sampling: Sampling,
    /// Row `i` draws from the random stream of `seed + i`.
    pub seed: i64,
    /// Whether a row that the model sees no more of goes on: the older half of what it sees is
    /// forgotten ([`Decoder::slide`]). If not, the row ends.
    pub slide: bool,
}

impl Default for Generation {
    fn default() -> Self {
        Self { max_tokens: 256, sampling: Sampling::default(), seed: 42, slide: false }
    }
}

/// Why a row has no more tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It got as many as were asked for.
    MaxTokens,
    /// It is as long as the rows that the model was planned for.
    SeqLen,
    /// Who was told of its tokens broke off.
    Stopped,
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// What it began with.
    pub prompt: Vec<u16>,
    /// What it got.
    pub tokens: Vec<u16>,
    /// Why it ended.
    pub end: End,
}

/// A row that still gets tokens, or not.
struct Sequence {
    /// Prompt and tokens.
    all: Vec<u16>,
    prompt: usize,
    draws: Generator,
    end: Option<End>,
}

impl Sequence {
    /// The next token of row `index`, or zero if it has ended: it is fed zeros while others go on.
    fn draw(
        &mut self,
        logits: &[f32],
        sampling: &Sampling,
        index: usize,
    ) -> Result<u16, SessionError> {
        if self.end.is_some() {
            return Ok(0);
        }
        let not_a_number = SessionError::NotANumber { row: index, after: self.all.len() };
        sampling.draw(logits, &self.all, &mut self.draws).ok_or(not_a_number)
    }

    /// Takes what was drawn, unless it has ended, and tells of it.
    fn push(&mut self, token: u16, told: impl FnOnce(u16) -> ControlFlow<()>) {
        if self.end.is_none() {
            self.all.push(token);
            self.end = told(token).is_break().then_some(End::Stopped);
        }
    }

    fn generated(self) -> Generated {
        let end = self.end.unwrap_or(End::MaxTokens);
        let (prompt, tokens) = self.all.split_at(self.prompt);
        Generated { prompt: prompt.into(), tokens: tokens.into(), end }
    }
}

impl<B: mixlab_ops::Backend, K: Block> Session<B, K> {
    /// Continues `prompts`, all of one length, side by side. An empty prompt becomes one random token.
    /// `told` is given the number of a row and its new token, and may end that row.
    ///
    /// # Errors
    /// If prompts are of several lengths or longer than the plan's rows, an id is unknown, a setting
    /// is none, or a logit is NaN.
    pub fn generate(
        &self,
        prompts: &[Vec<u16>],
        options: &Generation,
        mut told: impl FnMut(usize, u16) -> ControlFlow<()>,
    ) -> Result<Vec<Generated>, SessionError> {
        options.sampling.check()?;
        let rows = prompts.iter().zip(0..);
        let mut rows: Vec<Sequence> =
            rows.map(|(prompt, i)| self.row(prompt, options, i)).collect();
        let mut decoder = Decoder::new(self, rows.len());
        let mut pieces: Vec<Vec<u16>> = rows.iter().map(|row| row.all.clone()).collect();
        decoder.push(&pieces)?;
        if !options.slide {
            decoder.fits()?;
        }
        for _ in 0..options.max_tokens {
            if decoder.room() == 0 {
                if !options.slide {
                    rows.iter_mut().for_each(|row| row.end = row.end.or(Some(End::SeqLen)));
                    break;
                }
                decoder.slide();
            }
            let logits = read(decoder.logits()?);
            let logits = logits.par_chunks_exact(self.plan().vocab);
            let drawn = rows.par_iter_mut().zip(logits).enumerate();
            let drawn = drawn.map(|(i, (row, logits))| row.draw(logits, &options.sampling, i));
            // The first of several errors, whoever found one first.
            let drawn: Vec<Result<u16, _>> = drawn.collect();
            let drawn = drawn.into_iter().collect::<Result<Vec<u16>, _>>()?;
            for (i, (row, token)) in rows.iter_mut().zip(&drawn).enumerate() {
                row.push(*token, |token| told(i, token));
            }
            pieces = drawn.into_iter().map(|token| vec![token]).collect();
            if rows.iter().all(|row| row.end.is_some()) {
                break;
            }
            decoder.push(&pieces)?;
        }
        Ok(rows.into_iter().map(Sequence::generated).collect())
    }

    fn row(&self, prompt: &[u16], options: &Generation, index: i64) -> Sequence {
        let mut draws = Generator::new(options.seed.wrapping_add(index));
        let all = match prompt {
            [] => vec![draws.intn(self.plan().vocab as u64) as u16],
            prompt => prompt.to_vec(),
        };
        Sequence { prompt: all.len(), all, draws, end: None }
    }
}
