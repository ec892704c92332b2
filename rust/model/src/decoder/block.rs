//! What follows attention in a layer: its output, the residual, and the block of experts or the dense one.

use std::ops::Range;

use moevolve_kernels::experts::{self, PackedBlock, Places, Products, Shape, swiglu};
use moevolve_kernels::ggml::{self, Company};
use moevolve_kernels::route::Routing;
use moevolve_kernels::rows::{add_row, gather};
use moevolve_kernels::{padded, reserve};

use super::{Activations, Buffers, Network};
use crate::batch::Asking;
use crate::layout::Matrix;
use crate::stored::Job;

impl Network<'_> {
    /// Output projection, residual and experts: from `attended` to the layer's output (rows, hidden).
    pub fn finish(
        &self,
        index: usize,
        asking: &Asking,
        a: &mut Activations,
        b: &mut Buffers,
        out: &mut Vec<f32>,
    ) {
        let (rows, w) = (asking.len(), self.layout.widths);
        let layer = &self.layout.layers[index];
        reserve(&mut a.middle, rows * w.hidden);
        reserve(&mut a.middle_inverse, rows);
        reserve(&mut a.middle_normal, rows * w.hidden);
        reserve(out, rows * w.hidden);
        if asking.whole {
            a.middle[..rows * w.hidden].copy_from_slice(&a.input[..rows * w.hidden]);
        } else {
            gather(self.isa, w.hidden, &asking.rows, &a.input, &mut a.middle);
        }
        let output = Job {
            matrix: &layer.output,
            rows,
            x: &a.attended,
            y: &mut a.middle,
            company: &asking.company,
        };
        self.forward(&mut [output], true);
        if let Some(biases) = &layer.biases {
            let bias = self.values(&biases.output);
            add_row(self.isa, rows, bias, &mut a.middle);
        }
        self.normalise(
            rows,
            &a.middle,
            &layer.middle_norm,
            &mut a.middle_normal,
            &mut a.middle_inverse,
        );
        let (isa, shape) = (self.isa, self.layout.shape(self.config));
        let places = &layer.experts;
        let (packed, block);
        let products: &dyn Products = if self.stored.is_some() || self.adapter.is_some() {
            let network = *self;
            // In the last layer llama.cpp computes the last token alone.
            let last = index + 1 == self.layout.layers.len();
            block = Block {
                network,
                shape,
                places,
                company: if last { &[] } else { &asking.company },
            };
            &block
        } else {
            let panels = &self.parameters.forward;
            packed = PackedBlock {
                isa,
                shape,
                places,
                panels,
            };
            &packed
        };
        let bias = match self.stored {
            Some(stored) => stored.bias(index, self.config.experts),
            None => self.parameters.bias(index, self.config.experts),
        };
        experts::forward(
            isa,
            shape,
            products,
            bias,
            rows,
            &a.middle_normal,
            &a.middle,
            out,
            &mut a.experts,
            &mut b.experts,
        );
    }
}

/// A layer's block of experts by the network's own products: all of one kind side by side.
struct Block<'a> {
    network: Network<'a>,
    shape: Shape,
    places: &'a Places,
    /// See [`Product::company`](moevolve_kernels::stored::Product).
    company: &'a [Company],
}

impl Block<'_> {
    /// Each expert's rows of `x` through its matrix (padded out, padded inp) of `ranges`.
    fn multiply(
        &self,
        ranges: &[Range<usize>],
        (out, inp): (usize, usize),
        routing: &Routing,
        mut x: &[f32],
        mut y: &mut [f32],
    ) {
        let matrix = |range: &Range<usize>| Matrix {
            range: range.clone(),
            out,
            inp,
        };
        let matrices: Vec<Matrix> = ranges.iter().map(matrix).collect();
        // How many rows go to the same expert is no property of a row: each is multiplied as if it came alone.
        let company = if self.shape.experts == 1 {
            self.company
        } else {
            &[]
        };
        let mut jobs = Vec::new();
        for (e, matrix) in matrices.iter().enumerate() {
            let rows = routing.rows_of(e).len();
            let (x_now, x_later) = x.split_at(rows * inp);
            let (y_now, y_later) = y.split_at_mut(rows * out);
            (x, y) = (x_later, y_later);
            if rows > 0 {
                jobs.push(Job {
                    matrix,
                    rows,
                    x: x_now,
                    y: y_now,
                    company,
                });
            }
        }
        self.network.forward(&mut jobs, false);
    }
}

impl Products for Block<'_> {
    fn scores(&self, tokens: usize, h: &[f32], scores: &mut [f32]) {
        let router = Matrix {
            range: self.places.router.clone(),
            out: padded(self.shape.experts),
            inp: self.shape.hidden,
        };
        let job = Job {
            matrix: &router,
            rows: tokens,
            x: h,
            y: scores,
            company: self.company,
        };
        self.network.forward(&mut [job], false);
    }

    fn as_ggml(&self) -> bool {
        self.network.ggml().is_some()
    }

    fn experts(
        &self,
        routing: &Routing,
        inputs: &[f32],
        gate_up: &mut [f32],
        activations: &mut [f32],
        outputs: &mut [f32],
    ) {
        let (hidden, inner) = (self.shape.hidden, self.shape.intermediate);
        let (up, down) = (&self.places.gate_up, &self.places.down);
        self.multiply(up, (2 * inner, hidden), routing, inputs, gate_up);
        let swiglu = if self.as_ggml() { ggml::swiglu } else { swiglu };
        swiglu(self.network.isa, inner, gate_up, activations);
        self.multiply(down, (hidden, inner), routing, activations, outputs);
    }
}
