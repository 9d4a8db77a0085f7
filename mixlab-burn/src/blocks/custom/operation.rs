//! One operation of a `custom` block, checked: its name, parameters, inputs, outputs and shapes.

use super::fault::Fault;
use super::ops::{Dims, ROWS, Row};
use super::params::{Params, Site, is_idle};
use super::plan::Planner;
use super::program::Instruction;
use crate::config::{CustomOp, Reported, nearest, nearest_hint};
use crate::plan::MAX_ELEMENTS;

impl<'a> Planner<'a, '_> {
    /// Plans one operation, and gives its outputs their names.
    pub(super) fn op(&mut self, index: usize, op: &'a CustomOp) {
        let path = format!("ops[{index}]");
        let row = self.row(&path, op);
        let readable = self.check(&format!("{path}.params"));
        let params = readable.and(row).and_then(|row| self.params(&path, op, row));
        let inputs = self.inputs(&path, op, row);
        let outputs = self.outputs(&path, op, row);
        let instruction = row.ok().zip(params.ok()).zip(inputs.ok());
        let instruction = instruction.map(|((row, params), inputs)| {
            let outputs = self.shapes.len()..self.shapes.len() + row.outputs;
            let row = Row::number(row.name()).expect("the row is in the table");
            Instruction { index, row, params, inputs, outputs }
        });
        let shapes = instruction.as_ref().and_then(|i| self.output_shapes(&path, op, i));
        for (n, name) in outputs.iter().enumerate() {
            self.names.insert(name, self.shapes.len());
            self.shapes.push(shapes.as_ref().and_then(|shapes| shapes.get(n).cloned()));
        }
        self.instructions.extend(instruction);
    }

    fn row(&mut self, path: &str, op: &CustomOp) -> Result<&'static Row, Reported> {
        let field = format!("{path}.op");
        self.check(&field)?;
        Row::find(&op.op).ok_or_else(|| {
            let known: Vec<_> = ROWS.iter().map(Row::name).collect();
            let hint = nearest_hint(&op.op, "operations", &known);
            self.refuse(&field, Fault::new(format!("there is no operation `{}`", op.op), hint))
        })
    }

    fn params(&mut self, path: &str, op: &CustomOp, row: &'static Row) -> Result<Params, Reported> {
        let mut written = op.params.clone();
        written.retain(|key, _| !is_idle(row, key));
        for key in op.params.keys().filter(|key| !written.contains_key(*key)) {
            let message = format!("`{}` has no parameter `{key}`, which has no effect", row.name());
            self.scope.warn(&format!("{path}.params.{key}"), message);
        }
        Params::read(row.params, &written, &self.symbols).map_err(|wrong| {
            for mistake in wrong {
                let dot = if mistake.key.is_empty() { "" } else { "." };
                let field = format!("{path}.params{dot}{}", mistake.key);
                let message = format!("`{}`: {}", row.name(), mistake.fault.message);
                self.refuse(&field, Fault { message, hint: mistake.fault.hint });
            }
            self.sound.expect_err("parameters are refused for a reason")
        })
    }

    /// The slots that the operation reads, if their number is right and all are known.
    fn inputs(
        &mut self,
        path: &str,
        op: &CustomOp,
        row: Result<&Row, Reported>,
    ) -> Result<Vec<usize>, Reported> {
        let slots: Vec<_> = (0..op.inputs.len()).map(|n| self.input(path, op, n)).collect();
        let row = row?;
        self.check(&format!("{path}.inputs"))?;
        let (found, most) = (op.inputs.len(), row.inputs.len());
        if !(row.least_inputs()..=most).contains(&found) {
            let message = format!("`{}` has `{found}` inputs", row.name());
            let hint = match row.inputs {
                [] => "it takes none".to_owned(),
                names => format!("it takes {}", names.join(", ")),
            };
            return Err(self.refuse(&format!("{path}.inputs"), Fault::new(message, hint)));
        }
        slots.into_iter().collect()
    }

    /// The slot of input `n`.
    fn input(&mut self, path: &str, op: &CustomOp, n: usize) -> Result<usize, Reported> {
        let name = op.inputs[n].as_str();
        if let Some(slot) = self.names.get(name) {
            return Ok(*slot);
        }
        let field = format!("{path}.inputs[{n}]");
        self.check(&field)?;
        let fault = self.undefined(name);
        Err(self.refuse(&field, fault))
    }

    fn undefined(&mut self, name: &str) -> Fault {
        let hint = self.meant(name).unwrap_or_else(|| {
            "inputs are `x`, weights of this block and results of earlier operations".into()
        });
        Fault::new(format!("nothing is called `{name}` at this point"), hint)
    }

    /// What an unknown name could have meant. Each answer takes a look at all names, so that there
    /// are only so many.
    fn meant(&mut self, name: &str) -> Option<String> {
        self.looks = self.looks.checked_sub(1)?;
        let written_by = |op: &CustomOp| output_names(op).any(|output| output == name);
        if let Some(op) = self.spec.ops.iter().position(written_by) {
            return Some(format!("`ops[{op}]` writes it, which comes later"));
        }
        let found = nearest(name, self.names.keys().copied())?;
        Some(format!("did you mean `{found}`?"))
    }

    /// The names that the operation writes; as many as were given, whether or not they fit.
    fn outputs(
        &mut self,
        path: &str,
        op: &'a CustomOp,
        row: Result<&Row, Reported>,
    ) -> Vec<&'a str> {
        let names: Vec<&str> = output_names(op).collect();
        let field = if op.outputs.is_empty() { "output" } else { "outputs" };
        let expected = row.map_or(names.len().max(1), |row| row.outputs);
        let name = &op.op;
        let checked: Result<(), _> = ["output", "outputs"]
            .iter()
            .try_for_each(|field| self.check(&format!("{path}.{field}")));
        if checked.is_err() {
            // Reported when it was read.
        } else if names.iter().any(|name| name.is_empty()) {
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
        match i.shapes(self.extent, &inputs, MAX_ELEMENTS) {
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
        if i.name() != row.name() || !COLLECTED.iter().all(|name| op.params.contains_key(*name)) {
            return;
        }
        let params = i.params.renamed(&COLLECTED, &["start", "end", "step", "axis"]);
        let site = Site { params: &params, extent: self.extent };
        if (row.shapes)(&site, inputs).is_ok() {
            let message = "`slice` reads these four by name; mixlab 0.10.1 takes axis, start, end, step for start, end, step, axis: give those as `axes` if you want that, or leave out `step` if it is 1";
            self.scope.warn(&format!("{path}.params"), message);
        }
    }
}

/// What an operation writes: `outputs`, or else `output`.
fn output_names(op: &CustomOp) -> impl Iterator<Item = &str> {
    let only = op.output.as_deref().filter(|_| op.outputs.is_empty());
    op.outputs.iter().map(String::as_str).chain(only)
}
