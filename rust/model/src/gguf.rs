//! GGUF files: a header of typed metadata and a directory of tensors, then the tensors, one after another.
//!
//! Reading: [`Gguf::parse`] over the bytes of a mapped file, [`config`] for the network's sizes, [`names`] for where
//! each released tensor lies, [`tokenizer`] for the text side. Writing: [`write`]. The format is specified in
//! ggml's `docs/gguf.md`; what llama.cpp expects of names and metadata is read from its converter.

mod cursor;
mod describe;
mod export;
mod header;
mod load;
pub mod names;
mod pre;
mod rope;
pub mod tokenizer;
mod value;
mod vocabulary;
pub mod write;

pub use describe::{config, config_fields, divisors};
pub use header::{Gguf, TensorInfo};
pub use load::load;
pub use value::{Array, Kind, Value};
