//! Gradients of weights, and of inputs through them.

use std::ops::Range;

use moevolve_kernels::experts::BackwardProducts;
use moevolve_kernels::reserve;
use moevolve_kernels::rows::sum_rows;

use super::Cpu;
use crate::layout::Matrix;
use crate::linear::Scratch;

/// Buffers of [`WeightGradients`].
#[derive(Clone, Debug, Default)]
pub struct WeightBuffers {
    scratch: Scratch,
    /// Gradients of vectors that do not train.
    frozen: Vec<f32>,
}

/// Gradients of weights, those that train.
pub(super) struct WeightGradients<'a> {
    pub cpu: Cpu<'a>,
    /// In the layout of what trains.
    pub gradient: &'a mut [f32],
    pub buffers: &'a mut WeightBuffers,
}

impl WeightGradients<'_> {
    /// That of a vector of the layout.
    pub fn vector(&mut self, range: &Range<usize>) -> &mut [f32] {
        if self.cpu.weights.trains_all() {
            return &mut self.gradient[range.clone()];
        }
        reserve(&mut self.buffers.frozen, range.len());
        &mut self.buffers.frozen[..range.len()]
    }

    /// Adds the gradient of a bias: the sum of `rows` rows.
    pub fn add_bias(&mut self, rows: usize, dy: &[f32], range: &Range<usize>) {
        if self.cpu.weights.trains_all() {
            sum_rows(self.cpu.isa, rows, dy, &mut self.gradient[range.clone()]);
        }
    }

    /// dx = dy W, added to dx if `add`.
    pub fn input(&mut self, matrix: &Matrix, rows: usize, dy: &[f32], dx: &mut [f32], add: bool) {
        let (isa, scratch) = (self.cpu.isa, &mut self.buffers.scratch);
        let weights = self.cpu.weights;
        weights.backward(isa, matrix, rows, dy, dx, add, scratch);
    }

    /// Adds the gradient of a matrix.
    pub fn matrix(&mut self, matrix: &Matrix, rows: usize, dy: &[f32], x: &[f32]) {
        let (isa, scratch) = (self.cpu.isa, &mut self.buffers.scratch);
        let weights = self.cpu.weights;
        weights.gradient(isa, matrix, rows, dy, x, self.gradient, scratch);
    }
}

impl BackwardProducts for WeightGradients<'_> {
    fn input_gradient(
        &mut self,
        range: &Range<usize>,
        rows: usize,
        (out, inp): (usize, usize),
        dy: &[f32],
        dx: &mut [f32],
        add: bool,
    ) {
        let range = range.clone();
        self.input(&Matrix { range, out, inp }, rows, dy, dx, add);
    }

    fn weight_gradient(
        &mut self,
        range: &Range<usize>,
        rows: usize,
        (out, inp): (usize, usize),
        dy: &[f32],
        x: &[f32],
    ) {
        let range = range.clone();
        self.matrix(&Matrix { range, out, inp }, rows, dy, x);
    }

    fn bias(&self, range: &Range<usize>) -> &[f32] {
        self.cpu.weights.vector(range)
    }

    fn bias_gradient(&mut self, range: &Range<usize>, rows: usize, dy: &[f32]) {
        self.add_bias(rows, dy, range);
    }
}
