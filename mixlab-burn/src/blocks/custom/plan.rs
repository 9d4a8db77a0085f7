//! What is written → [`Program`]: every name, count, parameter and shape is checked here, and all
//! mistakes are reported at once.

use std::collections::HashMap;

use super::Custom;
use super::fault::Fault;
use super::ops::{Dims, ROWS, Row};
use super::params::{Params, Site};
use super::program::{Instruction, Program, STREAM, check_stream};
use super::shape::{Extent, Symbols};
use super::weights::seen_shape;
use crate::blocks::Scope;
use crate::config::{BlockSpec, CustomOp, nearest, nearest_hint};

/// A block that is being planned.
pub struct Planner<'a, 'p> {
    pub(super) spec: &'a BlockSpec,
    pub(super) scope: &'a mut Scope<'p>,
    pub(super) symbols: Symbols,
    pub(super) extent: Extent,
    pub(super) failed: bool,
    /// What each name means at this point.
    names: HashMap<&'a str, usize>,
    /// The shape of each slot, where it is known.
    shapes: Vec<Option<Dims>>,
    instructions: Vec<Instruction>,
}

impl<'a, 'p> Planner<'a, 'p> {
    /// Plans the block `spec`.
    pub fn plan(spec: &'a BlockSpec, scope: &'a mut Scope<'p>) -> Option<Custom> {
        let heads = spec.heads.and_then(|h| usize::try_from(h).ok()).unwrap_or(0).max(1);
        let extent = Extent { batch: scope.batch.max(1), seq: scope.seq_len };
        let mut planner = Self {
            symbols: Symbols { dim: scope.dim, vocab: scope.vocab, heads },
            shapes: vec![Some(vec![extent.batch * extent.seq, scope.dim])],
            names: HashMap::new(),
            instructions: Vec::new(),
            failed: false,
            spec,
            scope,
            extent,
        };
        planner.check_presence();
        let weights = planner.weights();
        for (slot, weight) in spec.weights.iter().enumerate() {
            planner.names.insert(&weight.name, slot + 1);
        }
        planner
            .shapes
            .extend(weights.iter().map(|w| w.as_ref().map(|w| seen_shape(&w.shape).into())));
        planner.names.insert("x", STREAM);
        spec.ops.iter().enumerate().for_each(|(index, op)| planner.op(index, op));
        let program = planner.program()?;
        planner.check_other_batches(&program);
        planner.warn(&program);
        (!planner.failed).then_some(())?;
        let weights = weights.into_iter().collect::<Option<Vec<_>>>()?;
        Some(Custom {
            name: spec.name.clone().unwrap_or_default(),
            weights,
            program,
            planned: extent,
        })
    }

    pub(super) fn refuse(&mut self, field: &str, fault: Fault) {
        self.failed = true;
        self.scope.error(field, fault.message, fault.hint);
    }

    /// The parts that a block must have.
    fn check_presence(&mut self) {
        let BlockSpec { name, weights, ops, .. } = self.spec;
        let parts = [
            ("name", name.as_deref().unwrap_or("").trim().is_empty(), "`\"name\": \"…\"`"),
            (
                "weights",
                weights.is_empty(),
                "`\"weights\": [{\"name\": \"w\", \"shape\": [\"D\", \"D\"]}]`",
            ),
            (
                "ops",
                ops.is_empty(),
                "`\"ops\": [{\"op\": …, \"inputs\": [\"x\", …], \"output\": \"x\"}]`",
            ),
        ];
        for (field, missing, example) in parts {
            if missing && !self.scope.is_bad(field) {
                let message = format!("a `custom` block needs `{field}`");
                self.refuse(field, Fault::new(message, format!("add {example}")));
            }
        }
    }

    fn op(&mut self, index: usize, op: &'a CustomOp) {
        let path = format!("ops[{index}]");
        let row = self.row(&path, op);
        let params = row.and_then(|row| self.params(&path, op, row));
        let inputs = self.inputs(&path, op, row);
        let outputs = self.outputs(&path, op, row);
        let instruction = row.zip(params).zip(inputs).map(|((row, params), inputs)| {
            let outputs = (self.shapes.len()..).take(row.outputs).collect();
            Instruction { op: row.name(), params, inputs, outputs }
        });
        let shapes = instruction.as_ref().and_then(|i| self.output_shapes(&path, op, i));
        for (n, name) in outputs.iter().enumerate() {
            self.names.insert(name, self.shapes.len());
            self.shapes.push(shapes.as_ref().and_then(|shapes| shapes.get(n).cloned()));
        }
        self.failed |= instruction.is_none();
        self.instructions.extend(instruction);
    }

    fn row(&mut self, path: &str, op: &CustomOp) -> Option<&'static Row> {
        let field = format!("{path}.op");
        if self.scope.is_bad(&field) {
            return None;
        }
        let row = Row::find(&op.op);
        if row.is_none() {
            let known: Vec<_> = ROWS.iter().map(Row::name).collect();
            let hint = nearest_hint(&op.op, "operations", &known);
            self.refuse(&field, Fault::new(format!("there is no operation `{}`", op.op), hint));
        }
        row
    }

    fn params(&mut self, path: &str, op: &CustomOp, row: &'static Row) -> Option<Params> {
        match Params::read(row.params, &op.params, &self.symbols) {
            Ok(params) => Some(params),
            Err(wrong) => {
                for mistake in wrong {
                    let dot = if mistake.key.is_empty() { "" } else { "." };
                    let field = format!("{path}.params{dot}{}", mistake.key);
                    let message = format!("`{}`: {}", row.name(), mistake.fault.message);
                    self.refuse(&field, Fault { message, hint: mistake.fault.hint });
                }
                None
            }
        }
    }

    /// The slots that the operation reads, if their number is right and all are known.
    fn inputs(&mut self, path: &str, op: &CustomOp, row: Option<&Row>) -> Option<Vec<usize>> {
        let mut slots = Vec::new();
        for (n, name) in op.inputs.iter().enumerate() {
            match self.names.get(name.as_str()) {
                Some(slot) => slots.push(*slot),
                None => self.refuse(&format!("{path}.inputs[{n}]"), self.undefined(name)),
            }
        }
        let row = row?;
        let (found, most) = (op.inputs.len(), row.inputs.len());
        if !(row.least_inputs()..=most).contains(&found) {
            let message = format!("`{}` has `{found}` inputs", row.name());
            let hint = match row.inputs {
                [] => "it takes none".to_owned(),
                names => format!("it takes {}", names.join(", ")),
            };
            self.refuse(&format!("{path}.inputs"), Fault::new(message, hint));
            return None;
        }
        (slots.len() == found).then_some(slots)
    }

    fn undefined(&self, name: &str) -> Fault {
        let written_by = |op: &CustomOp| output_names(op).any(|output| output == name);
        let hint = match self.spec.ops.iter().position(written_by) {
            Some(op) => format!("`ops[{op}]` writes it, which comes later"),
            None => match nearest(name, self.names.keys().copied()) {
                Some(found) => format!("did you mean `{found}`?"),
                None => {
                    "inputs are `x`, weights of this block and results of earlier operations".into()
                }
            },
        };
        Fault::new(format!("nothing is called `{name}` at this point"), hint)
    }

    /// The names that the operation writes; as many as were given, whether or not they fit.
    fn outputs(&mut self, path: &str, op: &'a CustomOp, row: Option<&Row>) -> Vec<&'a str> {
        let names: Vec<&str> = output_names(op).collect();
        let field = if op.outputs.is_empty() { "output" } else { "outputs" };
        let expected = row.map_or(names.len().max(1), |row| row.outputs);
        let name = &op.op;
        if names.iter().any(|name| name.is_empty()) {
            let fault = Fault::new(format!("`{name}` has an output without a name"), "name it");
            self.refuse(&format!("{path}.{field}"), fault);
        } else if names.len() != expected {
            let message = format!("`{name}` names `{}` outputs and has `{expected}`", names.len());
            let hint = match expected {
                1 => "give one name as `output`",
                _ => "give the names of all its results as `outputs`",
            };
            self.refuse(&format!("{path}.{field}"), Fault::new(message, hint));
        }
        names
    }

    /// The shapes of the results, if those of the inputs are known and fit.
    fn output_shapes(&mut self, path: &str, op: &CustomOp, i: &Instruction) -> Option<Vec<Dims>> {
        let inputs: Option<Vec<Dims>> =
            i.inputs.iter().map(|slot| self.shapes[*slot].clone()).collect();
        let inputs = inputs?;
        match i.shapes(self.extent, &inputs) {
            Ok(shapes) => {
                self.warn_of_other_reading(path, op, i, &inputs);
                Some(shapes)
            }
            Err(fault) => {
                self.refuse(path, fault);
                None
            }
        }
    }

    /// Four named integers of a slice also have a meaning by position, to mixlab 0.10.1.
    fn warn_of_other_reading(
        &mut self,
        path: &str,
        op: &CustomOp,
        i: &Instruction,
        inputs: &[Dims],
    ) {
        const COLLECTED: [&str; 4] = ["axis", "start", "end", "step"];
        let row = Row::find("slice").expect("the table has it");
        if i.op != row.name() || !COLLECTED.iter().all(|name| op.params.contains_key(*name)) {
            return;
        }
        let params = i.params.renamed(&COLLECTED, &["start", "end", "step", "axis"]);
        let site = Site { params: &params, extent: self.extent };
        if (row.shapes)(&site, inputs).is_ok() {
            let message = "`slice` reads these four by name; mixlab 0.10.1 takes axis, start, end, step for start, end, step, axis: give those as `axes` if you want that, or leave out `step` if it is 1";
            self.scope.warn(&format!("{path}.params"), message);
        }
    }

    /// The program, if nothing was wrong.
    fn program(&mut self) -> Option<Program> {
        let stream = self.names["x"];
        if let Some(Err(fault)) =
            self.shapes[stream].as_ref().map(|s| check_stream(s, self.extent, self.symbols.dim))
        {
            self.refuse("ops", fault);
        }
        let spec = self.spec;
        let mut rewrites = Vec::new();
        for (index, weight) in spec.weights.iter().enumerate() {
            let slot = self.names[weight.name.as_str()];
            let is_last = spec.weights.iter().rposition(|w| w.name == weight.name) == Some(index);
            if weight.name != "x" && is_last && slot > spec.weights.len() {
                self.check_rewrite(&weight.name, index, slot);
                rewrites.push((index, slot));
            }
        }
        (!self.failed).then_some(())?;
        let weights = self.shapes[1..=spec.weights.len()].iter().cloned().collect::<Option<_>>()?;
        Some(Program {
            instructions: std::mem::take(&mut self.instructions),
            dim: self.symbols.dim,
            weights,
            slots: self.shapes.len(),
            stream,
            rewrites,
        })
    }

    /// A weight that is written keeps its shape, since other blocks that share it read it.
    fn check_rewrite(&mut self, name: &str, index: usize, slot: usize) {
        let (Some(old), Some(new)) = (&self.shapes[index + 1], &self.shapes[slot]) else { return };
        if old == new {
            return;
        }
        let message = format!("`{name}` is a weight of shape {old:?}, and is written as {new:?}");
        let hint = "give the result a name of its own";
        self.refuse("ops", Fault::new(message, hint));
    }

    /// Evaluation and generation use batches of other sizes.
    fn check_other_batches(&mut self, program: &Program) {
        for batch in [1, self.extent.batch + 1] {
            let Err(refusal) = program.check(Extent { batch, ..self.extent }) else { continue };
            let field = refusal.op.map_or("ops".to_owned(), |op| format!("ops[{op}]"));
            let message = format!(
                "fits the training batch of `{}` rows, but none of `{batch}`: {}",
                self.extent.batch, refusal.fault.message
            );
            let hint = "write sizes that depend on the batch as `B` or `BT`";
            self.refuse(&field, Fault::new(message, hint));
            return;
        }
    }

    fn warn(&mut self, program: &Program) {
        if program.stream == STREAM {
            self.scope.warn("ops", "no operation writes `x`: this block has no effect");
        }
        let live = program.live();
        let dead: Vec<_> = live.iter().enumerate().filter(|(_, live)| !**live).collect();
        if !dead.is_empty() {
            let named = |(index, _): &(usize, &bool)| {
                format!("ops[{index}] `{}`", program.instructions[*index].op)
            };
            let list: Vec<_> = dead.iter().map(named).collect();
            let message =
                format!("these operations never reach `x` and are not run: {}", list.join(", "));
            self.scope.warn("ops", message);
        }
    }
}

/// What an operation writes: `outputs`, or else `output`.
fn output_names(op: &CustomOp) -> impl Iterator<Item = &str> {
    let only = op.output.as_deref().filter(|_| op.outputs.is_empty());
    op.outputs.iter().map(String::as_str).chain(only)
}
