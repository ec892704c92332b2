use super::exponential::exp;
use crate::LANES;
use crate::simd::Simd;

kernel! {
    /// As [`crate::experts::swiglu`]: x / (1 + e^-x), times up.
    pub fn swiglu = swiglu_body(width: usize, gate_up: &[f32], activations: &mut [f32])
}

#[inline(always)]
unsafe fn swiglu_body<S: Simd>(width: usize, gate_up: &[f32], activations: &mut [f32]) {
    let rows = activations.len() / width;
    assert!(width.is_multiple_of(LANES) && gate_up.len() >= rows * 2 * width);
    for row in 0..rows {
        let gate = gate_up.as_ptr().add(row * 2 * width);
        let to = activations.as_mut_ptr().add(row * width);
        let mut j = 0;
        while j < width {
            let x = S::load(gate.add(j));
            let below = S::splat(1.0).add(exp(S::splat(0.0).sub(x)));
            x.div(below)
                .mul(S::load(gate.add(width + j)))
                .store(to.add(j));
            j += LANES;
        }
    }
}
