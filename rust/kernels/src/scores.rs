//! Scores of a router's logits, and what the scores of those chosen add up to.

use crate::LANES;
use crate::loss::exponentials;
use crate::simd::{Simd, sigmoid};

/// The sum of the scores of the chosen experts, one after the other.
pub fn mass(scores: &[f32], chosen: &[u32]) -> f32 {
    let add = |sum, &e: &u32| sum + scores[e as usize];
    chosen.iter().fold(0.0, add)
}

kernel! {
    /// Softmax over the first `experts` of each row of `width` floats, in place; zero in the padding.
    pub fn softmax_rows = softmax_rows_body(experts: usize, width: usize, x: &mut [f32])
}

kernel! {
    /// σ in place; the length is a multiple of [`LANES`].
    pub fn sigmoid_rows = sigmoid_rows_body(x: &mut [f32])
}

#[inline(always)]
unsafe fn sigmoid_rows_body<S: Simd>(x: &mut [f32]) {
    assert!(x.len().is_multiple_of(LANES));
    let (x, end) = (x.as_mut_ptr(), x.len());
    let mut j = 0;
    while j < end {
        sigmoid(S::load(x.add(j))).store(x.add(j));
        j += LANES;
    }
}

#[inline(always)]
unsafe fn softmax_rows_body<S: Simd>(experts: usize, width: usize, x: &mut [f32]) {
    assert!(width.is_multiple_of(LANES) && experts <= width);
    for row in x.chunks_exact_mut(width) {
        let row = row.as_mut_ptr();
        let (_, sum) = exponentials::<S>(experts, width, row, row, true);
        let share = S::splat(sum);
        let mut j = 0;
        while j < width {
            S::load(row.add(j)).div(share).store(row.add(j));
            j += LANES;
        }
    }
}
