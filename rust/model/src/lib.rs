//! Decoders with a mixture of experts or a dense block that run, sample and train on the CPU: MiniMax-M2, Qwen3,
//! OLMoE, Mixtral, Llama.
//!
//! [`Engine`] is the whole of it. Inside, [`family`], [`config`] and [`layout`] fix the shapes, [`checkpoint`] and [`weights`]
//! move tensors between Hugging Face files and the flat parameters through Candle, [`decoder`] and [`backward`]
//! are the network block by block over `moevolve-kernels`, and [`train`] and [`generate`] drive it.

pub mod backward;
pub mod batch;
pub mod checkpoint;
pub mod config;
pub mod decoder;
pub mod engine;
pub mod error;
pub mod family;
mod fields;
pub mod generate;
pub mod gguf;
pub mod layout;
pub mod parameters;
pub mod plan;
mod positions;
pub mod raw;
pub mod stored;
pub mod tokenizer;
pub mod train;
pub mod weights;

pub use batch::Positions;
pub use checkpoint::Keep;
pub use engine::{Engine, Example, Request, Sample};
pub use error::{Error, Result};
pub use generate::Stream;
pub use train::{Optimizer, StepReport};
