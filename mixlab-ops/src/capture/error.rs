//! What can go wrong while a forward is recorded.

use thiserror::Error;

/// Why a capture gave no [`Program`](super::Program).
///
/// A misuse inside a forward cannot be returned from there (Burn's operations are infallible), so
/// it panics with the text of one of these; [`capture`](super::capture) catches that panic.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// Every device of the pool is taken by an open session.
    #[error(
        "all {limit} capture devices are in use; \
         hint: finish or drop a session before opening another one"
    )]
    Exhausted {
        /// How many sessions can be open at once.
        limit: u16,
    },
    /// A tensor or a device was used whose session is over, or that never had one.
    #[error(
        "a tensor or device of a capture was used that has no open session; hint: create tensors \
         on the device of the module's parameters or inputs, not on the default device, and keep \
         none of them after `Session::finish`"
    )]
    Closed,
    /// A tensor of one session reached an operation or an output of another one.
    #[error(
        "`{place}` got a tensor of another capture session; \
         hint: build the module and its inputs on the device of this session"
    )]
    ForeignTensor {
        /// The operation or output that got the tensor.
        place: String,
    },
    /// The forward asked for the numbers in a tensor, and there are none.
    #[error(
        "the forward reads the data of a tensor ({tensor}), but a capture computes nothing: \
         {message}; hint: control flow must not depend on values, use a mask instead; and sorting \
         reads data, where `topk` does not"
    )]
    DataRead {
        /// Its type and shape, the operation that made it, and the weight before that.
        tensor: String,
        /// The panic that followed.
        message: String,
    },
    /// The module or its forward panicked.
    #[error("the captured module panicked: {message}")]
    Panicked {
        /// The text of the panic.
        message: String,
    },
    /// Two inputs, outputs or parameters of one program have the same name.
    #[error("two {role}s are named `{name}`; hint: give each {role} a name of its own")]
    DuplicateName {
        /// `input`, `output` or `parameter`.
        role: &'static str,
        /// The name.
        name: String,
    },
    /// An operation reads a tensor that nothing in its session made.
    #[error(
        "`{place}` reads a tensor that no operation made; \
         hint: register operations with the tensors that others returned"
    )]
    Undefined {
        /// The operation or output that reads it.
        place: String,
    },
    /// An operation writes a tensor that exists already, as an operation's result or as a parameter.
    #[error(
        "`{operation}` makes a tensor that exists already; \
         hint: a parameter must not be one of several results of an operation that the forward uses"
    )]
    DefinedTwice {
        /// The operation.
        operation: String,
    },
}
