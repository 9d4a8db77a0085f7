//! The rows of one request as they grow, and the objects that say so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use mixlab_burn::data::text::TextTokenizer;
use serde_json::{Value, json};

use crate::choice::{Choice, Piece};
use crate::engine::{Event, Row, Told};
use crate::http::now;
use crate::request::Request;

/// The rows of a request that are continued for it. They end when this is dropped.
pub struct Choices<'a> {
    choices: Vec<Choice<'a>>,
    events: Receiver<(usize, Event)>,
    gone: Vec<Arc<AtomicBool>>,
    /// How many have not ended.
    left: usize,
}

/// What happens to the rows of a request.
pub enum Next {
    /// One has grown.
    Piece(Piece),
    /// Nothing, for as long as was waited.
    Nothing,
    /// One cannot be continued.
    Failed(String),
    /// All have ended.
    End,
}

impl<'a> Choices<'a> {
    /// The rows that `request` asks for, and what is told of them.
    pub fn new(
        request: &Request,
        seed: i64,
        tokenizer: Option<&'a TextTokenizer>,
    ) -> (Self, Vec<Row>) {
        let (sender, events) = channel();
        let each =
            request.prompts.iter().flat_map(|prompt| (0..request.n).map(move |i| (prompt, i)));
        let row = |(index, (prompt, i)): (usize, (&Vec<u16>, usize))| Row {
            prompt: prompt.clone(),
            max_tokens: request.max_tokens,
            sampling: request.sampling.clone(),
            seed: seed.wrapping_add(i as i64),
            told: Told { index, events: sender.clone(), gone: Arc::default() },
        };
        let rows: Vec<Row> = each.enumerate().map(row).collect();
        let gone = rows.iter().map(|row| row.told.gone.clone()).collect();
        let choice = |index| Choice::new(index, tokenizer, &request.stop);
        let choices: Vec<Choice<'a>> = (0..rows.len()).map(choice).collect();
        (Self { left: choices.len(), choices, events, gone }, rows)
    }

    /// What happens next, within `wait`.
    pub fn next(&mut self, wait: Duration) -> Next {
        while self.left > 0 {
            let (index, event) = match self.events.recv_timeout(wait) {
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout) => return Next::Nothing,
                Err(RecvTimeoutError::Disconnected) => {
                    self.left = 0;
                    return Next::Failed("the server ends".into());
                }
            };
            if self.gone[index].load(Ordering::Relaxed) {
                continue;
            }
            let piece = match event {
                Event::Token(token) => self.choices[index].token(token),
                Event::End => self.choices[index].end(),
                Event::Failed(message) => {
                    self.end(index);
                    return Next::Failed(message);
                }
            };
            if piece.finish.is_some() {
                self.end(index);
            }
            return Next::Piece(piece);
        }
        Next::End
    }

    fn end(&mut self, index: usize) {
        self.gone[index].store(true, Ordering::Relaxed);
        self.left -= 1;
    }
}

impl Drop for Choices<'_> {
    fn drop(&mut self) {
        self.gone.iter().for_each(|gone| gone.store(true, Ordering::Relaxed));
    }
}

/// What all objects of one answer have in common.
pub struct Answer {
    id: String,
    created: u64,
    model: String,
    prompt_tokens: usize,
    token_ids: bool,
}

impl Answer {
    /// The answer of the model called `model`.
    pub fn new(model: &str, request: &Request) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let created = now();
        Self {
            id: format!("cmpl-{created:x}-{:x}", NUMBER.fetch_add(1, Ordering::Relaxed)),
            created,
            model: model.to_owned(),
            prompt_tokens: request.prompts.iter().map(Vec::len).sum(),
            token_ids: request.return_token_ids,
        }
    }

    /// Whether a stream shows a piece: some tokens end within a character.
    pub fn shows(&self, piece: &Piece) -> bool {
        self.token_ids || !piece.text.is_empty() || piece.finish.is_some()
    }

    /// The object that has these choices.
    pub fn object<'a>(&self, pieces: impl IntoIterator<Item = &'a Piece>) -> Value {
        let choices = pieces.into_iter().map(|piece| piece.object(self.token_ids));
        json!({
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.model,
            "choices": choices.collect::<Vec<Value>>(),
        })
    }

    /// The same with how many tokens were read, and `written`.
    pub fn with_usage(&self, mut object: Value, written: usize) -> Value {
        object["usage"] = json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": written,
            "total_tokens": self.prompt_tokens + written,
        });
        object
    }
}
