//! Training: gradients of a batch over a fixed number of shards, and what a step reports.

use crate::backend::cpu::Memory;
use crate::backend::{Backend, Device, Trained};
use crate::batch::{Packed, Positions};
use crate::engine::Example;
use crate::network::{Keep, Pass};
use crate::objective::{LossTargets, Objective, Rollout, Sums, TokenTarget};

pub use crate::optimizer::Optimizer;

/// Shards of a batch: fixed, so that gradients are summed in the same order on any number of threads.
const SHARDS: usize = 2;

/// Tokens that go through the network together: enough rows an expert for the tiles, few enough for the cache.
const CHUNK: usize = 640;

/// What a step saw.
#[derive(Clone, Debug)]
pub struct StepReport {
    /// Weighted mean cross-entropy of the answer tokens, before the step.
    pub loss: f64,
    /// Answer tokens.
    pub tokens: usize,
    /// Before clipping.
    pub gradient_norm: f64,
    /// (layers, experts): share of the copies that each expert got; a layer's sum to 1.
    pub expert_load: Vec<Vec<f64>>,
    /// (layers, experts): norm of the gradient of each expert's weights, before clipping; empty unless asked for.
    pub expert_gradient: Vec<Vec<f64>>,
    /// What a policy's tokens were like.
    pub policy: Option<PolicyReport>,
}

/// Means over the tokens of a batch of sampled answers.
#[derive(Clone, Copy, Debug)]
pub struct PolicyReport {
    pub ratio: f64,
    pub largest_ratio: f64,
    /// Share of tokens at the bound of the ratio.
    pub clipped: f64,
    /// (r - 1) - ln r: divergence from the policy that drew the answers.
    pub drift: f64,
    /// |ln r|.
    pub apart: f64,
    /// From the reference.
    pub kl: f64,
    /// Nats.
    pub entropy: f64,
    /// Updates of the weights since the answers were drawn: mean and most.
    pub age: f64,
    pub oldest: u32,
}

impl PolicyReport {
    pub(crate) fn new(sums: &Sums, rollouts: &[Rollout]) -> Self {
        let tokens = sums.tokens.max(1) as f64;
        let ages = rollouts.iter().map(|rollout| rollout.age);
        Self {
            ratio: sums.ratio / tokens,
            largest_ratio: sums.largest_ratio,
            clipped: sums.clipped as f64 / tokens,
            drift: sums.drift / tokens,
            apart: sums.apart / tokens,
            kl: sums.divergence / tokens,
            entropy: sums.entropy / tokens,
            age: ages.clone().map(f64::from).sum::<f64>() / rollouts.len().max(1) as f64,
            oldest: ages.max().unwrap_or(0),
        }
    }
}

/// A sequence to learn from: `ids[answer_start..]`, each token counting `share` in the loss.
#[derive(Clone, Copy)]
pub struct Sequence<'a> {
    ids: &'a [u32],
    answer_start: usize,
    positions: &'a Positions,
    share: f32,
    rollout: Option<&'a Rollout>,
}

impl Sequence<'_> {
    /// Positions that it reaches.
    pub fn reach(&self) -> Option<usize> {
        self.positions.reach(self.ids.len())
    }
}

/// Examples as sequences whose shares add up to one.
pub fn taught(batch: &[Example]) -> Vec<Sequence<'_>> {
    let mass: f64 = batch
        .iter()
        .map(|e| f64::from(e.weight) * e.answer_tokens() as f64)
        .sum();
    let share = |example: &Example| (f64::from(example.weight) / mass) as f32;
    batch
        .iter()
        .map(|example| Sequence {
            ids: &example.ids,
            answer_start: example.answer_start,
            positions: &example.positions,
            share: share(example),
            rollout: None,
        })
        .collect()
}

/// Sampled answers as sequences, as an objective divides them.
pub fn sampled<'a>(objective: &Objective, batch: &'a [Rollout]) -> Vec<Sequence<'a>> {
    let all = batch.iter().map(|rollout| rollout.old.len()).sum();
    let share = |tokens| objective.share(tokens, all, batch.len()) as f32;
    batch
        .iter()
        .map(|rollout| Sequence {
            ids: &rollout.ids,
            answer_start: rollout.answer_start,
            positions: &rollout.positions,
            share: share(rollout.old.len()),
            rollout: Some(rollout),
        })
        .collect()
}

/// The shards' buffers, kept from step to step.
pub struct Trainer<D: Device = Memory> {
    shards: Vec<Shard<D>>,
}

impl<D: Device> Default for Trainer<D> {
    fn default() -> Self {
        let shards = Vec::new();
        Self { shards }
    }
}

impl<D: Device> Trainer<D> {
    /// Accumulates the gradients of a batch in the shards; returns its loss.
    pub fn accumulate<B: Backend<Device = D>>(
        &mut self,
        backend: &B,
        batch: &[Sequence<'_>],
        objective: Option<&Objective>,
        keep: Keep,
    ) -> f64 {
        self.shards.resize_with(SHARDS, Shard::default);
        let parts = split(batch);
        let mut pairs: Vec<_> = self.shards.iter_mut().zip(parts).collect();
        backend
            .host()
            .pool
            .each(&mut pairs, &|(shard, sequences), _| {
                shard.reset(backend);
                shard.run(backend, sequences, objective, keep);
                backend.mask_gradient(&mut shard.gradient);
            });
        self.shards.iter().map(|shard| shard.loss).sum()
    }

    /// What is told of a policy's tokens.
    pub fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        for shard in &self.shards {
            sums.join(&shard.sums);
        }
        sums
    }

    /// Sums the shards' gradients into the first; returns it and its norm.
    pub(crate) fn reduce(&mut self, trained: &impl Trained<Device = D>) -> (&D::Buffer, f64) {
        let [total, part] = &mut self.shards[..] else {
            unreachable!("a batch is accumulated in {SHARDS} shards before its gradient is read")
        };
        let norm = trained.add_gradient(&part.gradient, &mut total.gradient);
        (&total.gradient, norm)
    }

    /// Share of the copies that each expert of each layer got.
    pub(crate) fn loads(&self, layers: usize, experts: usize) -> Vec<Vec<f64>> {
        let count = |i: usize| self.shards.iter().map(|shard| shard.load[i]).sum::<u64>();
        let layer = |l: usize| {
            let counts: Vec<u64> = (0..experts).map(|e| count(l * experts + e)).collect();
            let all = counts.iter().sum::<u64>().max(1) as f64;
            counts.into_iter().map(|n| n as f64 / all).collect()
        };
        (0..layers).map(layer).collect()
    }
}

impl<D: Device> Trainer<D> {
    /// The summed gradient on the host, in the layout of the parameters or of the adapter.
    pub fn gradient<B: Backend<Device = D>>(&self, backend: &B) -> Vec<f32> {
        let mut total = backend.download(&self.shards[0].gradient).into_owned();
        for shard in &self.shards[1..] {
            let part = backend.download(&shard.gradient);
            for (sum, part) in total.iter_mut().zip(&*part) {
                *sum += part;
            }
        }
        total
    }
}

/// The shards' sequences: contiguous, of about equal numbers of tokens.
fn split<'a, 'b>(batch: &'a [Sequence<'b>]) -> Vec<&'a [Sequence<'b>]> {
    let all: usize = batch.iter().map(|e| e.ids.len()).sum();
    let (mut parts, mut rest, mut taken) = (Vec::new(), batch, 0);
    for shard in 1..=SHARDS {
        let mut n = 0;
        while n < rest.len()
            && (shard == SHARDS || taken + rest[n].ids.len() / 2 < all * shard / SHARDS)
        {
            taken += rest[n].ids.len();
            n += 1;
        }
        let (part, after) = rest.split_at(n);
        parts.push(part);
        rest = after;
    }
    parts
}

/// One shard of a batch: the buffers of its passes, and the gradient it accumulates.
struct Shard<D: Device> {
    /// Of what trains.
    gradient: D::Buffer,
    /// (layers, experts): how many copies each expert got.
    load: Vec<u64>,
    /// Sum of scaled losses.
    loss: f64,
    /// Of a policy's tokens.
    sums: Sums,
    pass: Pass<D>,
    activation_gradients: D::ActivationGradients,
}

impl<D: Device> Default for Shard<D> {
    fn default() -> Self {
        Self {
            gradient: D::Buffer::default(),
            load: Vec::new(),
            loss: 0.0,
            sums: Sums::default(),
            pass: Pass::default(),
            activation_gradients: D::ActivationGradients::default(),
        }
    }
}

impl<D: Device> Shard<D> {
    /// Forgets gradients, loads and losses.
    fn reset<B: Backend<Device = D>>(&mut self, backend: &B) {
        backend.clear_gradient(&mut self.gradient);
        let config = backend.host().config;
        self.load.clear();
        self.load.resize(config.layers * config.experts, 0);
        self.loss = 0.0;
        self.sums = Sums::default();
    }

    /// Adds the gradients of a chunk.
    fn accumulate<B: Backend<Device = D>>(
        &mut self,
        backend: &B,
        batch: &Packed,
        targets: LossTargets<'_>,
        keep: Keep,
    ) {
        let (load, experts) = (&mut self.load, backend.host().config.experts);
        self.pass.packed(backend, batch, keep, |layer, a| {
            backend.count_experts(a, &mut load[layer * experts..][..experts]);
        });
        self.loss += backend.loss(targets, &mut self.pass.head, &mut self.sums);
        let (d, gradient) = (&mut self.activation_gradients, &mut self.gradient);
        self.pass.backward(backend, batch, d, gradient);
    }

    /// Adds the gradients of sequences, chunk by chunk.
    fn run<B: Backend<Device = D>>(
        &mut self,
        backend: &B,
        sequences: &[Sequence<'_>],
        objective: Option<&Objective>,
        keep: Keep,
    ) {
        let mut chunk = Packed::default();
        let (mut tokens, mut scale) = (Vec::new(), Vec::new());
        let mut policy: Vec<TokenTarget> = Vec::new();
        let mut rest = sequences.iter().peekable();
        while rest.peek().is_some() && !backend.failed() {
            chunk.clear();
            tokens.clear();
            scale.clear();
            policy.clear();
            while let Some(sequence) =
                rest.next_if(|e| chunk.is_empty() || chunk.len() + e.ids.len() <= CHUNK)
            {
                let start = sequence.answer_start;
                // Nothing is computed from the last token: it is only predicted.
                let read = sequence.ids.len() - 1;
                let ids = &sequence.ids[..read];
                chunk.push(ids, start, sequence.positions, start - 1..read);
                tokens.extend_from_slice(&sequence.ids[start..]);
                scale.resize(tokens.len(), sequence.share);
                if let Some(rollout) = sequence.rollout {
                    policy.extend((0..rollout.old.len()).map(|token| rollout.target(token)));
                }
            }
            let targets = LossTargets {
                tokens: &tokens,
                scale: &mut scale,
                policy: objective.map(|objective| (objective, &policy[..])),
            };
            self.accumulate(backend, &chunk, targets, keep);
        }
    }
}
