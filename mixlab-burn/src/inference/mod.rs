//! Using a trained model: losses, logits, hidden states, generated tokens.
//!
//! A [`Session`] is a model that has been loaded once and answers as often as it is asked, for rows
//! of any number and length. A [`Decoder`] goes through rows token by token, and keeps what the model
//! remembers of them; [`Session::generate`] draws tokens from it. Rows of a [`ContinuousBatch`] may have
//! any lengths, and come and go: what a server needs.
//!
//! ```
//! # #[cfg(feature = "cpu")] {
//! use std::ops::ControlFlow;
//! use std::sync::Arc;
//! use burn_flex::Flex;
//! use mixlab_burn::data::Batch;
//! use mixlab_burn::inference::{Generation, Session};
//! use mixlab_burn::{model::Model, plan::Plan};
//!
//! let json = r#"{
//!     "model_dim": 16, "vocab_size": 32, "seq_len": 8,
//!     "blocks": [{"type": "plain", "heads": 2}, {"type": "mamba"}],
//!     "training": {"batch_tokens": 64}
//! }"#;
//! let plan = Arc::new(Plan::parse(json, "example.json", &[])?.plan);
//! let device = Default::default();
//! // From files: `Session::<Flex>::open("c.json", "model.st".as_ref(), &device)?`.
//! let session = Session::<Flex>::new(Model::init(plan, &device), &device);
//!
//! let batch = Batch::from_tokens(&[1, 2, 3, 4, 5, 6, 7], 3)?; // two rows of three
//! let losses = session.losses(batch.clone())?;
//! let mean = losses.iter().sum::<f32>() / 6.0;
//! assert!((session.loss(batch.clone())? - f64::from(mean)).abs() < 1e-5);
//! assert_eq!(session.logits(batch.clone())?.dims(), [2, 3, 32]);
//! assert_eq!(session.hidden(batch)?.dims(), [2, 3, 16]);
//!
//! let options = Generation { max_tokens: 4, ..Generation::default() };
//! let drawn = session.generate(&[vec![1, 2, 3]], &options, |_, _| ControlFlow::Continue(()))?;
//! assert_eq!(drawn[0].tokens.len(), 4);
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod continuous;
mod decode;
mod error;
mod generate;
mod narrow;
mod sample;
mod session;
mod stop;

pub use continuous::ContinuousBatch;
pub use decode::Decoder;
pub use error::SessionError;
pub use generate::{End, Generated, Generation};
pub use sample::Sampling;
pub use session::Session;
pub use stop::{Shown, StopTexts};
