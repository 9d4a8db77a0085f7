//! One row as a client sees it: pieces of text, and why it ended.

use mixlab_burn::data::text::{TextStream, TextTokenizer};
use mixlab_burn::inference::{Shown, StopTexts};
use serde_json::{Value, json};

/// What a choice gets at a time.
#[derive(Debug)]
pub struct Piece {
    /// Which choice, counted over all prompts.
    pub index: usize,
    /// Whole characters.
    pub text: String,
    /// Tokens since the last piece.
    pub tokens: Vec<u16>,
    /// `stop` after a stop text, `length` if there is no room for more, in the last piece.
    pub finish: Option<&'static str>,
}

impl Piece {
    /// Adds the piece that comes after this one.
    pub fn add(&mut self, next: Self) {
        self.text += &next.text;
        self.tokens.extend(next.tokens);
        self.finish = next.finish;
    }

    /// The object of it in an answer.
    pub fn object(&self, token_ids: bool) -> Value {
        let Self { index, text, tokens, finish } = self;
        let mut object =
            json!({"index": index, "text": text, "logprobs": null, "finish_reason": finish});
        if token_ids {
            object["token_ids"] = json!(tokens);
        }
        object
    }
}

/// A row that grows.
pub struct Choice<'a> {
    index: usize,
    text: Option<TextStream<'a>>,
    stops: StopTexts,
}

impl<'a> Choice<'a> {
    /// A row without tokens.
    pub fn new(index: usize, tokenizer: Option<&'a TextTokenizer>, stop: &[String]) -> Self {
        let stops = StopTexts::new(stop.iter().cloned());
        Self { index, text: tokenizer.map(TextTokenizer::stream), stops }
    }

    /// What its next token adds.
    pub fn token(&mut self, token: u16) -> Piece {
        let text = self.text.as_mut().map(|text| text.push(token)).unwrap_or_default();
        let Shown { text, stopped } = self.stops.push(&text);
        let finish = stopped.then_some("stop");
        Piece { index: self.index, text, tokens: vec![token], finish }
    }

    /// What was held back, when it has all its tokens.
    pub fn end(&mut self) -> Piece {
        let rest = self.text.as_mut().map(TextStream::finish).unwrap_or_default();
        let Shown { mut text, stopped } = self.stops.push(&rest);
        if !stopped {
            text += &self.stops.finish();
        }
        let finish = Some(if stopped { "stop" } else { "length" });
        Piece { index: self.index, text, tokens: vec![], finish }
    }
}
