//! Matrices in the formats of released weights, used as their files hold them.
//!
//! A [`Matrix`] borrows bytes, of a mapped file for instance, in one of the [`Format`]s: floats of 8 to 32 bits, or
//! ggml's blocks of 4 to 8 bits with scales. [`products`] multiplies by it without writing the weights out;
//! [`decode_row`] and [`embed`] give floats, and [`encode`] makes blocks from floats.

mod activations;
mod backward;
mod brain;
mod decode;
mod encode;
mod finite;
mod float;
mod format;
mod grids;
mod int8x4;
mod integer;
mod narrow;
mod prefetch;
mod products;
mod search;
mod sums;
mod unpack;
mod wide;

pub use backward::{BackwardScratch, backward};
pub use decode::{decode_row, embed};
pub use encode::{encode, encode_into};
pub use finite::not_finite;
pub use float::FloatSums;
pub use format::{FP8_BLOCK, Format, Matrix};
pub use narrow::{from_bf16, from_f16, from_fp8, to_bf16, to_f16};
pub use products::{Product, Scratch, products};
