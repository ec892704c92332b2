//! Routing in ggml's arithmetic against plain references in its order of operations, to the bit.

mod common;

use common::{cases, everywhere, random, random_rows};
use moevolve_kernels::activation::Activation;
use moevolve_kernels::arithmetic::GGML;
use moevolve_kernels::experts::{Block, Buffers, Copies, Products, Saved, Scratch, Shape, forward};
use moevolve_kernels::route::{Routing, Rule};
use moevolve_kernels::worker_pool::WorkerPool;
use moevolve_kernels::{Isa, padded};
use proptest::prelude::*;

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn weights_are_shares_of_sums_in_f64(experts in 1usize..40, chosen in 1usize..5, rule in 0usize..3, seed: u64) {
        let rule = [Rule::Sigmoid, Rule::Softmax { normalised: true }, Rule::Softmax { normalised: false }][rule];
        let (chosen, width) = (chosen.min(experts), padded(experts));
        let logits: Vec<f32> = random_rows(3, experts, width, seed).iter().map(|x| 5.0 * x).collect();
        let found = everywhere(|isa| {
            let mut routing = Routing { scores: logits.clone(), ..Routing::default() };
            routing.route(isa, &GGML, rule, 3, experts, chosen, &[]);
            routing.weights.iter().copied().chain(routing.experts.iter().map(|&e| e as f32)).collect()
        });
        let (weights, picked) = found.split_at(3 * chosen);
        for (row, logits) in logits.chunks_exact(width).enumerate() {
            let logits = &logits[..experts];
            let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let whole = experts / 16 * 16;
            // Whole vectors go through ggml's exponential, which the products' tests hold: near is enough here.
            let raised: Vec<f32> = logits.iter().map(|x| (x - top).exp()).collect();
            let sum: f64 = raised.iter().map(|&x| f64::from(x)).sum();
            let score = |e: usize| match rule {
                Rule::Sigmoid => 1.0 / (1.0 + (-logits[e]).exp()),
                _ => raised[e] * (1.0 / sum) as f32,
            };
            let picked: Vec<usize> = picked[row * chosen..][..chosen].iter().map(|&e| e as usize).collect();
            prop_assert!(picked.windows(2).all(|pair| score(pair[0]) >= score(pair[1]) - 1e-6));
            let mass: f64 = picked.iter().map(|&e| f64::from(score(e))).sum();
            let normalised = rule != Rule::Softmax { normalised: false };
            for (i, &e) in picked.iter().enumerate() {
                let expected = if normalised { score(e) / (mass as f32).max(6.103_515_6e-5) } else { score(e) };
                let weight = weights[row * chosen + i];
                if rule == Rule::Sigmoid || whole == 0 {
                    prop_assert_eq!(weight.to_bits(), expected.to_bits());
                } else {
                    prop_assert!((weight - expected).abs() < 1e-6);
                }
            }
        }
    }
}

/// Experts whose outputs are given.
struct Given<'a> {
    logits: &'a [f32],
    outputs: &'a [f32],
}

impl Products for Given<'_> {
    fn scores(&self, _: usize, _: &[f32], scores: &mut [f32]) {
        scores[..self.logits.len()].copy_from_slice(self.logits);
    }

    fn experts(
        &self,
        _: &Routing,
        _: &[f32],
        _: bool,
        _: &mut Copies,
        _: &mut Buffers,
        outputs: &mut [f32],
    ) {
        outputs.copy_from_slice(&self.outputs[..outputs.len()]);
    }
}

#[test]
fn experts_are_rounded_before_they_are_added_and_the_residual_comes_last() {
    let shape = Shape {
        hidden: 32,
        intermediate: 16,
        experts: 4,
        chosen: 3,
        rule: Rule::Softmax { normalised: true },
        activation: Activation::Silu,
    };
    let logits = random_rows(2, 4, 16, 1);
    let (outputs, residual) = (random(6 * 32, 2), random(2 * 32, 3));
    let products = Given {
        logits: &logits,
        outputs: &outputs,
    };
    let run = |isa: Isa| {
        let (h, mut out, mut saved) = (vec![0.0; 64], vec![0.0; 64], Saved::default());
        let mut scratch = Scratch::default();
        let block = Block {
            isa,
            pool: &WorkerPool::new(1),
            arithmetic: &GGML,
            shape,
            bias: &[],
        };
        forward(
            block,
            &products,
            2,
            &h,
            &residual,
            &mut out,
            false,
            &mut saved,
            &mut scratch,
        );
        (out, saved)
    };
    let found = everywhere(|isa| run(isa).0);
    let (_, saved) = run(Isa::best());
    let routing = &saved.routing;
    for t in 0..2 {
        for d in 0..32 {
            let part = |k: usize| {
                let slot = routing.slots[3 * t + k] as usize;
                routing.weights[3 * t + k] * outputs[slot * 32 + d]
            };
            let expected = part(0) + part(1) + part(2) + residual[t * 32 + d];
            assert_eq!(found[t * 32 + d].to_bits(), expected.to_bits());
        }
    }
}
