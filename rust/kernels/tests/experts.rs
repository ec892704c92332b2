//! The whole Mixture-of-Experts block, forward and backward, against double precision and finite differences.
//!
//! One file above 400 lines: one case of a block, and its gradient in double precision, serve every property.

mod common;

use common::{apart, dot, doubles, everywhere, product, random, sigmoid, slope};
use moevolve_kernels::activation::Activation;
use moevolve_kernels::arithmetic::OWN;
use moevolve_kernels::experts::{
    BackwardProducts, Block, ExpertBiases, ExpertRanges, PackedBlock, Saved, Scratch, Shape,
    backward, forward,
};
use moevolve_kernels::panels::{GradientScratch, Panels, Precision, Side, weight_gradient};
use moevolve_kernels::route::Rule;
use moevolve_kernels::rows::sum_rows;
use moevolve_kernels::worker_pool::WorkerPool;
use moevolve_kernels::{Isa, padded};
use proptest::prelude::*;

/// Weights packed in panels at their ranges, all of which train.
struct PackedBackward<'a> {
    isa: Isa,
    /// Packed for [`Side::Backward`].
    panels: &'a Panels,
    parameters: &'a [f32],
    /// In the parameters' layout.
    gradient: &'a mut [f32],
    scratch: &'a mut GradientScratch,
}

impl BackwardProducts for PackedBackward<'_> {
    fn input_gradient(
        &mut self,
        range: &std::ops::Range<usize>,
        rows: usize,
        (out, inp): (usize, usize),
        dy: &[f32],
        dx: &mut [f32],
        add: bool,
    ) {
        self.panels
            .multiply(self.isa, range, rows, out, inp, dy, dx, add);
    }

    fn weight_gradient(
        &mut self,
        range: &std::ops::Range<usize>,
        rows: usize,
        (out, inp): (usize, usize),
        dy: &[f32],
        x: &[f32],
    ) {
        let precision = self.panels.precision_of(range);
        let dw = &mut self.gradient[range.clone()];
        weight_gradient(self.isa, precision, rows, out, inp, dy, x, dw, self.scratch);
    }

    fn bias(&self, range: &std::ops::Range<usize>) -> &[f32] {
        &self.parameters[range.clone()]
    }

    fn bias_gradient(&mut self, range: &std::ops::Range<usize>, rows: usize, dy: &[f32]) {
        sum_rows(self.isa, rows, dy, &mut self.gradient[range.clone()]);
    }
}

struct Case {
    shape: Shape,
    ranges: ExpertRanges,
    precision: Precision,
    parameters: Vec<f32>,
    bias: Vec<f32>,
    tokens: usize,
    h: Vec<f32>,
}

const RULES: [Rule; 5] = [
    Rule::Sigmoid,
    Rule::Softmax { normalised: true },
    Rule::Softmax { normalised: false },
    Rule::Dense,
    Rule::Softmax { normalised: true },
];

/// The last of [`RULES`] is gpt-oss's block: with biases, and with gates that are clamped where numbers of these sizes
/// often are.
const CLAMPED: usize = 4;
const ALPHA: f32 = 1.702;
const LIMIT: f32 = 1.5;

/// A block by one of [`RULES`]; a dense one has one expert and no router.
fn case(rule: usize, experts: usize, chosen: usize, tokens: usize, seed: u64) -> Case {
    let clamped = rule == CLAMPED;
    let rule = RULES[rule];
    let (experts, chosen, routed) = match rule {
        Rule::Dense => (1, 1, 0),
        _ => (experts, chosen.min(experts), experts),
    };
    let (hidden, intermediate) = (16, 16);
    let mut total = 0;
    let mut take = |n: usize| {
        total += n;
        total - n..total
    };
    let router = take(padded(routed) * hidden);
    let gate_up = (0..experts)
        .map(|_| take(2 * intermediate * hidden))
        .collect();
    let down = (0..experts).map(|_| take(hidden * intermediate)).collect();
    let biases = clamped.then(|| ExpertBiases {
        router: take(padded(routed)),
        gate_up: (0..experts).map(|_| take(2 * intermediate)).collect(),
        down: (0..experts).map(|_| take(hidden)).collect(),
    });
    let ranges = ExpertRanges {
        router,
        gate_up,
        down,
        biases,
    };
    let mut parameters = random(total, seed);
    parameters[routed * hidden..ranges.router.end].fill(0.0);
    if let Some(biases) = &ranges.biases {
        parameters[biases.router.start + routed..biases.router.end].fill(0.0);
    }
    Case {
        shape: Shape {
            hidden,
            intermediate,
            experts,
            chosen,
            rule,
            activation: if clamped {
                Activation::Clamped {
                    alpha: ALPHA,
                    limit: LIMIT,
                }
            } else {
                Activation::Silu
            },
        },
        ranges,
        precision: Precision::F32,
        parameters,
        // Larger than any score, so that a bias that leaked into the weights would show.
        bias: match rule {
            Rule::Sigmoid => random(experts, seed ^ 1)
                .into_iter()
                .map(|b| 5.0 + 2.0 * b)
                .collect(),
            _ => Vec::new(),
        },
        tokens,
        h: random(tokens * hidden, seed ^ 2),
    }
}

impl Case {
    /// The experts that a token chooses at this point; finite differences keep them.
    fn selection(&self) -> Vec<Vec<usize>> {
        if self.shape.rule == Rule::Dense {
            return vec![vec![0]; self.tokens];
        }
        let (parameters, h) = (doubles(&self.parameters), doubles(&self.h));
        let logits = self.logits(&parameters, &h);
        let choose = |logits: &[f64]| {
            let mut order: Vec<usize> = (0..self.shape.experts).collect();
            let bias = |e: usize| f64::from(*self.bias.get(e).unwrap_or(&0.0));
            let scores = self.scores(logits);
            let key = |e: usize| scores[e] + bias(e);
            order.sort_by(|&a, &b| key(b).total_cmp(&key(a)));
            order.truncate(self.shape.chosen);
            order
        };
        logits
            .chunks_exact(self.shape.experts)
            .map(choose)
            .collect()
    }

    /// Of the router, (tokens, experts).
    fn logits(&self, parameters: &[f64], h: &[f64]) -> Vec<f64> {
        let Shape {
            hidden, experts, ..
        } = self.shape;
        let routed = self.ranges.router.len().min(experts * hidden);
        let mut logits = product(h, &parameters[..routed], hidden);
        if let Some(biases) = &self.ranges.biases {
            for row in logits.chunks_exact_mut(experts) {
                row.iter_mut()
                    .zip(&parameters[biases.router.clone()])
                    .for_each(|(z, b)| *z += b);
            }
        }
        logits
    }

    fn scores(&self, logits: &[f64]) -> Vec<f64> {
        match self.shape.rule {
            Rule::Sigmoid => logits.iter().map(|&z| sigmoid(z)).collect(),
            _ => {
                let sum: f64 = logits.iter().map(|z| z.exp()).sum();
                logits.iter().map(|z| z.exp() / sum).collect()
            }
        }
    }

    fn reference(&self, parameters: &[f64], h: &[f64], selection: &[Vec<usize>]) -> Vec<f64> {
        let Shape {
            hidden,
            intermediate,
            experts,
            ..
        } = self.shape;
        let logits = self.logits(parameters, h);
        let biases = self.ranges.biases.as_ref();
        let plus = |mut y: Vec<f64>, bias: Option<&std::ops::Range<usize>>| {
            if let Some(bias) = bias {
                let bias = &parameters[bias.clone()];
                y.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
            }
            y
        };
        let mut out = Vec::new();
        for (t, chosen) in selection.iter().enumerate() {
            let h = &h[t * hidden..][..hidden];
            let scores = match self.shape.rule {
                Rule::Dense => vec![1.0],
                _ => self.scores(&logits[t * experts..][..experts]),
            };
            let mass: f64 = match self.shape.rule {
                Rule::Softmax { normalised: false } => 1.0,
                _ => chosen.iter().map(|&e| scores[e]).sum(),
            };
            let mut y = vec![0.0; hidden];
            for &e in chosen {
                let both = product(h, &parameters[self.ranges.gate_up[e].clone()], hidden);
                let both = plus(both, biases.map(|biases| &biases.gate_up[e]));
                let (gate, up) = both.split_at(intermediate);
                let act: Vec<f64> = gate
                    .iter()
                    .zip(up)
                    .map(|(&g, &u)| match self.shape.activation {
                        Activation::Silu => g * sigmoid(g) * u,
                        Activation::Clamped { alpha, limit } => {
                            let limit = f64::from(limit);
                            let g = g.min(limit);
                            g * sigmoid(f64::from(alpha) * g) * (u.clamp(-limit, limit) + 1.0)
                        }
                    })
                    .collect();
                let down = product(&act, &parameters[self.ranges.down[e].clone()], intermediate);
                let down = plus(down, biases.map(|biases| &biases.down[e]));
                y.iter_mut()
                    .zip(down)
                    .for_each(|(y, d)| *y += scores[e] / mass * d);
            }
            out.extend(y);
        }
        out
    }

    fn forward(&self, isa: Isa, residual: &[f32]) -> (Vec<f32>, Saved) {
        let panels = self.pack(isa, Side::Forward);
        let (mut saved, mut out) = (Saved::default(), vec![f32::NAN; self.h.len()]);
        let pool = WorkerPool::new(1);
        let products = PackedBlock {
            isa,
            pool: &pool,
            shape: self.shape,
            ranges: &self.ranges,
            panels: &panels,
            values: &self.parameters,
        };
        let block = Block {
            isa,
            pool: &pool,
            arithmetic: &OWN,
            shape: self.shape,
            bias: &self.bias,
        };
        let mut scratch = Scratch::default();
        forward(
            block,
            &products,
            self.tokens,
            &self.h,
            residual,
            &mut out,
            true,
            &mut saved,
            &mut scratch,
        );
        (out, saved)
    }

    fn pack(&self, isa: Isa, side: Side) -> Panels {
        let router = Some(self.ranges.router.clone()).filter(|range| !range.is_empty());
        let mut panels = Panels::new(side, self.precision, self.parameters.len(), router);
        let Shape {
            hidden,
            intermediate,
            experts,
            ..
        } = self.shape;
        let router = (self.shape.rule != Rule::Dense)
            .then_some((&self.ranges.router, padded(experts), hidden))
            .into_iter();
        let up = self
            .ranges
            .gate_up
            .iter()
            .map(|range| (range, 2 * intermediate, hidden));
        let down = self
            .ranges
            .down
            .iter()
            .map(|range| (range, hidden, intermediate));
        for (range, out, inp) in router.chain(up).chain(down) {
            let weight = &self.parameters[range.clone()];
            panels.whole().pack(isa, range.start, out, inp, weight);
        }
        panels
    }
}

proptest! {
    #![proptest_config(common::cases(32))]

    #[test]
    fn the_block_equals_plain_loops(rule in 0usize..5, experts in 1usize..20, chosen in 1usize..5, tokens in 0usize..30, seed: u64) {
        let case = case(rule, experts, chosen, tokens, seed);
        let residual = random(case.h.len(), seed ^ 3);
        let out = everywhere(|isa| case.forward(isa, &residual).0);
        let (parameters, h) = (doubles(&case.parameters), doubles(&case.h));
        let mut expected = case.reference(&parameters, &h, &case.selection());
        expected.iter_mut().zip(&residual).for_each(|(y, &r)| *y += f64::from(r));
        prop_assert!(apart(&out, &expected) < 1e-4);
    }

    #[test]
    fn in_bf16_tokens_go_to_the_same_experts_and_outputs_are_near(rule in 0usize..5, experts in 1usize..20, chosen in 1usize..5, tokens in 0usize..30, seed: u64) {
        let mut case = case(rule, experts, chosen, tokens, seed);
        let residual = random(case.h.len(), seed ^ 3);
        let exact = everywhere(|isa| case.forward(isa, &residual).0);
        let routed = case.forward(Isa::best(), &residual).1.routing;
        case.precision = Precision::Bf16;
        let near = everywhere(|isa| case.forward(isa, &residual).0);
        prop_assert!(apart(&near, &doubles(&exact)) < 0.05);
        prop_assert_eq!(case.forward(Isa::best(), &residual).1.routing.experts, routed.experts);
    }

    #[test]
    fn copies_are_sorted_and_weights_sum_to_one(rule in 0usize..5, experts in 1usize..20, chosen in 1usize..5, tokens in 1usize..30, seed: u64) {
        let case = case(rule, experts, chosen, tokens, seed);
        let (_, saved) = case.forward(Isa::best(), &vec![0.0; case.h.len()]);
        let routing = saved.routing;
        for (token, (experts, weights)) in
            routing.experts.chunks(routing.chosen).zip(routing.weights.chunks(routing.chosen)).enumerate()
        {
            if rule != 2 {
                prop_assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-6);
            }
            for (k, &e) in experts.iter().enumerate() {
                let slot = routing.slots[token * routing.chosen + k] as usize;
                prop_assert!(routing.rows_of(e as usize).contains(&slot));
                prop_assert_eq!(routing.tokens[slot] as usize, token);
                prop_assert_eq!(routing.slot_weights[slot], weights[k]);
            }
        }
        prop_assert_eq!(*routing.offsets.last().unwrap(), tokens * routing.chosen);
    }
}

proptest! {
    #![proptest_config(common::cases(16))]

    #[test]
    fn gradients_match_finite_differences(rule in 0usize..5, experts in 1usize..5, chosen in 1usize..4, tokens in 1usize..6, seed: u64) {
        let case = case(rule, experts, chosen, tokens, seed);
        let dout = random(case.h.len(), seed ^ 4);
        let found = everywhere(|isa| {
            let (_, saved) = case.forward(isa, &vec![0.0; case.h.len()]);
            let panels = case.pack(isa, Side::Backward);
            let mut dh = vec![f32::NAN; case.h.len()];
            let mut dparameters = vec![0.0; case.parameters.len()];
            let mut scratch = GradientScratch::default();
            let mut products =
                PackedBackward { isa, panels: &panels, parameters: &case.parameters, gradient: &mut dparameters, scratch: &mut scratch };
            backward(
                isa, case.shape, &case.ranges, &mut products, case.tokens, &case.h, &dout, &mut dh, &saved,
                &mut Scratch::default(),
            );
            [dh, dparameters].concat()
        });
        let selection = case.selection();
        let (parameters, h, dout) = (doubles(&case.parameters), doubles(&case.h), doubles(&dout));
        let mut expected = slope(&h, |h| dot(&case.reference(&parameters, h, &selection), &dout));
        expected.extend(slope(&parameters, |p| dot(&case.reference(p, &h, &selection), &dout)));
        prop_assert!(apart(&found, &expected) < 1e-4);
    }
}
