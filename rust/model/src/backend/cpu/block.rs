//! What follows attention in a layer: its output, the residual, and the block of experts or the dense one.

use moevolve_kernels::experts::{self, Buffers, Copies, ExpertRanges, Products, Shape};
use moevolve_kernels::route::Routing;
use moevolve_kernels::rows::{add_row, gather};
use moevolve_kernels::{BatchClass, padded, reserve};

use super::{Activations, Cpu, Workspace};
use crate::batch::QueryRows;
use crate::layout::{Layer, Matrix, Mixer};
use crate::linear::{ExpertRows, Product};

impl Cpu<'_> {
    /// Output projection, residual and experts: from `attended` to the layer's output (rows, hidden).
    #[allow(clippy::too_many_arguments)]
    pub(super) fn after_attention(
        &self,
        index: usize,
        queries: &QueryRows,
        input: &[f32],
        keep: bool,
        a: &mut Activations,
        b: &mut Workspace,
        out: &mut Vec<f32>,
    ) {
        let (rows, w) = (queries.len(), self.layout.widths);
        let layer = &self.layout.layers[index];
        reserve(&mut a.middle, rows * w.hidden);
        reserve(&mut a.middle_inverse, rows);
        reserve(&mut a.middle_normal, rows * w.hidden);
        reserve(out, rows * w.hidden);
        if queries.whole {
            a.middle[..rows * w.hidden].copy_from_slice(&input[..rows * w.hidden]);
        } else {
            gather(self.isa, w.hidden, &queries.rows, input, &mut a.middle);
        }
        let (matrix, bias) = layer.output();
        let gated = self.gates(layer);
        if gated {
            reserve(&mut a.gated, rows * w.queries);
            let gates = a.gates.iter().zip(&a.attended);
            for (out, (gate, x)) in a.gated[..rows * w.queries].iter_mut().zip(gates) {
                *out = x * sigmoid(*gate);
            }
        }
        let output = Product {
            matrix,
            rows,
            x: if gated { &a.gated } else { &a.attended },
            y: &mut a.middle,
            classes: &queries.classes,
        };
        self.multiply(&mut [output], true);
        if let Some(bias) = bias {
            let bias = self.weights.vector(bias);
            add_row(self.isa, rows, bias, &mut a.middle);
        }
        self.normalise(
            rows,
            &a.middle,
            &layer.middle_norm,
            &mut a.middle_normal,
            &mut a.middle_inverse,
        );
        // In the last layer llama.cpp computes the last token alone.
        let last = index + 1 == self.layout.layers.len();
        let block = Block {
            cpu: *self,
            shape: self.layout.shape(self.config),
            ranges: &layer.experts,
            classes: if last { &[] } else { &queries.classes },
        };
        experts::forward(
            experts::Block {
                isa: self.isa,
                pool: self.pool,
                arithmetic: self.weights.arithmetic(),
                shape: block.shape,
                bias: self.weights.selection_bias(index, self.config.experts),
            },
            &block,
            rows,
            &a.middle_normal,
            &a.middle,
            out,
            keep,
            &mut a.experts,
            &mut b.experts,
        );
        if let Some(shared) = &layer.shared {
            self.add_shared(shared, rows, &a.middle_normal, &mut a.shared, out);
        }
    }

    /// Whether what a layer's attention gives is gated.
    pub(super) fn gates(&self, layer: &Layer) -> bool {
        match &layer.mixer {
            Mixer::Attention(attention) => attention.query.out > self.layout.widths.queries,
            Mixer::Linear(_) => false,
        }
    }
}

/// 1 / (1 + e^-x), rounded once.
pub(super) fn sigmoid(x: f32) -> f32 {
    (1.0 / (1.0 + (-f64::from(x)).exp())) as f32
}

/// A layer's block of experts by the network's own weights.
struct Block<'a> {
    cpu: Cpu<'a>,
    shape: Shape,
    ranges: &'a ExpertRanges,
    /// See [`Product::classes`].
    classes: &'a [BatchClass],
}

impl Products for Block<'_> {
    fn scores(&self, tokens: usize, h: &[f32], scores: &mut [f32]) {
        let router = Matrix {
            range: self.ranges.router.clone(),
            out: padded(self.shape.experts),
            inp: self.shape.hidden,
        };
        let product = Product {
            matrix: &router,
            rows: tokens,
            x: h,
            y: scores,
            classes: self.classes,
        };
        self.cpu.multiply(&mut [product], false);
        if let Some(biases) = &self.ranges.biases {
            let bias = self.cpu.weights.vector(&biases.router);
            add_row(self.cpu.isa, tokens, bias, scores);
        }
    }

    fn experts(
        &self,
        routing: &Routing,
        h: &[f32],
        keep: bool,
        copies: &mut Copies,
        buffers: &mut Buffers,
        outputs: &mut [f32],
    ) {
        let Cpu {
            weights, isa, pool, ..
        } = self.cpu;
        // How many rows go to the same expert is no property of a row: each is multiplied as if it came alone.
        let classes = if self.shape.experts == 1 {
            self.classes
        } else {
            &[]
        };
        let rows = ExpertRows {
            shape: self.shape,
            ranges: self.ranges,
            arithmetic: weights.arithmetic(),
            routing,
            classes,
            h,
            keep,
        };
        weights.experts(isa, pool, &rows, copies, buffers, outputs);
    }
}
