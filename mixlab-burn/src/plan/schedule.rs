//! Learning rate of each step.
//!
//! Without phases: linear warmup from 0 over `min(100, N)` steps, a hold of up to 200 steps, then a
//! cosine to a tenth. A warmdown replaces the end by a straight line to a hundredth. With phases:
//! constant rates, and the warmdown within the last phase. All in f32, as in mixlab 0.10.1.

use std::fmt;

use super::{Phase, Training};

const WARMUP_STEPS: usize = 100;
const HOLD_STEPS: usize = 200;

/// The learning rates of a training run.
#[derive(Clone, Debug)]
pub struct Schedule {
    base: f32,
    steps: usize,
    warmdown: usize,
    phases: Vec<Phase>,
}

impl Schedule {
    /// The schedule of `training`.
    pub fn new(training: &Training) -> Self {
        let longest = training.phases.last().map_or(training.steps, |phase| phase.steps);
        Self {
            base: training.lr,
            steps: training.steps,
            warmdown: training.warmdown_steps.min(longest).min(training.steps),
            phases: training.phases.clone(),
        }
    }

    /// The learning rate of the update of `step`, from 0.
    pub fn lr(&self, step: usize) -> f32 {
        let start = self.steps - self.warmdown;
        let progress = |step: usize| (step - start) as f32 / self.warmdown as f32;
        if let Some((_, phase)) = self.phase(step) {
            let lr = phase.lr;
            let ends = step >= start && self.warmdown > 0;
            return if ends { lr + (0.01 * lr - lr) * progress(step) } else { lr };
        }
        if self.warmdown == 0 || step < start {
            return self.cosine(step);
        }
        let from = self.cosine(start);
        from + (self.base * 0.1 / 10.0 - from) * progress(step).min(1.0)
    }

    /// The largest learning rate of the run.
    pub fn peak(&self) -> f32 {
        // The rate rises until the warmup or the run ends; a warmdown may cut the warmup short.
        let last = self.steps.saturating_sub(1);
        let top = self.warmup().min(self.steps - self.warmdown).min(last);
        let phases = self.phases.iter().map(|phase| phase.lr);
        phases.reduce(f32::max).unwrap_or_else(|| self.lr(top).max(self.lr(last)))
    }

    /// Steps at the start over which the learning rate rises; there are none with phases.
    pub fn warmup(&self) -> usize {
        if self.phases.is_empty() { WARMUP_STEPS.min(self.steps) } else { 0 }
    }

    /// Number (from 0) and settings of the phase that `step` is in.
    pub fn phase(&self, step: usize) -> Option<(usize, &Phase)> {
        let mut end = 0;
        let within = self.phases.iter().position(|phase| {
            end += phase.steps;
            step < end
        });
        let last = self.phases.len().checked_sub(1)?;
        let index = within.unwrap_or(last);
        Some((index, &self.phases[index]))
    }

    /// The number of the phase that begins with `step`.
    pub fn phase_begun(&self, step: usize) -> Option<usize> {
        let number = |step| self.phase(step).map(|(index, _)| index);
        let before = step.checked_sub(1).and_then(number);
        number(step).filter(|index| Some(*index) != before)
    }

    fn cosine(&self, step: usize) -> f32 {
        let warmup = WARMUP_STEPS.min(self.steps);
        let hold = HOLD_STEPS.min(self.steps - warmup);
        let rest = self.steps - warmup - hold;
        if step < warmup {
            return self.base * step as f32 / warmup as f32;
        }
        if step < warmup + hold || rest == 0 {
            return self.base;
        }
        let progress = ((step - warmup - hold) as f64 / rest as f64).min(1.0);
        let lowest = self.base * 0.1;
        let share = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
        lowest + (self.base - lowest) * share as f32
    }
}

/// The schedule in words.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (warmup, base) = (self.warmup(), self.base);
        let hold = HOLD_STEPS.min(self.steps - warmup);
        /// Phases that are listed.
        const SHOWN: usize = 8;
        for (index, phase) in self.phases.iter().take(SHOWN).enumerate() {
            let comma = if index == 0 { "" } else { ", then " };
            write!(f, "{comma}{} for {} steps", phase.lr, phase.steps)?;
        }
        if let Some(more @ 1..) = self.phases.len().checked_sub(SHOWN) {
            write!(f, ", then {more} more phases")?;
        }
        if self.phases.is_empty() {
            write!(f, "0 to {base} in {warmup} steps of warmup")?;
            if hold > 0 {
                write!(f, ", {base} for {hold} steps")?;
            }
            if self.steps > warmup + hold {
                f.write_str(", then a cosine to a tenth of it")?;
            }
        }
        match self.warmdown {
            0 => Ok(()),
            steps => write!(f, "; the last {steps} steps fall on a straight line"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(lr: f32, steps: usize, warmdown: usize) -> Schedule {
        Schedule { base: lr, steps, warmdown, phases: Vec::new() }
    }

    fn close(got: f32, expected: f32) {
        assert!((got - expected).abs() <= 2e-6 * expected, "got {got}, expected {expected}");
    }

    #[test]
    fn short_runs_warm_up_and_hold() {
        let s = schedule(3e-4, 200, 0);
        assert_eq!(s.lr(0), 0.0);
        close(s.lr(50), 0.00015);
        close(s.lr(150), 0.0003);
        close(s.lr(199), 0.0003);
    }

    #[test]
    fn long_runs_fall_on_a_cosine_and_then_a_line() {
        let s = schedule(1e-3, 5000, 1000);
        close(s.lr(300), 0.001);
        close(s.lr(2650), 0.00055);
        close(s.lr(3999), 0.000_197_026_79);
        close(s.lr(4000), 0.000_196_840_3);
        close(s.lr(4500), 0.000_103_420_15);
        close(s.lr(4999), 1.018_683_5e-5);
    }

    #[test]
    fn the_peak_is_what_the_largest_step_gets() {
        for (steps, warmdown) in [
            (1, 0),
            (2, 0),
            (20, 0),
            (101, 0),
            (200, 200),
            (200, 150),
            (200, 100),
            (700, 650),
            (1, 1),
        ] {
            let s = schedule(3e-4, steps, warmdown);
            let largest = (0..steps).map(|step| s.lr(step)).fold(0.0, f32::max);
            assert_eq!(s.peak(), largest, "{steps} {warmdown}");
        }
    }

    #[test]
    fn a_schedule_says_that_it_has_a_warmup() {
        let s = |steps, warmdown| schedule(3e-4, steps, warmdown).to_string();
        assert_eq!(s(200, 0), "0 to 0.0003 in 100 steps of warmup, 0.0003 for 100 steps");
        assert!(s(900, 50).ends_with(
            "then a cosine to a tenth of it; the last 50 steps fall on a straight line"
        ));
        assert_eq!(s(5, 0), "0 to 0.0003 in 5 steps of warmup");
    }

    #[test]
    fn phases_are_constant_and_the_last_one_warms_down() {
        let phase = |steps, lr| Phase { steps, lr, label: String::new() };
        let phases = vec![phase(8, 0.005), phase(12, 0.001)];
        let s = Schedule { base: 0.005, steps: 20, warmdown: 4, phases };
        close(s.lr(0), 0.005);
        close(s.lr(7), 0.005);
        close(s.lr(8), 0.001);
        close(s.lr(16), 0.001);
        close(s.lr(18), 0.001 * (1.0 - 0.99 * 0.5));
        assert_eq!(s.phase(8).unwrap().0, 1);
        let begun: Vec<_> =
            (0..20).filter_map(|step| s.phase_begun(step).map(|i| (step, i))).collect();
        assert_eq!(begun, [(0, 0), (8, 1)]);
        assert_eq!(
            s.to_string(),
            "0.005 for 8 steps, then 0.001 for 12 steps; the last 4 steps fall on a straight line"
        );
    }

    #[test]
    fn many_phases_are_counted() {
        let phases = vec![Phase { steps: 1, lr: 0.5, label: String::new() }; 3000];
        let text = Schedule { base: 0.5, steps: 3000, warmdown: 0, phases }.to_string();
        assert!(text.ends_with(", then 0.5 for 1 steps, then 2992 more phases"), "{text}");
    }
}
