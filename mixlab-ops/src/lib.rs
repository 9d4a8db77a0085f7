//! The vocabulary of language models that Burn lacks, as differentiable operations.
//!
//! An operation here is one struct that implements [`Op`]: its attributes are the fields, and its
//! *reference* — ordinary Burn tensor code — is the definition that everything else is tested
//! against. [`Backend::execute`] runs any of them:
//!
//! | backend | what `execute` does |
//! |---|---|
//! | `CubeBackend<R>`, `Fusion<…>` of it | the op's [kernels](Op::cube) if it has some, else the reference |
//! | burn-flex | the op's fused [body](Op::cpu) if it has one, else the reference |
//! | ndarray, candle | the reference, with Burn's own operations |
//! | `Autodiff<B>` | the op's hand-written gradient if it has one, else autodiff of the reference |
//! | [`Capture`](capture::Capture) | records one named node and computes nothing |
//!
//! Before anything runs, `execute` checks that the op takes its inputs: their shapes and types by the
//! op's rule ([`Op::outputs`]), with a panic that names the op, its inputs and what does not fit. An
//! index out of range reads and writes nothing, on every backend. So no call of a function here is
//! undefined behaviour.
//!
//! A model written against [`Backend`] trains, runs and describes itself without a second
//! statement of its mathematics. This crate knows nothing of JSON, blocks or files.
//!
//! Shapes use the letters of the field: `B` batch, `T` sequence, `N = B·T` rows, `D` width,
//! `H` query heads, `Hk` key/value heads, `hd` head width, `V` vocabulary.
//!
//! ```
//! # #[cfg(feature = "cpu")] {
//! use burn::tensor::{Tensor, Tolerance};
//! use burn_flex::Flex;
//!
//! let device = Default::default();
//! let x = Tensor::<Flex, 2>::from_floats([[3.0, 4.0]], &device);
//! let scale = Tensor::<Flex, 1>::from_floats([1.0, 2.0], &device);
//! let y = mixlab_ops::rms_norm(x, scale, 0.0);
//! let rms = 12.5f32.sqrt();
//! y.into_data().assert_approx_eq::<f32>(&[[3.0 / rms, 8.0 / rms]].into(), Tolerance::default());
//! # }
//! ```
#![warn(missing_docs)]

pub mod capture;
mod op;
mod plumbing;
mod shape;

mod activation;
mod adamw;
mod attention;
mod cross_entropy;
mod dropout;
mod embedding;
mod gradient_norm;
mod insert;
mod linear;
mod muon;
mod rms_norm;
mod rope;
mod scan;
mod xsa;

pub use activation::{Activate, ActivateGradient, Activation, Gate, GateGradient, activate, gated};
pub use adamw::{AdamW, Rates, adamw};
pub use attention::{
    Attention, AttentionGradient, Retention, RetentionGradient, attention, full_attention,
    retention,
};
pub use cross_entropy::{CrossEntropy, CrossEntropyGradient, capped_cross_entropy, cross_entropy};
pub use dropout::{Dropout, dropout};
pub use embedding::{Embedding, EmbeddingGradient, embedding};
pub use gradient_norm::{ClipFactor, SquareSum, clip_factor};
pub use insert::{Insert, insert};
pub use linear::{Linear, LinearGradient, linear, linear_to};
pub use muon::{Momentum, MuonStep, Orthogonalize, momentum, muon_step, orthogonalize};
pub use op::{Backend, Op, Tape};
pub use plumbing::product::Precision;
pub(crate) use plumbing::{all, run};
pub use plumbing::{fallbacks, lift, lower};
pub use rms_norm::{RmsNorm, RmsNormGradient, rms_norm, rms_norm_to};
pub use rope::{Rope, rope};
pub use scan::{
    FadingMax, MatrixScan, MatrixScanGradient, Recurrence, Scan, ScanFrom, ScanFromGradient,
    ScanGradient, ScanTv, ScanTvGradient, fading_max, matrix_scan, matrix_scan_from, scan,
    scan_from, scan_tv, scan_tv_from,
};
pub use shape::{Axes, Mismatch, Spec, indices, same_type};
pub use xsa::{Xsa, XsaGradient, xsa};

#[cfg(all(test, feature = "cpu"))]
mod testing;
