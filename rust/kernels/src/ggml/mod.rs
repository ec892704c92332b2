//! What ggml computes, to the bit, so that a GGUF file's model answers as llama.cpp has it answer.
//!
//! Quantised weights round activations to 8 bits before every product: one difference in the last place flips a
//! rounding, and through a few layers it grows to another token. So the sums here run in the order of ggml's kernels
//! for x86 with AVX-512, as of llama.cpp in autumn 2026 without flash attention, on every instruction set. The products
//! themselves are [`crate::stored`]'s. Which kernel ggml takes depends on how many tokens come together: [`Company`].

mod attend;
mod company;
mod exponential;
mod norm;
mod router;
mod swiglu;

pub(crate) use attend::attend_row;
pub use attend::{AsGgml, WIDEST, round_to_half};
pub use company::Company;
pub use norm::rms_norm;
pub(crate) use router::{LEAST, combine, sigmoid_rows, softmax_rows};
pub use swiglu::swiglu;
