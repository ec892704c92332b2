//! The expert that takes every token, weighed by a gate of its own.

use moevolve_kernels::reserve;
use moevolve_kernels::swiglu::swiglu_backward;

use super::Cpu;
use super::block::sigmoid;
use super::gradients::WeightGradients;
use crate::layout::SharedExpert;
use crate::linear::Product;

/// What the backward pass reads.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// (rows, 2 × width).
    gate_up: Vec<f32>,
    /// (rows, width), before and after they are weighed.
    activations: Vec<f32>,
    weighed: Vec<f32>,
    /// (rows, [`moevolve_kernels::LANES`]): the gate's product.
    logits: Vec<f32>,
    /// (rows).
    weights: Vec<f32>,
}

impl Cpu<'_> {
    /// Adds what the expert makes of `h` (rows, hidden) to `out`.
    pub(super) fn add_shared(
        &self,
        shared: &SharedExpert,
        rows: usize,
        h: &[f32],
        kept: &mut Kept,
        out: &mut [f32],
    ) {
        let width = self.layout.widths.shared;
        reserve(&mut kept.gate_up, rows * 2 * width);
        reserve(&mut kept.activations, rows * width);
        reserve(&mut kept.weighed, rows * width);
        reserve(&mut kept.logits, rows * shared.gate.out);
        for (matrix, y) in [
            (&shared.gate_up, &mut kept.gate_up),
            (&shared.gate, &mut kept.logits),
        ] {
            let product = Product {
                matrix,
                rows,
                x: h,
                y,
                classes: &[],
            };
            self.multiply(&mut [product], false);
        }
        let activations = &mut kept.activations[..rows * width];
        (self.weights.arithmetic().swiglu)(self.isa, width, &kept.gate_up, activations);
        let logits = kept.logits.chunks_exact(shared.gate.out).take(rows);
        kept.weights.clear();
        kept.weights.extend(logits.map(|logits| sigmoid(logits[0])));
        let activations = activations.chunks_exact(width);
        let weighed = kept.weighed.chunks_exact_mut(width);
        for ((from, to), weight) in activations.zip(weighed).zip(&kept.weights) {
            for (to, x) in to.iter_mut().zip(from) {
                *to = x * weight;
            }
        }
        let product = Product {
            matrix: &shared.down,
            rows,
            x: &kept.weighed,
            y: out,
            classes: &[],
        };
        self.multiply(&mut [product], true);
    }
}

/// Gradients of [`Cpu::add_shared`]: `dh` accumulates.
pub(super) fn backward(
    weights: &mut WeightGradients<'_>,
    shared: &SharedExpert,
    rows: usize,
    h: &[f32],
    kept: &Kept,
    dout: &[f32],
    dh: &mut [f32],
) {
    let width = weights.cpu.layout.widths.shared;
    let mut dactivations = vec![0.0; rows * width];
    let mut dgate_up = vec![0.0; rows * 2 * width];
    let mut dweights = vec![0.0; rows];
    weights.matrix(&shared.down, rows, dout, &kept.weighed);
    weights.input(&shared.down, rows, dout, &mut dactivations, false);
    let isa = weights.cpu.isa;
    swiglu_backward(
        isa,
        width,
        0,
        &kept.weights,
        &kept.gate_up,
        &kept.activations,
        &dactivations,
        &mut [],
        &mut dgate_up,
        &mut dweights,
    );
    let mut dlogits = vec![0.0; rows * shared.gate.out];
    let each = dlogits.chunks_exact_mut(shared.gate.out);
    for ((row, weight), dweight) in each.zip(&kept.weights).zip(&dweights) {
        row[0] = dweight * weight * (1.0 - weight);
    }
    for (matrix, dy) in [(&shared.gate_up, &dgate_up), (&shared.gate, &dlogits)] {
        weights.matrix(matrix, rows, dy, h);
        weights.input(matrix, rows, dy, dh, true);
    }
}
