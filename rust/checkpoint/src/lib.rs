//! Files of weights and tokenizers: Hugging Face folders and GGUF files, read as mapped tensors and written row by row.
//!
//! Floors, each over those before it: [`files`] maps files and replaces them atomically, [`folder`] says what a folder is that
//! holds no model; [`tensors`] holds views of
//! mapped tensors and encodes new ones; [`safetensors`] and [`huggingface`], [`tokenizer`], and [`gguf`] are the formats.
//! Nothing here knows a configuration, a family of models or a layout: that is `moevolve-model`, above.

pub mod error;
pub mod files;
pub mod folder;
pub mod gguf;
pub mod huggingface;
pub mod pieces;
pub mod safetensors;
pub mod tensors;
pub mod tokenizer;

pub use error::{Error, Result};
pub use pieces::Piece;
pub use tensors::{TensorSpec, TensorView, Tensors};
pub use tokenizer::Tokenizer;
