//! What a model consists of and what it costs, read off a captured forward pass.

mod counts;
mod diagram;
mod edges;
#[cfg(feature = "train")]
mod memory;
#[cfg(feature = "train")]
mod step;

use std::sync::Arc;

use mixlab_ops::capture::{CaptureError, Program, capture};

use crate::blocks::Block;
use crate::model::{Model, Tokens};
use crate::plan::Plan;

pub use counts::{Cost, Counts};
pub use diagram::diagram;
pub use edges::{Edge, edges};
#[cfg(feature = "train")]
pub use memory::Memory;
#[cfg(feature = "train")]
pub use step::{Step, Work};

/// Captures the forward of a plan's model on `[B, T]` tokens. Allocates no weights.
///
/// # Errors
/// If a block's forward reads values, which no description can follow.
pub fn describe<K: Block>(plan: &Arc<Plan<K>>, shape: [usize; 2]) -> Result<Program, CaptureError> {
    let program = capture(
        |device| Model::<_, K>::new(plan.clone(), device),
        |model, session| {
            let ids = session.input_int("input_ids", shape);
            let bigrams = plan.bigram.as_ref().map(|_| session.input_int("bigram_ids", shape));
            session.output("logits", model.forward(Tokens { ids, bigrams }));
        },
    )?;
    Ok(program.without_dead_nodes())
}
