//! How results are printed: the lines of mixlab 0.10.1.

use std::time::Duration;

use mixlab_burn::blocks::Block;
use mixlab_burn::plan::Plan;
use mixlab_burn::train::{Logged, Timing, Trained};

/// The shortest decimal that reads back as `x`, with an exponent below 1e-4 and from 1e6.
pub fn shortest(x: f64) -> String {
    let text = format!("{x:e}");
    let (digits, exponent) = text.split_once('e').expect("scientific notation has an e");
    let exponent: i32 = exponent.parse().expect("the exponent is an integer");
    if (-4..6).contains(&exponent) {
        return format!("{x}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// [`shortest`] for the digits of an f32: `0.01`, not `0.009999999776`.
pub fn shortest_f32(x: f32) -> String {
    shortest(x.to_string().parse().expect("a printed float reads back"))
}

/// A duration as hours, minutes and seconds, for example `1m30s`, `3.456s` or `209ms`.
pub fn duration(time: Duration, unit: Duration) -> String {
    let units = (time.as_nanos() + unit.as_nanos() / 2) / unit.as_nanos();
    let nanos = units * unit.as_nanos();
    if nanos == 0 {
        return "0s".into();
    }
    if nanos < 1_000_000_000 {
        return format!("{}ms", nanos / 1_000_000);
    }
    let whole = nanos / 1_000_000_000;
    // One division: a sum of two floats may print more than three decimals.
    let seconds = (nanos / 1_000_000 % 60_000) as f64 / 1000.0;
    let (hours, minutes) = (whole / 3600, whole / 60 % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, m) => format!("{m}m{seconds}s"),
        (h, m) => format!("{h}h{m}m{seconds}s"),
    }
}

/// FLOPs with a unit, two decimals from a million on.
pub fn flops(n: u64) -> String {
    match n as f64 {
        x if x >= 1e12 => format!("{:.2} TFLOP", x / 1e12),
        x if x >= 1e9 => format!("{:.2} GFLOP", x / 1e9),
        x if x >= 1e6 => format!("{:.2} MFLOP", x / 1e6),
        _ => format!("{n} FLOP"),
    }
}

/// A string in quotes and with escapes, as Go writes it: a config's name is what a user typed.
fn quoted(text: &str) -> String {
    let escaped = |c: char| match c {
        '"' | '\\' => format!("\\{c}"),
        '\u{7}' => "\\a".into(),
        '\u{8}' => "\\b".into(),
        '\t' => "\\t".into(),
        '\n' => "\\n".into(),
        '\u{b}' => "\\v".into(),
        '\u{c}' => "\\f".into(),
        '\r' => "\\r".into(),
        c if c.is_ascii_control() => format!("\\x{:02x}", u32::from(c)),
        c if c.is_control() || (c.is_whitespace() && c != ' ') => {
            format!("\\u{:04x}", u32::from(c))
        }
        c => c.into(),
    };
    format!("\"{}\"", text.chars().map(escaped).collect::<String>())
}

/// The line about a loaded model.
pub fn model<K: Block>(plan: &Plan<K>) -> String {
    format!(
        "loaded config {}: model_dim={} vocab_size={} seq_len={} blocks={}",
        quoted(&plan.name),
        plan.dim,
        plan.vocab,
        plan.seq_len,
        plan.steps.len(),
    )
}

/// The two lines about a loaded config.
pub fn config<K: Block>(plan: &Plan<K>) -> String {
    let t = &plan.training;
    let (sizes, steps) = match t.phases.len() {
        0 => (String::new(), format!("steps={} lr={}", t.steps, shortest_f32(t.lr))),
        n => (format!("phases={n} "), format!("steps={}", t.steps)),
    };
    format!(
        "{}\n  training: {sizes}{steps} grad_clip={} weight_decay={} seed={} batch_tokens={}",
        model(plan),
        shortest_f32(t.grad_clip.unwrap_or(0.0)),
        shortest_f32(t.weight_decay),
        t.seed,
        t.batch_tokens,
    )
}

/// Tokens in a second since the logged step `before`, validation left out. Only the first rate of a
/// run has the start in it: kernels that are compiled, memory that is asked for.
pub fn rate(logged: &Logged, before: Option<&Logged>) -> f64 {
    let (tokens, start) = before.map_or((0, Duration::ZERO), |b| (b.tokens, b.elapsed));
    let time = logged.elapsed.saturating_sub(start + logged.timing.validation);
    (logged.tokens - tokens) as f64 / time.as_secs_f64()
}

/// What log lines need to know about a run.
pub struct Log<'a, K: Block> {
    /// The plan that is trained.
    pub plan: &'a Plan<K>,
    /// Training FLOPs of a step.
    pub step_flops: u64,
    /// Entropy of the data in nats per token, if it is known.
    pub floor: Option<f64>,
}

impl<K: Block> Log<'_, K> {
    /// The line of a logged step; `before` is the logged step before it.
    pub fn line(&self, logged: &Logged, before: Option<&Logged>, phase: Option<usize>) -> String {
        let (name, steps) = (&self.plan.name, self.plan.training.steps);
        let seconds = logged.elapsed.as_secs_f64();
        let done = logged.step + 1;
        let mut line = format!("  [{name}] step {}/{steps} loss={:.4}", logged.step, logged.loss);
        if let Some(val) = logged.val_loss {
            line += &format!(" val={val:.4}");
        }
        if let Some(val) = logged.average_val_loss {
            line += &format!(" avg_val={val:.4}");
        }
        line += &format!(" lr={:.6}", logged.lr);
        if let Some(phase) = phase {
            line += &format!(" phase={}", self.plan.training.phases[phase].label);
        }
        let rate = rate(logged, before);
        line += &format!(" tok/s={rate:.0}");
        if let Some(peak) = self.plan.training.hardware_tflops {
            let flops = self.step_flops as f64 / self.plan.training.batch_tokens as f64 * rate;
            line += &format!(" MFU={:.1}%", 100.0 * flops / (peak * 1e12));
        }
        if logged.step == 0 {
            line += &format!(" ({seconds:.1}s)");
        } else {
            let left = seconds / done as f64 * (steps - done) as f64;
            let left = Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX);
            let left = duration(left, Duration::from_secs(1));
            line += &format!(" ({seconds:.1}s, ~{left} remaining)");
        }
        // What the original does not have comes last.
        if before.is_none() {
            let start = logged.elapsed - logged.timing.validation;
            line += &format!(" first loss after {:.1}s", start.as_secs_f64());
        }
        if logged.skipped > 0 {
            line += &format!(" skipped={}", logged.skipped);
        }
        if let Some(floor) = self.floor {
            line += &format!(" floor={floor:.4}");
        }
        line
    }

    /// The line about where the time of a logged step went. `gpu` is `submit`, the host's part, and
    /// `wait`, what the device took beyond it for all steps since the last log line; `log` is what its report took, and
    /// `kernels` are the distinct ones so far and those of them that had to be compiled.
    pub fn timing(
        &self,
        timing: &Timing,
        log: Duration,
        kernels: Option<(usize, usize)>,
    ) -> String {
        let ms = |d: Duration| d.as_secs_f64() * 1e3;
        let mut line = format!(
            "  [{}] [timing] data={:.1}ms gpu={:.1}ms val={:.1}ms log={:.1}ms",
            self.plan.name,
            ms(timing.data),
            ms(timing.step()),
            ms(timing.validation),
            ms(log)
        );
        line += &format!(" submit={:.1}ms wait={:.1}ms", ms(timing.submit), ms(timing.wait));
        if let Some((all, compiled)) = kernels {
            line += &format!(" kernels={all} compiled={compiled}");
        }
        line
    }

    /// The summary of a run.
    pub fn summary(&self, trained: &Trained, elapsed: Duration) -> String {
        let val = trained.val_loss.map_or(String::new(), |val| format!(" val={val:.4}"));
        format!(
            "{:<12} first={:.4} last={:.4}{val} delta={:.4} ({})",
            self.plan.name,
            trained.first_loss,
            trained.last_loss,
            trained.last_loss - trained.first_loss,
            duration(elapsed, Duration::from_millis(1))
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_print_like_the_original() {
        let cases = [
            (3e-4, "0.0003"),
            (1e-5, "1e-05"),
            (0.0, "0"),
            (0.02, "0.02"),
            (1e5, "100000"),
            (1e6, "1e+06"),
        ];
        for (x, text) in cases {
            assert_eq!(shortest(x), text);
        }
    }

    #[test]
    fn names_are_quoted_like_the_original() {
        let cases =
            [("it's", r#""it's""#), ("a\"b\\", r#""a\"b\\""#), ("\n\u{1}é", r#""\n\x01é""#)];
        for (text, expected) in cases {
            assert_eq!(quoted(text), expected);
        }
        assert_eq!(quoted("\u{85}\u{a0}"), r#""\u0085\u00a0""#);
    }

    #[test]
    fn durations_print_like_the_original() {
        let ms = Duration::from_millis;
        let cases = [
            (ms(0), "0s"),
            (ms(2), "2ms"),
            (ms(3456), "3.456s"),
            (ms(90_000), "1m30s"),
            (ms(897_206), "14m57.206s"),
            (ms(3_601_000), "1h0m1s"),
        ];
        for (time, text) in cases {
            assert_eq!(duration(time, ms(1)), text);
        }
        assert_eq!(duration(ms(33_600), ms(1000)), "34s");
        for millis in 1000..60_000 {
            let text = duration(ms(millis), ms(1));
            assert!(text.split_once('.').is_none_or(|(_, decimals)| decimals.len() <= 4), "{text}");
        }
    }

    #[test]
    fn a_rate_is_that_since_the_last_line() {
        let logged = |tokens, elapsed, validation| {
            let seconds = Duration::from_secs;
            let timing = Timing { validation: seconds(validation), ..Timing::default() };
            let elapsed = seconds(elapsed);
            Logged {
                step: 0,
                loss: 0.0,
                val_loss: None,
                average_val_loss: None,
                lr: 0.0,
                grad_norm: 0.0,
                skipped: 0,
                tokens,
                elapsed,
                timing,
            }
        };
        let first = logged(100, 50, 40);
        assert_eq!(rate(&first, None), 10.0);
        assert_eq!(rate(&logged(1100, 55, 3), Some(&first)), 500.0);
    }

    #[test]
    fn flops_have_units() {
        assert_eq!(flops(950_272), "950272 FLOP");
        assert_eq!(flops(2_217_213_952), "2.22 GFLOP");
        assert_eq!(flops(6_495_744), "6.50 MFLOP");
        assert_eq!(flops(1_170_000_000_000), "1.17 TFLOP");
    }
}
