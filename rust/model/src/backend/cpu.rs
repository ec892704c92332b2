//! The network's blocks on the processor, over `moevolve-kernels`.
//!
//! One file above 400 lines: one `impl` of the backend's trait, in the trait's order.

mod attention;
mod backward;
mod block;
mod cache;
mod gradients;
mod linear;
mod loss;
mod sample;
mod shared;
mod trained;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Mutex;

use moevolve_kernels::attention::{Heads, Reach};
use moevolve_kernels::experts::{Saved, Scratch};
use moevolve_kernels::norm::Norm;
use moevolve_kernels::rope::Rotary;
use moevolve_kernels::worker_pool::WorkerPool;
use moevolve_kernels::{Isa, LANES, reserve};

use super::{Backend, Device, Host};
use crate::batch::{Packed, Paged, QueryRows};
use crate::config::Config;
use crate::draw::Sampler;
use crate::family::QkNorm;
use crate::layout::Layout;
use crate::linear::{Product, Weights};
use crate::objective::{LossTargets, Sums};

pub use backward::ActivationGradients;
pub use cache::KvCache;
pub(crate) use sample::{DrawScratch, Rows, draw};
pub(crate) use trained::balance;
pub use trained::{Trained, Values};

/// Prompt tokens that a step reads where workers take whole samples: while others wait for their next token, and while
/// none does.
const PREFILL: [usize; 2] = [256, 1024];
/// The same where products are split over the pool: a step takes long, and reads less at a time.
const PREFILL_SPLIT: [usize; 2] = [64, 256];

/// A network in this process's memory: everything a pass reads.
#[derive(Clone, Copy)]
pub struct Cpu<'a> {
    pub config: &'a Config,
    pub layout: &'a Layout,
    pub weights: &'a dyn Weights,
    /// Shares out samples, sequences, and the products of weights that want it.
    pub pool: &'a WorkerPool,
    pub rotary: &'a Rotary,
    pub isa: Isa,
}

/// This process's memory.
pub struct Memory;

impl Device for Memory {
    type Buffer = Vec<f32>;
    type Activations = Activations;
    type Head = Head;
    type Workspace = Workspace;
    type ActivationGradients = ActivationGradients;
    type KvCache = KvCache;
}

/// Activations of one layer; the backward pass reads them. `tokens` are all rows, `rows` those that the layer computes.
#[derive(Clone, Debug, Default)]
pub struct Activations {
    /// (tokens): 1/rms of the input.
    input_inverse: Vec<f32>,
    /// (tokens, hidden): normalised input.
    normal: Vec<f32>,
    /// (rows, hidden): the part of `normal` that queries are made of, unless it is all.
    query_normal: Vec<f32>,
    /// (rows, queries) before normalisation.
    raw_queries: Vec<f32>,
    /// (tokens, 2 × keys): keys before normalisation, then values.
    key_values: Vec<f32>,
    query_inverse: Vec<f32>,
    key_inverse: Vec<f32>,
    /// (rows, queries), normalised and rotated.
    queries: Vec<f32>,
    /// (tokens, keys), normalised and rotated.
    keys: Vec<f32>,
    /// (rows, heads, stride).
    probabilities: Vec<f32>,
    /// (rows, queries).
    attended: Vec<f32>,
    /// (rows, hidden): after the attention's residual.
    middle: Vec<f32>,
    middle_inverse: Vec<f32>,
    middle_normal: Vec<f32>,
    experts: Saved,
    /// (rows, 2 × queries): each head's query and its gate, where there are gates; then both apart, and what attention gives
    /// times the gates' sigmoids: (rows, queries).
    asked: Vec<f32>,
    gates: Vec<f32>,
    gated: Vec<f32>,
    linear: linear::Kept,
    shared: shared::Kept,
}

/// Activations after the last layer.
#[derive(Debug, Default)]
pub struct Head {
    inverse: Vec<f32>,
    /// (rows, hidden).
    normal: Vec<f32>,
    /// (rows, padded vocabulary).
    logits: Vec<f32>,
    /// One a thread.
    scratch: Vec<Mutex<DrawScratch>>,
}

/// Buffers that hold nothing between blocks.
#[derive(Debug, Default)]
pub struct Workspace {
    /// Normalised rows between margins, before rotation.
    unrotated: Vec<f32>,
    key_cache: Vec<f32>,
    value_cache: Vec<f32>,
    experts: Scratch,
    /// Scores of a worker's query row, one a thread.
    scores: Vec<Mutex<Vec<f32>>>,
}

impl Cpu<'_> {
    fn heads(&self) -> Heads {
        Heads {
            queries: self.config.heads,
            keys: self.config.key_heads,
            width: self.layout.widths.head,
            scale: (self.config.head as f32).sqrt().recip(),
        }
    }

    /// Floats of the states that layers of linear attention have of a sequence.
    fn states(&self) -> usize {
        self.config.linear.as_ref().map_or(0, |linear| {
            linear.count(self.config.layers) * linear::floats(linear.sizes)
        })
    }

    /// What a layer's rows see.
    fn reach(&self, layer: usize) -> Reach<'_> {
        let sinks = self.layout.layers[layer].attention().sinks.as_ref();
        Reach {
            window: self.config.windows.of(layer),
            sinks: sinks.map_or(&[], |sinks| {
                &self.weights.vector(sinks)[..self.config.heads]
            }),
        }
    }

    /// Of queries or keys: each of `heads` heads alone, or all at once before they are split.
    fn heads_norm(&self, heads: usize) -> Norm {
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

    fn hidden_norm(&self) -> Norm {
        Norm {
            groups: 1,
            width: self.layout.widths.hidden,
            count: self.config.hidden,
            epsilon: self.config.epsilon,
        }
    }

    /// A norm's gain: its weight, or one more.
    fn gain(&self, range: &Range<usize>) -> Cow<'_, [f32]> {
        let weight = self.weights.vector(range);
        if self.config.family.describe().extras.centred {
            Cow::Owned(weight.iter().map(|w| 1.0 + w).collect())
        } else {
            Cow::Borrowed(weight)
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
        let (norm, gain) = (self.hidden_norm(), self.gain(gain));
        let (rms_norm, step) = (self.weights.arithmetic().rms_norm, norm.width);
        rms_norm(self.isa, norm, rows, x, step, &gain, y, step, inverse);
    }

    fn multiply(&self, products: &mut [Product<'_>], add: bool) {
        self.weights.forward(self.isa, self.pool, products, add);
    }
}

impl Backend for Cpu<'_> {
    type Device = Memory;

    fn host(&self) -> Host<'_> {
        Host {
            config: self.config,
            pool: self.pool,
            isa: self.isa,
        }
    }

    fn prefill(&self) -> [usize; 2] {
        if self.weights.splits_products() {
            PREFILL_SPLIT
        } else {
            PREFILL
        }
    }

    fn kv_cache(&self) -> KvCache {
        KvCache::new(self.layout.keyed() * self.heads().lines(), self.states())
    }

    /// As the system counts it; without a count, little.
    fn free_memory(&self) -> usize {
        let told = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kilobytes = told
            .lines()
            .find_map(|line| line.strip_prefix("MemAvailable:"))
            .and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<usize>().ok());
        kilobytes.map_or(1 << 30, |kilobytes| kilobytes << 10)
    }

    fn block_bytes(&self) -> usize {
        // A network without keys still counts positions by blocks.
        self.layout.keyed().max(1) * self.heads().lines() * LANES * size_of::<f32>()
    }

    fn state_bytes(&self) -> usize {
        self.states() * size_of::<f32>()
    }

    fn by_class(&self) -> bool {
        self.weights.by_class()
    }

    fn reserve_kv(&self, cache: &KvCache, count: usize) {
        cache.reserve(count);
    }

    fn trim_kv(&self, cache: &KvCache, count: usize) {
        cache.trim(count);
    }

    fn copy_kv(&self, cache: &KvCache, from: u32, to: u32) {
        cache.copy(from, to);
    }

    fn upload(&self, values: &[f32], buffer: &mut Vec<f32>) {
        buffer.clear();
        buffer.extend_from_slice(values);
    }

    fn download<'b>(&self, buffer: &'b Vec<f32>) -> Cow<'b, [f32]> {
        Cow::Borrowed(buffer)
    }

    fn embed(&self, ids: &[u32], out: &mut Vec<f32>) {
        reserve(out, ids.len() * self.layout.widths.hidden);
        let embedding = &self.layout.embedding;
        self.weights.embed(self.isa, embedding, ids, out);
    }

    fn qkv(
        &self,
        layer: usize,
        all: &QueryRows,
        rows: &QueryRows,
        input: &Vec<f32>,
        a: &mut Activations,
        w: &mut Workspace,
    ) {
        self.project(&self.layout.layers[layer], all, rows, input, a, w);
    }

    fn attend(
        &self,
        layer: usize,
        batch: &Packed,
        rows: &QueryRows,
        keep: bool,
        a: &mut Activations,
        w: &mut Workspace,
    ) {
        self.attend_packed(layer, batch, rows, keep, a, w);
    }

    fn append_kv(
        &self,
        layer: usize,
        cache: &KvCache,
        sequences: &[Paged<'_>],
        a: &Activations,
        _: &mut Workspace,
    ) {
        let (w, order) = (self.layout.widths, self.key_order(layer));
        let layer = self.layout.layers[layer].attention().index;
        cache.append(
            self.heads(),
            layer,
            sequences,
            w.keys,
            &a.keys,
            &a.key_values,
            order,
        );
    }

    fn attend_paged(
        &self,
        layer: usize,
        cache: &KvCache,
        sequences: &[Paged<'_>],
        rows: &QueryRows,
        a: &mut Activations,
        w: &mut Workspace,
    ) {
        self.attend_blocks(layer, cache, sequences, rows, a, w);
    }

    fn recall(
        &self,
        layer: usize,
        batch: &Packed,
        rows: &QueryRows,
        input: &Vec<f32>,
        a: &mut Activations,
        _: &mut Workspace,
    ) {
        self.recall_packed(layer, batch, rows, input, a);
    }

    fn recall_paged(
        &self,
        layer: usize,
        cache: &KvCache,
        sequences: &[Paged<'_>],
        all: &QueryRows,
        rows: &QueryRows,
        input: &Vec<f32>,
        a: &mut Activations,
        _: &mut Workspace,
    ) {
        self.recall_blocks(layer, cache, sequences, all, rows, input, a);
    }

    fn forget_states(&self, cache: &KvCache, block: u32) {
        cache.forget_states(block);
    }

    fn mlp_or_moe(
        &self,
        layer: usize,
        rows: &QueryRows,
        input: &Vec<f32>,
        keep: bool,
        a: &mut Activations,
        w: &mut Workspace,
        out: &mut Vec<f32>,
    ) {
        self.after_attention(layer, rows, input, keep, a, w, out);
    }

    fn count_experts(&self, a: &Activations, load: &mut [u64]) {
        for (e, load) in load.iter_mut().enumerate() {
            *load += a.experts.routing.rows_of(e).len() as u64;
        }
    }

    fn logits(&self, rows: usize, output: &Vec<f32>, head: &mut Head) {
        let w = self.layout.widths;
        reserve(&mut head.inverse, rows);
        reserve(&mut head.normal, rows * w.hidden);
        reserve(&mut head.logits, rows * w.vocabulary);
        let gain = &self.layout.final_norm;
        self.normalise(rows, output, gain, &mut head.normal, &mut head.inverse);
        let product = Product {
            matrix: &self.layout.head,
            rows,
            x: &head.normal,
            y: &mut head.logits,
            classes: &[],
        };
        self.multiply(&mut [product], false);
    }

    fn logits_of<'h>(&self, head: &'h Head) -> Cow<'h, [f32]> {
        Cow::Borrowed(&head.logits)
    }

    fn hidden_of<'h>(&self, head: &'h Head) -> Cow<'h, [f32]> {
        Cow::Borrowed(&head.normal)
    }

    fn sample(&self, head: &mut Head, samplers: &mut [impl Sampler]) {
        let rows = Rows {
            isa: self.isa,
            vocabulary: self.config.vocabulary,
            width: self.layout.widths.vocabulary,
            logits: &head.logits,
        };
        draw(self.pool, rows, &mut head.scratch, samplers);
    }

    fn loss(&self, targets: LossTargets<'_>, head: &mut Head, sums: &mut Sums) -> f64 {
        self.loss_and_gradient(targets, &mut head.logits, sums)
    }

    fn clear_gradient(&self, gradient: &mut Vec<f32>) {
        gradient.clear();
        gradient.resize(self.weights.trained(), 0.0);
    }

    fn mask_gradient(&self, gradient: &mut Vec<f32>) {
        self.weights.mask(gradient);
    }

    fn logits_backward(
        &self,
        rows: usize,
        output: &Vec<f32>,
        head: &Head,
        d: &mut ActivationGradients,
        gradient: &mut Vec<f32>,
    ) {
        self.backward_of(gradient, d).logits(rows, output, head);
    }

    fn mlp_or_moe_backward(
        &self,
        layer: usize,
        rows: &QueryRows,
        a: &Activations,
        w: &mut Workspace,
        d: &mut ActivationGradients,
        gradient: &mut Vec<f32>,
    ) {
        self.backward_of(gradient, d)
            .mlp_or_moe(layer, rows.len(), a, w);
    }

    fn attend_backward(
        &self,
        layer: usize,
        batch: &Packed,
        rows: &QueryRows,
        a: &Activations,
        w: &mut Workspace,
        d: &mut ActivationGradients,
        gradient: &mut Vec<f32>,
    ) {
        self.backward_of(gradient, d)
            .attention(layer, batch, rows, a, w);
    }

    fn qkv_backward(
        &self,
        layer: usize,
        batch: &Packed,
        rows: &QueryRows,
        input: &Vec<f32>,
        a: &Activations,
        d: &mut ActivationGradients,
        gradient: &mut Vec<f32>,
    ) {
        self.backward_of(gradient, d)
            .projections(layer, batch, rows, input, a);
    }

    fn recall_backward(
        &self,
        layer: usize,
        batch: &Packed,
        rows: &QueryRows,
        input: &Vec<f32>,
        a: &Activations,
        d: &mut ActivationGradients,
        gradient: &mut Vec<f32>,
    ) {
        self.backward_of(gradient, d)
            .recall(layer, batch, rows, input, a);
    }

    fn embed_backward(&self, ids: &[u32], d: &ActivationGradients, gradient: &mut Vec<f32>) {
        self.scatter(ids, d, gradient);
    }
}
