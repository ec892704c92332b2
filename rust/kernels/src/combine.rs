//! Sums of the experts' outputs by token.

use crate::simd::Simd;
use crate::{LANES, area};

kernel! {
    /// `out[t]` = `residual[t]` + Σ_k weights[t, k] rows[slots[t, k]], best expert first.
    pub fn combine = combine_body(width: usize, chosen: usize, slots: &[u32], weights: &[f32], rows: &[f32], residual: &[f32], out: &mut [f32])
}

kernel! {
    /// `out[t]` += Σ_k rows[slots[t, k]].
    pub fn gather_sum = gather_sum_body(width: usize, chosen: usize, slots: &[u32], rows: &[f32], out: &mut [f32])
}

#[inline(always)]
unsafe fn combine_body<S: Simd>(
    width: usize,
    chosen: usize,
    slots: &[u32],
    weights: &[f32],
    rows: &[f32],
    residual: &[f32],
    out: &mut [f32],
) {
    let tokens = slots.len() / chosen;
    assert!(width.is_multiple_of(LANES) && weights.len() == slots.len());
    let floats = area([tokens, width]);
    assert!(residual.len() >= floats && out.len() >= floats);
    for t in 0..tokens {
        let to = out.as_mut_ptr().add(t * width);
        let mut from = residual.as_ptr().add(t * width);
        for k in t * chosen..(t + 1) * chosen {
            let weight = S::splat(weights[k]);
            let row = rows[slots[k] as usize * width..][..width].as_ptr();
            let mut j = 0;
            while j < width {
                weight
                    .fma(S::load(row.add(j)), S::load(from.add(j)))
                    .store(to.add(j));
                j += LANES;
            }
            from = to;
        }
    }
}

#[inline(always)]
unsafe fn gather_sum_body<S: Simd>(
    width: usize,
    chosen: usize,
    slots: &[u32],
    rows: &[f32],
    out: &mut [f32],
) {
    let tokens = slots.len() / chosen;
    assert!(width.is_multiple_of(LANES) && out.len() >= area([tokens, width]));
    for t in 0..tokens {
        let to = out.as_mut_ptr().add(t * width);
        for &slot in &slots[t * chosen..(t + 1) * chosen] {
            let row = rows[slot as usize * width..][..width].as_ptr();
            let mut j = 0;
            while j < width {
                S::load(to.add(j)).add(S::load(row.add(j))).store(to.add(j));
                j += LANES;
            }
        }
    }
}
