//! Training: gradients of a batch over a fixed number of shards, clipping, AdamW, balancing of the router.

use std::ops::Range;

use moevolve_kernels::Isa;
use moevolve_kernels::adamw::{AdamW, adamw, add_and_square};
use moevolve_kernels::panels::PanelsMut;
use moevolve_kernels::team::Team;

use crate::adapter::Adapter;
use crate::backward::{Lesson, Shard};
use crate::batch::{Packed, Positions};
use crate::decoder::Network;
use crate::engine::Example;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::objective::{Aim, Objective, Rollout, Sums};
use crate::parameters::{Parameters, pack};

/// Shards of a batch: fixed, so that gradients are summed in the same order on any number of threads.
const SHARDS: usize = 2;

/// Tokens that go through the network together: enough rows an expert for the tiles, few enough for the cache.
const CHUNK: usize = 640;

/// Hyper-parameters and moments.
#[derive(Clone, Debug)]
pub struct Optimizer {
    pub beta1: f32,
    pub beta2: f32,
    pub epsilon: f32,
    pub weight_decay: f32,
    /// Largest global norm of the gradient.
    pub clip: f32,
    /// How far a selection bias moves a step towards balance; 0 leaves them alone.
    pub bias_rate: f32,
    pub(crate) step: u32,
    pub(crate) first: Vec<f32>,
    pub(crate) second: Vec<f32>,
}

impl Optimizer {
    /// Fresh moments.
    pub fn new(
        beta1: f32,
        beta2: f32,
        epsilon: f32,
        weight_decay: f32,
        clip: f32,
        bias_rate: f32,
    ) -> Result<Self> {
        let fraction = |x: f32| (0.0..1.0).contains(&x);
        let amount = |x: f32| x.is_finite() && x >= 0.0;
        if !fraction(beta1) || !fraction(beta2) || !amount(weight_decay) || !amount(bias_rate) {
            let wrong =
                "betas lie in [0, 1), weight decay and bias rate are finite and not negative";
            return Err(Error::Request(wrong.to_owned()));
        }
        if !(epsilon.is_finite() && epsilon > 0.0 && clip > 0.0) {
            return Err(Error::Request("epsilon and clip are positive".to_owned()));
        }
        let (first, second) = (Vec::new(), Vec::new());
        Ok(Self {
            beta1,
            beta2,
            epsilon,
            weight_decay,
            clip,
            bias_rate,
            step: 0,
            first,
            second,
        })
    }
}

impl Default for Optimizer {
    fn default() -> Self {
        let (first, second) = (Vec::new(), Vec::new());
        Self {
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.01,
            clip: 1.0,
            bias_rate: 0.0,
            step: 0,
            first,
            second,
        }
    }
}

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
#[derive(Clone, Debug, Default)]
pub struct Trainer {
    shards: Vec<Shard>,
}

impl Trainer {
    /// Accumulates the gradients of a batch in the shards; returns its loss.
    pub fn accumulate(
        &mut self,
        network: Network<'_>,
        batch: &[Sequence<'_>],
        objective: Option<&Objective>,
        checkpointing: bool,
    ) -> f64 {
        self.shards.resize_with(SHARDS, Shard::default);
        let parts = split(batch);
        let mut pairs: Vec<_> = self.shards.iter_mut().zip(parts).collect();
        network.team.each(&mut pairs, &|(shard, sequences), _| {
            shard.reset(network, checkpointing);
            run(shard, network, sequences, objective);
            if let Some(adapter) = network.adapter {
                adapter.mask(&mut shard.gradient);
            }
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

    /// The summed gradient, in the layout of the parameters or of the adapter.
    pub fn gradient(&self) -> Vec<f32> {
        let mut total = self.shards[0].gradient.clone();
        for shard in &self.shards[1..] {
            for (sum, part) in total.iter_mut().zip(&shard.gradient) {
                *sum += part;
            }
        }
        total
    }

    /// Share of the copies that each expert of each layer got.
    fn loads(&self, layers: usize, experts: usize) -> Vec<Vec<f64>> {
        let count = |i: usize| self.shards.iter().map(|shard| shard.load[i]).sum::<u64>();
        let layer = |l: usize| {
            let counts: Vec<u64> = (0..experts).map(|e| count(l * experts + e)).collect();
            let all = counts.iter().sum::<u64>().max(1) as f64;
            counts.into_iter().map(|n| n as f64 / all).collect()
        };
        (0..layers).map(layer).collect()
    }

    /// Sums the shards' gradients into the first and returns the global norm.
    fn reduce(&mut self, isa: Isa, units: &[Range<usize>], team: &Team) -> f64 {
        let (total, parts) = self.shards.split_at_mut(1);
        let mut jobs = Vec::new();
        let (mut rest, mut start) = (&mut total[0].gradient[..], 0);
        for unit in units {
            let (piece, after) = rest.split_at_mut(unit.end - start);
            jobs.push((
                piece,
                parts[0].gradient.get(unit.clone()).unwrap_or(&[]),
                0.0,
            ));
            (rest, start) = (after, unit.end);
        }
        team.each(&mut jobs, &|(total, part, squares), _| {
            *squares = add_and_square(isa, part, total);
        });
        jobs.iter()
            .map(|(_, _, squares)| squares)
            .sum::<f64>()
            .sqrt()
    }
}

/// What an update changes.
pub enum Trained<'a> {
    Whole(&'a mut Parameters),
    Adapter(&'a mut Adapter),
}

/// One update of what trains.
pub struct Update<'a> {
    pub layout: &'a Layout,
    pub trained: Trained<'a>,
    pub optimizer: &'a mut Optimizer,
    pub trainer: &'a mut Trainer,
    pub isa: Isa,
    pub team: &'a Team,
}

impl Update<'_> {
    /// Clips, updates and repacks; refuses, and changes nothing, if the loss or the norm is not finite. `norms` asks for
    /// the norms of the experts' gradients.
    pub fn apply(
        self,
        loss: f64,
        tokens: usize,
        layers: usize,
        experts: usize,
        learning_rate: f32,
        norms: bool,
    ) -> Result<StepReport> {
        let Self {
            layout,
            mut trained,
            optimizer,
            trainer,
            isa,
            team,
        } = self;
        if !loss.is_finite() {
            return Err(Error::NotFinite {
                what: "loss",
                value: loss,
            });
        }
        let units = match &trained {
            Trained::Whole(_) => layout.units(),
            // One piece: it is small.
            Trained::Adapter(adapter) => vec![0..adapter.values.len(); 1],
        };
        let gradient_norm = trainer.reduce(isa, &units, team);
        if !gradient_norm.is_finite() {
            return Err(Error::NotFinite {
                what: "norm of the gradient",
                value: gradient_norm,
            });
        }
        let total = units.last().map_or(0, |unit| unit.end);
        optimizer.step += 1;
        optimizer.first.resize(total, 0.0);
        optimizer.second.resize(total, 0.0);
        let adam = AdamW {
            learning_rate,
            beta1: optimizer.beta1,
            beta2: optimizer.beta2,
            epsilon: optimizer.epsilon,
            weight_decay: optimizer.weight_decay,
            // As torch's clip_grad_norm_ does.
            gradient_scale: (f64::from(optimizer.clip) / (gradient_norm + 1e-6)).min(1.0) as f32,
            step: optimizer.step,
        };
        let gradient = &trainer.shards[0].gradient;
        let expert_gradient = if norms {
            expert_norms(layout, &trained, gradient)
        } else {
            Vec::new()
        };
        match &mut trained {
            Trained::Adapter(adapter) => {
                let (first, second) = (&mut optimizer.first, &mut optimizer.second);
                adamw(isa, adam, gradient, &mut adapter.values, first, second);
                adapter.pack();
            }
            Trained::Whole(parameters) => {
                let mut jobs = pieces(layout, parameters, optimizer, gradient);
                team.each(&mut jobs, &|piece, _| piece.update(isa, adam, layout));
            }
        }
        let expert_load = trainer.loads(layers, experts);
        if let Trained::Whole(parameters) = trained {
            for (bias, load) in parameters.bias.chunks_mut(experts).zip(&expert_load) {
                for (bias, load) in bias.iter_mut().zip(load) {
                    // Loss-free balancing (Wang et al. 2024): towards the mean by the sign alone.
                    let lack = 1.0 / experts as f64 - load;
                    if lack != 0.0 {
                        *bias += optimizer.bias_rate * lack.signum() as f32;
                    }
                }
            }
        }
        Ok(StepReport {
            loss,
            tokens,
            gradient_norm,
            expert_load,
            expert_gradient,
            policy: None,
        })
    }
}

/// Norms of the gradients of each layer's experts, the adapter's or the weights' own.
fn expert_norms(layout: &Layout, trained: &Trained<'_>, gradient: &[f32]) -> Vec<Vec<f64>> {
    let squares = |range: &Range<usize>| {
        let ranges = match trained {
            Trained::Whole(_) => vec![range.clone()],
            Trained::Adapter(adapter) => {
                adapter.ranges(range.start).into_iter().flatten().collect()
            }
        };
        let values = ranges.into_iter().flat_map(|range| &gradient[range]);
        values.map(|&x| f64::from(x) * f64::from(x)).sum::<f64>()
    };
    let norms = |layer: &crate::layout::Layer| {
        let experts = layer.experts.gate_up.iter().zip(&layer.experts.down);
        experts
            .map(|(up, down)| (squares(up) + squares(down)).sqrt())
            .collect()
    };
    layout.layers.iter().map(norms).collect()
}

/// What one thread updates at a time.
struct Piece<'a> {
    range: std::ops::Range<usize>,
    gradient: &'a [f32],
    values: &'a mut [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
    forward: PanelsMut<'a>,
    backward: PanelsMut<'a>,
}

impl Piece<'_> {
    fn update(&mut self, isa: Isa, adam: AdamW, layout: &Layout) {
        adamw(
            isa,
            adam,
            self.gradient,
            self.values,
            self.first,
            self.second,
        );
        // While the layer is still in the cache.
        for matrix in layout.matrices(&self.range) {
            let at = matrix.range.start - self.range.start;
            let weight = &self.values[at..][..matrix.range.len()];
            pack(isa, &matrix, weight, &mut self.forward, &mut self.backward);
        }
    }
}

fn pieces<'a>(
    layout: &Layout,
    parameters: &'a mut Parameters,
    optimizer: &'a mut Optimizer,
    gradient: &'a [f32],
) -> Vec<Piece<'a>> {
    let mut rest = [
        &mut parameters.values[..],
        &mut optimizer.first,
        &mut optimizer.second,
    ];
    let mut panels = [parameters.forward.whole(), parameters.backward.whole()];
    let mut out = Vec::new();
    for range in layout.units() {
        let [values, first, second] = rest.map(|slice| slice.split_at_mut(range.len()));
        rest = [values.1, first.1, second.1];
        let [forward, backward] = panels.map(|panels| panels.split(range.len()));
        panels = [forward.1, backward.1];
        out.push(Piece {
            gradient: &gradient[range.clone()],
            range,
            values: values.0,
            first: first.0,
            second: second.0,
            forward: forward.0,
            backward: backward.0,
        });
    }
    out
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

/// One shard's sequences, chunk by chunk.
fn run(
    shard: &mut Shard,
    network: Network<'_>,
    sequences: &[Sequence<'_>],
    objective: Option<&Objective>,
) {
    let mut chunk = Packed::default();
    let (mut targets, mut scale) = (Vec::new(), Vec::new());
    let mut aims: Vec<Aim> = Vec::new();
    let mut rest = sequences.iter().peekable();
    while rest.peek().is_some() {
        chunk.clear();
        targets.clear();
        scale.clear();
        aims.clear();
        while let Some(sequence) =
            rest.next_if(|e| chunk.is_empty() || chunk.len() + e.ids.len() <= CHUNK)
        {
            let start = sequence.answer_start;
            // Nothing is computed from the last token: it is only predicted.
            let read = sequence.ids.len() - 1;
            let ids = &sequence.ids[..read];
            chunk.push(ids, start, sequence.positions, start - 1..read);
            targets.extend_from_slice(&sequence.ids[start..]);
            scale.resize(targets.len(), sequence.share);
            if let Some(rollout) = sequence.rollout {
                aims.extend((0..rollout.old.len()).map(|token| rollout.aim(token)));
            }
        }
        let lesson = Lesson {
            targets: &targets,
            scale: &mut scale,
            policy: objective.map(|objective| (objective, &aims[..])),
        };
        shard.accumulate(network, &chunk, lesson);
    }
}
