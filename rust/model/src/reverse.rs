//! The way back through a network's products: through all weights that train, or past frozen ones into an adapter.

use std::ops::Range;

use moevolve_kernels::experts::{PackedReverse, Reverse};
use moevolve_kernels::panels::GradientScratch;
use moevolve_kernels::reserve;
use moevolve_kernels::stored::BackScratch;

use crate::adapter;
use crate::decoder::Network;
use crate::layout::Matrix;

/// Buffers that hold nothing between calls.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    packed: GradientScratch,
    adapter: adapter::Scratch,
    stored: BackScratch,
    /// Where gradients go that nobody wants.
    unwanted: Vec<f32>,
}

/// One thread's way back.
pub struct Way<'a> {
    pub network: Network<'a>,
    /// Of the parameters, or of the adapter where there is one.
    pub gradient: &'a mut [f32],
    pub scratch: &'a mut Scratch,
}

impl Way<'_> {
    /// The gradient of a vector of the layout; a place that nobody reads where only an adapter trains.
    pub fn vector(&mut self, range: &Range<usize>) -> &mut [f32] {
        if self.network.adapter.is_none() {
            return &mut self.gradient[range.clone()];
        }
        reserve(&mut self.scratch.unwanted, range.len());
        &mut self.scratch.unwanted[..range.len()]
    }

    /// Whether the base's own weights train.
    pub fn whole(&self) -> bool {
        self.network.adapter.is_none()
    }

    /// As [`Reverse::back`], of a matrix of the layout.
    pub fn back_through(
        &mut self,
        matrix: &Matrix,
        rows: usize,
        dy: &[f32],
        dx: &mut [f32],
        add: bool,
    ) {
        let Matrix { range, out, inp } = matrix;
        self.back(range, rows, *out, *inp, dy, dx, add);
    }

    /// As [`Reverse::gradient`], of a matrix of the layout.
    pub fn gradient_of(&mut self, matrix: &Matrix, rows: usize, dy: &[f32], x: &[f32]) {
        let Matrix { range, out, inp } = matrix;
        self.gradient(range, rows, *out, *inp, dy, x);
    }

    fn packed(&mut self) -> PackedReverse<'_> {
        PackedReverse {
            isa: self.network.isa,
            panels: &self.network.parameters.backward,
            gradient: self.gradient,
            scratch: &mut self.scratch.packed,
        }
    }
}

impl Reverse for Way<'_> {
    fn back(
        &mut self,
        place: &Range<usize>,
        rows: usize,
        out: usize,
        inp: usize,
        dy: &[f32],
        dx: &mut [f32],
        add: bool,
    ) {
        let network = self.network;
        match network.stored {
            Some(stored) => {
                let scratch = &mut self.scratch.stored;
                let precision = network.precision;
                stored.back(
                    network.isa,
                    precision,
                    place,
                    (rows, out, inp),
                    dy,
                    dx,
                    add,
                    scratch,
                );
            }
            None => self.packed().back(place, rows, out, inp, dy, dx, add),
        }
        if let Some(adapter) = network.adapter {
            let scratch = &mut self.scratch.adapter;
            adapter.back(network.isa, place.start, rows, dy, dx, scratch);
        }
    }

    fn gradient(
        &mut self,
        place: &Range<usize>,
        rows: usize,
        out: usize,
        inp: usize,
        dy: &[f32],
        x: &[f32],
    ) {
        let network = self.network;
        match network.adapter {
            None => self.packed().gradient(place, rows, out, inp, dy, x),
            Some(adapter) => {
                let scratch = &mut self.scratch.adapter;
                let isa = network.isa;
                adapter.gradient(isa, place.start, rows, dy, x, self.gradient, scratch);
            }
        }
    }
}
