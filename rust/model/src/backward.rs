//! The decoder, backward: gradients of a chunk of sequences, block by block in reverse.

use moevolve_kernels::attention::{Saved, attend_backward};
use moevolve_kernels::experts;
use moevolve_kernels::loss::cross_entropy;
use moevolve_kernels::norm::rms_norm_backward;
use moevolve_kernels::panels::{GradientScratch, weight_gradient};
use moevolve_kernels::rope::rotate;
use moevolve_kernels::rows::{scatter_add, sum_rows};
use moevolve_kernels::{padded, reserve};

use crate::batch::{Asking, Packed};
use crate::decoder::{Activations, Buffers, Last, Network};
use crate::layout::Matrix;

/// Buffers of the backward pass.
#[derive(Clone, Debug, Default)]
struct Slopes {
    /// (rows, hidden): of the layer's output, then of its middle.
    output: Vec<f32>,
    /// (tokens, hidden): of the layer's input, where not all rows ask.
    input: Vec<f32>,
    /// (tokens, hidden): of a normalised input.
    normal: Vec<f32>,
    asking: Vec<f32>,
    attended: Vec<f32>,
    queries: Vec<f32>,
    raw_queries: Vec<f32>,
    keys: Vec<f32>,
    turned_keys: Vec<f32>,
    key_values: Vec<f32>,
    scratch: Vec<f32>,
    packed: GradientScratch,
}

/// One shard of a batch: its activations, and the gradient it accumulates in the layout of the parameters.
#[derive(Clone, Debug, Default)]
pub struct Shard {
    pub gradient: Vec<f32>,
    /// (layers, experts): how many copies each expert got.
    pub load: Vec<u64>,
    /// Sum of scaled losses.
    pub loss: f64,
    layers: Vec<Activations>,
    buffers: Buffers,
    output: Vec<f32>,
    last: Last,
    slopes: Slopes,
}

impl Shard {
    /// Forgets gradients, loads and losses.
    pub fn reset(&mut self, network: Network<'_>) {
        self.gradient.clear();
        self.gradient.resize(network.layout.total, 0.0);
        self.load.clear();
        self.load
            .resize(network.config.layers * network.config.experts, 0);
        self.layers
            .resize(network.config.layers, Activations::default());
        self.loss = 0.0;
    }

    /// Adds the gradients of a chunk: `targets` and `scale` have one entry an asked row.
    pub fn accumulate(
        &mut self,
        network: Network<'_>,
        batch: &Packed,
        targets: &[u32],
        scale: &[f32],
    ) {
        self.forward(network, batch);
        let w = network.layout.widths;
        let rows = batch.asked.len();
        let logits = &mut self.last.logits[..rows * w.vocabulary];
        self.loss += cross_entropy(
            network.isa,
            network.config.vocabulary,
            w.vocabulary,
            targets,
            scale,
            logits,
        );
        self.head_backward(network, rows);
        for index in (0..network.config.layers).rev() {
            let asking = if index + 1 == network.config.layers {
                &batch.asked
            } else {
                &batch.every
            };
            self.layer_backward(network, index, batch, asking);
        }
        let embedding = &mut self.gradient[network.layout.embedding.range.clone()];
        scatter_add(
            network.isa,
            w.hidden,
            &batch.ids,
            &self.slopes.output,
            embedding,
        );
    }

    fn forward(&mut self, network: Network<'_>, batch: &Packed) {
        let layers = &network.layout.layers;
        network.embed(&batch.ids, &mut self.layers[0].input);
        for (index, layer) in layers.iter().enumerate() {
            let asking = if index + 1 == layers.len() {
                &batch.asked
            } else {
                &batch.every
            };
            let (done, rest) = self.layers.split_at_mut(index + 1);
            let a = &mut done[index];
            let out = rest
                .first_mut()
                .map_or(&mut self.output, |next| &mut next.input);
            network.project(layer, &batch.every, asking, a, &mut self.buffers);
            network.attend_packed(batch, asking, a, &mut self.buffers, true);
            network.finish(index, asking, a, &mut self.buffers, out);
            let load = &mut self.load[index * network.config.experts..][..network.config.experts];
            for (e, load) in load.iter_mut().enumerate() {
                *load += a.experts.routing.rows_of(e).len() as u64;
            }
        }
        network.logits(batch.asked.len(), &self.output, &mut self.last);
    }

    fn head_backward(&mut self, network: Network<'_>, rows: usize) {
        let (w, isa) = (network.layout.widths, network.isa);
        let (head, s) = (&network.layout.head, &mut self.slopes);
        reserve(&mut s.normal, rows * w.hidden);
        reserve(&mut s.output, rows * w.hidden);
        let dhead = &mut self.gradient[head.range.clone()];
        weight_gradient(
            isa,
            network.parameters.precision(),
            rows,
            head.out,
            head.inp,
            &self.last.logits,
            &self.last.normal,
            dhead,
            &mut s.packed,
        );
        back(network, head, rows, &self.last.logits, &mut s.normal, false);
        rms_norm_backward(
            isa,
            network.hidden_norm(),
            rows,
            &self.output,
            w.hidden,
            network.values(&network.layout.final_norm),
            &self.last.inverse,
            &s.normal,
            w.hidden,
            &mut s.output,
            w.hidden,
            false,
            &mut self.gradient[network.layout.final_norm.clone()],
        );
    }

    /// From the gradient of the layer's output in `slopes.output` to that of its input, in the same buffer.
    fn layer_backward(
        &mut self,
        network: Network<'_>,
        index: usize,
        batch: &Packed,
        asking: &Asking,
    ) {
        self.experts_backward(network, index, asking.len());
        self.attention_backward(network, index, batch, asking);
        self.projection_backward(network, index, batch, asking);
    }

    fn experts_backward(&mut self, network: Network<'_>, index: usize, rows: usize) {
        let (layer, a) = (&network.layout.layers[index], &self.layers[index]);
        let (w, isa, s) = (network.layout.widths, network.isa, &mut self.slopes);
        reserve(&mut s.normal, rows * w.hidden);
        experts::backward(
            isa,
            network.layout.shape(network.config),
            &layer.experts,
            &network.parameters.backward,
            rows,
            &a.middle_normal,
            &s.output,
            &mut s.normal,
            &mut self.gradient,
            &a.experts,
            &mut self.buffers.experts,
        );
        rms_norm_backward(
            isa,
            network.hidden_norm(),
            rows,
            &a.middle,
            w.hidden,
            network.values(&layer.middle_norm),
            &a.middle_inverse,
            &s.normal,
            w.hidden,
            &mut s.output,
            w.hidden,
            true,
            &mut self.gradient[layer.middle_norm.clone()],
        );
    }

    fn attention_backward(
        &mut self,
        network: Network<'_>,
        index: usize,
        batch: &Packed,
        asking: &Asking,
    ) {
        let (layer, a) = (&network.layout.layers[index], &self.layers[index]);
        let (w, isa, s) = (network.layout.widths, network.isa, &mut self.slopes);
        let (rows, tokens) = (asking.len(), batch.len());
        let (heads, output) = (network.heads(), &layer.output);
        let doutput = &mut self.gradient[output.range.clone()];
        weight_gradient(
            isa,
            network.parameters.precision(),
            rows,
            output.out,
            output.inp,
            &s.output,
            &a.attended,
            doutput,
            &mut s.packed,
        );
        if let Some(biases) = &layer.biases {
            let dbias = &mut self.gradient[biases.output.clone()];
            sum_rows(isa, rows, &s.output, dbias);
        }
        reserve(&mut s.attended, rows * w.queries);
        back(network, output, rows, &s.output, &mut s.attended, false);

        reserve(&mut s.key_values, tokens * 2 * w.keys);
        let dqueries = network.rotary.frame(&mut s.queries, rows * w.queries);
        let dkeys = network.rotary.frame(&mut s.keys, tokens * w.keys);
        dkeys.fill(0.0);
        s.key_values[..tokens * 2 * w.keys].fill(0.0);
        let stride = padded(batch.longest);
        for (span, part) in batch.every.spans.iter().zip(&asking.spans) {
            if part.is_empty() {
                continue;
            }
            transpose_values(network, a, span, stride, &mut self.buffers.value_memory);
            let saved = Saved {
                keys: &a.keys[span.start * w.keys..],
                values: &self.buffers.value_memory,
                queries: &a.queries[part.start * w.queries..],
                probabilities: &a.probabilities[part.start * heads.queries * stride..],
                stride,
            };
            attend_backward(
                isa,
                heads,
                saved,
                &asking.last[part.clone()],
                &s.attended[part.start * w.queries..],
                &mut dqueries[part.start * w.queries..],
                &mut dkeys[span.start * w.keys..],
                &mut s.key_values[span.start * 2 * w.keys + w.keys..],
                2 * w.keys,
                &mut s.scratch,
            );
        }
    }

    fn projection_backward(
        &mut self,
        network: Network<'_>,
        index: usize,
        batch: &Packed,
        asking: &Asking,
    ) {
        let (layer, a) = (&network.layout.layers[index], &self.layers[index]);
        let (w, isa, s) = (network.layout.widths, network.isa, &mut self.slopes);
        let (rows, tokens, rotary) = (asking.len(), batch.len(), network.rotary);
        // Rotated back, then through the norms.
        let (heads, key_heads) = (network.config.heads, network.config.key_heads);
        reserve(&mut s.raw_queries, rows * w.queries);
        reserve(&mut s.turned_keys, tokens * w.keys);
        let positions = &asking.positions;
        rotate(
            isa,
            rotary,
            heads,
            positions,
            &s.queries,
            &mut s.attended,
            true,
        );
        let positions = &batch.every.positions;
        rotate(
            isa,
            rotary,
            key_heads,
            positions,
            &s.keys,
            &mut s.turned_keys,
            true,
        );
        if let Some([query_norm, key_norm]) = &layer.qk_norms {
            rms_norm_backward(
                isa,
                network.heads_norm(heads),
                rows,
                &a.raw_queries,
                w.queries,
                network.values(query_norm),
                &a.query_inverse,
                &s.attended,
                w.queries,
                &mut s.raw_queries,
                w.queries,
                false,
                &mut self.gradient[query_norm.clone()],
            );
            rms_norm_backward(
                isa,
                network.heads_norm(key_heads),
                tokens,
                &a.key_values,
                2 * w.keys,
                network.values(key_norm),
                &a.key_inverse,
                &s.turned_keys,
                w.keys,
                &mut s.key_values,
                2 * w.keys,
                false,
                &mut self.gradient[key_norm.clone()],
            );
        } else {
            s.raw_queries[..rows * w.queries].copy_from_slice(&s.attended[..rows * w.queries]);
            let keys = s.turned_keys[..tokens * w.keys].chunks_exact(w.keys);
            for (to, from) in s.key_values.chunks_exact_mut(2 * w.keys).zip(keys) {
                to[..w.keys].copy_from_slice(from);
            }
        }
        if let Some(biases) = &layer.biases {
            let dquery = &mut self.gradient[biases.query.clone()];
            sum_rows(isa, rows, &s.raw_queries, dquery);
            let dkey_value = &mut self.gradient[biases.key_value.clone()];
            sum_rows(isa, tokens, &s.key_values, dkey_value);
        }

        let asks = if asking.whole { &a.normal } else { &a.asking };
        let (query, key_value) = (&layer.query, &layer.key_value);
        let dquery = &mut self.gradient[query.range.clone()];
        weight_gradient(
            isa,
            network.parameters.precision(),
            rows,
            query.out,
            query.inp,
            &s.raw_queries,
            asks,
            dquery,
            &mut s.packed,
        );
        let dkey_value = &mut self.gradient[key_value.range.clone()];
        weight_gradient(
            isa,
            network.parameters.precision(),
            tokens,
            key_value.out,
            key_value.inp,
            &s.key_values,
            &a.normal,
            dkey_value,
            &mut s.packed,
        );
        reserve(&mut s.normal, tokens * w.hidden);
        back(
            network,
            key_value,
            tokens,
            &s.key_values,
            &mut s.normal,
            false,
        );
        if asking.whole {
            back(network, query, rows, &s.raw_queries, &mut s.normal, true);
        } else {
            reserve(&mut s.asking, rows * w.hidden);
            back(network, query, rows, &s.raw_queries, &mut s.asking, false);
            scatter_add(isa, w.hidden, &asking.rows, &s.asking, &mut s.normal);
            reserve(&mut s.input, tokens * w.hidden);
            s.input[..tokens * w.hidden].fill(0.0);
            scatter_add(isa, w.hidden, &asking.rows, &s.output, &mut s.input);
            std::mem::swap(&mut s.input, &mut s.output);
        }
        rms_norm_backward(
            isa,
            network.hidden_norm(),
            tokens,
            &a.input,
            w.hidden,
            network.values(&layer.input_norm),
            &a.input_inverse,
            &s.normal,
            w.hidden,
            &mut s.output,
            w.hidden,
            true,
            &mut self.gradient[layer.input_norm.clone()],
        );
    }
}

/// dx (rows, inp) = dy (rows, out) W, added to dx if `add`.
fn back(network: Network<'_>, matrix: &Matrix, rows: usize, dy: &[f32], dx: &mut [f32], add: bool) {
    let (isa, panels) = (network.isa, &network.parameters.backward);
    let (range, out, inp) = (&matrix.range, matrix.out, matrix.inp);
    panels.multiply(isa, range, rows, out, inp, dy, dx, add);
}

/// Values of one sequence as (key heads, head width, stride), zero past its end.
fn transpose_values(
    network: Network<'_>,
    a: &Activations,
    span: &std::ops::Range<usize>,
    stride: usize,
    out: &mut Vec<f32>,
) {
    let w = network.layout.widths;
    reserve(out, w.keys * stride);
    out[..w.keys * stride].fill(0.0);
    for (t, row) in span.clone().enumerate() {
        let values = &a.key_values[row * 2 * w.keys + w.keys..][..w.keys];
        for (d, &x) in values.iter().enumerate() {
            out[d * stride + t] = x;
        }
    }
}
