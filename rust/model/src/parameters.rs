//! The weights: flat values, and the packed panels that products read.

use std::ops::Range;

use moevolve_kernels::gemm::{pack_backward, pack_forward};
use moevolve_kernels::sample::uniform;

use crate::config::Config;
use crate::layout::{Layout, Matrix};

#[derive(Clone, Debug)]
pub struct Parameters {
    /// In the layout's order; padding is zero.
    pub values: Vec<f32>,
    /// Every matrix packed for Y = X Wᵀ, at the place of its values.
    pub forward: Vec<f32>,
    /// Every matrix packed for dX = dY W; empty until training begins.
    pub backward: Vec<f32>,
    /// Selection biases (layers, experts).
    pub bias: Vec<f32>,
}

impl Parameters {
    pub fn new(values: Vec<f32>, bias: Vec<f32>, layout: &Layout) -> Self {
        let forward = vec![0.0; layout.total];
        let mut parameters = Self {
            values,
            forward,
            backward: Vec::new(),
            bias,
        };
        parameters.pack(layout);
        parameters
    }

    /// Random weights as transformers draws them: normal matrices, norms of one, biases of zero.
    pub fn random(config: &Config, layout: &Layout, seed: u64) -> Self {
        let mut values = vec![0.0; layout.total];
        for (index, named) in layout.named.iter().enumerate() {
            let count = named.shape().iter().product();
            let tensor: Vec<f32> = if named.is_norm() {
                vec![1.0; count]
            } else {
                let key = seed.wrapping_add((index as u64 + 1).wrapping_mul(0xd134_2543_de82_ef95));
                (0..count)
                    .map(|i| (normal(key, i as u64) * config.initializer_range) as f32)
                    .collect()
            };
            named.insert(&tensor, &mut values);
        }
        Self::new(values, vec![0.0; config.layers * config.experts], layout)
    }

    /// Packs all matrices again after the values changed.
    pub fn pack(&mut self, layout: &Layout) {
        for unit in layout.units() {
            for matrix in layout.matrices(&unit) {
                pack(
                    &matrix,
                    0,
                    &self.values,
                    &mut self.forward,
                    &mut self.backward,
                );
            }
        }
    }

    /// Makes the panels for the backward pass exist.
    pub fn prepare_backward(&mut self, layout: &Layout) {
        if self.backward.is_empty() {
            self.backward = vec![0.0; layout.total];
            self.pack(layout);
        }
    }

    /// Selection biases of a layer.
    pub fn bias(&self, layer: usize, experts: usize) -> &[f32] {
        &self.bias[layer * experts..][..experts]
    }
}

/// Packs one matrix; the slices begin at `start` of the layout and `backward` may be empty.
pub fn pack(
    matrix: &Matrix,
    start: usize,
    values: &[f32],
    forward: &mut [f32],
    backward: &mut [f32],
) {
    let Range { start: from, end } = matrix.range;
    let range = from - start..end - start;
    pack_forward(
        &values[range.clone()],
        matrix.out,
        matrix.inp,
        &mut forward[range.clone()],
    );
    if !backward.is_empty() {
        pack_backward(
            &values[range.clone()],
            matrix.out,
            matrix.inp,
            &mut backward[range],
        );
    }
}

/// A standard normal number by Box and Muller's transform.
fn normal(key: u64, index: u64) -> f64 {
    let (u, v) = (uniform(key, 2 * index), uniform(key, 2 * index + 1));
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}
