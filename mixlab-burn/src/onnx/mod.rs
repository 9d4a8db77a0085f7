//! Export to ONNX: of the language models of this crate, and of any module that is generic over
//! Burn's `Backend`.
//!
//! ```text
//! forward ─ trace ─► programs at several sizes ─ lower ─► graph ─ write ─► file
//! ```
//!
//! [`trace()`] captures the forward at several sizes of the axes that are to stay open, and solves each
//! length as a sum of products of them. Operations are then lowered one by one, with the names of the
//! module's fields for weights. No block and no module is described here: their forwards are all that
//! there is. An op of mixlab-ops, or of another crate, that has no lowering is exported by its
//! reference.
//!
//! [`trace_stateful`] makes what a model remembers inputs and outputs, so that a file reads a prompt and
//! then token by token: its [`Memory`](crate::blocks::Memory) is the one that cached generation uses.
//!
//! Files have operations of the default domain alone, of the opset of their [`Profile`], and functions that
//! consist of them: one for all blocks that compute the same. Recurrences are `Scan`s, which need at least
//! one token: onnxruntime fails on none, or ends. Files of language models fail before they come to it.

mod error;
mod extent;
mod file;
mod functions;
mod genai;
mod graph;
mod initializers;
mod language;
mod lower;
#[cfg(feature = "onnxruntime")]
mod parity;
mod place;
mod profile;
#[cfg(feature = "onnxruntime")]
mod runtime;
mod stateful;
#[cfg(all(test, feature = "cpu"))]
mod tests;
mod trace;
mod weights;

pub use error::OnnxError;
pub use file::{Options, Written, annotate, data_path, weight_type};
pub use genai::{Layers, genai_config, trace_genai};
pub use language::trace_model;
#[cfg(feature = "onnxruntime")]
pub use parity::{Parity, ParityError, parity};
pub use profile::Profile;
#[cfg(feature = "onnxruntime")]
pub use runtime::{Runtime, RuntimeError, load_runtime};
pub use stateful::{Kept, Length, memory_of, trace_stateful};
pub use trace::{Dim, Trace, Traced, trace};
pub use weights::WeightType;
