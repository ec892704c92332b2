use super::exponential::exp;
use crate::simd::Simd;
use crate::swiglu::{Silu, gate};

kernel! {
    /// As [`crate::swiglu::swiglu`]: x / (1 + e^-x), times up.
    pub fn swiglu = swiglu_body(width: usize, gate_up: &[f32], activations: &mut [f32])
}

struct ByDivision;

impl Silu for ByDivision {
    #[inline(always)]
    unsafe fn of<S: Simd>(x: S) -> S {
        x.div(S::splat(1.0).add(exp(S::splat(0.0).sub(x))))
    }
}

#[inline(always)]
unsafe fn swiglu_body<S: Simd>(width: usize, gate_up: &[f32], activations: &mut [f32]) {
    gate::<S, ByDivision>(width, gate_up, activations);
}
