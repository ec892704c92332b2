//! The block that is only read gives the bits of the one that is kept for training, in either precision, on any pool.

mod common;

use common::{everywhere, random};
use moevolve_kernels::activation::Activation;
use moevolve_kernels::arithmetic::OWN;
use moevolve_kernels::experts::{
    Block, ExpertBiases, ExpertRanges, PackedBlock, Saved, Scratch, Shape, forward,
};
use moevolve_kernels::panels::{Panels, Side};
use moevolve_kernels::route::Rule;
use moevolve_kernels::worker_pool::WorkerPool;
use moevolve_kernels::{Isa, Precision, padded};
use proptest::prelude::*;

const RULES: [Rule; 2] = [Rule::Sigmoid, Rule::Softmax { normalised: true }];

/// Clamped where numbers of these sizes often are, and with biases.
const CLAMPED: Activation = Activation::Clamped {
    alpha: 1.702,
    limit: 1.5,
};

struct Case {
    shape: Shape,
    ranges: ExpertRanges,
    weights: Vec<f32>,
    bias: Vec<f32>,
    x: Vec<f32>,
}

impl Case {
    fn new(shape: Shape, tokens: usize, seed: u64) -> Self {
        let mut ranges = ExpertRanges::packed(shape);
        let mut total = ranges.total();
        if shape.activation != Activation::Silu {
            let mut take = |n: usize| {
                total += n;
                total - n..total
            };
            ranges.biases = Some(ExpertBiases {
                router: take(padded(shape.experts)),
                gate_up: (0..shape.experts)
                    .map(|_| take(2 * shape.intermediate))
                    .collect(),
                down: (0..shape.experts).map(|_| take(shape.hidden)).collect(),
            });
        }
        let mut weights = random(total, seed);
        weights[shape.experts * shape.hidden..ranges.router.end].fill(0.0);
        Self {
            shape,
            ranges,
            weights,
            bias: random(shape.experts, seed ^ 1),
            x: random(tokens * shape.hidden, seed ^ 4),
        }
    }

    fn pack(&self, precision: Precision) -> Panels {
        let Shape {
            hidden,
            intermediate,
            experts,
            ..
        } = self.shape;
        let ExpertRanges {
            router,
            gate_up,
            down,
            ..
        } = &self.ranges;
        let total = self.weights.len();
        let mut panels = Panels::new(Side::Forward, precision, total, [router.clone()]);
        let router = [(router, padded(experts), hidden)];
        let up = gate_up
            .iter()
            .map(|range| (range, 2 * intermediate, hidden));
        let down = down.iter().map(|range| (range, hidden, intermediate));
        for (range, out, inp) in router.into_iter().chain(up).chain(down) {
            let weights = &self.weights[range.clone()];
            let isa = Isa::best();
            panels.whole().pack(isa, range.start, out, inp, weights);
        }
        panels
    }

    fn run(&self, isa: Isa, pool: &WorkerPool, panels: &Panels, keep: bool) -> Vec<f32> {
        let (shape, ranges) = (self.shape, &self.ranges);
        let block = Block {
            isa,
            pool,
            arithmetic: &OWN,
            shape,
            bias: &self.bias,
        };
        let products = PackedBlock {
            isa,
            pool,
            shape,
            ranges,
            panels,
            values: &self.weights,
        };
        let (mut saved, mut scratch) = (Saved::default(), Scratch::default());
        let mut out = vec![f32::NAN; self.x.len()];
        // Twice: buffers are used again.
        for x in [&random(3 * shape.hidden, 8), &self.x] {
            let residual = vec![0.0; x.len()];
            let mut y = vec![f32::NAN; x.len()];
            let tokens = x.len() / shape.hidden;
            forward(
                block,
                &products,
                tokens,
                x,
                &residual,
                &mut y,
                keep,
                &mut saved,
                &mut scratch,
            );
            out = y;
        }
        out
    }
}

proptest! {
    #![proptest_config(common::cases(24))]

    #[test]
    fn it_equals_the_kept_block(
        rule in 0usize..2, clamped: bool, experts in 1usize..20, chosen in 1usize..5, hidden in 1usize..12, intermediate in 1usize..12, tokens in 0usize..90, seed: u64,
    ) {
        let activation = if clamped { CLAMPED } else { Activation::Silu };
        let shape = Shape { hidden: 16 * hidden, intermediate: 16 * intermediate, experts, chosen: chosen.min(experts), rule: RULES[rule], activation };
        let case = Case::new(shape, tokens, seed);
        for precision in [Precision::F32, Precision::Bf16] {
            let panels = case.pack(precision);
            let expected = case.run(Isa::best(), &WorkerPool::new(1), &panels, true);
            for threads in [1, 3] {
                let pool = WorkerPool::new(threads);
                let found = everywhere(|isa| case.run(isa, &pool, &panels, false));
                prop_assert!(found.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()), "{} {}", precision, threads);
            }
        }
    }
}
