//! All validation data, and how a model scores it.

use std::path::Path;
use std::time::{Duration, Instant};

use mixlab_burn::blocks::Block;
use mixlab_burn::data::{batch::all_tokens, pattern};
use mixlab_burn::eval::{Layout, Scored, Total, TrueBytes, score};
use mixlab_burn::plan::{Plan, TestTime};

use super::scorer::{self, Scorer};
use super::shards::Sources;
use crate::report::duration;

/// Time between lines of progress.
const PERIOD: Duration = Duration::from_secs(30);

/// All validation tokens, and the bytes of text that they stand for if that is known.
pub struct FullData {
    /// The tokens of all shards.
    pub tokens: Vec<u16>,
    bytes: Option<TrueBytes>,
}

impl FullData {
    /// Reads the validation shards, and byte tables of `lut_dir` or beside the shards.
    pub fn open(sources: &Sources, lut_dir: Option<&Path>, vocab: usize) -> anyhow::Result<Self> {
        let shards = pattern::expand(sources.validation()?)?;
        let bytes = TrueBytes::find(lut_dir, &shards, vocab)?;
        if bytes.is_none() {
            eprintln!(
                "note: there are no byte tables beside the validation shards, so bits per byte are not known\n  hint: `--lut-dir DIR` names their folder; `prepare` writes them"
            );
        }
        Ok(Self { tokens: all_tokens(&shards, vocab, sources.layout)?, bytes })
    }
}

/// How a score is told of.
pub struct Teller<'a> {
    /// The config's name.
    pub name: &'a str,
    /// What lines call the score.
    pub label: &'a str,
    /// Whether there are lines of progress.
    pub progress: bool,
    /// How the model is trained on what it scores.
    pub ttt: Option<TestTime>,
}

impl<'a> Teller<'a> {
    /// Tells of the scores of a plan's model, with lines of progress.
    pub fn new<K: Block>(plan: &'a Plan<K>, label: &'a str) -> Self {
        Self { name: &plan.name, label, progress: true, ttt: plan.training.ttt }
    }
}

impl Teller<'_> {
    /// Scores `data` by the rows of `layout`; `keep` is given every loss.
    pub fn score(
        &self,
        scorer: &mut dyn Scorer,
        data: &FullData,
        layout: &Layout,
        mut keep: impl FnMut(&Scored),
    ) -> anyhow::Result<Total> {
        let (start, mut told, mut total) = (Instant::now(), Instant::now(), Total::default());
        let each = |scored: Scored| {
            total.add(&scored, &data.tokens, data.bytes.as_ref());
            keep(&scored);
            let last = scored.rows == layout.rows.len();
            if self.progress && (last || told.elapsed() >= PERIOD) {
                told = Instant::now();
                println!(
                    "{}",
                    self.progress_line([scored.rows, layout.rows.len()], start.elapsed())
                );
            }
            Ok(())
        };
        score::<anyhow::Error>(&data.tokens, layout, |batch| scorer.losses(batch), each)?;
        Ok(total)
    }

    fn progress_line(&self, [done, all]: [usize; 2], elapsed: Duration) -> String {
        let share = done as f64 / all as f64;
        let left = elapsed.mul_f64((1.0 - share) / share);
        let [elapsed, left] = [elapsed, left].map(|time| duration(time, Duration::from_secs(1)));
        format!(
            "  [{}] {} progress seq={done}/{all} ({:.1}%) elapsed={elapsed} eta={left}",
            self.name,
            self.label,
            100.0 * share
        )
    }

    /// The line of a result.
    pub fn line(&self, total: &Total) -> String {
        let Self { name, label, .. } = self;
        let mut line = format!("  [{name}] {label} nll={:.6}", total.nll());
        if let Some(bpb) = total.bpb() {
            line += &format!(" bpb={bpb:.6}");
        }
        line += &format!(" tokens={}", total.tokens);
        if let Some(bytes) = total.bytes {
            line += &format!(" bytes={bytes:.0}");
        }
        line + &self.ttt.as_ref().map(scorer::fields).unwrap_or_default()
    }
}
