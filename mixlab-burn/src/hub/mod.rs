//! Folders and files that other people's tools open: Hugging Face `transformers`, and llama.cpp's
//! GGUF.
//!
//! ```text
//! plan + weights ─┬─ is it a Llama? ── yes ─► config.json of `llama`, or GGUF
//!                 └─ else ─► config.json that says what the plan says, modeling_mixlab.py
//! ```
//!
//! [`Folder`] decides and writes. A stack that [`Llama`] can express is loaded by `transformers`
//! without code of ours. Any other is loaded by one Python file that comes with it, by the options
//! that the plan resolved and with the weights as this crate names them: nothing is guessed twice.

mod card;
mod error;
mod folder;
mod gguf;
mod llama;
mod planned;
mod tensors;
mod tokens;

pub use card::Run;
pub use error::HubError;
pub use folder::{Family, Folder, Wrote};
pub use gguf::write_gguf;
pub use llama::{Llama, Pairs};
pub use tensors::{Elements, Named};
pub use tokens::write_tokenizer;
