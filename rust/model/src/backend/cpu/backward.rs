//! The backward pass, block by block.
//!
//! One file above 400 lines: blocks in the reverse order of the forward pass, which share what they keep.

use std::ops::Range;

use moevolve_kernels::attention::{Saved, attend_backward, attend_backward_within, sink_gradient};
use moevolve_kernels::experts;
use moevolve_kernels::norm::rms_norm_backward;
use moevolve_kernels::rope::rotate;
use moevolve_kernels::rows::scatter_add;
use moevolve_kernels::{padded, reserve};

use super::block::sigmoid;
use super::gradients::{WeightBuffers, WeightGradients};
use super::{Activations, Cpu, Head, Workspace, linear, shared};
use crate::batch::{Packed, QueryRows};

/// Gradients of activations.
#[derive(Clone, Debug, Default)]
pub struct ActivationGradients {
    /// (rows, hidden): of the layer's output, then of its middle.
    output: Vec<f32>,
    /// (tokens, hidden): of the layer's input, where it does not compute all rows.
    input: Vec<f32>,
    /// (tokens, hidden): of a normalised input.
    normal: Vec<f32>,
    query_normal: Vec<f32>,
    attended: Vec<f32>,
    queries: Vec<f32>,
    raw_queries: Vec<f32>,
    keys: Vec<f32>,
    raw_keys: Vec<f32>,
    key_values: Vec<f32>,
    scores: Vec<f32>,
    /// (rows, queries): of the gates; (rows, 2 × queries): of queries and gates side by side.
    gates: Vec<f32>,
    asked: Vec<f32>,
    weights: WeightBuffers,
}

/// One block's backward pass.
pub(super) struct Backward<'a> {
    cpu: Cpu<'a>,
    d: &'a mut ActivationGradients,
    gradient: &'a mut [f32],
}

impl<'a> Cpu<'a> {
    pub(super) fn backward_of<'b>(
        &self,
        gradient: &'b mut [f32],
        d: &'b mut ActivationGradients,
    ) -> Backward<'b>
    where
        'a: 'b,
    {
        Backward {
            cpu: *self,
            d,
            gradient,
        }
    }

    pub(super) fn scatter(&self, ids: &[u32], d: &ActivationGradients, gradient: &mut [f32]) {
        if self.weights.trains_all() {
            let embedding = &mut gradient[self.layout.embedding.range.clone()];
            let hidden = self.layout.widths.hidden;
            scatter_add(self.isa, hidden, ids, &d.output, embedding);
        }
    }
}

impl Backward<'_> {
    pub(super) fn logits(self, rows: usize, output: &[f32], last: &Head) {
        let Self {
            cpu,
            d: s,
            gradient,
        } = self;
        let (w, isa) = (cpu.layout.widths, cpu.isa);
        let head = &cpu.layout.head;
        let mut weights = WeightGradients {
            cpu,
            gradient,
            buffers: &mut s.weights,
        };
        reserve(&mut s.normal, rows * w.hidden);
        reserve(&mut s.output, rows * w.hidden);
        let logits = &last.logits;
        weights.matrix(head, rows, logits, &last.normal);
        weights.input(head, rows, logits, &mut s.normal, false);
        rms_norm_backward(
            isa,
            cpu.hidden_norm(),
            rows,
            output,
            w.hidden,
            &cpu.gain(&cpu.layout.final_norm),
            &last.inverse,
            &s.normal,
            w.hidden,
            &mut s.output,
            w.hidden,
            false,
            weights.vector(&cpu.layout.final_norm),
        );
    }

    /// From the gradient of the layer's output in `output` to that of its middle, in the same buffer.
    pub(super) fn mlp_or_moe(self, index: usize, rows: usize, a: &Activations, b: &mut Workspace) {
        let Self {
            cpu,
            d: s,
            gradient,
        } = self;
        let (layer, w, isa) = (&cpu.layout.layers[index], cpu.layout.widths, cpu.isa);
        let mut weights = WeightGradients {
            cpu,
            gradient,
            buffers: &mut s.weights,
        };
        reserve(&mut s.normal, rows * w.hidden);
        experts::backward(
            isa,
            cpu.layout.shape(cpu.config),
            &layer.experts,
            &mut weights,
            rows,
            &a.middle_normal,
            &s.output,
            &mut s.normal,
            &a.experts,
            &mut b.experts,
        );
        if let Some(shared) = &layer.shared {
            let (h, kept) = (&a.middle_normal, &a.shared);
            shared::backward(
                &mut weights,
                shared,
                rows,
                h,
                kept,
                &s.output,
                &mut s.normal,
            );
        }
        rms_norm_backward(
            isa,
            cpu.hidden_norm(),
            rows,
            &a.middle,
            w.hidden,
            &cpu.gain(&layer.middle_norm),
            &a.middle_inverse,
            &s.normal,
            w.hidden,
            &mut s.output,
            w.hidden,
            true,
            weights.vector(&layer.middle_norm),
        );
    }

    /// To the gradients of the layer's queries, keys and values, still rotated.
    pub(super) fn attention(
        self,
        index: usize,
        batch: &Packed,
        queries: &QueryRows,
        a: &Activations,
        b: &mut Workspace,
    ) {
        let Self {
            cpu,
            d: s,
            gradient,
        } = self;
        let (layer, w, isa) = (&cpu.layout.layers[index], cpu.layout.widths, cpu.isa);
        let (rows, tokens) = (queries.len(), batch.len());
        let (heads, (output, bias)) = (cpu.heads(), layer.output());
        let gated = cpu.gates(layer);
        let mut weights = WeightGradients {
            cpu,
            gradient,
            buffers: &mut s.weights,
        };
        let attended = if gated { &a.gated } else { &a.attended };
        weights.matrix(output, rows, &s.output, attended);
        if let Some(bias) = bias {
            weights.add_bias(rows, &s.output, bias);
        }
        reserve(&mut s.attended, rows * w.queries);
        weights.input(output, rows, &s.output, &mut s.attended, false);
        if gated {
            let count = rows * w.queries;
            reserve(&mut s.gates, count);
            let slopes = s.attended[..count].iter_mut().zip(&mut s.gates);
            for ((slope, dgate), (gate, x)) in slopes.zip(a.gates.iter().zip(&a.attended)) {
                let open = sigmoid(*gate);
                *dgate = *slope * x * open * (1.0 - open);
                *slope *= open;
            }
        }

        reserve(&mut s.key_values, tokens * 2 * w.keys);
        let dqueries = cpu.rotary.frame(&mut s.queries, rows * w.queries);
        let dkeys = cpu.rotary.frame(&mut s.keys, tokens * w.keys);
        dkeys.fill(0.0);
        s.key_values[..tokens * 2 * w.keys].fill(0.0);
        let (stride, reach) = (padded(batch.longest), cpu.reach(index));
        for (span, part) in batch.all.spans.iter().zip(&queries.spans) {
            if part.is_empty() {
                continue;
            }
            transpose_values(cpu, a, span, stride, &mut b.value_cache);
            let saved = Saved {
                keys: &a.keys[span.start * w.keys..],
                values: &b.value_cache,
                queries: &a.queries[part.start * w.queries..],
                probabilities: &a.probabilities[part.start * heads.queries * stride..],
                stride,
            };
            let last = &queries.last[part.clone()];
            let dout = &s.attended[part.start * w.queries..];
            let dqueries = &mut dqueries[part.start * w.queries..];
            let dkeys = &mut dkeys[span.start * w.keys..];
            let dvalues = &mut s.key_values[span.start * 2 * w.keys + w.keys..];
            let (step, scores) = (2 * w.keys, &mut s.scores);
            if reach.is_whole() {
                attend_backward(
                    isa, heads, saved, last, dout, dqueries, dkeys, dvalues, step, scores,
                );
                continue;
            }
            attend_backward_within(
                isa, heads, reach, saved, last, dout, dqueries, dkeys, dvalues, step, scores,
            );
            if let Some(sinks) = &layer.attention().sinks {
                let attended = &a.attended[part.start * w.queries..];
                let dsinks = weights.vector(sinks);
                let probabilities = saved.probabilities;
                sink_gradient(
                    heads,
                    reach,
                    last,
                    probabilities,
                    stride,
                    attended,
                    dout,
                    dsinks,
                );
            }
        }
    }

    /// To the gradient of the layer's input, in `output`.
    pub(super) fn projections(
        self,
        index: usize,
        batch: &Packed,
        queries: &QueryRows,
        input: &[f32],
        a: &Activations,
    ) {
        let Self {
            cpu,
            d: s,
            gradient,
        } = self;
        let (layer, w, isa) = (&cpu.layout.layers[index], cpu.layout.widths, cpu.isa);
        let (rows, tokens, rotary) = (queries.len(), batch.len(), cpu.rotary);
        let attention = layer.attention();
        let mut buffers = std::mem::take(&mut s.weights);
        let mut weights = WeightGradients {
            cpu,
            gradient,
            buffers: &mut buffers,
        };
        // Rotated back, then through the norms.
        let (heads, key_heads) = (cpu.config.heads, cpu.config.key_heads);
        reserve(&mut s.raw_queries, rows * w.queries);
        reserve(&mut s.raw_keys, tokens * w.keys);
        let positions = &queries.positions;
        rotate(
            isa,
            rotary,
            heads,
            positions,
            &s.queries,
            &mut s.attended,
            true,
        );
        let positions = &batch.all.positions;
        rotate(
            isa,
            rotary,
            key_heads,
            positions,
            &s.keys,
            &mut s.raw_keys,
            true,
        );
        if let Some([query_norm, key_norm]) = &attention.qk_norms {
            rms_norm_backward(
                isa,
                cpu.heads_norm(heads),
                rows,
                &a.raw_queries,
                w.queries,
                &cpu.gain(query_norm),
                &a.query_inverse,
                &s.attended,
                w.queries,
                &mut s.raw_queries,
                w.queries,
                false,
                weights.vector(query_norm),
            );
            rms_norm_backward(
                isa,
                cpu.heads_norm(key_heads),
                tokens,
                &a.key_values,
                2 * w.keys,
                &cpu.gain(key_norm),
                &a.key_inverse,
                &s.raw_keys,
                w.keys,
                &mut s.key_values,
                2 * w.keys,
                false,
                weights.vector(key_norm),
            );
        } else {
            s.raw_queries[..rows * w.queries].copy_from_slice(&s.attended[..rows * w.queries]);
            let keys = s.raw_keys[..tokens * w.keys].chunks_exact(w.keys);
            for (to, from) in s.key_values.chunks_exact_mut(2 * w.keys).zip(keys) {
                to[..w.keys].copy_from_slice(from);
            }
        }
        let asked = if cpu.gates(layer) {
            reserve(&mut s.asked, rows * attention.query.out);
            let pairs = s.asked.chunks_exact_mut(2 * w.head);
            let queries = s.raw_queries.chunks_exact(w.head).take(rows * heads);
            for ((pair, query), gate) in pairs.zip(queries).zip(s.gates.chunks_exact(w.head)) {
                pair[..w.head].copy_from_slice(query);
                pair[w.head..].copy_from_slice(gate);
            }
            &s.asked
        } else {
            &s.raw_queries
        };
        if let Some(biases) = &attention.biases {
            weights.add_bias(rows, asked, &biases.query);
            weights.add_bias(tokens, &s.key_values, &biases.key_value);
        }

        let query_normal = if queries.whole {
            &a.normal
        } else {
            &a.query_normal
        };
        let (query, key_value) = (&attention.query, &attention.key_value);
        weights.matrix(query, rows, asked, query_normal);
        weights.matrix(key_value, tokens, &s.key_values, &a.normal);
        reserve(&mut s.normal, tokens * w.hidden);
        weights.input(key_value, tokens, &s.key_values, &mut s.normal, false);
        if queries.whole {
            weights.input(query, rows, asked, &mut s.normal, true);
        } else {
            reserve(&mut s.query_normal, rows * w.hidden);
            weights.input(query, rows, asked, &mut s.query_normal, false);
            scatter_add(isa, w.hidden, &queries.rows, &s.query_normal, &mut s.normal);
        }
        to_input(weights, &layer.input_norm, batch, queries, input, a, s);
        s.weights = buffers;
    }

    /// From linear attention's output to the gradient of the layer's input, in `output`.
    pub(super) fn recall(
        self,
        index: usize,
        batch: &Packed,
        queries: &QueryRows,
        input: &[f32],
        a: &Activations,
    ) {
        let Self {
            cpu,
            d: s,
            gradient,
        } = self;
        let (layer, w) = (&cpu.layout.layers[index], cpu.layout.widths);
        let mut buffers = std::mem::take(&mut s.weights);
        let mut weights = WeightGradients {
            cpu,
            gradient,
            buffers: &mut buffers,
        };
        reserve(&mut s.normal, batch.len() * w.hidden);
        let kept = (&a.linear, &a.normal[..], &a.attended[..]);
        linear::backward(
            &mut weights,
            layer,
            batch,
            queries,
            kept,
            &s.output,
            &mut s.normal,
        );
        to_input(weights, &layer.input_norm, batch, queries, input, a, s);
        s.weights = buffers;
    }
}

/// Values of one sequence as (key heads, head width, stride), zero past its end.
fn transpose_values(
    cpu: Cpu<'_>,
    a: &Activations,
    span: &Range<usize>,
    stride: usize,
    out: &mut Vec<f32>,
) {
    let w = cpu.layout.widths;
    reserve(out, w.keys * stride);
    out[..w.keys * stride].fill(0.0);
    for (t, row) in span.clone().enumerate() {
        let values = &a.key_values[row * 2 * w.keys + w.keys..][..w.keys];
        for (d, &x) in values.iter().enumerate() {
            out[d * stride + t] = x;
        }
    }
}

/// Through the norm before attention: from the gradients of the normalised input and of what attention is added to, to that
/// of the layer's input, in `output`.
fn to_input(
    mut weights: WeightGradients<'_>,
    norm: &Range<usize>,
    batch: &Packed,
    queries: &QueryRows,
    input: &[f32],
    a: &Activations,
    s: &mut ActivationGradients,
) {
    let cpu = weights.cpu;
    let (w, isa, tokens) = (cpu.layout.widths, cpu.isa, batch.len());
    if !queries.whole {
        reserve(&mut s.input, tokens * w.hidden);
        s.input[..tokens * w.hidden].fill(0.0);
        scatter_add(isa, w.hidden, &queries.rows, &s.output, &mut s.input);
        std::mem::swap(&mut s.input, &mut s.output);
    }
    rms_norm_backward(
        isa,
        cpu.hidden_norm(),
        tokens,
        input,
        w.hidden,
        &cpu.gain(norm),
        &a.input_inverse,
        &s.normal,
        w.hidden,
        &mut s.output,
        w.hidden,
        true,
        weights.vector(norm),
    );
}
