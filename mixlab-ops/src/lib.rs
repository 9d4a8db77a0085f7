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
//! So a model written against [`Backend`] trains, runs and describes itself without a second
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

mod activation;
mod adamw;
mod attention;
mod cross_entropy;
mod embedding;
mod fading_max;
mod gradient_norm;
mod linear;
mod matrix_scan;
mod muon;
mod retention;
mod rms_norm;
mod rope;
mod scan;
mod scan_from;
mod scan_tv;
mod xsa;

pub use activation::{Activate, ActivateGradient, Activation, Gate, GateGradient, activate, gated};
pub use adamw::{AdamW, Rates, adamw};
pub use attention::{Attention, AttentionGradient, attention, full_attention};
pub use cross_entropy::{CrossEntropy, CrossEntropyGradient, capped_cross_entropy, cross_entropy};
pub use embedding::{Embedding, EmbeddingGradient, embedding};
pub use fading_max::{FadingMax, fading_max};
pub use gradient_norm::{ClipFactor, SquareSum, clip_factor};
pub use linear::{Linear, LinearGradient, Precision, linear, linear_to};
pub use matrix_scan::{MatrixScan, MatrixScanGradient, matrix_scan};
pub use muon::{Momentum, MuonStep, Orthogonalize, momentum, muon_step, orthogonalize};
pub use op::{Backend, Op, Spec, Tape};
pub(crate) use plumbing::{all, run};
pub use plumbing::{fallbacks, lift, lower};
pub use retention::{Retention, RetentionGradient, retention};
pub use rms_norm::{RmsNorm, RmsNormGradient, rms_norm, rms_norm_to};
pub use rope::{Rope, rope};
pub use scan::{Scan, ScanGradient, scan};
pub use scan_from::{
    Recurrence, ScanFrom, ScanFromGradient, matrix_scan_from, scan_from, scan_tv_from,
};
pub use scan_tv::{ScanTv, ScanTvGradient, scan_tv};
pub use xsa::{Xsa, XsaGradient, xsa};

#[cfg(all(test, feature = "cpu"))]
mod testing;
