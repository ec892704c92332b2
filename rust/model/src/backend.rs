//! What computes the network's blocks: [`crate::network`] walks over the layers, a backend does the work.

pub mod cpu;
pub mod cuda;

use std::borrow::Cow;

use moevolve_kernels::Isa;
use moevolve_kernels::adamw::AdamW;
use moevolve_kernels::worker_pool::WorkerPool;

use crate::batch::{Packed, Paged, QueryRows};
use crate::config::Config;
use crate::draw::Sampler;
use crate::error::Result;
use crate::objective::{LossTargets, Sums};

/// Memory of a device, in the forms that passes keep.
pub trait Device {
    /// Rows of floats.
    type Buffer: Default + Send;
    /// What a layer leaves for its backward pass, its input apart.
    type Activations: Default + Send;
    /// Final norm and logits.
    type Head: Default + Send;
    /// Buffers that hold nothing between blocks.
    type Workspace: Default + Send;
    /// Gradients of activations, from block to block.
    type ActivationGradients: Default + Send;
    /// Keys and values in blocks, by id.
    type KvCache: Send + Sync;
}

/// What there is beside a device: the configuration, and the processor's worker pool and instruction set.
#[derive(Clone, Copy)]
pub struct Host<'a> {
    pub config: &'a Config,
    pub pool: &'a WorkerPool,
    pub isa: Isa,
}

/// A network's blocks on a device. Shapes are those of the layout, padded.
pub trait Backend: Copy + Send + Sync {
    type Device: Device;

    fn host(&self) -> Host<'_>;

    /// Prompt tokens that a step of a scheduler reads: while samples wait for their next token, and while none does.
    fn prefill(&self) -> [usize; 2];

    /// A cache without blocks.
    fn kv_cache(&self) -> Cache<Self>;

    /// Bytes that the device has to give.
    fn free_memory(&self) -> usize;

    /// Whether the device failed: what follows then computes nothing, and who goes on step by step stops.
    fn failed(&self) -> bool {
        false
    }

    /// Bytes of one of its blocks.
    fn block_bytes(&self) -> usize;

    /// Bytes of the states that layers of linear attention have of a sequence, beside its blocks.
    fn state_bytes(&self) -> usize {
        0
    }

    /// Whether what a row computes depends on its batch class.
    fn by_class(&self) -> bool {
        false
    }

    /// Makes blocks below `count` exist.
    fn reserve_kv(&self, cache: &Cache<Self>, count: usize);

    /// Gives the memory of blocks from `count` on back; nobody uses them.
    fn trim_kv(&self, cache: &Cache<Self>, count: usize);

    /// Copies a block.
    fn copy_kv(&self, cache: &Cache<Self>, from: u32, to: u32);

    fn upload(&self, values: &[f32], buffer: &mut Buffer<Self>);

    fn download<'b>(&self, buffer: &'b Buffer<Self>) -> Cow<'b, [f32]>;

    /// Rows of the embedding: `out` (ids, hidden).
    fn embed(&self, ids: &[u32], out: &mut Buffer<Self>);

    /// Queries of `rows`, keys and values of `all` rows, normalised and rotated, from the layer's input (all, hidden).
    fn qkv(
        &self,
        layer: usize,
        all: &QueryRows,
        rows: &QueryRows,
        input: &Buffer<Self>,
        a: &mut Activations<Self>,
        w: &mut Workspace<Self>,
    );

    /// Attention within each packed sequence; `keep`: what the backward pass reads is left in `a`.
    fn attend(
        &self,
        layer: usize,
        batch: &Packed,
        rows: &QueryRows,
        keep: bool,
        a: &mut Activations<Self>,
        w: &mut Workspace<Self>,
    );

    /// Writes the keys and values of every row into the sequences' blocks, which nobody else uses at those positions.
    fn append_kv(
        &self,
        layer: usize,
        cache: &Cache<Self>,
        sequences: &[Paged<'_>],
        a: &Activations<Self>,
        w: &mut Workspace<Self>,
    );

    /// Attention to what the sequences' blocks hold, as [`Self::append_kv`] left them.
    fn attend_paged(
        &self,
        layer: usize,
        cache: &Cache<Self>,
        sequences: &[Paged<'_>],
        rows: &QueryRows,
        a: &mut Activations<Self>,
        w: &mut Workspace<Self>,
    );

    /// Linear attention within each packed sequence, from the layer's input. `keep` as for [`Self::attend`].
    #[allow(clippy::too_many_arguments)]
    fn recall(
        &self,
        layer: usize,
        batch: &Packed,
        rows: &QueryRows,
        input: &Buffer<Self>,
        a: &mut Activations<Self>,
        w: &mut Workspace<Self>,
    );

    /// The same from the states that the sequences' last blocks hold, which go on to the blocks that are last after it.
    #[allow(clippy::too_many_arguments)]
    fn recall_paged(
        &self,
        layer: usize,
        cache: &Cache<Self>,
        sequences: &[Paged<'_>],
        all: &QueryRows,
        rows: &QueryRows,
        input: &Buffer<Self>,
        a: &mut Activations<Self>,
        w: &mut Workspace<Self>,
    );

    /// Gives the memory of a block's states back.
    fn forget_states(&self, cache: &Cache<Self>, block: u32);

    /// Attention's output, the residual, and the block of experts or the dense one: `out` (rows, hidden). `keep` as for
    /// [`Self::attend`].
    #[allow(clippy::too_many_arguments)]
    fn mlp_or_moe(
        &self,
        layer: usize,
        rows: &QueryRows,
        input: &Buffer<Self>,
        keep: bool,
        a: &mut Activations<Self>,
        w: &mut Workspace<Self>,
        out: &mut Buffer<Self>,
    );

    /// Adds how many copies each expert of a layer got.
    fn count_experts(&self, a: &Activations<Self>, load: &mut [u64]);

    /// Final norm and logits (rows, padded vocabulary) of the last layer's output.
    fn logits(&self, rows: usize, output: &Buffer<Self>, head: &mut Head<Self>);

    /// Logits (rows, padded vocabulary) on the host.
    fn logits_of<'h>(&self, head: &'h Head<Self>) -> Cow<'h, [f32]>;

    /// The last hidden states, normalised, of the rows that the head has logits of, on the host: (rows, padded hidden).
    fn hidden_of<'h>(&self, head: &'h Head<Self>) -> Cow<'h, [f32]>;

    /// Draws tokens from rows of the logits, for every sampler until it has no draw to come.
    fn sample(&self, head: &mut Head<Self>, samplers: &mut [impl Sampler]);

    /// Turns the logits into their gradient; returns the scaled loss, and adds a policy's tokens to `sums`.
    fn loss(&self, targets: LossTargets<'_>, head: &mut Head<Self>, sums: &mut Sums) -> f64;

    /// A gradient of zeros for what trains.
    fn clear_gradient(&self, gradient: &mut Buffer<Self>);

    /// Sets to zero what a gradient has of numbers that do not train.
    fn mask_gradient(&self, gradient: &mut Buffer<Self>);

    /// From the logits' gradient to that of the last layer's output.
    fn logits_backward(
        &self,
        rows: usize,
        output: &Buffer<Self>,
        head: &Head<Self>,
        d: &mut ActivationGradients<Self>,
        gradient: &mut Buffer<Self>,
    );

    /// From the gradient of a layer's output to that of what follows its attention's residual.
    fn mlp_or_moe_backward(
        &self,
        layer: usize,
        rows: &QueryRows,
        a: &Activations<Self>,
        w: &mut Workspace<Self>,
        d: &mut ActivationGradients<Self>,
        gradient: &mut Buffer<Self>,
    );

    /// To the gradients of a layer's queries, keys and values.
    #[allow(clippy::too_many_arguments)]
    fn attend_backward(
        &self,
        layer: usize,
        batch: &Packed,
        rows: &QueryRows,
        a: &Activations<Self>,
        w: &mut Workspace<Self>,
        d: &mut ActivationGradients<Self>,
        gradient: &mut Buffer<Self>,
    );

    /// To the gradient of a layer's input.
    #[allow(clippy::too_many_arguments)]
    fn qkv_backward(
        &self,
        layer: usize,
        batch: &Packed,
        rows: &QueryRows,
        input: &Buffer<Self>,
        a: &Activations<Self>,
        d: &mut ActivationGradients<Self>,
        gradient: &mut Buffer<Self>,
    );

    /// From the gradient after linear attention's residual to that of the layer's input.
    #[allow(clippy::too_many_arguments)]
    fn recall_backward(
        &self,
        layer: usize,
        batch: &Packed,
        rows: &QueryRows,
        input: &Buffer<Self>,
        a: &Activations<Self>,
        d: &mut ActivationGradients<Self>,
        gradient: &mut Buffer<Self>,
    );

    /// To the embedding's gradient.
    fn embed_backward(
        &self,
        ids: &[u32],
        d: &ActivationGradients<Self>,
        gradient: &mut Buffer<Self>,
    );
}

/// What trains, where a device has it: all weights of a network, or the adapter beside them. A [`Backend`] reads them, and
/// nobody does while they change.
pub trait Trained {
    type Device: Device;

    /// Adds a part to a gradient in the layout of what trains; returns the norm of the sum.
    fn add_gradient(&self, part: &TrainedBuffer<Self>, total: &mut TrainedBuffer<Self>) -> f64;

    /// (layers, experts): norm of the gradient of each expert's weights.
    fn expert_norms(&self, gradient: &TrainedBuffer<Self>) -> Vec<Vec<f64>>;

    /// One step of AdamW, after which passes compute with the new weights. `moments` are the first and second ones, which
    /// the step makes where they are empty. Where something failed, now or since the batch began, weights and moments are as before.
    fn optimizer_step(
        &mut self,
        adam: AdamW,
        gradient: &TrainedBuffer<Self>,
        moments: &mut [TrainedBuffer<Self>; 2],
    ) -> Result<()>;

    /// Moves the routers' selection biases, if they train, by `rate` towards an even load; `load` (layers, experts) are shares.
    fn balance(&mut self, rate: f32, load: &[Vec<f64>]);
}

pub type TrainedBuffer<T> = <<T as Trained>::Device as Device>::Buffer;
pub type Buffer<B> = <<B as Backend>::Device as Device>::Buffer;
pub type Activations<B> = <<B as Backend>::Device as Device>::Activations;
pub type Head<B> = <<B as Backend>::Device as Device>::Head;
pub type Workspace<B> = <<B as Backend>::Device as Device>::Workspace;
pub type ActivationGradients<B> = <<B as Backend>::Device as Device>::ActivationGradients;
pub type Cache<B> = <<B as Backend>::Device as Device>::KvCache;
