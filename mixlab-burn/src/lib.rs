//! From one JSON file to a trained language model, on any Burn backend.
//!
//! ```text
//! JSON text → Config (what was written) → Plan (what is true) → Model<B> → train · eval · inference
//!                                                └→ Model<Capture> → Program → count · FLOPs
//! ```
//!
//! ```
//! # #[cfg(feature = "cpu")] {
//! use burn_flex::Flex;
//! use burn::tensor::{Int, Tensor};
//! use mixlab_burn::Plan;
//!
//! let json = r#"{
//!     "model_dim": 16, "vocab_size": 32, "seq_len": 8,
//!     "blocks": [{"type": "plain", "heads": 2}, {"type": "swiglu"}],
//!     "training": {"batch_tokens": 64}
//! }"#;
//! let plan: Plan = Plan::parse(json, "example.json", &[])?.plan;
//! let device = Default::default();
//! let model = plan.init::<Flex>(&device);
//! let ids = Tensor::<Flex, 2, Int>::from_ints([[1, 2, 3, 4, 5, 6, 7, 8]], &device);
//! let logits = model.forward(ids);
//! assert_eq!(logits.dims(), [8, 32]);
//! # }
//! # Ok::<(), mixlab_burn::config::ConfigError>(())
//! ```
//!
//! [`Plan::load`] reads the JSON from a file. A [`Model`] is a Burn module like any other: records,
//! optimizers, `valid`, `fork` and `to_device` are Burn's. [`BlockModule`] is one block of JSON as a
//! field of a module of yours.
//!
//! Everything runs on any backend of Burn; its crate is a feature of `mixlab-ops` here (`cpu` for
//! burn-flex, `ndarray`, `candle`, `tch`, `cuda`, `rocm`, `wgpu` with Vulkan and Metal), because the
//! operations that Burn lacks are made for it there. A backend of your own takes one line in the crate
//! that defines its type: `impl mixlab_burn::ops::Backend for Mine {}`.
#![warn(missing_docs)]
// Pages of docs.rs say which feature an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod blocks;
pub mod config;
pub mod data;
pub mod eval;
pub mod files;
pub mod hub;
pub mod inference;
#[cfg(feature = "learner")]
pub mod learner;
pub mod model;
#[cfg(feature = "onnx")]
pub mod onnx;
pub mod plan;
pub mod program;
#[cfg(feature = "train")]
pub mod race;
pub mod random;
#[cfg(feature = "train")]
pub mod runs;
#[cfg(feature = "train")]
pub mod train;
pub mod weights;

pub use model::{BlockModule, Model};
pub use plan::Plan;

/// The operations that blocks are written with.
pub use mixlab_ops as ops;

/// The README's example compiles.
#[cfg(all(doctest, feature = "cpu"))]
#[doc = include_str!("../../README.md")]
struct Readme;
