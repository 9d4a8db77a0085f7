//! The vocabulary of language models that Burn lacks, as differentiable operations.
//!
//! An operation here is one struct that implements [`Op`]: its attributes are the fields, and its
//! *reference* — ordinary Burn tensor code — is the definition that everything else is tested
//! against. [`Backend::execute`] runs any of them:
//!
//! | backend | what `execute` does |
//! |---|---|
//! | `CubeBackend<R>`, `Fusion<…>` of it | the op's kernels (`Op::cube`) if it has some, else the reference |
//! | burn-flex | the op's fused [body](Op::cpu) if it has one, else the reference |
//! | ndarray, candle, LibTorch | the reference, with Burn's own operations |
//! | `Router<(…)>` | the reference, on the backend where the inputs are |
//! | `Autodiff<B>` | the op's hand-written gradient if it has one, else autodiff of the reference |
//! | [`Capture`](capture::Capture) | records one named node and computes nothing |
//!
//! Before anything runs, `execute` checks that the op takes its inputs: their shapes and types by the
//! op's rule ([`Op::outputs`]), with a panic that names the op, its inputs and what does not fit. An
//! index out of range reads and writes nothing, on every backend. So no call of a function here is
//! undefined behaviour.
//!
//! Features name the backends: `cpu` (burn-flex), `ndarray`, `candle`, `tch`, `cuda`, `rocm`, `wgpu`
//! (Vulkan, Metal, WebGPU), and with any of the last three every `CubeBackend<R>`; with `cuda` comes
//! `Cuda`, Burn's backend with kernels compiled side by side. `Autodiff<…>`, `Fusion<…>` and
//! `Router<(…)>` of a backend that runs operations do too. A backend of your own takes one line, in the
//! crate that defines its type (Rust lets no other crate say it):
//! `impl mixlab_ops::Backend for Mine {}`. A backend of a third crate is wrapped in a type of yours, as
//! `tests/fresh-crate/src/counted.rs` of the repository wraps burn-flex.
//!
//! A model written against [`Backend`] trains, runs and describes itself without a second
//! statement of its mathematics. This crate knows nothing of JSON, blocks or files.
//!
//! # Operations
//!
//! Plain functions on Burn tensors; each page has equation, gradient, shapes and source. All but the
//! updates can be differentiated, on any backend; ◆ has a gradient written by hand, ▲ kernels for GPUs.
//!
//! | function | what it is | inputs → result | source | |
//! |---|---|---|---|---|
//! | [`fn@attention`], [`full_attention`] | softmax attention with grouped heads, causal or not; no `T × T` scores are kept | `[B, H, Tq, hd]`, `[B, Hk, Tk, hd]` twice → `[B, H, Tq, hd]` | Vaswani et al., 2017; Ainslie et al., 2023 | ◆▲ |
//! | [`retention`] | causal attention that fades with distance, normalised by softmax | the same, decay `[H]` → `[B, H, Tq, hd]` | Sun et al., 2023 | ◆▲ |
//! | [`fn@rope`] | rotary position embedding | `[B, H, T, hd]` → the same | Su et al., 2021 | ◆▲ |
//! | [`fn@xsa`] | attention's output without its part along the own value | `[B, H, T, hd]`, `[B, Hk, T, hd]` → `[B, H, T, hd]` | exclusive self-attention of mixlab | ◆▲ |
//! | [`fn@scan`], [`scan_from`] | moving average along time with constant gates, from zero or from a state | `[B, T, D]`, gate `[D]`, state `[B, D]` → `[B, T, D]` | Blelloch, 1990 | ◆▲ |
//! | [`scan_tv`], [`scan_tv_from`] | the same with gates that vary | `[B, T, D]`, gate `[B, T, D]` → `[B, T, D]` | Feng et al., 2024, "Were RNNs All We Needed?" | ◆▲ |
//! | [`matrix_scan`], [`matrix_scan_from`] | the same for states that are matrices | `[B, T, Da, Db]`, gate `[B, T, Da]` → `[B, T, Da, Db]` | Yang et al., 2024, gated linear attention | ◆▲ |
//! | [`fading_max`] | largest value so far, which fades: keeps sums of exponentials in range | `[B, T, D]`, rate `[D]` → `[B, T, D]` | a constant in gradients | ▲ |
//! | [`fn@rms_norm`], [`rms_norm_to`] | root mean square norm | `[N, D]`, scale `[D]` → `[N, D]` | Zhang and Sennrich, 2019 | ◆▲ |
//! | [`fn@linear`], [`linear_to`] | matrix product at a chosen [`Precision`] | `[N, K]`, `[K, M]` → `[N, M]` | | ◆▲ |
//! | [`activate`], [`gated`] | an [`Activation`] (sigmoid, SiLU, GELU, ReLU, leaky ReLU², softcap), alone or as a gate | `[N, D]`, or two → `[N, D]` | Shazeer, 2020, "GLU Variants Improve Transformer" | ◆▲ |
//! | [`fn@embedding`] | rows of a table by number; sums in a fixed order | `[V, D]`, ids `[N]` → `[N, D]` | | ◆▲ |
//! | [`fn@cross_entropy`], [`capped_cross_entropy`] | softmax cross-entropy of each target in nats; in training its gradient is written with it | `[N, V]`, ids `[N]` → `[N]` | | ◆▲ |
//! | [`fn@dropout`] | masks that are functions of seed, step and place | `[…, C]` → the same | Srivastava et al., 2014; Salmon et al., 2011 | ◆▲ |
//! | [`fn@insert`] | new steps in a buffer, in place where nobody else holds it | `[B, H, R, hd]`, `[B, H, T, hd]` → the buffer | keys and values of new tokens | |
//! | [`leading`] | the first steps of a buffer, a view of it | `[B, H, R, hd]` → `[B, H, steps, hd]` | those of all tokens so far | |
//! | [`clip_factor`] | factor that clips the norm of all gradients, and that norm; for updates | gradients of any shapes → `[2]` | Pascanu et al., 2013 | ▲ |
//! | [`fn@adamw`] | updates; several tensors a launch | weights, gradients, moments → the new ones | Kingma and Ba, 2015; Loshchilov and Hutter, 2019 | ▲ |
//! | [`momentum`], [`orthogonalize`], [`muon_step`] | the same of Muon | matrices of one shape `[S, R, C]` | Jordan et al., 2024 | ▲ |
//!
//! How fast they are, on which card, and by which command stands in `docs/performance.md` of the
//! repository: in f32 on an H100 the scans, norms, rotations and losses move 80 to 105 % of the bytes
//! that a copy moves in that time.
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
// Pages of docs.rs say which feature an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

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
pub use insert::{Insert, Leading, insert, leading};
pub use linear::{Linear, LinearGradient, linear, linear_to};
pub use muon::{Momentum, MuonStep, Orthogonalize, momentum, muon_step, orthogonalize};
pub use op::{Backend, Op, Tape};
#[cfg(feature = "cuda")]
pub use plumbing::deferred::{Cuda, Deferred};
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
