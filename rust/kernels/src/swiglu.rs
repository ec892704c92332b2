//! SwiGLU, forward and backward: silu(gate) ∘ up (Shazeer 2020), and with both clamped (gpt-oss).

use crate::simd::{Simd, dot, sigmoid};
use crate::{LANES, area};

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

/// A gate and what it lets through, for a vector of each.
pub(crate) trait Gating: Copy {
    unsafe fn forward<S: Simd>(self, gate: S, up: S) -> S;
}

trait GatingBackward: Gating {
    /// From the gradient of what comes out to those of [gate, up].
    unsafe fn backward<S: Simd>(self, gate: S, up: S, slope: S) -> [S; 2];
}

/// silu(gate) ∘ up, where silu(x) = x σ(x).
#[derive(Clone, Copy)]
struct Plain;

impl Gating for Plain {
    #[inline(always)]
    unsafe fn forward<S: Simd>(self, gate: S, up: S) -> S {
        gate.mul(sigmoid(gate)).mul(up)
    }
}

impl GatingBackward for Plain {
    #[inline(always)]
    unsafe fn backward<S: Simd>(self, gate: S, up: S, slope: S) -> [S; 2] {
        let s = sigmoid(gate);
        let silu = gate.mul(s);
        // silu' = s + x s (1 - s)
        let bend = S::splat(1.0).sub(s).fma(silu, s);
        [slope.mul(up).mul(bend), slope.mul(silu)]
    }
}

/// gate σ(alpha gate) ∘ (up + 1), both clamped.
#[derive(Clone, Copy)]
struct Clamped {
    alpha: f32,
    limit: f32,
}

impl Clamped {
    #[inline(always)]
    unsafe fn clamp<S: Simd>(self, gate: S, up: S) -> [S; 2] {
        let (most, least) = (S::splat(self.limit), S::splat(-self.limit));
        [most.min(gate), least.max(most.min(up))]
    }

    /// 1 where a number has `room` up to its bound, even if none is left, else 0.
    #[inline(always)]
    unsafe fn inside<S: Simd>(room: S) -> S {
        let (zero, one) = (S::splat(0.0), S::splat(1.0));
        one.min(zero.max(room.fma(S::splat(1e30), one)))
    }
}

impl Gating for Clamped {
    #[inline(always)]
    unsafe fn forward<S: Simd>(self, gate: S, up: S) -> S {
        let [x, up] = self.clamp(gate, up);
        let opened = x.mul(sigmoid(x.mul(S::splat(self.alpha))));
        up.add(S::splat(1.0)).mul(opened)
    }
}

impl GatingBackward for Clamped {
    #[inline(always)]
    unsafe fn backward<S: Simd>(self, gate: S, up: S, slope: S) -> [S; 2] {
        let (most, least) = (S::splat(self.limit), S::splat(-self.limit));
        let (one, alpha) = (S::splat(1.0), S::splat(self.alpha));
        let [x, clamped] = self.clamp(gate, up);
        let s = sigmoid(x.mul(alpha));
        let opened = x.mul(s);
        // (x σ(alpha x))' = σ + alpha x σ (1 - σ)
        let bend = one.sub(s).fma(opened.mul(alpha), s);
        let free = Self::inside(most.sub(up)).mul(Self::inside(up.sub(least)));
        [
            slope
                .mul(clamped.add(one))
                .mul(bend)
                .mul(Self::inside(most.sub(gate))),
            slope.mul(opened).mul(free),
        ]
    }
}

#[inline(always)]
unsafe fn swiglu_body<S: Simd>(width: usize, gate_up: &[f32], activations: &mut [f32]) {
    forward::<S, _>(Plain, width, gate_up, activations);
}

#[inline(always)]
unsafe fn clamped_swiglu_body<S: Simd>(
    alpha: f32,
    limit: f32,
    width: usize,
    gate_up: &[f32],
    activations: &mut [f32],
) {
    forward::<S, _>(Clamped { alpha, limit }, width, gate_up, activations);
}

#[inline(always)]
pub(crate) unsafe fn forward<S: Simd, G: Gating>(
    gating: G,
    width: usize,
    gate_up: &[f32],
    activations: &mut [f32],
) {
    let rows = activations.len() / width;
    assert!(width.is_multiple_of(LANES) && gate_up.len() >= area([rows, 2, width]));
    for row in 0..rows {
        let gate = gate_up.as_ptr().add(row * 2 * width);
        let to = activations.as_mut_ptr().add(row * width);
        let mut j = 0;
        while j < width {
            let (gate, up) = (S::load(gate.add(j)), S::load(gate.add(width + j)));
            gating.forward(gate, up).store(to.add(j));
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
    let widths = [width, hidden];
    let forward = [weights, gate_up, activations, dactivations];
    backward::<S, _>(Plain, widths, forward, dout, dgate_up, dweights);
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
    let widths = [width, hidden];
    let forward = [weights, gate_up, activations, dactivations];
    backward::<S, _>(
        Clamped { alpha, limit },
        widths,
        forward,
        dout,
        dgate_up,
        dweights,
    );
}

#[inline(always)]
unsafe fn backward<S: Simd, G: GatingBackward>(
    gating: G,
    [width, hidden]: [usize; 2],
    [weights, gate_up, activations, dactivations]: [&[f32]; 4],
    dout: &mut [f32],
    dgate_up: &mut [f32],
    dweights: &mut [f32],
) {
    let rows = weights.len();
    assert!(width.is_multiple_of(LANES) && hidden.is_multiple_of(LANES) && dweights.len() == rows);
    let (gates, inner) = (area([rows, 2, width]), area([rows, width]));
    assert!(gate_up.len() >= gates && dgate_up.len() >= gates);
    assert!(activations.len() >= inner && dactivations.len() >= inner);
    assert!(dout.len() >= area([rows, hidden]));
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
            let [dx, dup] = gating.backward(x, up, S::load(dact.add(j)).mul(weight));
            dup.store(dgate.add(width + j));
            dx.store(dgate.add(j));
            j += LANES;
        }
    }
}
