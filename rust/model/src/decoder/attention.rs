//! Attention: queries, keys and values, and what they attend to within packed sequences.

use std::ops::Range;

use moevolve_kernels::attention::{Heads, Memory, attend, remember};
use moevolve_kernels::ggml::{self, AsGgml, Company};
use moevolve_kernels::norm::Norm;
use moevolve_kernels::rope::rotate;
use moevolve_kernels::rows::{add_row, gather};
use moevolve_kernels::{padded, reserve};

use super::{Activations, Buffers, Network};
use crate::batch::{Asking, Packed};
use crate::family::QkNorm;
use crate::layout::Layer;
use crate::stored::Job;

/// Query rows that a thread attends from at a time.
const ATTENDED: usize = 32;

impl Network<'_> {
    pub fn heads(&self) -> Heads {
        Heads {
            queries: self.config.heads,
            keys: self.config.key_heads,
            width: self.layout.widths.head,
            scale: (self.config.head as f32).sqrt().recip(),
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

    /// How attention from rows in this company adds up, if as ggml does.
    pub fn attends_as_ggml<'a>(&'a self, company: &'a [Company]) -> Option<AsGgml<'a>> {
        self.ggml().map(|order| AsGgml { order, company })
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
        for (tokens, rows) in batch.every.spans.iter().zip(&asking.spans) {
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
            let company = &asking.company[rows.clone()];
            let queries = &a.queries[rows.start * w.queries..];
            let attended = &mut a.attended[rows.start * w.queries..rows.end * w.queries];
            if keep {
                let kept = &mut a.probabilities[rows.start * row..];
                attend(
                    self.isa,
                    heads,
                    memory,
                    last,
                    queries,
                    self.attends_as_ggml(company),
                    kept,
                    true,
                    attended,
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
                    let part = first..last.len().min(first + ATTENDED);
                    let as_ggml = self.attends_as_ggml(&company[part.clone()]);
                    let (last, queries) = (&last[part], &queries[first * w.queries..]);
                    attend(
                        self.isa, heads, memory, last, queries, as_ggml, scratch, false, attended,
                    );
                });
        }
    }
}
