//! What a whole program does along T.

use super::{Effect, Lane, Passage, Reach, Step, Value};
use crate::blocks::custom::params::Site;
use crate::blocks::custom::program::{Program, STREAM};
use crate::blocks::custom::shape::Extent;

/// What a program does along T, whatever the batch and the length of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// What makes it depend on later tokens, if anything does.
    pub ahead: Option<String>,
    /// Why it must be given whole rows, if it must.
    pub rows: Option<String>,
    /// For each operation that is run, whether it remembers what was before.
    pub remembers: Vec<bool>,
}

/// What one operation does, at some sizes.
struct Course {
    effects: Vec<Effect>,
    values: Vec<Value>,
    extent: Extent,
}

impl Outlook {
    /// What `program`, planned for rows of `seq` tokens, does along T.
    pub fn of(program: &Program, seq: usize) -> Self {
        let courses: Vec<Course> =
            extents(seq).into_iter().filter_map(|extent| Course::of(program, extent)).collect();
        let first = |f: fn(&Course, &Program) -> Option<String>| {
            courses.iter().find_map(|course| f(course, program))
        };
        let remembers: Vec<Vec<bool>> = courses.iter().map(Course::remembers).collect();
        let differs = remembers.windows(2).any(|pair| pair[0] != pair[1]);
        let differs = || differs.then(|| "what it does depends on the length of rows".to_owned());
        let ahead = first(Course::ahead);
        let rows = ahead.clone().or_else(|| first(Course::rows)).or_else(differs);
        let rows = rows.or_else(|| any_length(program));
        let none = vec![false; program.instructions.len()];
        let remembers = remembers.into_iter().next().filter(|_| rows.is_none()).unwrap_or(none);
        Self { ahead, rows, remembers }
    }
}

/// Data for which a program is followed: symbols that coincide at some sizes differ at others.
fn extents(seq: usize) -> Vec<Extent> {
    let lengths = [seq, seq + 1, 2, 3];
    let batches = |seq: usize| [2, 3].map(|batch| Extent { batch, seq });
    lengths.into_iter().filter(|seq| *seq > 1).flat_map(batches).collect()
}

/// Why rows cannot have just any length.
fn any_length(program: &Program) -> Option<String> {
    let refusal =
        [1, 2, 3].into_iter().find_map(|seq| program.check(Extent { batch: 1, seq }).err())?;
    let place = refusal.op.map_or("`x`".into(), |index| program.instructions[index].place());
    Some(format!("{place} does not fit rows of any length"))
}

impl Course {
    /// Follows the program, `None` if it does not fit this extent.
    fn of(program: &Program, extent: Extent) -> Option<Self> {
        let shapes = program.shapes(extent).ok()?;
        let value = |dims: &Vec<usize>| Value { dims: dims.clone(), reach: Reach::Fixed };
        let mut values: Vec<Value> = shapes.iter().map(value).collect();
        values[STREAM].reach = Reach::Along(Lane::whole_axis(0, extent.seq, 0));
        let mut effects = Vec::new();
        for instruction in &program.instructions {
            let inputs: Vec<Value> =
                instruction.inputs.iter().map(|slot| values[*slot].clone()).collect();
            let site = Site { params: &instruction.params, extent };
            let outputs = &shapes[instruction.outputs.clone()];
            let effect = instruction.row().along.apply(&Step { site, inputs: &inputs, outputs });
            for (slot, reach) in instruction.outputs.clone().zip(&effect.reaches) {
                values[slot].reach = *reach;
            }
            effects.push(effect);
        }
        Some(Self { effects, values, extent })
    }

    fn remembers(&self) -> Vec<bool> {
        self.effects.iter().map(|effect| effect.passage == Passage::Remembers).collect()
    }

    /// Whether `slot` holds each token's value at its own step, at least.
    fn is_in_place(&self, slot: usize) -> bool {
        match self.values[slot].reach {
            Reach::Along(lane) => lane.ahead <= 0 && self.is_stream(lane),
            reach => reach.is_constant(),
        }
    }

    /// Whether `lane` is laid out as the stream is; what is known everywhere is as well.
    fn is_stream(&self, lane: Lane) -> bool {
        lane.length == 1 || (lane.axis, lane.inner, lane.length) == (0, 1, self.extent.seq)
    }

    /// What makes a result depend on later tokens.
    fn ahead(&self, program: &Program) -> Option<String> {
        let rewrites = program.rewrites.iter().map(|(_, slot)| *slot);
        let from_data = rewrites.into_iter().find(|slot| !self.values[*slot].reach.is_constant());
        if let Some(slot) = from_data {
            return Some(format!("{} (a weight is made from tokens)", writer(program, slot)));
        }
        if self.is_in_place(program.stream) {
            return None;
        }
        let is_first = |index: &usize| {
            let inputs = &program.instructions[*index].inputs;
            self.effects[*index].reaches.iter().any(|reach| reach.looks_ahead())
                && !inputs.iter().any(|slot| self.values[*slot].reach.looks_ahead())
        };
        let first = (0..self.effects.len()).find(is_first);
        Some(match first {
            Some(index) => program.instructions[index].place(),
            None => writer(program, program.stream),
        })
    }

    /// What needs whole rows.
    fn rows(&self, program: &Program) -> Option<String> {
        let needs = |index: &usize| {
            let effect = &self.effects[*index];
            let streams = |reach: &Reach| match reach {
                Reach::Fixed | Reach::Uniform => true,
                Reach::Along(lane) => lane.ahead == 0 && lane.length == self.extent.seq,
                Reach::Placed | Reach::Pairs { .. } | Reach::Whole => false,
            };
            effect.passage == Passage::Rows || !effect.reaches.iter().all(streams)
        };
        let first = (0..self.effects.len()).find(needs)?;
        Some(format!("{} takes whole rows", program.instructions[first].place()))
    }
}

/// The operation that writes `slot`.
fn writer(program: &Program, slot: usize) -> String {
    let writes = program.instructions.iter().find(|i| i.outputs.contains(&slot));
    writes.map_or("the program".into(), super::super::program::Instruction::place)
}
