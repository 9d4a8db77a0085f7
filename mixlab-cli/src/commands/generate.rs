//! `generate`: trained weights continue a prompt.

mod prompt;
mod screen;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use burn::tensor::backend::AutodiffBackend;
use indicatif::ProgressBar;
use mixlab_burn::blocks::{Block, Time};
use mixlab_burn::data::text::TextTokenizer;
use mixlab_burn::inference::{Generated, Generation, Sampling, Session};
use mixlab_burn::ops::Backend;
use mixlab_burn::plan::Plan;

use crate::backend::{self, Job, Place};
use crate::error::{Interrupted, answer};
use crate::{Request, cli, interrupt, kernels, memory};
use prompt::Prompt;
use screen::Screen;

pub fn run<K: Block>(options: &cli::Generate) -> anyhow::Result<()> {
    let plan = super::trained::<K>(&options.model)?;
    let sampling = Sampling {
        temperature: options.temperature,
        top_k: options.top_k,
        top_p: options.top_p,
        min_p: options.min_p,
        repetition_penalty: options.repetition_penalty,
    };
    answer(sampling.check())?;
    let prompt = Prompt::read(&options.prompt, plan.vocab)?;
    let text = prompt.wants_text(options);
    if !text && !options.stop.is_empty() {
        let message = "`--stop` looks for text, and this prompt gives token ids";
        let hint = "name a tokenizer with `--tokenizer FILE`";
        return Err(Request(format!("{message}\n  hint: {hint}")).into());
    }
    let tokenizer = text.then(|| prompt::tokenizer(options, plan.vocab)).transpose()?;
    let prompt = match (prompt, &tokenizer) {
        (Prompt::Ids(ids), _) => ids,
        (Prompt::Text(text), Some(tokenizer)) => tokenizer.encode(&text, plan.vocab)?,
        _ => Vec::new(),
    };
    let seed = options.seed.unwrap_or(plan.training.seed);
    let generation =
        Generation { max_tokens: options.max_tokens, sampling, seed, slide: options.slide };
    let job = Continue { options, plan, prompt, tokenizer, generation };
    backend::run(&options.model.machine.compute, job)
}

/// A prompt and how to continue it, ready to go to a backend.
struct Continue<'a, K: Block> {
    options: &'a cli::Generate,
    plan: Arc<Plan<K>>,
    prompt: Vec<u16>,
    tokenizer: Option<TextTokenizer>,
    generation: Generation,
}

impl<K: Block> Job for Continue<'_, K> {
    fn run<A>(self, device: A::Device, place: &Place) -> anyhow::Result<()>
    where
        A: AutodiffBackend<InnerBackend: Backend> + Backend,
    {
        let Self { options, plan, prompt, tokenizer, generation } = self;
        let stop = interrupt::flag(ProgressBar::hidden())?;
        let mut waiting = Some(kernels::explain_wait(place));
        let weights = &options.safetensors_load;
        let session = Session::<A::InnerBackend, K>::load(plan.clone(), weights, &device)?;
        answer(session.admits(options.num_samples, prompt.len().max(1)))?;
        memory::hint("continue fewer rows at once: `--num-samples`, `--max-tokens`");
        tell_of_replays(&plan);
        let mut screen = Screen::new(options, tokenizer.as_ref());
        screen.begin(&prompt);
        let prompts = vec![prompt; options.num_samples];
        let mut pace = Pace::start();
        let rows = session.generate(&prompts, &generation, |row, token| {
            waiting = None;
            pace.token(row);
            let shown = screen.push(row, token);
            if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { shown }
        });
        let interrupted = stop.load(Ordering::Relaxed);
        let rows = answer(rows)?;
        screen.end(&rows, interrupted)?;
        if options.timing {
            eprintln!("{}", pace.line(&rows));
        }
        if interrupted { Err(Interrupted.into()) } else { Ok(()) }
    }
}

/// Says once that tokens are slow to come, and why.
fn tell_of_replays<K: Block>(plan: &Plan<K>) {
    let reads = plan.steps.iter().position(|step| step.block.time() != Time::Streaming);
    if let Some(index) = reads {
        eprintln!(
            "note: block {index} ({}) cannot go on from what it has read, so the whole row is read again for each token",
            plan.steps[index].label
        );
    }
}

/// How fast tokens come.
struct Pace {
    start: Instant,
    /// When the first row got its tokens.
    times: Vec<Instant>,
}

impl Pace {
    fn start() -> Self {
        Self { start: Instant::now(), times: Vec::new() }
    }

    fn token(&mut self, row: usize) {
        if row == 0 {
            self.times.push(Instant::now());
        }
    }

    /// The rate of all tokens, and the median time between two of a row, which knows nothing of the
    /// prompt and of kernels that are compiled.
    fn line(&self, rows: &[Generated]) -> String {
        let seconds = self.start.elapsed().as_secs_f64();
        let [prompt, new] =
            [|row: &Generated| row.prompt.len(), |row: &Generated| row.tokens.len()]
                .map(|count| rows.iter().map(count).sum::<usize>());
        let rate = new as f64 / seconds;
        let mut line =
            format!("{prompt} prompt tokens, {new} new ones in {seconds:.2}s ({rate:.1} tok/s)");
        let mut gaps: Vec<_> = self.times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        gaps.sort_unstable();
        if let Some(gap) = gaps.get(gaps.len() / 2) {
            line += &format!("; {:.3} ms a token in the median", 1e3 * gap.as_secs_f64());
        }
        line
    }
}
