//! Continues the rows of all requests, side by side.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;

use burn::tensor::Tensor;
use mixlab_burn::blocks::Block;
use mixlab_burn::inference::{ContinuousBatch, Sampling, Session};
use mixlab_burn::ops::Backend;
use mixlab_burn::random::Generator;

use crate::queue::Queue;

/// A row that a request asks for.
pub struct Row {
    /// Its prompt: one token or more, and fewer than the model was planned for.
    pub prompt: Vec<u16>,
    /// Tokens that it gets at most; one or more.
    pub max_tokens: usize,
    /// How each of them is drawn.
    pub sampling: Sampling,
    /// Seed of the draws.
    pub seed: i64,
    /// Who is told.
    pub told: Told,
}

/// Who is told of a row.
pub struct Told {
    /// Which row of its request it is.
    pub index: usize,
    /// Takes what happens.
    pub events: Sender<(usize, Event)>,
    /// Set when nobody listens any more: the row ends.
    pub gone: Arc<AtomicBool>,
}

impl Told {
    fn tell(&self, event: Event) {
        if self.events.send((self.index, event)).is_err() {
            self.gone.store(true, Ordering::Relaxed);
        }
    }

    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }
}

/// What happens to a row.
#[derive(Debug)]
pub enum Event {
    /// Its next token.
    Token(u16),
    /// It has as many tokens as it may get.
    End,
    /// It cannot be continued.
    Failed(String),
}

/// A row of the batch.
struct Running {
    /// Prompt and tokens.
    all: Vec<u16>,
    /// Tokens that it still gets.
    left: usize,
    sampling: Sampling,
    draws: Generator,
    told: Told,
    done: bool,
}

impl Running {
    fn new(row: Row, seq_len: usize) -> Self {
        let left = row.max_tokens.min(seq_len - row.prompt.len());
        let draws = Generator::new(row.seed);
        Self { all: row.prompt, left, sampling: row.sampling, draws, told: row.told, done: false }
    }

    /// Draws the next token, and tells of it.
    fn next(&mut self, logits: &[f32]) {
        let Some(token) = self.sampling.draw(logits, &self.all, &mut self.draws) else {
            let message = format!("the logits after `{}` tokens are NaN", self.all.len());
            return self.fail(&message);
        };
        self.all.push(token);
        self.left -= 1;
        self.told.tell(Event::Token(token));
        if self.left == 0 {
            self.told.tell(Event::End);
            self.done = true;
        }
    }

    fn fail(&mut self, message: &str) {
        self.told.tell(Event::Failed(message.to_owned()));
        self.done = true;
    }
}

/// A model, the rows that it continues, and those that wait.
pub struct Engine<'a, B: Backend, K: Block> {
    session: &'a Session<B, K>,
    batch: ContinuousBatch<'a, B, K>,
    /// One for each row of the batch.
    rows: Vec<Running>,
    queue: &'a Queue<Row>,
    max_rows: usize,
    running: &'a AtomicUsize,
}

impl<'a, B: Backend, K: Block> Engine<'a, B, K> {
    /// Continues at most `max_rows` rows of `queue` at a time; `running` is how many they are.
    pub fn new(
        session: &'a Session<B, K>,
        queue: &'a Queue<Row>,
        max_rows: usize,
        running: &'a AtomicUsize,
    ) -> Self {
        let batch = ContinuousBatch::new(session);
        Self { session, batch, rows: Vec::new(), queue, max_rows, running }
    }

    /// Continues rows until the queue is closed and all have ended.
    pub fn run(mut self) {
        while self.admit() {
            self.step();
        }
    }

    /// Takes rows from the queue as far as there is room for them, and waits for one where there is
    /// nothing else to do. False if there is nothing, and will not be.
    fn admit(&mut self) -> bool {
        let mut new: BTreeMap<usize, Vec<Row>> = BTreeMap::new();
        let mut free = self.max_rows - self.rows.len();
        while free > 0 {
            let idle = self.rows.is_empty() && new.is_empty();
            let row = if idle { self.queue.wait() } else { self.queue.next() };
            match row {
                Some(row) if row.told.is_gone() => {}
                Some(row) => {
                    new.entry(row.prompt.len()).or_default().push(row);
                    free -= 1;
                }
                None if idle => return false,
                None => break,
            }
        }
        // Prompts of one length are read in one pass.
        new.into_values().for_each(|rows| self.join(rows));
        self.part();
        true
    }

    fn join(&mut self, rows: Vec<Row>) {
        let seq_len = self.session.plan().seq_len;
        let mut rows: Vec<Running> =
            rows.into_iter().map(|row| Running::new(row, seq_len)).collect();
        let prompts: Vec<Vec<u16>> = rows.iter().map(|row| row.all.clone()).collect();
        match self.batch.join(&prompts) {
            Ok(logits) => {
                draw(&mut rows, logits);
                self.rows.extend(rows);
            }
            Err(error) => rows.iter_mut().for_each(|row| row.fail(&error.to_string())),
        }
    }

    /// One token more for each row.
    fn step(&mut self) {
        if self.rows.is_empty() {
            return;
        }
        let last: Vec<u16> = self.rows.iter().map(|row| row.all[row.all.len() - 1]).collect();
        match self.batch.advance(&last) {
            Ok(logits) => draw(&mut self.rows, logits),
            Err(error) => self.rows.iter_mut().for_each(|row| row.fail(&error.to_string())),
        }
        self.part();
    }

    /// Lets rows go that are done, or whose client has gone.
    fn part(&mut self) {
        self.rows.iter_mut().for_each(|row| row.done |= row.told.is_gone());
        let rows = self.rows.iter().enumerate();
        let kept: Vec<usize> = rows.filter(|(_, row)| !row.done).map(|(i, _)| i).collect();
        self.batch.keep(&kept);
        self.rows.retain(|row| !row.done);
        self.running.store(self.rows.len(), Ordering::Relaxed);
    }
}

/// The next token of each row by its logits, a row of `logits` `[rows, V]`.
fn draw<B: Backend>(rows: &mut [Running], logits: Tensor<B, 2>) {
    let vocab = logits.dims()[1];
    let logits = logits.into_data().convert::<f32>().into_vec::<f32>().expect("converted to f32");
    rows.iter_mut().zip(logits.chunks_exact(vocab)).for_each(|(row, logits)| row.next(logits));
}
