//! Layers of linear attention: projections, the convolution, the gated delta rule, and the gated norm after it.
//!
//! One file above 400 lines: the forward pass of such a layer and its backward stand side by side.

use std::ops::Range;

use moevolve_kernels::delta::{
    self, Sizes, Tokens, convolve, convolve_backward, recall_backward, silu, silu_backward,
};
use moevolve_kernels::{padded, reserve};

use super::block::sigmoid;
use super::gradients::WeightGradients;
use super::{Activations, Cpu, KvCache};
use crate::batch::{Packed, Paged, QueryRows};
use crate::layout::{Layer, LinearAttention, Mixer};
use crate::linear::Product;

/// What the backward pass reads; rows are those of all tokens.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// (tokens, channels): queries, keys and values, before the convolution, after it, and after its silu.
    channels: Vec<f32>,
    convolved: Vec<f32>,
    activated: Vec<f32>,
    /// (tokens, values).
    gate: Vec<f32>,
    /// (tokens, value heads): products.
    strengths: Vec<f32>,
    decays: Vec<f32>,
    /// (value heads, tokens): how much of a value is taken in, and what a state is multiplied by.
    strength: Vec<f32>,
    decay: Vec<f32>,
    /// (value heads, tokens, padded value width).
    recalled: Vec<f32>,
}

/// Floats that a layer keeps of a text: its states, and the rows that the next convolution sees.
pub fn floats(sizes: Sizes) -> usize {
    sizes.value_heads * sizes.state() + (sizes.taps - 1) * sizes.channels()
}

/// One head's tokens of one sequence: where they are, the state before them, and where what it recalls goes.
struct Part<'a> {
    head: usize,
    rows: Range<usize>,
    state: &'a mut [f32],
    out: &'a mut [f32],
}

impl Cpu<'_> {
    fn sizes(&self) -> Sizes {
        let linear = self.config.linear.as_ref();
        linear.expect("a layer of linear attention has sizes").sizes
    }

    fn linear(&self, layer: usize) -> &LinearAttention {
        match &self.layout.layers[layer].mixer {
            Mixer::Linear(linear) => linear,
            Mixer::Attention(_) => panic!("a layer with keys has no states"),
        }
    }

    /// Every sequence from its beginning.
    pub(super) fn recall_packed(
        &self,
        layer: usize,
        batch: &Packed,
        rows: &QueryRows,
        input: &[f32],
        a: &mut Activations,
    ) {
        let linear = self.linear(layer);
        let size = floats(self.sizes());
        let mut states = vec![0.0; batch.all.spans.len() * size];
        let mut parts: Vec<&mut [f32]> = states.chunks_exact_mut(size).collect();
        self.mix(
            linear,
            &batch.all,
            &batch.all.spans,
            rows,
            input,
            &mut parts,
            a,
        );
    }

    /// Every sequence from the states of its last block on.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn recall_blocks(
        &self,
        layer: usize,
        cache: &KvCache,
        sequences: &[Paged<'_>],
        all: &QueryRows,
        rows: &QueryRows,
        input: &[f32],
        a: &mut Activations,
    ) {
        let linear = self.linear(layer);
        let size = floats(self.sizes());
        let mut states = cache.take_states(sequences, linear.index == 0);
        let (mut spans, mut start) = (Vec::new(), 0);
        for sequence in sequences {
            spans.push(start..start + sequence.tokens);
            start += sequence.tokens;
        }
        let own = linear.index * size..(linear.index + 1) * size;
        let mut parts: Vec<&mut [f32]> = Vec::new();
        for states in &mut states {
            parts.push(states.get_mut(own.clone()).unwrap_or_default());
        }
        self.mix(linear, all, &spans, rows, input, &mut parts, a);
        cache.put_states(sequences, states);
    }

    /// The layer over all rows, of which `spans` are sequences that go on from `states`; `attended` of `rows`.
    #[allow(clippy::too_many_arguments)]
    fn mix(
        &self,
        linear: &LinearAttention,
        all: &QueryRows,
        spans: &[Range<usize>],
        rows: &QueryRows,
        input: &[f32],
        states: &mut [&mut [f32]],
        a: &mut Activations,
    ) {
        let (sizes, w, tokens) = (self.sizes(), self.layout.widths, all.len());
        let width = padded(sizes.value);
        self.project_linear(linear, all, input, a);
        let kept = &mut a.linear;
        reserve(&mut kept.convolved, tokens * w.channels);
        reserve(&mut kept.activated, tokens * w.channels);
        reserve(&mut kept.recalled, sizes.value_heads * tokens * width);
        let taps = self.weights.vector(&linear.taps);
        let memory = sizes.value_heads * sizes.state();
        for (span, state) in spans.iter().zip(states.iter_mut()) {
            if !span.is_empty() {
                let range = span.start * w.channels..span.end * w.channels;
                let (x, y) = (&kept.channels[range.clone()], &mut kept.convolved[range]);
                convolve(
                    sizes,
                    span.len(),
                    taps,
                    &mut state[memory..],
                    x,
                    y,
                    w.channels,
                );
            }
        }
        let all_channels = tokens * w.channels;
        silu(
            self.isa,
            &kept.convolved[..all_channels],
            &mut kept.activated[..all_channels],
        );

        let Kept {
            recalled,
            activated: values,
            strength,
            decay,
            ..
        } = kept;
        let (values, strength, decay) = (&*values, &*strength, &*decay);
        let mut parts: Vec<Part<'_>> = Vec::new();
        let mut outs =
            recalled[..sizes.value_heads * tokens * width].chunks_exact_mut(tokens.max(1) * width);
        let mut heads: Vec<_> = states
            .iter_mut()
            .map(|state| {
                let memory = memory.min(state.len());
                state[..memory].chunks_exact_mut(sizes.state())
            })
            .collect();
        for head in 0..sizes.value_heads {
            let mut out = outs.next().unwrap_or_default();
            for (span, states) in spans.iter().zip(&mut heads) {
                let (now, later) = out.split_at_mut(span.len() * width);
                out = later;
                if let Some(state) = states.next().filter(|_| !span.is_empty()) {
                    parts.push(Part {
                        head,
                        rows: span.clone(),
                        state,
                        out: now,
                    });
                }
            }
        }
        self.pool.each(&mut parts, &|part, _| {
            let Part {
                head,
                rows,
                state,
                out,
            } = part;
            let tokens = of_head(w.channels, tokens, values, [strength, decay], *head, rows);
            delta::recall(self.isa, sizes, *head, tokens, state, out);
        });
        self.normalise_gated(linear, tokens, rows, a);
    }

    /// The layer's products, and what follows from them for each token and head.
    fn project_linear(
        &self,
        linear: &LinearAttention,
        all: &QueryRows,
        input: &[f32],
        a: &mut Activations,
    ) {
        let (sizes, w, tokens) = (self.sizes(), self.layout.widths, all.len());
        let Activations {
            linear: kept,
            normal,
            input_inverse,
            ..
        } = a;
        reserve(input_inverse, tokens);
        reserve(normal, tokens * w.hidden);
        reserve(&mut kept.channels, tokens * w.channels);
        reserve(&mut kept.gate, tokens * w.values);
        reserve(&mut kept.strengths, tokens * w.value_heads);
        reserve(&mut kept.decays, tokens * w.value_heads);
        reserve(&mut kept.strength, sizes.value_heads * tokens);
        reserve(&mut kept.decay, sizes.value_heads * tokens);
        let gain = &self.layout.layers[self.layer_of(linear)].input_norm;
        self.normalise(tokens, input, gain, normal, input_inverse);
        let products = [
            (&linear.channels, &mut kept.channels),
            (&linear.gate, &mut kept.gate),
            (&linear.strength, &mut kept.strengths),
            (&linear.decay, &mut kept.decays),
        ];
        let mut products = products.map(|(matrix, y)| Product {
            matrix,
            rows: tokens,
            x: normal,
            y,
            classes: &all.classes,
        });
        self.multiply(&mut products, false);
        let bias = self.weights.vector(&linear.decay_bias);
        let rate = self.weights.vector(&linear.rate);
        for token in 0..tokens {
            for head in 0..sizes.value_heads {
                let (from, to) = (token * w.value_heads + head, head * tokens + token);
                kept.strength[to] = sigmoid(kept.strengths[from]);
                let (_, _, log) = logarithm(kept.decays[from], bias[head], rate[head]);
                kept.decay[to] = log.exp() as f32;
            }
        }
    }

    /// The layer that has this part.
    fn layer_of(&self, linear: &LinearAttention) -> usize {
        let same = |layer: &Layer| match &layer.mixer {
            Mixer::Linear(other) => other.index == linear.index,
            Mixer::Attention(_) => false,
        };
        let found = self.layout.layers.iter().position(same);
        found.expect("a layer's part is in its layout")
    }

    /// What the heads recall, each normalised and gated: `attended` (rows, values).
    fn normalise_gated(
        &self,
        linear: &LinearAttention,
        tokens: usize,
        rows: &QueryRows,
        a: &mut Activations,
    ) {
        let (sizes, w) = (self.sizes(), self.layout.widths);
        let width = padded(sizes.value);
        let norm = self.weights.vector(&linear.norm);
        reserve(&mut a.attended, rows.len() * w.values);
        let mut open = vec![0.0; w.values];
        for (row, to) in rows.rows.iter().zip(a.attended.chunks_exact_mut(w.values)) {
            let token = *row as usize;
            silu(
                self.isa,
                &a.linear.gate[token * w.values..][..w.values],
                &mut open,
            );
            to[sizes.value_heads * sizes.value..].fill(0.0);
            for head in 0..sizes.value_heads {
                let from = &a.linear.recalled[(head * tokens + token) * width..][..sizes.value];
                let scale = inverse(from, self.config.epsilon);
                let at = head * sizes.value..(head + 1) * sizes.value;
                let gates = open[at.clone()].iter().zip(norm);
                for ((to, x), (open, gain)) in to[at].iter_mut().zip(from).zip(gates) {
                    *to = gain * (x * scale) * open;
                }
            }
        }
    }
}

/// A head's tokens of a sequence.
fn of_head<'a>(
    step: usize,
    tokens: usize,
    values: &'a [f32],
    [strength, decay]: [&'a [f32]; 2],
    head: usize,
    rows: &Range<usize>,
) -> Tokens<'a> {
    let own = head * tokens + rows.start..head * tokens + rows.end;
    Tokens {
        rows: rows.len(),
        values: &values[rows.start * step..],
        step,
        decay: &decay[own.clone()],
        strength: &strength[own],
    }
}

/// Of a decay: what is added up, the rate, and the logarithm -e^rate softplus(x + bias).
fn logarithm(x: f32, bias: f32, rate: f32) -> (f64, f64, f64) {
    let sum = f64::from(x + bias);
    let soft = if sum > 20.0 { sum } else { sum.exp().ln_1p() };
    let rate = f64::from(rate).exp();
    (sum, rate, -rate * soft)
}

/// 1 / sqrt(mean(x²) + epsilon).
fn inverse(x: &[f32], epsilon: f32) -> f32 {
    let squares = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>();
    ((squares / x.len() as f64 + f64::from(epsilon))
        .sqrt()
        .recip()) as f32
}

/// Gradients of the layer from that of its output: `dnormal` (tokens, hidden) is written.
pub(super) fn backward(
    weights: &mut WeightGradients<'_>,
    layer: &Layer,
    batch: &Packed,
    rows: &QueryRows,
    (kept, normal, attended): (&Kept, &[f32], &[f32]),
    doutput: &[f32],
    dnormal: &mut [f32],
) {
    let Mixer::Linear(linear) = &layer.mixer else {
        return;
    };
    let cpu = weights.cpu;
    let (sizes, w, isa) = (cpu.sizes(), cpu.layout.widths, cpu.isa);
    let (count, tokens, width) = (rows.len(), batch.len(), padded(sizes.value));
    weights.matrix(&linear.output, count, doutput, attended);
    let mut dattended = vec![0.0; count * w.values];
    weights.input(&linear.output, count, doutput, &mut dattended, false);

    // Through the gates and the norm.
    let norm = cpu.weights.vector(&linear.norm).to_vec();
    let mut dgate = vec![0.0; tokens * w.values];
    let mut drecalled = vec![0.0; sizes.value_heads * tokens * width];
    let (mut open, mut dopen) = (vec![0.0; w.values], vec![0.0; w.values]);
    let dnorm = weights.vector(&linear.norm);
    for (row, slopes) in rows.rows.iter().zip(dattended.chunks_exact(w.values)) {
        let token = *row as usize;
        let gate = &kept.gate[token * w.values..][..w.values];
        silu(isa, gate, &mut open);
        dopen.fill(0.0);
        for head in 0..sizes.value_heads {
            let at = (head * tokens + token) * width;
            let from = &kept.recalled[at..][..sizes.value];
            let scale = inverse(from, cpu.config.epsilon);
            let first = head * sizes.value;
            let mut along = 0.0;
            for (d, &x) in from.iter().enumerate() {
                let (slope, n) = (slopes[first + d], x * scale);
                dnorm[d] += slope * n * open[first + d];
                dopen[first + d] = slope * norm[d] * n;
                along += slope * norm[d] * open[first + d] * n;
            }
            along /= sizes.value as f32;
            for (d, &x) in from.iter().enumerate() {
                let dn = slopes[first + d] * norm[d] * open[first + d];
                drecalled[at + d] = scale * (dn - x * scale * along);
            }
        }
        silu_backward(
            isa,
            gate,
            &dopen,
            &mut dgate[token * w.values..][..w.values],
        );
    }

    // Through the delta rule, head by head.
    let mut dactivated = vec![0.0; tokens * w.channels];
    let mut dstrengths = vec![0.0; tokens * w.value_heads];
    let mut ddecays = vec![0.0; tokens * w.value_heads];
    let bias = cpu.weights.vector(&linear.decay_bias);
    let rate = cpu.weights.vector(&linear.rate);
    let mut drate = vec![0.0; w.value_heads];
    for span in batch.all.spans.iter().filter(|span| !span.is_empty()) {
        let (mut ddecay, mut dstrength) = (vec![0.0; span.len()], vec![0.0; span.len()]);
        for head in 0..sizes.value_heads {
            let of = [&kept.strength[..], &kept.decay[..]];
            let of_span = of_head(w.channels, tokens, &kept.activated, of, head, span);
            recall_backward(
                isa,
                sizes,
                head,
                of_span,
                &drecalled[(head * tokens + span.start) * width..],
                &mut dactivated[span.start * w.channels..],
                &mut ddecay,
                &mut dstrength,
            );
            for (at, token) in span.clone().enumerate() {
                let to = token * w.value_heads + head;
                let (strength, decay) = (of_span.strength[at], of_span.decay[at]);
                dstrengths[to] = dstrength[at] * strength * (1.0 - strength);
                let (sum, speed, log) = logarithm(kept.decays[to], bias[head], rate[head]);
                let slope = f64::from(ddecay[at] * decay);
                ddecays[to] = (-slope * speed / (1.0 + (-sum).exp())) as f32;
                drate[head] += (slope * log) as f32;
            }
        }
    }
    for (to, from) in weights.vector(&linear.rate).iter_mut().zip(&drate) {
        *to += from;
    }
    weights.add_bias(tokens, &ddecays, &linear.decay_bias);

    // Through the convolution.
    let mut dconvolved = vec![0.0; tokens * w.channels];
    silu_backward(
        isa,
        &kept.convolved[..tokens * w.channels],
        &dactivated,
        &mut dconvolved,
    );
    let mut dchannels = vec![0.0; tokens * w.channels];
    let taps = cpu.weights.vector(&linear.taps);
    let dtaps = weights.vector(&linear.taps);
    for span in &batch.all.spans {
        let range = span.start * w.channels..span.end * w.channels;
        convolve_backward(
            sizes,
            taps,
            &kept.channels[range.clone()],
            &dconvolved[range.clone()],
            &mut dchannels[range],
            dtaps,
            w.channels,
        );
    }

    let slopes = [
        (&linear.channels, &dchannels),
        (&linear.gate, &dgate),
        (&linear.strength, &dstrengths),
        (&linear.decay, &ddecays),
    ];
    for (at, (matrix, dy)) in slopes.into_iter().enumerate() {
        weights.matrix(matrix, tokens, dy, normal);
        weights.input(matrix, tokens, dy, dnormal, at > 0);
    }
}
