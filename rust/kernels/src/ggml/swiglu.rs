use super::exponential::exp;
use crate::simd::Simd;
use crate::swiglu::{Gating, forward};

kernel! {
    /// As [`crate::swiglu::swiglu`]: x / (1 + e^-x), times up.
    pub fn swiglu = swiglu_body(width: usize, gate_up: &[f32], activations: &mut [f32])
}

#[derive(Clone, Copy)]
struct ByDivision;

impl Gating for ByDivision {
    #[inline(always)]
    unsafe fn forward<S: Simd>(self, gate: S, up: S) -> S {
        let bottom = S::splat(1.0).add(exp(S::splat(0.0).sub(gate)));
        gate.div(bottom).mul(up)
    }
}

#[inline(always)]
unsafe fn swiglu_body<S: Simd>(width: usize, gate_up: &[f32], activations: &mut [f32]) {
    forward::<S, _>(ByDivision, width, gate_up, activations);
}
