//! What ggml computes, to the bit, so that a GGUF file's model answers as llama.cpp has it answer.
//!
//! Quantised weights round activations to 8 bits before every product: one difference in the last place flips a
//! rounding, and through a few layers it grows to another token. So the sums here run in the order of ggml's kernels
//! for x86 with AVX-512, as of llama.cpp in autumn 2026 without flash attention, on every instruction set. The products
//! themselves are [`crate::stored`]'s. Which kernel ggml takes depends on how many tokens come together: [`crate::BatchClass`].

mod attend;
mod exponential;
mod norm;
mod router;
mod swiglu;

pub use attend::{WIDEST, attend, attend_blocks, round_to_half};
pub use norm::rms_norm;
pub use router::{combine, mass, sigmoid_rows, softmax_rows};
pub use swiglu::swiglu;
