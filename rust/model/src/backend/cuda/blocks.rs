//! [`Backend`] for a card: what fails is kept in [`Card::failure`], and what follows a failure does nothing.

use std::borrow::Cow;

use moevolve_kernels_cuda::Result;
use moevolve_kernels_cuda::loss::{Logits, cross_entropy, log_probabilities};

use super::Card;
use super::cache::KvCache;
use super::memory::{ActivationGradients, Activations, Buffer, CardMemory, Head, Workspace};
use crate::backend::cpu::{Rows, draw};
use crate::backend::{Backend, Host};
use crate::batch::{Packed, Paged, QueryRows};
use crate::draw::Sampler;
use crate::objective::{LossTargets, Sums};

/// Prompt tokens that a step reads: while others wait for their next token, and while none does.
const PREFILL: [usize; 2] = [512, 4096];

/// See [`super::obstacle`].
const NO_RECALL: &str = "a network with linear attention is refused before it comes to a card";

impl Card<'_> {
    fn attempt(&self, work: impl FnOnce() -> Result<()>) {
        self.failure.attempt(work);
    }

    fn loss_and_gradient(
        &self,
        targets: LossTargets<'_>,
        head: &Head,
        sums: &mut Sums,
    ) -> Result<f64> {
        let LossTargets {
            tokens,
            scale,
            policy,
        } = targets;
        let logits = Logits {
            at: head.logits.address(),
            rows: tokens.len(),
            vocabulary: self.config.vocabulary,
            width: self.layout.widths.vocabulary,
        };
        let mut loss = 0.0;
        if let Some((objective, targets)) = policy {
            let [logprobs, entropies] = log_probabilities(self.device(), logits, tokens)?;
            for (row, target) in targets.iter().enumerate() {
                let token = objective.token(*target, logprobs[row]);
                let share = f64::from(scale[row]);
                loss += share * token.loss;
                sums.add(&token, entropies[row]);
                scale[row] = (-share * token.slope) as f32;
            }
        }
        let entropies = cross_entropy(self.device(), logits, tokens, scale)?;
        Ok(if policy.is_none() { entropies } else { loss })
    }
}

impl Backend for Card<'_> {
    type Device = CardMemory;

    fn host(&self) -> Host<'_> {
        Host {
            config: self.config,
            pool: self.pool,
            isa: self.isa,
        }
    }

    fn prefill(&self) -> [usize; 2] {
        PREFILL
    }

    fn kv_cache(&self) -> KvCache {
        KvCache::default()
    }

    fn free_memory(&self) -> usize {
        let memory = self.failure.attempt(|| self.device().memory());
        memory.map_or(0, |[free, _]| free)
    }

    fn failed(&self) -> bool {
        self.failure.is_set()
    }

    fn block_bytes(&self) -> usize {
        4 * self.block_floats(0).0
    }

    fn reserve_kv(&self, cache: &KvCache, count: usize) {
        let floats = self.block_floats(0).0;
        self.attempt(|| cache.reserve(self.device(), floats, count));
    }

    fn trim_kv(&self, cache: &KvCache, count: usize) {
        cache.trim(count);
    }

    fn copy_kv(&self, cache: &KvCache, from: u32, to: u32) {
        self.attempt(|| cache.copy(self.device(), self.block_floats(0).0, from, to));
    }

    fn upload(&self, values: &[f32], buffer: &mut Buffer) {
        self.attempt(|| {
            let to = buffer.reserve(self.device(), values.len())?;
            let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_ne_bytes()).collect();
            self.device().upload(&bytes, to)
        });
    }

    fn download<'b>(&self, buffer: &'b Buffer) -> Cow<'b, [f32]> {
        Cow::Owned(self.failure.attempt(|| buffer.read()).unwrap_or_default())
    }

    fn embed(&self, ids: &[u32], out: &mut Buffer) {
        self.attempt(|| self.embed_rows(ids, out));
    }

    fn qkv(
        &self,
        layer: usize,
        all: &QueryRows,
        rows: &QueryRows,
        input: &Buffer,
        a: &mut Activations,
        _: &mut Workspace,
    ) {
        self.attempt(|| self.project(layer, all, rows, input, a));
    }

    fn attend(
        &self,
        _: usize,
        batch: &Packed,
        rows: &QueryRows,
        _: bool,
        a: &mut Activations,
        _: &mut Workspace,
    ) {
        self.attempt(|| self.attend_own(batch, rows, a));
    }

    fn append_kv(
        &self,
        layer: usize,
        cache: &KvCache,
        sequences: &[Paged<'_>],
        a: &Activations,
        w: &mut Workspace,
    ) {
        self.attempt(|| self.append_rows(layer, cache, sequences, a, w));
    }

    fn attend_paged(
        &self,
        layer: usize,
        _: &KvCache,
        sequences: &[Paged<'_>],
        rows: &QueryRows,
        a: &mut Activations,
        w: &mut Workspace,
    ) {
        self.attempt(|| self.attend_blocks(layer, sequences, rows, a, w));
    }

    fn recall(
        &self,
        _: usize,
        _: &Packed,
        _: &QueryRows,
        _: &Buffer,
        _: &mut Activations,
        _: &mut Workspace,
    ) {
        unreachable!("{NO_RECALL}")
    }

    fn recall_paged(
        &self,
        _: usize,
        _: &KvCache,
        _: &[Paged<'_>],
        _: &QueryRows,
        _: &QueryRows,
        _: &Buffer,
        _: &mut Activations,
        _: &mut Workspace,
    ) {
        unreachable!("{NO_RECALL}")
    }

    /// There are none.
    fn forget_states(&self, _: &KvCache, _: u32) {}

    fn mlp_or_moe(
        &self,
        layer: usize,
        rows: &QueryRows,
        input: &Buffer,
        _: bool,
        a: &mut Activations,
        _: &mut Workspace,
        out: &mut Buffer,
    ) {
        self.attempt(|| self.after_attention(layer, rows, input, a, out));
    }

    fn count_experts(&self, a: &Activations, load: &mut [u64]) {
        self.attempt(|| {
            let Some(saved) = &a.experts else {
                return Ok(());
            };
            let offsets = saved.routing.offsets.download()?;
            for (load, pair) in load.iter_mut().zip(offsets.windows(2)) {
                *load += u64::from(pair[1] - pair[0]);
            }
            Ok(())
        });
    }

    fn logits(&self, rows: usize, output: &Buffer, head: &mut Head) {
        // Also where nothing is computed any more: whoever reads rows reads so many.
        head.rows = rows;
        self.attempt(|| self.head(rows, output, head));
    }

    fn logits_of<'h>(&self, head: &'h Head) -> Cow<'h, [f32]> {
        let count = head.rows * self.layout.widths.vocabulary;
        let read = self.failure.attempt(|| head.logits.read_first(count));
        // Whoever asks reads rows before asking what failed.
        Cow::Owned(read.unwrap_or_else(|| vec![0.0; count]))
    }

    fn hidden_of<'h>(&self, head: &'h Head) -> Cow<'h, [f32]> {
        let count = head.rows * self.layout.widths.hidden;
        let read = self.failure.attempt(|| head.normal.read_first(count));
        Cow::Owned(read.unwrap_or_else(|| vec![0.0; count]))
    }

    /// On the processor, by the very code that draws there; nothing from a pass that failed.
    fn sample(&self, head: &mut Head, samplers: &mut [impl Sampler]) {
        let logits = self.logits_of(head).into_owned();
        if self.failed() {
            return;
        }
        let rows = Rows {
            isa: self.isa,
            vocabulary: self.config.vocabulary,
            width: self.layout.widths.vocabulary,
            logits: &logits,
        };
        draw(self.pool, rows, &mut head.scratch, samplers);
    }

    fn loss(&self, targets: LossTargets<'_>, head: &mut Head, sums: &mut Sums) -> f64 {
        let loss = self
            .failure
            .attempt(|| self.loss_and_gradient(targets, head, sums));
        loss.unwrap_or(f64::NAN)
    }

    fn clear_gradient(&self, gradient: &mut Buffer) {
        self.attempt(|| {
            let at = gradient.reserve(self.device(), self.layout.total)?;
            self.device().clear(at, 4 * self.layout.total)
        });
    }

    /// An adapter's gradient follows from that of the weights, which gives way to it.
    fn mask_gradient(&self, gradient: &mut Buffer) {
        let Some(adapter) = self.adapter else {
            return;
        };
        self.attempt(|| {
            if let Some(whole) = gradient.memory() {
                *gradient = self.weights.adapter_gradient(adapter, whole)?.into();
            }
            Ok(())
        });
    }

    fn logits_backward(
        &self,
        rows: usize,
        output: &Buffer,
        head: &Head,
        d: &mut ActivationGradients,
        gradient: &mut Buffer,
    ) {
        self.attempt(|| self.back_through_head(rows, output, head, d, gradient));
    }

    fn mlp_or_moe_backward(
        &self,
        layer: usize,
        rows: &QueryRows,
        a: &Activations,
        _: &mut Workspace,
        d: &mut ActivationGradients,
        gradient: &mut Buffer,
    ) {
        self.attempt(|| self.back_through_experts(layer, rows.len(), a, d, gradient));
    }

    fn attend_backward(
        &self,
        layer: usize,
        batch: &Packed,
        rows: &QueryRows,
        a: &Activations,
        _: &mut Workspace,
        d: &mut ActivationGradients,
        gradient: &mut Buffer,
    ) {
        self.attempt(|| self.back_through_attention(layer, batch, rows, a, d, gradient));
    }

    fn qkv_backward(
        &self,
        layer: usize,
        batch: &Packed,
        rows: &QueryRows,
        input: &Buffer,
        a: &Activations,
        d: &mut ActivationGradients,
        gradient: &mut Buffer,
    ) {
        self.attempt(|| self.back_through_projections(layer, batch, rows, input, a, d, gradient));
    }

    fn recall_backward(
        &self,
        _: usize,
        _: &Packed,
        _: &QueryRows,
        _: &Buffer,
        _: &Activations,
        _: &mut ActivationGradients,
        _: &mut Buffer,
    ) {
        unreachable!("{NO_RECALL}")
    }

    fn embed_backward(&self, ids: &[u32], d: &ActivationGradients, gradient: &mut Buffer) {
        self.attempt(|| self.back_through_embedding(ids, d, gradient));
    }
}
