//! Cross-entropy over a vocabulary, and log-probabilities.

use crate::simd::{Simd, exp};
use crate::{LANES, area};

kernel! {
    /// Turns logits (rows, width) into their gradient in place and returns the weighted sum of the losses.
    ///
    /// Row i's loss is `scale[i]` times the cross-entropy of `targets[i]` over the first `vocabulary` columns; the
    /// padding gets gradient zero.
    pub fn cross_entropy = cross_entropy_body(vocabulary: usize, width: usize, targets: &[u32], scale: &[f32], logits: &mut [f32]) -> f64
}

kernel! {
    /// ln Σ exp(logits) over the first `vocabulary` floats of a padded row.
    pub fn log_sum_exp = log_sum_exp_body(vocabulary: usize, logits: &[f32]) -> f32
}

kernel! {
    /// Entropy in nats of the distribution of a padded row of logits, over its first `vocabulary` floats.
    pub fn entropy = entropy_body(vocabulary: usize, logits: &[f32]) -> f32
}

/// Writes exp(x - max) over the row, zero in the padding; returns (max, sum).
#[inline(always)]
pub(crate) unsafe fn exponentials<S: Simd>(
    vocabulary: usize,
    width: usize,
    from: *const f32,
    to: *mut f32,
    write: bool,
) -> (f32, f32) {
    let mut top = S::splat(f32::NEG_INFINITY);
    let mut j = 0;
    while j < width {
        let count = LANES.min(vocabulary.saturating_sub(j));
        top = S::load(from.add(j))
            .first(count, f32::NEG_INFINITY)
            .max(top);
        j += LANES;
    }
    let most = top.maximum();
    let top = S::splat(most);
    let mut sum = S::splat(0.0);
    let mut j = 0;
    while j < width {
        let count = LANES.min(vocabulary.saturating_sub(j));
        let e = exp(S::load(from.add(j)).sub(top)).first(count, 0.0);
        sum = sum.add(e);
        if write {
            e.store(to.add(j));
        }
        j += LANES;
    }
    (most, sum.sum())
}

#[inline(always)]
unsafe fn cross_entropy_body<S: Simd>(
    vocabulary: usize,
    width: usize,
    targets: &[u32],
    scale: &[f32],
    logits: &mut [f32],
) -> f64 {
    assert!(width.is_multiple_of(LANES) && vocabulary <= width);
    assert!(scale.len() == targets.len() && logits.len() >= area([targets.len(), width]));
    let mut total = 0.0;
    for (row, (&target, &scale)) in targets.iter().zip(scale).enumerate() {
        assert!((target as usize) < vocabulary);
        let row = logits.as_mut_ptr().add(row * width);
        let wanted = *row.add(target as usize);
        let (most, sum) = exponentials::<S>(vocabulary, width, row, row, true);
        total += f64::from(scale) * f64::from(sum.ln() + most - wanted);
        let share = S::splat(scale / sum);
        let mut j = 0;
        while j < width {
            S::load(row.add(j)).mul(share).store(row.add(j));
            j += LANES;
        }
        *row.add(target as usize) -= scale;
    }
    total
}

#[inline(always)]
unsafe fn log_sum_exp_body<S: Simd>(vocabulary: usize, logits: &[f32]) -> f32 {
    assert!(logits.len().is_multiple_of(LANES) && vocabulary <= logits.len());
    let from = logits.as_ptr();
    let (most, sum) =
        exponentials::<S>(vocabulary, logits.len(), from, std::ptr::null_mut(), false);
    sum.ln() + most
}

/// ln Σ exp(x) - Σ p x, with x counted from the largest logit.
#[inline(always)]
unsafe fn entropy_body<S: Simd>(vocabulary: usize, logits: &[f32]) -> f32 {
    let (width, from) = (logits.len(), logits.as_ptr());
    assert!(width.is_multiple_of(LANES) && vocabulary <= width);
    let (most, total) = exponentials::<S>(vocabulary, width, from, std::ptr::null_mut(), false);
    let top = S::splat(most);
    let mut sum = S::splat(0.0);
    let mut j = 0;
    while j < width {
        let count = LANES.min(vocabulary.saturating_sub(j));
        let x = S::load(from.add(j)).sub(top);
        // A probability of zero adds nothing, however low its logit.
        sum = sum.add(exp(x).mul(x).first(count, 0.0));
        j += LANES;
    }
    total.ln() - sum.sum() / total
}
