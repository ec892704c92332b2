//! SwiGLU, forward and backward: silu(gate) ∘ up (Shazeer 2020), and with both clamped (gpt-oss).

use crate::LANES;
use crate::simd::{Simd, dot, sigmoid};

kernel! {
    /// `activations` (rows, width) = silu(gate) ∘ up, of rows [gate, up].
    pub fn swiglu = swiglu_body(width: usize, gate_up: &[f32], activations: &mut [f32])
}

kernel! {
    /// Per copy: dweight = dact · act, then `dout` and dact times the routing weight, and dact through SwiGLU.
    pub fn swiglu_backward = swiglu_backward_body(width: usize, hidden: usize, weights: &[f32], gate_up: &[f32], activations: &[f32], dactivations: &[f32], dout: &mut [f32], dgate_up: &mut [f32], dweights: &mut [f32])
}

kernel! {
    /// As [`swiglu`]: gate σ(alpha gate) ∘ (up + 1), gate at most `limit` and up within it on both sides.
    pub fn clamped_swiglu = clamped_swiglu_body(alpha: f32, limit: f32, width: usize, gate_up: &[f32], activations: &mut [f32])
}

kernel! {
    /// As [`swiglu_backward`], of [`clamped_swiglu`]; what is clamped has no slope.
    pub fn clamped_swiglu_backward = clamped_swiglu_backward_body(alpha: f32, limit: f32, width: usize, hidden: usize, weights: &[f32], gate_up: &[f32], activations: &[f32], dactivations: &[f32], dout: &mut [f32], dgate_up: &mut [f32], dweights: &mut [f32])
}

/// How silu is computed.
pub(crate) trait Silu {
    unsafe fn of<S: Simd>(x: S) -> S;
}

/// x times the sigmoid.
struct BySigmoid;

impl Silu for BySigmoid {
    #[inline(always)]
    unsafe fn of<S: Simd>(x: S) -> S {
        x.mul(sigmoid(x))
    }
}

#[inline(always)]
unsafe fn swiglu_body<S: Simd>(width: usize, gate_up: &[f32], activations: &mut [f32]) {
    gate::<S, BySigmoid>(width, gate_up, activations);
}

#[inline(always)]
pub(crate) unsafe fn gate<S: Simd, A: Silu>(
    width: usize,
    gate_up: &[f32],
    activations: &mut [f32],
) {
    let rows = activations.len() / width;
    assert!(width.is_multiple_of(LANES) && gate_up.len() >= rows * 2 * width);
    for row in 0..rows {
        let gate = gate_up.as_ptr().add(row * 2 * width);
        let to = activations.as_mut_ptr().add(row * width);
        let mut j = 0;
        while j < width {
            A::of(S::load(gate.add(j)))
                .mul(S::load(gate.add(width + j)))
                .store(to.add(j));
            j += LANES;
        }
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn swiglu_backward_body<S: Simd>(
    width: usize,
    hidden: usize,
    weights: &[f32],
    gate_up: &[f32],
    activations: &[f32],
    dactivations: &[f32],
    dout: &mut [f32],
    dgate_up: &mut [f32],
    dweights: &mut [f32],
) {
    let rows = weights.len();
    assert!(width.is_multiple_of(LANES) && hidden.is_multiple_of(LANES) && dweights.len() == rows);
    assert!(gate_up.len() >= rows * 2 * width && dgate_up.len() >= rows * 2 * width);
    assert!(
        activations.len() >= rows * width
            && dactivations.len() >= rows * width
            && dout.len() >= rows * hidden
    );
    let one = S::splat(1.0);
    for row in 0..rows {
        let dact = dactivations.as_ptr().add(row * width);
        *dweights.as_mut_ptr().add(row) =
            dot::<S>(dact, activations.as_ptr().add(row * width), width);
        let weight = S::splat(weights[row]);
        let dout = dout.as_mut_ptr().add(row * hidden);
        let mut j = 0;
        while j < hidden {
            S::load(dout.add(j)).mul(weight).store(dout.add(j));
            j += LANES;
        }
        let gate = gate_up.as_ptr().add(row * 2 * width);
        let dgate = dgate_up.as_mut_ptr().add(row * 2 * width);
        let mut j = 0;
        while j < width {
            let (x, up) = (S::load(gate.add(j)), S::load(gate.add(width + j)));
            let s = sigmoid(x);
            let slope = S::load(dact.add(j)).mul(weight);
            let silu = x.mul(s);
            slope.mul(silu).store(dgate.add(width + j));
            // silu' = s + x s (1 - s)
            slope
                .mul(up)
                .mul(one.sub(s).fma(silu, s))
                .store(dgate.add(j));
            j += LANES;
        }
    }
}

#[inline(always)]
unsafe fn clamped_swiglu_body<S: Simd>(
    alpha: f32,
    limit: f32,
    width: usize,
    gate_up: &[f32],
    activations: &mut [f32],
) {
    let rows = activations.len() / width;
    assert!(width.is_multiple_of(LANES) && gate_up.len() >= rows * 2 * width);
    let (most, least, one) = (S::splat(limit), S::splat(-limit), S::splat(1.0));
    for row in 0..rows {
        let gate = gate_up.as_ptr().add(row * 2 * width);
        let to = activations.as_mut_ptr().add(row * width);
        let mut j = 0;
        while j < width {
            let x = most.min(S::load(gate.add(j)));
            let up = least.max(most.min(S::load(gate.add(width + j))));
            let opened = x.mul(sigmoid(x.mul(S::splat(alpha))));
            up.add(one).mul(opened).store(to.add(j));
            j += LANES;
        }
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn clamped_swiglu_backward_body<S: Simd>(
    alpha: f32,
    limit: f32,
    width: usize,
    hidden: usize,
    weights: &[f32],
    gate_up: &[f32],
    activations: &[f32],
    dactivations: &[f32],
    dout: &mut [f32],
    dgate_up: &mut [f32],
    dweights: &mut [f32],
) {
    let rows = weights.len();
    assert!(width.is_multiple_of(LANES) && hidden.is_multiple_of(LANES) && dweights.len() == rows);
    assert!(gate_up.len() >= rows * 2 * width && dgate_up.len() >= rows * 2 * width);
    assert!(
        activations.len() >= rows * width
            && dactivations.len() >= rows * width
            && dout.len() >= rows * hidden
    );
    let (most, least) = (S::splat(limit), S::splat(-limit));
    let (zero, one) = (S::splat(0.0), S::splat(1.0));
    for row in 0..rows {
        let dact = dactivations.as_ptr().add(row * width);
        *dweights.as_mut_ptr().add(row) =
            dot::<S>(dact, activations.as_ptr().add(row * width), width);
        let weight = S::splat(weights[row]);
        let dout = dout.as_mut_ptr().add(row * hidden);
        let mut j = 0;
        while j < hidden {
            S::load(dout.add(j)).mul(weight).store(dout.add(j));
            j += LANES;
        }
        let gate = gate_up.as_ptr().add(row * 2 * width);
        let dgate = dgate_up.as_mut_ptr().add(row * 2 * width);
        // 1 where a number has `room` up to its bound, even if none is left, else 0.
        let inside = |room: S| one.min(zero.max(room.fma(S::splat(1e30), one)));
        let mut j = 0;
        while j < width {
            let (raw, raw_up) = (S::load(gate.add(j)), S::load(gate.add(width + j)));
            let (x, up) = (most.min(raw), least.max(most.min(raw_up)));
            let s = sigmoid(x.mul(S::splat(alpha)));
            let slope = S::load(dact.add(j)).mul(weight);
            let opened = x.mul(s);
            let free = inside(most.sub(raw_up)).mul(inside(raw_up.sub(least)));
            slope.mul(opened).mul(free).store(dgate.add(width + j));
            // (x σ(alpha x))' = σ + alpha x σ (1 - σ)
            let bend = one.sub(s).fma(opened.mul(S::splat(alpha)), s);
            slope
                .mul(up.add(one))
                .mul(bend)
                .mul(inside(most.sub(raw)))
                .store(dgate.add(j));
            j += LANES;
        }
    }
}
