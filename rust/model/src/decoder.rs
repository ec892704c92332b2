//! The decoder, forward, block by block.

use std::ops::Range;

use moevolve_kernels::attention::{Heads, Memory, attend, remember};
use moevolve_kernels::experts::{
    self, PackedBlock, Places, Products, Saved, Scratch, Shape, swiglu,
};
use moevolve_kernels::ggml::{self, AsGgml, Company};
use moevolve_kernels::norm::{Norm, rms_norm};
use moevolve_kernels::rope::{Rotary, rotate};
use moevolve_kernels::route::Routing;
use moevolve_kernels::rows::{add_row, gather};
use moevolve_kernels::team::Team;
use moevolve_kernels::{Isa, Precision, padded, reserve};

use crate::adapter::Adapter;
use crate::batch::{Asking, Packed};
use crate::config::Config;
use crate::family::QkNorm;
use crate::layout::{Layer, Layout, Matrix};
use crate::parameters::Parameters;
use crate::stored::{Job, Stored};

/// Query rows that a thread attends from at a time.
const ATTENDED: usize = 32;

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
    pub fn heads(&self) -> Heads {
        Heads {
            queries: self.config.heads,
            keys: self.config.key_heads,
            width: self.layout.widths.head,
            scale: (self.config.head as f32).sqrt().recip(),
        }
    }

    pub fn hidden_norm(&self) -> Norm {
        Norm {
            groups: 1,
            width: self.layout.widths.hidden,
            count: self.config.hidden,
            epsilon: self.config.epsilon,
        }
    }

    /// Of queries or keys: each of `heads` heads alone, or all at once before they are split.
    pub fn heads_norm(&self, heads: usize) -> Norm {
        let (groups, size) = match self.config.qk_norm {
            QkNorm::PerHead => (heads, 1),
            QkNorm::Whole | QkNorm::None => (1, heads),
        };
        Norm {
            groups,
            width: size * self.layout.widths.head,
            count: size * self.config.head,
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

    /// How attention over a sequence with this prompt adds up, if as ggml does.
    pub fn attention(&self, prompt: usize) -> Option<AsGgml<'_>> {
        self.ggml().map(|order| AsGgml { order, prompt })
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

    /// Queries, keys and values of a layer, normalised and rotated, from its input.
    pub fn project(
        &self,
        layer: &Layer,
        every: &Asking,
        asking: &Asking,
        a: &mut Activations,
        b: &mut Buffers,
    ) {
        let (tokens, rows) = (every.len(), asking.len());
        let w = self.layout.widths;
        reserve(&mut a.input_inverse, tokens);
        reserve(&mut a.normal, tokens * w.hidden);
        reserve(&mut a.raw_queries, rows * w.queries);
        reserve(&mut a.key_values, tokens * 2 * w.keys);

        self.normalise(
            tokens,
            &a.input,
            &layer.input_norm,
            &mut a.normal,
            &mut a.input_inverse,
        );
        let asks = if asking.whole {
            &a.normal
        } else {
            reserve(&mut a.asking, rows * w.hidden);
            gather(self.isa, w.hidden, &asking.rows, &a.normal, &mut a.asking);
            &a.asking
        };
        self.forward(
            &mut [
                Job {
                    matrix: &layer.query,
                    rows,
                    x: asks,
                    y: &mut a.raw_queries,
                    company: &asking.company,
                },
                Job {
                    matrix: &layer.key_value,
                    rows: tokens,
                    x: &a.normal,
                    y: &mut a.key_values,
                    company: &every.company,
                },
            ],
            false,
        );

        if let Some(biases) = &layer.biases {
            let (query, key_value) = (self.values(&biases.query), self.values(&biases.key_value));
            add_row(self.isa, rows, query, &mut a.raw_queries);
            add_row(self.isa, tokens, key_value, &mut a.key_values);
        }

        let (heads, key_heads) = (self.config.heads, self.config.key_heads);
        self.turn(
            layer.qk_norms.as_ref().map(|norms| &norms[0]),
            heads,
            &asking.positions,
            (&a.raw_queries, w.queries),
            &mut a.query_inverse,
            &mut a.queries,
            &mut b.turning,
        );
        self.turn(
            layer.qk_norms.as_ref().map(|norms| &norms[1]),
            key_heads,
            &every.positions,
            (&a.key_values, 2 * w.keys),
            &mut a.key_inverse,
            &mut a.keys,
            &mut b.turning,
        );
        if self.ggml().is_some() {
            let isa = self.isa;
            ggml::round_to_half(isa, rows, w.queries, w.queries, &mut a.queries);
            ggml::round_to_half(isa, tokens, w.keys, w.keys, &mut a.keys);
            let values = &mut a.key_values[w.keys..];
            ggml::round_to_half(isa, tokens, w.keys, 2 * w.keys, values);
        }
    }

    /// Heads normalised, if they have a gain, and rotated: from rows some floats apart to packed ones.
    #[allow(clippy::too_many_arguments)]
    fn turn(
        &self,
        gain: Option<&Range<usize>>,
        heads: usize,
        positions: &[u32],
        (raw, step): (&[f32], usize),
        inverse: &mut Vec<f32>,
        out: &mut Vec<f32>,
        turning: &mut Vec<f32>,
    ) {
        let (rows, width) = (positions.len(), heads * self.layout.widths.head);
        reserve(out, rows * width);
        let between = self.rotary.frame(turning, rows * width);
        match gain {
            Some(gain) => {
                let norm = self.heads_norm(heads);
                reserve(inverse, rows * norm.groups);
                let gain = self.values(gain);
                let rms_norm = self.rms_norm();
                rms_norm(
                    self.isa, norm, rows, raw, step, gain, between, width, inverse,
                );
            }
            None => {
                for (to, from) in between.chunks_exact_mut(width).zip(raw.chunks(step)) {
                    to.copy_from_slice(&from[..width]);
                }
            }
        }
        rotate(self.isa, self.rotary, heads, positions, turning, out, false);
    }

    /// Attention within each packed sequence; keeps the probabilities for the backward pass if `keep`.
    pub fn attend_packed(
        &self,
        batch: &Packed,
        asking: &Asking,
        a: &mut Activations,
        b: &mut Buffers,
        keep: bool,
    ) {
        let (heads, w) = (self.heads(), self.layout.widths);
        let stride = padded(batch.longest);
        let row = heads.queries * stride;
        reserve(&mut a.attended, asking.len() * w.queries);
        reserve(
            &mut a.probabilities,
            if keep {
                asking.len() * row
            } else {
                asking.len().div_ceil(ATTENDED) * row
            },
        );
        reserve(&mut b.key_memory, w.keys * stride);
        reserve(&mut b.value_memory, w.keys * stride);
        let sequences = batch.every.spans.iter().zip(&batch.prompts);
        for ((tokens, &prompt), rows) in sequences.zip(&asking.spans) {
            if rows.is_empty() {
                continue;
            }
            let keys = (&a.keys[tokens.start * w.keys..], w.keys);
            let values = (
                &a.key_values[tokens.start * 2 * w.keys + w.keys..],
                2 * w.keys,
            );
            b.key_memory[..w.keys * stride].fill(0.0);
            remember(
                heads,
                tokens.len(),
                0,
                keys,
                values,
                self.ggml(),
                stride,
                &mut b.key_memory,
                &mut b.value_memory,
            );
            let memory = Memory {
                keys: &b.key_memory,
                values: &b.value_memory,
                stride,
            };
            let last = &asking.last[rows.clone()];
            let as_ggml = self.attention(prompt);
            let queries = &a.queries[rows.start * w.queries..];
            let attended = &mut a.attended[rows.start * w.queries..rows.end * w.queries];
            if keep {
                let kept = &mut a.probabilities[rows.start * row..];
                attend(
                    self.isa, heads, memory, last, queries, as_ggml, kept, true, attended,
                );
                continue;
            }
            let mut parts: Vec<_> = attended
                .chunks_mut(ATTENDED * w.queries)
                .zip(a.probabilities.chunks_mut(row))
                .enumerate()
                .collect();
            self.team
                .each(&mut parts, &|(part, (attended, scratch)), _| {
                    let first = *part * ATTENDED;
                    let last = &last[first..last.len().min(first + ATTENDED)];
                    let queries = &queries[first * w.queries..];
                    attend(
                        self.isa, heads, memory, last, queries, as_ggml, scratch, false, attended,
                    );
                });
        }
    }

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
        let swiglu = if self.network.ggml().is_some() {
            ggml::swiglu
        } else {
            swiglu
        };
        swiglu(self.network.isa, inner, gate_up, activations);
        self.multiply(down, (hidden, inner), routing, activations, outputs);
    }
}

/// Activations after the last layer.
#[derive(Clone, Debug, Default)]
pub struct Last {
    pub inverse: Vec<f32>,
    /// (rows, hidden).
    pub normal: Vec<f32>,
    /// (rows, padded vocabulary).
    pub logits: Vec<f32>,
}

/// Buffers of a pass that is not trained on: one layer's activations serve all.
#[derive(Clone, Debug, Default)]
pub struct Inference {
    pub activations: Activations,
    pub buffers: Buffers,
    pub output: Vec<f32>,
    pub last: Last,
}

impl Inference {
    /// Logits of the asked rows of a batch, in `last.logits`. `each` sees every layer's activations after attention.
    pub fn run(
        &mut self,
        network: Network<'_>,
        batch: &Packed,
        mut each: impl FnMut(usize, &Activations),
    ) {
        network.embed(&batch.ids, &mut self.activations.input);
        let layers = &network.layout.layers;
        for (index, layer) in layers.iter().enumerate() {
            let asking = if index + 1 == layers.len() {
                &batch.asked
            } else {
                &batch.every
            };
            network.project(
                layer,
                &batch.every,
                asking,
                &mut self.activations,
                &mut self.buffers,
            );
            network.attend_packed(
                batch,
                asking,
                &mut self.activations,
                &mut self.buffers,
                false,
            );
            each(index, &self.activations);
            network.finish(
                index,
                asking,
                &mut self.activations,
                &mut self.buffers,
                &mut self.output,
            );
            std::mem::swap(&mut self.activations.input, &mut self.output);
        }
        network.logits(batch.asked.len(), &self.activations.input, &mut self.last);
    }
}
