//! The decoder, forward: the network and what all its parts share.

mod attention;
mod block;
mod inference;

use std::ops::Range;

use moevolve_kernels::experts::{Saved, Scratch};
use moevolve_kernels::ggml;
use moevolve_kernels::norm::{Norm, rms_norm};
use moevolve_kernels::rope::Rotary;
use moevolve_kernels::rows::gather;
use moevolve_kernels::team::Team;
use moevolve_kernels::{Isa, Precision, reserve};

use crate::adapter::Adapter;
use crate::config::Config;
use crate::layout::Layout;
use crate::parameters::Parameters;
use crate::stored::{Job, Stored};

pub use inference::{Inference, Last};

/// [`rms_norm`] or its like.
type RmsNorm = fn(Isa, Norm, usize, &[f32], usize, &[f32], &mut [f32], usize, &mut [f32]);

/// Everything a pass reads.
#[derive(Clone, Copy)]
pub struct Network<'a> {
    pub config: &'a Config,
    pub layout: &'a Layout,
    /// Trainable weights; empty if the network is stored.
    pub parameters: &'a Parameters,
    /// Weights that stay as their file has them, instead of `parameters`.
    pub stored: Option<&'a Stored>,
    /// What is added to the products of frozen weights.
    pub adapter: Option<&'a Adapter>,
    /// What the way back through stored weights rounds to.
    pub precision: Precision,
    /// Shares out samples, sequences, and the products of a stored network.
    pub team: &'a Team,
    pub rotary: &'a Rotary,
    pub isa: Isa,
}

/// Activations of one layer; the backward pass reads them. `tokens` are all rows, `rows` those that ask.
#[derive(Clone, Debug, Default)]
pub struct Activations {
    /// (tokens, hidden).
    pub input: Vec<f32>,
    /// (tokens): 1/rms of the input.
    pub input_inverse: Vec<f32>,
    /// (tokens, hidden): normalised input.
    pub normal: Vec<f32>,
    /// (rows, hidden): the part of `normal` that asks, unless all do.
    pub asking: Vec<f32>,
    /// (rows, queries) before normalisation.
    pub raw_queries: Vec<f32>,
    /// (tokens, 2 × keys): keys before normalisation, then values.
    pub key_values: Vec<f32>,
    pub query_inverse: Vec<f32>,
    pub key_inverse: Vec<f32>,
    /// (rows, queries), normalised and rotated.
    pub queries: Vec<f32>,
    /// (tokens, keys), normalised and rotated.
    pub keys: Vec<f32>,
    /// (rows, heads, stride).
    pub probabilities: Vec<f32>,
    /// (rows, queries).
    pub attended: Vec<f32>,
    /// (rows, hidden): after the attention's residual.
    pub middle: Vec<f32>,
    pub middle_inverse: Vec<f32>,
    pub middle_normal: Vec<f32>,
    pub experts: Saved,
}

/// Buffers that hold nothing between blocks.
#[derive(Clone, Debug, Default)]
pub struct Buffers {
    /// Normalised rows between margins, before rotation.
    pub turning: Vec<f32>,
    pub key_memory: Vec<f32>,
    pub value_memory: Vec<f32>,
    pub probabilities: Vec<f32>,
    pub experts: Scratch,
}

impl Network<'_> {
    pub fn hidden_norm(&self) -> Norm {
        Norm {
            groups: 1,
            width: self.layout.widths.hidden,
            count: self.config.hidden,
            epsilon: self.config.epsilon,
        }
    }

    /// The kernel for norms.
    fn rms_norm(&self) -> RmsNorm {
        if self.ggml().is_some() {
            ggml::rms_norm
        } else {
            rms_norm
        }
    }

    /// Rows of the hidden width, normalised.
    fn normalise(
        &self,
        rows: usize,
        x: &[f32],
        gain: &Range<usize>,
        y: &mut [f32],
        inverse: &mut [f32],
    ) {
        let (norm, gain) = (self.hidden_norm(), self.values(gain));
        let rms_norm = self.rms_norm();
        let step = norm.width;
        rms_norm(self.isa, norm, rows, x, step, gain, y, step, inverse);
    }

    /// Of weights that are used as ggml uses them: its order of a head's dimensions.
    pub fn ggml(&self) -> Option<&[u32]> {
        Some(&self.stored?.ggml()?.order)
    }

    pub fn values(&self, range: &Range<usize>) -> &[f32] {
        match self.stored {
            Some(stored) => stored.vector(range),
            None => &self.parameters.values[range.clone()],
        }
    }

    /// y (rows, out) = x (rows, inp) Wᵀ for each job, added to y if `add`.
    pub fn forward(&self, jobs: &mut [Job<'_>], add: bool) {
        match self.stored {
            Some(stored) => stored.multiply(self.isa, self.team, jobs, add),
            None => {
                let panels = &self.parameters.forward;
                for Job {
                    matrix, rows, x, y, ..
                } in &mut *jobs
                {
                    let range = &matrix.range;
                    panels.multiply(self.isa, range, *rows, matrix.inp, matrix.out, x, y, add);
                }
            }
        }
        if let Some(adapter) = self.adapter {
            for Job {
                matrix, rows, x, y, ..
            } in jobs
            {
                adapter.add(self.isa, self.team, matrix.range.start, *rows, x, y);
            }
        }
    }

    /// Rows of the embedding.
    pub fn embed(&self, ids: &[u32], out: &mut Vec<f32>) {
        let width = self.layout.widths.hidden;
        reserve(out, ids.len() * width);
        let range = &self.layout.embedding.range;
        match self.stored {
            Some(stored) => stored.embed(range, ids, width, out),
            None => gather(self.isa, width, ids, self.values(range), out),
        }
    }

    /// Final norm and head: logits (rows, padded vocabulary) of the last layer's output.
    pub fn logits(&self, rows: usize, output: &[f32], last: &mut Last) {
        let w = self.layout.widths;
        reserve(&mut last.inverse, rows);
        reserve(&mut last.normal, rows * w.hidden);
        reserve(&mut last.logits, rows * w.vocabulary);
        self.normalise(
            rows,
            output,
            &self.layout.final_norm,
            &mut last.normal,
            &mut last.inverse,
        );
        let head = Job {
            matrix: &self.layout.head,
            rows,
            x: &last.normal,
            y: &mut last.logits,
            company: &[],
        };
        self.forward(&mut [head], false);
    }
}
