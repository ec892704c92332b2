//! The decoder, backward: gradients of a chunk of sequences, block by block in reverse.

use moevolve_kernels::attention::{Saved, attend_backward};
use moevolve_kernels::experts;
use moevolve_kernels::loss::{cross_entropy, entropy, log_sum_exp};
use moevolve_kernels::norm::rms_norm_backward;
use moevolve_kernels::rope::rotate;
use moevolve_kernels::rows::{scatter_add, sum_rows};
use moevolve_kernels::{padded, reserve};

use crate::batch::{Asking, Packed};
use crate::decoder::{Activations, Buffers, Last, Network};
use crate::objective::{Aim, Objective, Sums};
use crate::reverse::{Scratch, Way};

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
}

/// What the asked rows of a chunk are to say, and how it counts.
pub struct Lesson<'a> {
    pub targets: &'a [u32],
    /// What each row counts in the loss of the batch.
    pub scale: &'a mut [f32],
    /// What each row is judged by, where it is not cross-entropy.
    pub policy: Option<(&'a Objective, &'a [Aim])>,
}

/// One shard of a batch: its activations, and the gradient it accumulates, in the layout of the parameters or of the
/// adapter.
#[derive(Clone, Debug, Default)]
pub struct Shard {
    pub gradient: Vec<f32>,
    /// (layers, experts): how many copies each expert got.
    pub load: Vec<u64>,
    /// Sum of scaled losses.
    pub loss: f64,
    /// What is told of a policy's tokens.
    pub sums: Sums,
    /// One a layer, or one in all where they are computed again on the way back.
    layers: Vec<Activations>,
    /// Inputs of the layers, where the rest is computed again.
    inputs: Vec<Vec<f32>>,
    again: Vec<f32>,
    buffers: Buffers,
    output: Vec<f32>,
    last: Last,
    slopes: Slopes,
    way: Scratch,
}

impl Shard {
    /// Forgets gradients, loads and losses. With `checkpointing` a layer's activations are computed again when the way
    /// back needs them, and only its input is kept.
    pub fn reset(&mut self, network: Network<'_>, checkpointing: bool) {
        let trained = match network.adapter {
            Some(adapter) => adapter.values.len(),
            None => network.layout.total,
        };
        self.gradient.clear();
        self.gradient.resize(trained, 0.0);
        self.load.clear();
        self.load
            .resize(network.config.layers * network.config.experts, 0);
        let layers = network.config.layers;
        let (kept, inputs) = if checkpointing {
            (1, layers)
        } else {
            (layers, 0)
        };
        self.layers.resize(kept, Activations::default());
        self.inputs.resize(inputs, Vec::new());
        self.loss = 0.0;
        self.sums = Sums::default();
    }

    /// Adds the gradients of a chunk.
    pub fn accumulate(&mut self, network: Network<'_>, batch: &Packed, mut lesson: Lesson<'_>) {
        self.forward(network, batch);
        let w = network.layout.widths;
        let rows = batch.asked.len();
        self.judge(network, &mut lesson);
        let Lesson {
            targets,
            scale,
            policy,
        } = lesson;
        let logits = &mut self.last.logits[..rows * w.vocabulary];
        let loss = cross_entropy(
            network.isa,
            network.config.vocabulary,
            w.vocabulary,
            targets,
            scale,
            logits,
        );
        if policy.is_none() {
            self.loss += loss;
        }
        self.head_backward(network, rows);
        for index in (0..network.config.layers).rev() {
            let asking = if index + 1 == network.config.layers {
                &batch.asked
            } else {
                &batch.every
            };
            let kept = self.recall(network, index, batch, asking);
            self.experts_backward(network, index, kept, asking.len());
            self.attention_backward(network, index, kept, batch, asking);
            self.projection_backward(network, index, kept, batch, asking);
        }
        if network.adapter.is_none() {
            let embedding = &mut self.gradient[network.layout.embedding.range.clone()];
            let (ids, slopes) = (&batch.ids, &self.slopes.output);
            scatter_add(network.isa, w.hidden, ids, slopes, embedding);
        }
    }

    /// Turns each row's share into its slope where a policy's loss is asked for: the gradient of a token is that of its
    /// cross-entropy times minus the slope of its loss by the log-probability.
    fn judge(&mut self, network: Network<'_>, lesson: &mut Lesson<'_>) {
        let Some((objective, aims)) = lesson.policy else {
            return;
        };
        let (vocabulary, width) = (network.config.vocabulary, network.layout.widths.vocabulary);
        let rows = self.last.logits.chunks_exact(width);
        for (row, (logits, aim)) in rows.zip(aims).enumerate() {
            let total = log_sum_exp(network.isa, vocabulary, logits);
            let logprob = logits[lesson.targets[row] as usize] - total;
            let token = objective.token(*aim, logprob);
            let share = f64::from(lesson.scale[row]);
            self.loss += share * token.loss;
            self.sums
                .add(&token, entropy(network.isa, vocabulary, logits));
            lesson.scale[row] = (-share * token.slope) as f32;
        }
    }

    fn forward(&mut self, network: Network<'_>, batch: &Packed) {
        let layers = &network.layout.layers;
        let checkpointing = !self.inputs.is_empty();
        network.embed(&batch.ids, &mut self.layers[0].input);
        for (index, layer) in layers.iter().enumerate() {
            let asking = if index + 1 == layers.len() {
                &batch.asked
            } else {
                &batch.every
            };
            let kept = if checkpointing { 0 } else { index };
            let (done, rest) = self.layers.split_at_mut(kept + 1);
            let a = &mut done[kept];
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
            if checkpointing {
                let length = batch.len() * network.layout.widths.hidden;
                let input = &mut self.inputs[index];
                reserve(input, length);
                input[..length].copy_from_slice(&a.input[..length]);
                if index + 1 < layers.len() {
                    std::mem::swap(&mut a.input, &mut self.output);
                }
            }
        }
        network.logits(batch.asked.len(), &self.output, &mut self.last);
    }

    /// Where a layer's activations are; computes them again if only its input was kept.
    fn recall(
        &mut self,
        network: Network<'_>,
        index: usize,
        batch: &Packed,
        asking: &Asking,
    ) -> usize {
        let Some(input) = self.inputs.get(index) else {
            return index;
        };
        let (a, buffers) = (&mut self.layers[0], &mut self.buffers);
        let length = batch.len() * network.layout.widths.hidden;
        reserve(&mut a.input, length);
        a.input[..length].copy_from_slice(&input[..length]);
        let layer = &network.layout.layers[index];
        network.project(layer, &batch.every, asking, a, buffers);
        network.attend_packed(batch, asking, a, buffers, true);
        network.finish(index, asking, a, buffers, &mut self.again);
        0
    }

    fn head_backward(&mut self, network: Network<'_>, rows: usize) {
        let (w, isa) = (network.layout.widths, network.isa);
        let (head, s) = (&network.layout.head, &mut self.slopes);
        let mut way = Way {
            network,
            gradient: &mut self.gradient,
            scratch: &mut self.way,
        };
        reserve(&mut s.normal, rows * w.hidden);
        reserve(&mut s.output, rows * w.hidden);
        let logits = &self.last.logits;
        way.gradient_of(head, rows, logits, &self.last.normal);
        way.back_through(head, rows, logits, &mut s.normal, false);
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
            way.vector(&network.layout.final_norm),
        );
    }

    /// From the gradient of the layer's output in `slopes.output` to that of its middle, in the same buffer.
    fn experts_backward(&mut self, network: Network<'_>, index: usize, kept: usize, rows: usize) {
        let (layer, a) = (&network.layout.layers[index], &self.layers[kept]);
        let (w, isa, s) = (network.layout.widths, network.isa, &mut self.slopes);
        let mut way = Way {
            network,
            gradient: &mut self.gradient,
            scratch: &mut self.way,
        };
        reserve(&mut s.normal, rows * w.hidden);
        experts::backward(
            isa,
            network.layout.shape(network.config),
            &layer.experts,
            &mut way,
            rows,
            &a.middle_normal,
            &s.output,
            &mut s.normal,
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
            way.vector(&layer.middle_norm),
        );
    }

    /// To the gradients of the layer's queries, keys and values, still rotated.
    fn attention_backward(
        &mut self,
        network: Network<'_>,
        index: usize,
        kept: usize,
        batch: &Packed,
        asking: &Asking,
    ) {
        let (layer, a) = (&network.layout.layers[index], &self.layers[kept]);
        let (w, isa, s) = (network.layout.widths, network.isa, &mut self.slopes);
        let (rows, tokens) = (asking.len(), batch.len());
        let (heads, output) = (network.heads(), &layer.output);
        let mut way = Way {
            network,
            gradient: &mut self.gradient,
            scratch: &mut self.way,
        };
        way.gradient_of(output, rows, &s.output, &a.attended);
        if let Some(biases) = layer.biases.as_ref().filter(|_| way.whole()) {
            sum_rows(isa, rows, &s.output, way.vector(&biases.output));
        }
        reserve(&mut s.attended, rows * w.queries);
        way.back_through(output, rows, &s.output, &mut s.attended, false);

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

    /// To the gradient of the layer's input, in `slopes.output`.
    fn projection_backward(
        &mut self,
        network: Network<'_>,
        index: usize,
        kept: usize,
        batch: &Packed,
        asking: &Asking,
    ) {
        let (layer, a) = (&network.layout.layers[index], &self.layers[kept]);
        let (w, isa, s) = (network.layout.widths, network.isa, &mut self.slopes);
        let (rows, tokens, rotary) = (asking.len(), batch.len(), network.rotary);
        let mut way = Way {
            network,
            gradient: &mut self.gradient,
            scratch: &mut self.way,
        };
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
                way.vector(query_norm),
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
                way.vector(key_norm),
            );
        } else {
            s.raw_queries[..rows * w.queries].copy_from_slice(&s.attended[..rows * w.queries]);
            let keys = s.turned_keys[..tokens * w.keys].chunks_exact(w.keys);
            for (to, from) in s.key_values.chunks_exact_mut(2 * w.keys).zip(keys) {
                to[..w.keys].copy_from_slice(from);
            }
        }
        if let Some(biases) = layer.biases.as_ref().filter(|_| way.whole()) {
            sum_rows(isa, rows, &s.raw_queries, way.vector(&biases.query));
            sum_rows(isa, tokens, &s.key_values, way.vector(&biases.key_value));
        }

        let asks = if asking.whole { &a.normal } else { &a.asking };
        let (query, key_value) = (&layer.query, &layer.key_value);
        way.gradient_of(query, rows, &s.raw_queries, asks);
        way.gradient_of(key_value, tokens, &s.key_values, &a.normal);
        reserve(&mut s.normal, tokens * w.hidden);
        way.back_through(key_value, tokens, &s.key_values, &mut s.normal, false);
        if asking.whole {
            way.back_through(query, rows, &s.raw_queries, &mut s.normal, true);
        } else {
            reserve(&mut s.asking, rows * w.hidden);
            way.back_through(query, rows, &s.raw_queries, &mut s.asking, false);
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
            way.vector(&layer.input_norm),
        );
    }
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
