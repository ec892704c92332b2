use super::exponential::exp;
use crate::simd::Simd;
use crate::{Isa, LANES, area};

/// The least that normalised weights are divided by: the smallest normal number of half precision.
const LEAST: f32 = 6.103_515_6e-5;

kernel! {
    /// As [`crate::scores::softmax_rows`]: what is left over after whole vectors goes through the system's `expf`, and sums
    /// are f64.
    pub fn softmax_rows = softmax_rows_body(experts: usize, width: usize, x: &mut [f32])
}

kernel! {
    /// As [`crate::combine::combine`]: products are rounded before they are added, the residual comes last.
    pub fn combine = combine_body(width: usize, chosen: usize, slots: &[u32], weights: &[f32], rows: &[f32], residual: &[f32], out: &mut [f32])
}

/// As [`crate::scores::mass`]: the sum is f64, and never nothing.
pub fn mass(scores: &[f32], chosen: &[u32]) -> f32 {
    let sum: f64 = chosen.iter().map(|&e| f64::from(scores[e as usize])).sum();
    (sum as f32).max(LEAST)
}

/// As [`crate::scores::sigmoid_rows`], through the system's `expf`.
pub fn sigmoid_rows(_: Isa, x: &mut [f32]) {
    for x in x {
        *x = 1.0 / (1.0 + (-*x).exp());
    }
}

#[inline(always)]
unsafe fn softmax_rows_body<S: Simd>(experts: usize, width: usize, x: &mut [f32]) {
    assert!(width.is_multiple_of(LANES) && experts <= width);
    let whole = experts / LANES * LANES;
    for row in x.chunks_exact_mut(width) {
        row[experts..].fill(0.0);
        let top = row[..experts]
            .iter()
            .fold(f32::NEG_INFINITY, |top, &x| top.max(x));
        let mut sum = 0.0f64;
        for chunk in row[..whole].chunks_exact_mut(LANES) {
            let e = exp(S::load(chunk.as_ptr()).sub(S::splat(top)));
            e.store(chunk.as_mut_ptr());
            sum += f64::from(e.sum());
        }
        for x in &mut row[whole..experts] {
            *x = (*x - top).exp();
            sum += f64::from(*x);
        }
        let share = (1.0 / sum) as f32;
        for x in &mut row[..experts] {
            *x *= share;
        }
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
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
        let (residual, to) = (&residual[t * width..], &mut out[t * width..]);
        let mut j = 0;
        while j < width {
            let mut sum = S::splat(0.0);
            for k in t * chosen..(t + 1) * chosen {
                let row = rows[slots[k] as usize * width..][..width].as_ptr();
                let product = S::load(row.add(j)).mul(S::splat(weights[k]));
                sum = if k == t * chosen {
                    product
                } else {
                    sum.add(product)
                };
            }
            let sum = sum.add(S::load(residual.as_ptr().add(j)));
            sum.store(to.as_mut_ptr().add(j));
            j += LANES;
        }
    }
}
