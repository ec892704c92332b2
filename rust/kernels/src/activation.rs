//! What stands between an expert's matrices.

use crate::swiglu::{clamped_swiglu, clamped_swiglu_backward, swiglu_backward};
use crate::{Arithmetic, Isa};

/// A function of the gate and of what it gates.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Activation {
    /// silu(gate) ∘ up.
    #[default]
    Silu,
    /// gate σ(alpha gate) ∘ (up + 1), with gate at most `limit` and up within it on both sides (gpt-oss).
    Clamped { alpha: f32, limit: f32 },
}

/// Copies of an expert on their way back, as [`swiglu_backward`] takes them.
pub struct Activated<'a> {
    pub weights: &'a [f32],
    pub gate_up: &'a [f32],
    pub activations: &'a [f32],
    pub dactivations: &'a [f32],
}

impl Activation {
    /// `activations` (rows, width) of rows [gate, up].
    pub fn forward(
        self,
        isa: Isa,
        arithmetic: &Arithmetic,
        width: usize,
        gate_up: &[f32],
        activations: &mut [f32],
    ) {
        match self {
            Self::Silu => (arithmetic.swiglu)(isa, width, gate_up, activations),
            Self::Clamped { alpha, limit } => {
                clamped_swiglu(isa, alpha, limit, width, gate_up, activations);
            }
        }
    }

    /// As [`swiglu_backward`].
    #[allow(clippy::too_many_arguments)]
    pub fn backward(
        self,
        isa: Isa,
        width: usize,
        hidden: usize,
        of: Activated<'_>,
        dout: &mut [f32],
        dgate_up: &mut [f32],
        dweights: &mut [f32],
    ) {
        let Activated {
            weights,
            gate_up,
            activations,
            dactivations,
        } = of;
        match self {
            Self::Silu => swiglu_backward(
                isa,
                width,
                hidden,
                weights,
                gate_up,
                activations,
                dactivations,
                dout,
                dgate_up,
                dweights,
            ),
            Self::Clamped { alpha, limit } => clamped_swiglu_backward(
                isa,
                alpha,
                limit,
                width,
                hidden,
                weights,
                gate_up,
                activations,
                dactivations,
                dout,
                dgate_up,
                dweights,
            ),
        }
    }
}
