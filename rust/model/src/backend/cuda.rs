//! The network's blocks on a card, over `moevolve-kernels-cuda`.
//!
//! [`CardWeights`] puts a model's numbers on a device, [`Card`] computes with them. Nothing here knows whether the device is a
//! card or its twin on the processor.

mod backward;
mod blocks;
mod cache;
mod failure;
mod forward;
mod memory;
mod trained;
mod weights;

use std::ops::Range;
use std::sync::Arc;

use moevolve_kernels::Isa;
use moevolve_kernels::activation::Activation;
use moevolve_kernels::route::Rule;
use moevolve_kernels::worker_pool::WorkerPool;
use moevolve_kernels_cuda::Address;
use moevolve_kernels_cuda::attention::{Heads, MOST_WIDTH};
use moevolve_kernels_cuda::experts::{Block, Experts};
use moevolve_kernels_cuda::norm::Norm;
use moevolve_kernels_cuda::products::{Format, Matrices, Products};
use moevolve_kernels_cuda::route::{self, MOST_CHOSEN, MOST_EXPERTS};

use crate::adapter::Adapter;
use crate::config::Config;
use crate::family::QkNorm;
use crate::layout::{Layer, Layout, Matrix};

pub use cache::KvCache;
pub use failure::Failure;
pub use memory::{Buffer as CardBuffer, CardMemory};
pub use moevolve_kernels_cuda::{Device, Driver, images};
pub use trained::Trained;
pub use weights::CardWeights;

use weights::Numbers;

/// What a network has that no kernel for cards computes, named by what says so in its configuration; None where a card runs it.
pub fn obstacle(config: &Config, layout: &Layout) -> Option<&'static str> {
    let described = config.family.describe();
    let found = [
        (
            config.linear.is_some() || described.extras.linear,
            "layers of linear attention (layer_types)",
        ),
        (
            config.shared > 0,
            "an expert that takes every token (shared_expert_intermediate_size)",
        ),
        (
            described.extras.centred,
            "norms whose gain is one more than their weight",
        ),
        (described.sinks, "attention sinks"),
        (described.expert_bias, "biases of experts"),
        (
            config.activation != Activation::Silu,
            "clamped gates (swiglu_limit)",
        ),
        (
            config.windows.any(config.layers),
            "windows of attention (sliding_window)",
        ),
        (
            layout.widths.head > MOST_WIDTH,
            "heads wider than 256 (head_dim)",
        ),
        (
            config.experts > MOST_EXPERTS,
            "more than 512 experts (num_experts, num_local_experts)",
        ),
        (
            config.chosen > MOST_CHOSEN,
            "more than 32 experts for a token (num_experts_per_tok)",
        ),
    ];
    found.into_iter().find(|(is, _)| *is).map(|(_, what)| what)
}

/// As [`obstacle`], of one device.
pub fn obstacle_on(device: &dyn Device, config: &Config, layout: &Layout) -> Option<&'static str> {
    let routed = config.experts > 1 && route::select_bytes(config.experts) > device.shared();
    let here = routed.then_some(
        "the choice among so many experts (num_experts, num_local_experts) with the shared memory of this card",
    );
    obstacle(config, layout).or(here)
}

/// A network on a device: everything a pass reads.
#[derive(Clone, Copy)]
pub struct Card<'a> {
    config: &'a Config,
    layout: &'a Layout,
    weights: &'a CardWeights,
    /// Those of the weights that passes read: with an adapter's share, or without.
    numbers: &'a Numbers,
    /// Trains, where there is one.
    adapter: Option<&'a Adapter>,
    failure: &'a Failure,
    pool: &'a WorkerPool,
    isa: Isa,
}

impl<'a> Card<'a> {
    /// A network whose weights are on a device, the share of an adapter included; what fails is kept in `failure`.
    pub fn new(
        config: &'a Config,
        layout: &'a Layout,
        weights: &'a CardWeights,
        adapter: Option<&'a Adapter>,
        failure: &'a Failure,
        pool: &'a WorkerPool,
        isa: Isa,
    ) -> Self {
        Self {
            config,
            layout,
            weights,
            numbers: weights.numbers(),
            adapter,
            failure,
            pool,
            isa,
        }
    }

    /// The same network without the adapter's share.
    pub fn base(self) -> Self {
        Self {
            numbers: self.weights.base(),
            ..self
        }
    }

    fn device(&self) -> &Arc<dyn Device> {
        self.weights.device()
    }

    fn products(&self) -> Products {
        Products {
            device: self.device().clone(),
        }
    }

    fn experts(&self) -> Experts {
        Experts::new(self.device())
    }

    /// Where a part of the numbers lies, in f32.
    fn at(&self, range: &Range<usize>) -> Address {
        self.numbers.at(range.start)
    }

    fn matrix(&self, matrix: &Matrix) -> Matrices {
        self.matrices(matrix.range.start, 0, matrix.out, matrix.inp)
    }

    /// Matrices `apart` numbers from one to the next, as products read them.
    fn matrices(&self, start: usize, apart: usize, out: usize, inp: usize) -> Matrices {
        let (format, at, bytes) = match &self.numbers.rounded {
            Some(rounded) => (Format::Bf16, rounded.at(start), 2),
            None => (Format::F32, self.numbers.at(start), 4),
        };
        Matrices {
            format,
            at,
            apart: bytes * apart,
            scales: 0,
            scales_apart: 0,
            out,
            inp,
        }
    }

    /// A layer's block of experts.
    fn block(&self, index: usize, layer: &Layer) -> Block {
        let (shape, ranges) = (self.layout.shape(self.config), &layer.experts);
        let (hidden, inner) = (shape.hidden, shape.intermediate);
        let up = self.matrices(
            ranges.gate_up[0].start,
            apart(&ranges.gate_up),
            2 * inner,
            hidden,
        );
        let down = self.matrices(ranges.down[0].start, apart(&ranges.down), hidden, inner);
        Block {
            rule: match shape.rule {
                Rule::Sigmoid => route::Rule::Sigmoid,
                Rule::Softmax { normalised: false } => route::Rule::Softmax,
                Rule::Softmax { normalised: true } => route::Rule::SoftmaxNormalised,
                Rule::Dense => route::Rule::Dense,
            },
            hidden,
            intermediate: inner,
            experts: shape.experts,
            chosen: shape.chosen,
            stride: self.layout.widths.experts,
            router: self.at(&ranges.router),
            bias: self.weights.bias_of(index, shape.experts),
            gate_up: up,
            down,
        }
    }

    fn heads(&self) -> Heads {
        Heads {
            queries: self.config.heads,
            keys: self.config.key_heads,
            width: self.layout.widths.head,
            scale: (self.config.head as f32).sqrt().recip(),
        }
    }

    /// Of queries or keys: each of `heads` heads alone, or all at once before they are split.
    fn heads_norm(&self, rows: usize, heads: usize) -> Norm {
        let (groups, size) = match self.config.qk_norm {
            QkNorm::PerHead => (heads, 1),
            QkNorm::Whole | QkNorm::None => (1, heads),
        };
        Norm {
            rows,
            groups,
            width: size * self.layout.widths.head,
            count: size * self.config.head,
            epsilon: self.config.epsilon,
        }
    }

    fn hidden_norm(&self, rows: usize) -> Norm {
        Norm {
            rows,
            groups: 1,
            width: self.layout.widths.hidden,
            count: self.config.hidden,
            epsilon: self.config.epsilon,
        }
    }
}

/// Numbers from one expert's matrix to the next one's.
fn apart(ranges: &[Range<usize>]) -> usize {
    ranges
        .get(1)
        .map_or(0, |second| second.start - ranges[0].start)
}
