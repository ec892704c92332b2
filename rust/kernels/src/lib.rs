//! The arithmetic of a Mixture-of-Experts decoder on the CPU, forward and backward, without tensor types.
//!
//! Every kernel is written once over [`simd::Simd`], a vector of sixteen floats, and compiled for AVX-512, for
//! AVX2 with FMA and for plain Rust; [`Isa`] chooses at run time, so a baseline build runs at native speed.
//! Each operation is exact IEEE arithmetic in one fixed order (fused multiply-adds, division, a fixed summation
//! tree, an own exponential), so **the three give the same bits**, whatever the blocking and whatever else is in
//! the batch: a row's result depends on that row alone.
//!
//! Matrices are row-major `f32`. Their widths are padded to [`LANES`]; padding holds zeros and stays zero, so
//! kernels have no tails.

// Arrays of heads and tiles run in lockstep: an index says so better than nested zips.
#![allow(clippy::needless_range_loop)]

#[macro_use]
mod dispatch;

pub mod activation;
pub mod adamw;
pub mod arithmetic;
pub mod attention;
mod batch_class;
pub mod bf16;
pub mod combine;
pub mod delta;
pub mod experts;
pub mod frequencies;
pub mod gemm;
pub mod ggml;
pub mod loss;
pub mod norm;
pub mod panels;
pub mod rope;
pub mod route;
pub mod rows;
pub mod sample;
pub mod scores;
mod shared;
pub mod simd;
pub mod stored;
pub mod swiglu;
pub mod worker_pool;

pub use arithmetic::Arithmetic;
pub use batch_class::BatchClass;
pub use dispatch::Isa;
pub use panels::Precision;
pub use simd::LANES;

/// Width rounded up to whole vectors.
pub const fn padded(width: usize) -> usize {
    width.next_multiple_of(LANES)
}

/// Numbers of a matrix with these sides. Kernels compare it with the lengths of slices before they trust those, so that sides
/// beyond all memory end the call instead of wrapping around to what fits.
#[inline(always)]
pub(crate) fn area<const N: usize>(sides: [usize; N]) -> usize {
    let mut area = 1usize;
    for side in sides {
        area = area.checked_mul(side).expect("a size within memory");
    }
    area
}

/// Numbers from the first of some rows, `step` apart, to the end of the last one's `width`.
#[inline(always)]
pub(crate) fn strided(rows: usize, step: usize, width: usize) -> usize {
    if rows == 0 {
        return 0;
    }
    let before = area([rows - 1, step]);
    before.checked_add(width).expect("a size within memory")
}

/// Grows a buffer; what it held is of no interest.
pub fn reserve<T: Clone + Default>(buffer: &mut Vec<T>, length: usize) {
    if buffer.len() < length {
        buffer.resize(length, T::default());
    }
}
