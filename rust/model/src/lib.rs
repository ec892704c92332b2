//! Decoders with a mixture of experts or a dense block that run, sample and train on the CPU: MiniMax-M2, Qwen3,
//! OLMoE, Mixtral, gpt-oss, Qwen3.5-MoE, Llama, Mistral, Qwen2.
//!
//! [`Engine`] is the whole of it. Inside, [`family`], [`config`] and [`layout`] fix the shapes, [`checkpoint`] and [`weights`]
//! move tensors between files (`moevolve-checkpoint`) and the flat parameters. [`network`] is the one walk over the
//! layers, [`backend`] what computes its blocks, [`linear`] how they multiply by a weight; [`train`] drives
//! them to learn, `moevolve-generate` above to draw.

pub mod adapter;
pub mod backend;
pub mod batch;
pub mod checkpoint;
pub mod config;
pub mod draw;
pub mod engine;
pub mod error;
pub mod family;
mod fields;
pub mod layout;
pub mod linear;
pub mod linear_attention;
pub mod network;
pub mod objective;
pub mod optimizer;
pub mod parameters;
pub mod plan;
mod positions;
pub mod stored;
pub mod train;
pub mod weights;
pub mod windows;

/// The tensors of `tokenizer.json` and others that files need: see `moevolve-checkpoint`.
pub use moevolve_checkpoint::{Piece, Tokenizer};

/// Gradients are told as Candle's tensors.
pub use candle_core::Tensor;

pub use adapter::Settings as AdapterSettings;
pub use batch::Positions;
pub use checkpoint::WeightsMode;
pub use engine::{Engine, Example};
pub use error::{Error, Result};
pub use objective::{Objective, Rollout};
pub use train::{Optimizer, PolicyReport, StepReport};
