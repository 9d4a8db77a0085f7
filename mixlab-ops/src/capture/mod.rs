//! Capture: a Burn backend that writes down what a forward does instead of doing it.
//!
//! In Burn the `Backend` trait is the algebra that modules are written in, and each backend is one
//! way to read it: one computes on a GPU, one takes gradients, one fuses. [`Capture`] is one more
//! reading. It executes nothing; each operation is recorded as burn-ir describes it, and tensors
//! are numbers with a shape and a type. So the forward of *any* module that is generic over
//! `Backend`, from this project or another, becomes a [`Program`]: the same code that trains is the
//! source for counts, listings, diagrams and exported graphs, and nothing is stated a second time.
//!
//! [`capture`] does it in one call; a [`Session`] has the steps apart. Both give a program in which
//! every value is made once, parameters carry the names of the fields they are in, and the
//! operations that initialized them are left out. An [`Op`](crate::Op) stays one named node, which
//! keeps the op: [`Node::op`] gives it back, and [`Program::expanded`] puts Burn's operations in its
//! place. A forward may say which part of a model runs ([`Backend::enter`](crate::Backend::enter))
//! and what values are called, and then nodes and values know. Axes that may vary are found by capturing at several sizes:
//! [`Program::same_structure`] says whether the forwards agree, and then only shapes differ.
//!
//! What it cannot do: follow control flow that depends on values. A forward that reads a tensor's
//! data (`into_data`, `into_scalar`) ends with [`CaptureError::DataRead`]; an `if` on shapes or on
//! the configuration is followed as it falls. Quantized tensors do not exist here, nor do they on
//! the router that this builds on. Where a module does something else in training (dropout), it
//! sees a backend without gradients and does what it does in evaluation.
//!
//! Sessions are isolated and may run on many threads. A tensor belongs to its session: used in
//! another one or after the end it panics, naming the operation, and no program changes.
//!
//! Cost: some microseconds and about a kilobyte an operation. Parameters allocate nothing,
//! however large, because their initializers are only recorded; one made from data holds that data
//! until [`Session::params`] has seen it. Other data is kept once per content in the program, and
//! until [`Session::finish`] once per tensor.
//!
//! ```
//! use burn::nn::LinearConfig;
//! use mixlab_ops::capture::capture;
//!
//! let program = capture(
//!     |device| LinearConfig::new(4, 8).with_bias(false).init(device),
//!     |layer, session| {
//!         let x = session.input_float("x", [2, 4]);
//!         session.output("y", layer.forward(x).exp());
//!     },
//! )?;
//! assert_eq!(
//!     program.to_string(),
//!     "input %0 x: f32[2, 4]\n\
//!      parameter %1 weight: f32[4, 8]\n\
//!      %2: f32[2, 8] = linear(%0, %1)\n\
//!      %3: f32[2, 8] = exp(%2)\n\
//!      output y = %3\n"
//! );
//! # Ok::<(), mixlab_ops::capture::CaptureError>(())
//! ```

mod assemble;
mod client;
mod costs;
mod error;
mod expand;
mod ledger;
mod operations;
mod own;
mod program;
mod prune;
mod recording;
mod session;
mod slot;
#[cfg(test)]
mod tests;

pub use client::{Capture, CaptureChannel, CaptureClient, CaptureDevice, NoBridge};
pub(crate) use client::{enter, half, label};
pub use error::CaptureError;
pub use own::OwnOp;
pub(crate) use own::record;
pub use program::{Constant, Node, Origin, Parameter, Port, Program, Value, ValueId};
pub use session::{Captured, Session, capture, watch, watch_program};
