//! `custom`: a block that the config itself programs, as a list of operations on named values.
//!
//! ```text
//! x ← the last value that an operation writes to `x`
//! ```
//!
//! Names are `x` (the residual stream `[BT, D]`), the block's own weights, and results of earlier
//! operations. Nothing is added to the stream unless an operation adds it, and writing to `x`
//! replaces it. Sizes are symbols (see [`shape`]); the operations are rows of one table (see
//! [`ops`]).
//!
//! Worth knowing: a weight of one axis starts at zero, whatever it is for, and operations see it as
//! one row `[1, n]`; so does one of three or more axes, which only exists as a `…_scale`, because no
//! other optimizer group takes it. `FFN` is `⌊2.67·D⌋` whatever `mlp_mult` is. A result that is
//! written under the name of a weight stands for that weight until the end of the forward pass, in
//! later blocks that share it too. Operations whose results never reach `x` are checked, reported
//! and not run.
//!
//! Shapes are checked when the config is planned, for the training batch and for smaller and larger
//! ones, and are the same functions of `B` and `T` in any batch. Sequences of another length than
//! `seq_len` may be impossible, for instance with a weight of `T` rows: ask
//! [`Plan::supports`](crate::plan::Plan::supports).
//!
//! ```json
//! {
//!     "type": "custom",
//!     "name": "gated residual",
//!     "weights": [
//!         {"name": "norm_scale", "shape": ["D"]},
//!         {"name": "w_up", "shape": ["D", "2D"]},
//!         {"name": "w_down", "shape": ["D", "D"]}
//!     ],
//!     "ops": [
//!         {"op": "rmsnorm", "inputs": ["x", "norm_scale"], "output": "n", "params": {"eps": 1e-5}},
//!         {"op": "matmul", "inputs": ["n", "w_up"], "output": "up"},
//!         {"op": "slice", "inputs": ["up"], "output": "gate", "params": {"axis": 1, "end": "D"}},
//!         {"op": "slice", "inputs": ["up"], "output": "value", "params": {"axis": 1, "start": "D"}},
//!         {"op": "silu", "inputs": ["gate"], "output": "gate"},
//!         {"op": "mul", "inputs": ["gate", "value"], "output": "y"},
//!         {"op": "matmul", "inputs": ["y", "w_down"], "output": "y"},
//!         {"op": "add", "inputs": ["x", "y"], "output": "x"}
//!     ]
//! }
//! ```

pub mod along;
mod declare;
mod fault;
mod operation;
pub mod ops;
mod params;
mod plan;
mod program;
mod run;
pub mod shape;
mod weights;

use burn::tensor::{Tensor, backend::Backend};
use mixlab_ops::{lift, lower};

use super::{Block, Flow, Scope, Time};
use crate::config::{BlockSpec, Reported};

pub use along::Outlook;
pub use declare::Declared;
pub use fault::Fault;
pub use params::{Misplaced, Param, ParamKind, Params, Presence, Site};
pub use program::{Instruction, Program, Refusal};
use run::{Run, Shapes};
pub use shape::Extent;
pub use weights::{CustomWeights, NamedParam, Ranked};

/// A planned `custom` block.
#[derive(Clone, Debug, PartialEq)]
pub struct Custom {
    name: String,
    heads: usize,
    weights: Vec<Declared>,
    program: Program,
    dead: Vec<Instruction>,
    outlook: Outlook,
    shapes: Shapes,
}

impl Custom {
    /// The block called `name`, of one head, with operations that fit `planned`, and those that are not run.
    fn new(
        name: String,
        weights: Vec<Declared>,
        program: Program,
        dead: Vec<Instruction>,
        planned: Extent,
    ) -> Self {
        let outlook = Outlook::of(&program, planned.seq);
        let shapes = Shapes::default();
        shapes.at(&program, planned).expect("planning has checked the extent of training");
        Self { name, heads: 1, weights, program, dead, outlook, shapes }
    }

    /// Its name in the config, for listings.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The operations that are run, in order.
    pub fn operations(&self) -> &[Instruction] {
        &self.program.instructions
    }

    /// The operations and the slots that they read and write.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Index and name of each operation whose result never reaches `x`, so that it is not run.
    pub fn dead(&self) -> Vec<(usize, &'static str)> {
        self.dead.iter().map(|i| (i.index, i.name())).collect()
    }

    /// What the operations do along T.
    pub fn outlook(&self) -> &Outlook {
        &self.outlook
    }

    /// Whether the block can run on `batch` rows of `seq` tokens. Any number of rows is possible
    /// with the length that it was planned for.
    ///
    /// # Errors
    /// With the first operation whose shapes do not fit.
    pub fn fits(&self, batch: usize, seq: usize) -> Result<(), Refusal> {
        self.program.check(Extent { batch, seq })
    }
}

impl Block for Custom {
    type Weights<B: Backend> = CustomWeights<B>;

    fn types() -> Vec<&'static str> {
        vec!["custom"]
    }

    fn plan(spec: &BlockSpec, scope: &mut Scope<'_>) -> Result<Self, Reported> {
        plan::Planner::plan(spec, scope)
    }

    fn time(&self) -> Time {
        match &self.outlook {
            Outlook { ahead: Some(_), .. } => Time::Whole,
            Outlook { rows: Some(_), .. } => Time::Causal,
            _ => Time::Streaming,
        }
    }

    fn heads(&self) -> Option<usize> {
        Some(self.heads)
    }

    fn init<B: Backend>(&self, device: &B::Device) -> CustomWeights<B> {
        let param = |w: &Declared| NamedParam::zeros(&w.name, &w.shape, device);
        CustomWeights { params: self.weights.iter().map(param).collect() }
    }

    fn looks_ahead(&self) -> Option<String> {
        self.outlook.ahead.clone()
    }

    fn supports(&self, seq: usize) -> Result<(), String> {
        let fits = [1, 2].into_iter().try_for_each(|batch| self.fits(batch, seq));
        fits.map_err(|refusal| match refusal.op {
            Some(op) => format!("ops[{op}]: {}", refusal.fault.message),
            None => refusal.fault.message,
        })
    }

    /// # Panics
    /// If [`Block::supports`] refuses rows of this length.
    fn forward<B: mixlab_ops::Backend>(
        &self,
        weights: &CustomWeights<B>,
        x: Tensor<B, 2>,
        flow: &mut Flow<B>,
    ) -> Tensor<B, 2> {
        let extent = Extent { batch: flow.batch, seq: flow.seq };
        let shapes = self.shapes.at(&self.program, extent);
        let shapes =
            shapes.expect("a caller asks the plan whether it supports rows of this length");
        let read = |(index, param): (usize, &NamedParam<B>)| {
            flow.rewritten(index).unwrap_or_else(|| param.matrix())
        };
        let weights = weights.params.iter().enumerate().map(read).collect();
        let at = Run { shapes: &shapes, remembers: &self.outlook.remembers };
        lift(self.program.run(lower(x), weights, at, flow))
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests;
