//! Multiplying by a weight, in whatever form it is kept: dense and trainable ([`crate::parameters`]), mapped in its file's
//! format ([`crate::stored`]), or either with LoRA beside it ([`crate::adapter`]).

use std::ops::Range;

use moevolve_kernels::experts::{Buffers, Copies, ExpertRanges, Shape};
use moevolve_kernels::panels::GradientScratch;
use moevolve_kernels::route::Routing;
use moevolve_kernels::rows::{add_row, gather};
use moevolve_kernels::stored::BackwardScratch;
use moevolve_kernels::worker_pool::WorkerPool;
use moevolve_kernels::{Arithmetic, BatchClass, Isa};

use crate::adapter;
use crate::layout::Matrix;

/// One product with a matrix of the layout: y (rows, padded out) = x (rows, padded inp) Wᵀ.
pub struct Product<'a> {
    pub matrix: &'a Matrix,
    pub rows: usize,
    pub x: &'a [f32],
    pub y: &'a mut [f32],
    /// The batch class of each row; empty if every row is alone.
    pub classes: &'a [BatchClass],
}

/// Buffers of the backward pass that hold nothing between calls.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    pub(crate) packed: GradientScratch,
    pub(crate) mapped: BackwardScratch,
    pub(crate) lora: adapter::Scratch,
}

/// The tokens of a block of experts, and the block they go through.
pub struct ExpertRows<'a> {
    pub shape: Shape,
    pub ranges: &'a ExpertRanges,
    pub arithmetic: &'static Arithmetic,
    pub routing: &'a Routing,
    /// The batch class of each row; empty if every row is alone.
    pub classes: &'a [BatchClass],
    /// (tokens, hidden).
    pub h: &'a [f32],
    /// Whether the backward pass reads the copies.
    pub keep: bool,
}

/// All weights of a network, by their ranges in its layout.
pub trait Weights: Send + Sync {
    /// The order of operations that these weights ask for.
    fn arithmetic(&self) -> &'static Arithmetic;

    /// The order in which a cache has a key's dimensions; empty if each is where it is.
    fn key_order(&self) -> &[u32] {
        &[]
    }

    /// Whether what a row computes depends on its batch class.
    fn by_class(&self) -> bool {
        false
    }

    /// Whether products are split over the pool, rather than rows and samples.
    fn splits_products(&self) -> bool;

    /// A norm's gain or a bias.
    fn vector(&self, range: &Range<usize>) -> &[f32];

    /// Selection biases of a layer's router, one an expert; empty if it has none.
    fn selection_bias(&self, layer: usize, experts: usize) -> &[f32];

    /// Rows `ids` of a matrix as f32 in `out` (ids, padded inp).
    fn embed(&self, isa: Isa, matrix: &Matrix, ids: &[u32], out: &mut [f32]);

    /// Computes all products, added to their y if `add`.
    fn forward(&self, isa: Isa, pool: &WorkerPool, products: &mut [Product<'_>], add: bool);

    /// The products of a block's experts, as [`moevolve_kernels::experts::Products::experts`]: all of one kind side by side.
    fn experts(
        &self,
        isa: Isa,
        pool: &WorkerPool,
        rows: &ExpertRows<'_>,
        copies: &mut Copies,
        _: &mut Buffers,
        outputs: &mut [f32],
    ) {
        let (shape, count) = (rows.shape, rows.routing.tokens.len());
        let (hidden, inner) = (shape.hidden, shape.intermediate);
        copies.reserve(shape, count);
        let Copies {
            inputs,
            gate_up,
            activations,
        } = copies;
        gather(isa, hidden, &rows.routing.tokens, rows.h, inputs);
        let gate_up = &mut gate_up[..count * 2 * inner];
        let activations = &mut activations[..count * inner];
        let side_by_side =
            |ranges: &[Range<usize>], (out, inp), mut x: &[f32], mut y: &mut [f32]| {
                let matrix = |range: &Range<usize>| Matrix {
                    range: range.clone(),
                    out,
                    inp,
                };
                let matrices: Vec<Matrix> = ranges.iter().map(matrix).collect();
                let mut products = Vec::new();
                for (e, matrix) in matrices.iter().enumerate() {
                    let count = rows.routing.rows_of(e).len();
                    let (x_now, x_later) = x.split_at(count * matrix.inp);
                    let (y_now, y_later) = y.split_at_mut(count * matrix.out);
                    (x, y) = (x_later, y_later);
                    if count > 0 {
                        products.push(Product {
                            matrix,
                            rows: count,
                            x: x_now,
                            y: y_now,
                            classes: rows.classes,
                        });
                    }
                }
                self.forward(isa, pool, &mut products, false);
            };
        let (up, down) = (&rows.ranges.gate_up, &rows.ranges.down);
        let add_biases = |biases: &[Range<usize>], y: &mut [f32]| {
            let mut rest = y;
            for (e, bias) in biases.iter().enumerate() {
                let count = rows.routing.rows_of(e).len();
                let (now, later) = rest.split_at_mut(count * bias.len());
                add_row(isa, count, self.vector(bias), now);
                rest = later;
            }
        };
        let biases = rows.ranges.biases.as_ref();
        side_by_side(up, (2 * inner, hidden), inputs, gate_up);
        if let Some(biases) = biases {
            add_biases(&biases.gate_up, gate_up);
        }
        let activation = shape.activation;
        activation.forward(isa, rows.arithmetic, inner, gate_up, activations);
        side_by_side(down, (hidden, inner), activations, outputs);
        if let Some(biases) = biases {
            add_biases(&biases.down, outputs);
        }
    }

    /// dx (rows, inp) = dy (rows, out) W, added to dx if `add`.
    #[allow(clippy::too_many_arguments)]
    fn backward(
        &self,
        isa: Isa,
        matrix: &Matrix,
        rows: usize,
        dy: &[f32],
        dx: &mut [f32],
        add: bool,
        scratch: &mut Scratch,
    );

    /// Numbers that train, and that a gradient therefore has; none unless the weights, or an adapter, do.
    fn trained(&self) -> usize {
        0
    }

    /// Whether every weight of the layout trains, norms, biases and the embedding among them.
    fn trains_all(&self) -> bool {
        false
    }

    /// Accumulates the gradient of what trains of a matrix, or beside it: dy (rows, out), x (rows, inp).
    #[allow(clippy::too_many_arguments)]
    fn gradient(
        &self,
        _: Isa,
        _: &Matrix,
        _: usize,
        _: &[f32],
        _: &[f32],
        _: &mut [f32],
        _: &mut Scratch,
    ) {
    }

    /// Sets to zero what [`Self::gradient`] accumulated of numbers that do not train.
    fn mask(&self, _gradient: &mut [f32]) {}
}
