//! The order of operations in every block of a network, chosen once when a model is loaded: our own, or ggml's.

use crate::attention::{BlockHeads, Heads, KeyValues, Queries, attend, attend_blocks};
use crate::combine::combine;
use crate::norm::{Norm, rms_norm};
use crate::rope::Pairs;
use crate::scores::{mass, sigmoid_rows, softmax_rows};
use crate::stored::FloatSums;
use crate::swiglu::swiglu;
use crate::{Isa, ggml};

type RmsNorm = fn(Isa, Norm, usize, &[f32], usize, &[f32], &mut [f32], usize, &mut [f32]);
type Attend = fn(Isa, Heads, KeyValues<'_>, Queries<'_>, &mut [f32], bool, &mut [f32]);
type AttendBlocks = fn(Isa, Heads, BlockHeads<'_>, Queries<'_>, &mut [f32], &mut [f32]);
type Combine = fn(Isa, usize, usize, &[u32], &[f32], &[f32], &[f32], &mut [f32]);

/// The kernels of a network's forward pass that exist in more than one arithmetic.
pub struct Arithmetic {
    /// `own` or `ggml`.
    pub name: &'static str,
    /// Products with stored floats; quantised weights have one order.
    pub float_sums: FloatSums,
    /// Products of [`crate::rope::rotate`].
    pub pairs: Pairs,
    /// As [`crate::norm::rms_norm`].
    pub rms_norm: RmsNorm,
    /// Rounds what attention reads: rows, floats of a row, from row to row.
    pub round_heads: fn(Isa, usize, usize, usize, &mut [f32]),
    /// As [`crate::attention::attend`].
    pub attend: Attend,
    /// As [`crate::attention::attend_blocks`].
    pub attend_blocks: AttendBlocks,
    /// As [`crate::scores::softmax_rows`].
    pub softmax_rows: fn(Isa, usize, usize, &mut [f32]),
    /// As [`crate::scores::sigmoid_rows`].
    pub sigmoid_rows: fn(Isa, &mut [f32]),
    /// As [`crate::scores::mass`].
    pub mass: fn(&[f32], &[u32]) -> f32,
    /// As [`crate::swiglu::swiglu`].
    pub swiglu: fn(Isa, usize, &[f32], &mut [f32]),
    /// As [`crate::combine::combine`].
    pub combine: Combine,
}

/// Fused multiply-adds everywhere, whatever comes together: the arithmetic that is trained in.
pub static OWN: Arithmetic = Arithmetic {
    name: "own",
    float_sums: FloatSums::Chains,
    pairs: Pairs::Fused,
    rms_norm,
    round_heads: |_, _, _, _, _| {},
    attend,
    attend_blocks,
    softmax_rows,
    sigmoid_rows,
    mass,
    swiglu,
    combine,
};

/// What llama.cpp computes with a GGUF file, see [`crate::ggml`].
pub static GGML: Arithmetic = Arithmetic {
    name: "ggml",
    float_sums: FloatSums::Ggml,
    pairs: Pairs::HalfFused,
    rms_norm: ggml::rms_norm,
    round_heads: ggml::round_to_half,
    attend: ggml::attend,
    attend_blocks: ggml::attend_blocks,
    softmax_rows: ggml::softmax_rows,
    sigmoid_rows: ggml::sigmoid_rows,
    mass: ggml::mass,
    swiglu: ggml::swiglu,
    combine: ggml::combine,
};
