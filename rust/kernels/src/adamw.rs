//! AdamW (Loshchilov & Hutter 2019) with f32 state, one pass over parameters, gradient and moments.

use crate::LANES;
use crate::simd::Simd;

/// One step's numbers; `step` counts from 1 for the bias corrections.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    pub learning_rate: f32,
    pub beta1: f32,
    pub beta2: f32,
    pub epsilon: f32,
    pub weight_decay: f32,
    /// What the gradient is multiplied by first: global-norm clipping.
    pub gradient_scale: f32,
    pub step: u32,
}

kernel! {
    /// Updates `weight` and both moments. All slices have one length, a multiple of [`LANES`].
    pub fn adamw = adamw_body(adam: AdamW, gradient: &[f32], weight: &mut [f32], first: &mut [f32], second: &mut [f32])
}

kernel! {
    /// `total` += `part`, and Σ `total`² in double precision over blocks of 1,024.
    pub fn add_and_square = add_and_square_body(part: &[f32], total: &mut [f32]) -> f64
}

#[inline(always)]
unsafe fn adamw_body<S: Simd>(
    adam: AdamW,
    gradient: &[f32],
    weight: &mut [f32],
    first: &mut [f32],
    second: &mut [f32],
) {
    let n = gradient.len();
    assert!(n.is_multiple_of(LANES) && weight.len() == n && first.len() == n && second.len() == n);
    // The corrections in double precision, as torch does.
    let power = |beta: f32| 1.0 - f64::from(beta).powi(adam.step.min(i32::MAX as u32) as i32);
    let step = S::splat((f64::from(adam.learning_rate) / power(adam.beta1)) as f32);
    let root = S::splat(power(adam.beta2).sqrt() as f32);
    let keep = S::splat(1.0 - adam.learning_rate * adam.weight_decay);
    let (new1, beta2, new2) = (
        S::splat(1.0 - adam.beta1),
        S::splat(adam.beta2),
        S::splat(1.0 - adam.beta2),
    );
    let (epsilon, scale) = (S::splat(adam.epsilon), S::splat(adam.gradient_scale));
    let g = gradient.as_ptr();
    let (w, m, v) = (weight.as_mut_ptr(), first.as_mut_ptr(), second.as_mut_ptr());
    let mut j = 0;
    while j < n {
        let slope = S::load(g.add(j)).mul(scale);
        let mean = S::load(m.add(j));
        let mean = slope.sub(mean).fma(new1, mean);
        let spread = S::load(v.add(j)).mul(beta2);
        let spread = slope.mul(new2).fma(slope, spread);
        mean.store(m.add(j));
        spread.store(v.add(j));
        let down = mean.div(spread.sqrt().div(root).add(epsilon));
        let decayed = S::load(w.add(j)).mul(keep);
        decayed.sub(step.mul(down)).store(w.add(j));
        j += LANES;
    }
}

#[inline(always)]
unsafe fn add_and_square_body<S: Simd>(part: &[f32], total: &mut [f32]) -> f64 {
    const BLOCK: usize = 1024;
    let n = part.len();
    assert!(total.len() == n && n.is_multiple_of(LANES));
    let (part, total) = (part.as_ptr(), total.as_mut_ptr());
    let mut squares = 0.0;
    let mut start = 0;
    while start < n {
        let end = n.min(start + BLOCK);
        let mut sum = S::splat(0.0);
        let mut j = start;
        while j < end {
            let x = S::load(total.add(j)).add(S::load(part.add(j)));
            x.store(total.add(j));
            sum = x.fma(x, sum);
            j += LANES;
        }
        squares += f64::from(sum.sum());
        start = end;
    }
    squares
}
