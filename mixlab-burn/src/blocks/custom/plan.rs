//! What is written → [`Program`]: every name, count, parameter and shape is checked here, and all
//! mistakes are reported at once.

use std::collections::HashMap;

use super::Custom;
use super::declare::Declared;
use super::fault::Fault;
use super::ops::Dims;
use super::program::{Instruction, Program, STREAM, check_stream};
use super::shape::{Extent, Symbols};
use super::weights::seen_shape;
use crate::blocks::Scope;
use crate::config::{BlockSpec, Reported};

/// Fields of the config on which every shape depends.
const SIZES: [&str; 4] = ["model_dim", "vocab_size", "seq_len", "training.batch_tokens"];

/// Operations that a warning lists.
const LISTED: usize = 8;

/// Unknown names for which a likely one is looked for: more than are printed.
const LOOKS: usize = 100;

/// A block that is being planned.
pub struct Planner<'a, 'p> {
    pub(super) spec: &'a BlockSpec,
    pub(super) scope: &'a mut Scope<'p>,
    pub(super) symbols: Symbols,
    pub(super) extent: Extent,
    /// `Err` from the first mistake on.
    pub(super) sound: Result<(), Reported>,
    /// Unknown names that may still be looked up among the known ones.
    pub(super) looks: usize,
    /// What each name means at this point.
    pub(super) names: HashMap<&'a str, usize>,
    /// The shape of each slot, where it is known.
    pub(super) shapes: Vec<Option<Dims>>,
    pub(super) instructions: Vec<Instruction>,
}

impl<'a, 'p> Planner<'a, 'p> {
    /// Plans the block `spec`.
    ///
    /// Without the sizes of the model there would only be errors that follow from theirs.
    pub fn plan(spec: &'a BlockSpec, scope: &'a mut Scope<'p>) -> Result<Custom, Reported> {
        SIZES.iter().try_for_each(|field| scope.problems.check(field))?;
        let heads = spec.heads.and_then(|h| usize::try_from(h).ok()).unwrap_or(0).max(1);
        let extent = Extent { batch: scope.batch.max(1), seq: scope.seq_len };
        let mut planner = Self {
            symbols: Symbols { dim: scope.dim, vocab: scope.vocab, heads },
            shapes: vec![Some(vec![extent.batch * extent.seq, scope.dim])],
            names: HashMap::new(),
            instructions: Vec::new(),
            sound: Ok(()),
            looks: LOOKS,
            spec,
            scope,
            extent,
        };
        planner.check_presence();
        let weights = planner.weights();
        planner.name_weights(&weights);
        spec.ops.iter().enumerate().for_each(|(index, op)| planner.op(index, op));
        let mut program = planner.program()?;
        planner.check_other_batches(&program);
        let dead = program.prune();
        planner.warn(&program, &dead);
        planner.sound?;
        let weights = weights.into_iter().collect::<Result<_, _>>()?;
        let name = spec.name.clone().unwrap_or_default();
        Ok(Custom { heads, ..Custom::new(name, weights, program, dead, extent) })
    }

    /// Weights come after the stream, and nothing takes the name `x` from it.
    fn name_weights(&mut self, weights: &[Result<Declared, Reported>]) {
        for (weight, declared) in self.spec.weights.iter().zip(weights) {
            self.names.insert(&weight.name, self.shapes.len());
            let seen = declared.as_ref().ok().map(|declared| seen_shape(&declared.shape).into());
            self.shapes.push(seen);
        }
        self.names.insert("x", STREAM);
    }

    pub(super) fn refuse(&mut self, field: &str, fault: Fault) -> Reported {
        let reported = self.scope.error(field, fault.message, fault.hint);
        self.sound = Err(reported);
        reported
    }

    /// [`Scope::check`], after which the block can no longer be planned if it fails.
    pub(super) fn check(&mut self, field: &str) -> Result<(), Reported> {
        let checked = self.scope.check(field);
        self.sound = self.sound.and(checked);
        checked
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

    /// The program, if nothing was wrong.
    fn program(&mut self) -> Result<Program, Reported> {
        let stream = self.names["x"];
        if let Some(Err(fault)) =
            self.shapes[stream].as_ref().map(|s| check_stream(s, self.extent, self.symbols.dim))
        {
            self.refuse("ops", fault);
        }
        let spec = self.spec;
        let numbered = spec.weights.iter().enumerate();
        let last: HashMap<_, _> = numbered.map(|(index, weight)| (&weight.name, index)).collect();
        let mut rewrites = Vec::new();
        for (index, weight) in spec.weights.iter().enumerate() {
            let slot = self.names[weight.name.as_str()];
            if weight.name != "x" && last[&weight.name] == index && slot > spec.weights.len() {
                self.check_rewrite(&weight.name, index, slot);
                rewrites.push((index, slot));
            }
        }
        self.sound?;
        let weights = self.shapes[1..=spec.weights.len()].iter().flatten().cloned().collect();
        Ok(Program {
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

    fn warn(&mut self, program: &Program, dead: &[Instruction]) {
        if program.stream == STREAM {
            self.scope.warn("ops", "no operation writes `x`: this block has no effect");
        }
        if !dead.is_empty() {
            let list: Vec<_> = dead.iter().take(LISTED).map(Instruction::place).collect();
            let (list, more) = (list.join(", "), if dead.len() > LISTED { " …" } else { "" });
            let message = format!("these operations never reach `x` and are not run: {list}{more}");
            self.scope.warn("ops", message);
        }
    }
}
