//! What can go wrong on the way to an ONNX file.

use std::path::PathBuf;

use mixlab_ops::capture::CaptureError;

use crate::weights::WeightError;

/// Why there is no ONNX file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// The forward could not be captured.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The forward could not be captured at these sizes of the dynamic axes.
    #[error(
        "where {sizes}: {source}\n  \
         hint: dynamic axes are captured at lengths of 3 to 37; where that fails of 2 to 8, of 61 to 107, of \
         61 to 1800, and of multiples of powers of two; make an axis a fixed size that cannot have any of \
         these"
    )]
    Sizes {
        /// The sizes.
        sizes: String,
        /// Why not.
        source: CaptureError,
    },
    /// More dynamic axes than there are lengths to tell them apart by.
    #[error(
        "{0} dynamic axes are too many: at most {1} can be told apart\n  hint: fix some of them"
    )]
    Axes(usize, usize),
    /// Two values of the graph have the same name.
    #[error("the {} and the {} are both called `{name}`\n  hint: give one of them another name", .roles[0], .roles[1])]
    Name {
        /// The name.
        name: String,
        /// What they are: `input`, `output` or `parameter`.
        roles: [&'static str; 2],
    },
    /// The forward does something else for other sizes.
    #[error(
        "the forward takes another course where {sizes}: there it has {found}, and elsewhere {expected}\n  \
         hint: a graph has one course; make the axis a fixed size, or let the forward neither branch on it \
         nor loop over it"
    )]
    Structure {
        /// The sizes at which it does.
        sizes: String,
        /// The first operation that is another, and its place.
        found: String,
        /// What is elsewhere in its stead.
        expected: String,
    },
    /// A size is no sum of products of the dynamic axes, or of quotients of such sums.
    #[error(
        "{what} of `{operation}` in {part} is {found:?} where the axes are {sizes}, which is no sum \
         of products of axes, nor of what whole numbers up to 64 divide them to\n  \
         hint: make an axis a fixed size"
    )]
    Extent {
        /// Which size of the operation.
        what: String,
        /// The operation.
        operation: String,
        /// The part of the model.
        part: String,
        /// Its values at the first sizes that it was captured at.
        found: Vec<i64>,
        /// These sizes.
        sizes: String,
    },
    /// An operation has no counterpart here.
    #[error(
        "`{operation}`{shapes} in {part} cannot be exported: {reason}\n  \
         hint: write it with other operations of Burn, or with an op that has such a reference"
    )]
    Unsupported {
        /// The operation, as the program lists it.
        operation: String,
        /// Type and shape of what it reads and makes, at the first of the sizes; empty for a constant.
        shapes: String,
        /// The part of the model, and the weight next to the operation.
        part: String,
        /// Why not.
        reason: String,
    },
    /// No input has an axis that the graph must know the length of.
    #[error(
        "no input has the axis `{axis}`, and the graph depends on its length\n  \
         hint: declare an input with that axis"
    )]
    Axis {
        /// Its name.
        axis: String,
    },
    /// The model cannot be exported in the way that was asked for.
    #[error("{0}")]
    Model(String),
    /// A parameter of the graph is not in the module that has the weights.
    #[error(
        "the module with the weights has no parameter `{0}` of the shape that was traced\n  \
         hint: trace and write the same module"
    )]
    Weight(String),
    /// What has the weights could not give one.
    #[error(transparent)]
    Source(#[from] WeightError),
    /// The file system refused.
    #[error("cannot write `{}`: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}
