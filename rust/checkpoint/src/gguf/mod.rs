//! GGUF files: a header of typed metadata and a directory of tensors, then the tensors, one after another.
//!
//! Reading: [`Parts`] maps a file, or all those of a split model, and [`Gguf`] is the header over their bytes; [`tokenizer`] for the text side. Writing: [`write_parts`], with
//! [`vocabulary`] for the text side. The format is specified in ggml's `docs/gguf.md`; what llama.cpp expects of
//! metadata is read from its converter.

mod cursor;
mod entry;
mod header;
mod pre;
pub mod special;
mod split;
mod steps;
pub mod tokenizer;
mod value;
pub mod vocabulary;
mod write;

pub use entry::Entry;
pub use header::{Gguf, TensorInfo};
pub use split::Parts;
pub use value::{Array, Kind, Value};
pub use write::write_parts;
