//! The weights: flat values, and the packed panels that products read.

use std::ops::Range;

use moevolve_kernels::arithmetic::{Arithmetic, OWN};
use moevolve_kernels::experts::{Buffers, Copies, PackedBlock, Products};
use moevolve_kernels::panels::{Panels, PanelsMut, Side, weight_gradient};
use moevolve_kernels::rows::gather;
use moevolve_kernels::sample::uniform;
use moevolve_kernels::worker_pool::WorkerPool;
use moevolve_kernels::{Isa, Precision};

use crate::config::Config;
use crate::layout::{Layout, Matrix, bias_names};
use crate::linear::{ExpertRows, Product, Scratch, Weights};

#[derive(Clone, Debug)]
pub struct Parameters {
    /// In the layout's order; padding is zero.
    pub values: Vec<f32>,
    /// Every matrix packed for Y = X Wᵀ, at the place of its values.
    pub forward: Panels,
    /// Every matrix packed for dX = dY W; empty until training begins.
    pub backward: Panels,
    /// Selection biases (layers, experts), or empty where the router has none.
    pub bias: Vec<f32>,
}

impl Parameters {
    /// Nothing, where the weights are stored.
    pub fn none() -> Self {
        Self {
            values: Vec::new(),
            forward: Panels::empty(Side::Forward),
            backward: Panels::empty(Side::Backward),
            bias: Vec::new(),
        }
    }

    /// Values with their panels in f32.
    pub fn new(values: Vec<f32>, bias: Vec<f32>, layout: &Layout) -> Self {
        let mut parameters = Self {
            values,
            forward: Panels::empty(Side::Forward),
            backward: Panels::empty(Side::Backward),
            bias,
        };
        parameters.set_precision(Precision::F32, layout);
        parameters
    }

    /// Random weights as transformers draws them: normal matrices, norms of one, biases of zero.
    pub fn random(config: &Config, layout: &Layout, seed: u64) -> Self {
        let mut values = vec![0.0; layout.total];
        for (index, spec) in layout.tensors.iter().enumerate() {
            let count = spec.shape().iter().product();
            let key = seed.wrapping_add((index as u64 + 1).wrapping_mul(0xd134_2543_de82_ef95));
            let centred =
                config.family.describe().extras.centred && !spec.name.contains("linear_attn");
            let tensor: Vec<f32> = if spec.is_norm() {
                vec![if centred { 0.0 } else { 1.0 }; count]
            } else if spec.name.ends_with(".dt_bias") {
                vec![1.0; count]
            } else if spec.name.ends_with(".A_log") {
                let rate = |i| 0.01 + 15.99 * uniform(key, i as u64);
                (0..count).map(|i| rate(i).ln() as f32).collect()
            } else if spec.is_bias() {
                vec![0.0; count]
            } else {
                (0..count)
                    .map(|i| (normal(key, i as u64) * config.initializer_range) as f32)
                    .collect()
            };
            spec.insert(&tensor, &mut values);
        }
        let biases = bias_names(config).len() * config.experts;
        Self::new(values, vec![0.0; biases], layout)
    }

    /// What the operands of products are rounded to.
    pub fn precision(&self) -> Precision {
        self.forward.precision()
    }

    /// Makes the panels again in a precision; those for training too if there were any.
    pub fn set_precision(&mut self, precision: Precision, layout: &Layout) {
        let room = |side| Panels::new(side, precision, layout.total, layout.exact());
        self.forward = room(Side::Forward);
        if !self.backward.is_empty() {
            self.backward = room(Side::Backward);
        }
        self.pack(layout);
    }

    /// Packs all matrices again after the values changed.
    pub fn pack(&mut self, layout: &Layout) {
        let (mut forward, mut backward) = (self.forward.whole(), self.backward.whole());
        for unit in layout.units() {
            for matrix in layout.matrices(&unit) {
                let weight = &self.values[matrix.range.clone()];
                pack(Isa::best(), &matrix, weight, &mut forward, &mut backward);
            }
        }
    }

    /// Makes the panels for the backward pass exist.
    pub fn prepare_backward(&mut self, layout: &Layout) {
        if self.backward.is_empty() {
            let precision = self.precision();
            self.backward = Panels::new(Side::Backward, precision, layout.total, layout.exact());
            self.pack(layout);
        }
    }

    /// Selection biases of a layer, if the router has them.
    pub fn bias(&self, layer: usize, experts: usize) -> &[f32] {
        self.bias
            .get(layer * experts..(layer + 1) * experts)
            .unwrap_or(&[])
    }
}

impl Weights for Parameters {
    fn arithmetic(&self) -> &'static Arithmetic {
        &OWN
    }

    fn splits_products(&self) -> bool {
        false
    }

    fn vector(&self, range: &Range<usize>) -> &[f32] {
        &self.values[range.clone()]
    }

    fn selection_bias(&self, layer: usize, experts: usize) -> &[f32] {
        self.bias(layer, experts)
    }

    fn embed(&self, isa: Isa, matrix: &Matrix, ids: &[u32], out: &mut [f32]) {
        let values = &self.values[matrix.range.clone()];
        gather(isa, matrix.inp, ids, values, out);
    }

    fn forward(&self, isa: Isa, _: &WorkerPool, products: &mut [Product<'_>], add: bool) {
        for Product {
            matrix, rows, x, y, ..
        } in products
        {
            let Matrix { range, out, inp } = matrix;
            self.forward
                .multiply(isa, range, *rows, *inp, *out, x, y, add);
        }
    }

    fn experts(
        &self,
        isa: Isa,
        pool: &WorkerPool,
        rows: &ExpertRows<'_>,
        copies: &mut Copies,
        buffers: &mut Buffers,
        outputs: &mut [f32],
    ) {
        let block = PackedBlock {
            isa,
            pool,
            shape: rows.shape,
            ranges: rows.ranges,
            panels: &self.forward,
            values: &self.values,
        };
        block.experts(rows.routing, rows.h, rows.keep, copies, buffers, outputs);
    }

    fn backward(
        &self,
        isa: Isa,
        matrix: &Matrix,
        rows: usize,
        dy: &[f32],
        dx: &mut [f32],
        add: bool,
        _: &mut Scratch,
    ) {
        let Matrix { range, out, inp } = matrix;
        self.backward
            .multiply(isa, range, rows, *out, *inp, dy, dx, add);
    }

    fn trained(&self) -> usize {
        self.values.len()
    }

    fn trains_all(&self) -> bool {
        true
    }

    fn gradient(
        &self,
        isa: Isa,
        matrix: &Matrix,
        rows: usize,
        dy: &[f32],
        x: &[f32],
        gradient: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let Matrix { range, out, inp } = matrix;
        let precision = self.backward.precision_of(range);
        let dw = &mut gradient[range.clone()];
        let packed = &mut scratch.packed;
        weight_gradient(isa, precision, rows, *out, *inp, dy, x, dw, packed);
    }
}

/// Packs one matrix for both passes.
pub fn pack(
    isa: Isa,
    matrix: &Matrix,
    weight: &[f32],
    forward: &mut PanelsMut<'_>,
    backward: &mut PanelsMut<'_>,
) {
    let Matrix { range, out, inp } = matrix;
    forward.pack(isa, range.start, *out, *inp, weight);
    backward.pack(isa, range.start, *out, *inp, weight);
}

/// A standard normal number by Box and Muller's transform.
fn normal(key: u64, index: u64) -> f64 {
    let (u, v) = (uniform(key, 2 * index), uniform(key, 2 * index + 1));
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}
