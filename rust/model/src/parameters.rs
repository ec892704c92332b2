//! The weights: flat values, and the packed panels that products read.

use moevolve_kernels::panels::{Panels, PanelsMut, Side};
use moevolve_kernels::sample::uniform;
use moevolve_kernels::{Isa, Precision};

use crate::config::Config;
use crate::layout::{Layout, Matrix, bias_names};

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
        for (index, named) in layout.named.iter().enumerate() {
            let count = named.shape().iter().product();
            let tensor: Vec<f32> = if named.is_norm() {
                vec![1.0; count]
            } else if named.is_bias() {
                vec![0.0; count]
            } else {
                let key = seed.wrapping_add((index as u64 + 1).wrapping_mul(0xd134_2543_de82_ef95));
                (0..count)
                    .map(|i| (normal(key, i as u64) * config.initializer_range) as f32)
                    .collect()
            };
            named.insert(&tensor, &mut values);
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
