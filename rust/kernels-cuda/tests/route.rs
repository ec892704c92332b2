//! Routing: the same choice as the CPU's kernels, ties included, and the same order of copies.

mod common;

use common::{Case, RULES, Sizes, apart, cases, on_cpu, random, twin};
use moevolve_kernels::route::Rule as CpuRule;
use moevolve_kernels::{Isa, arithmetic::OWN, padded, route};
use moevolve_kernels_cuda::Memory;
use moevolve_kernels_cuda::route::{MOST_CHOSEN, MOST_EXPERTS, Routing, Rule};
use proptest::prelude::*;

/// The CPU's routing from logits that the device computed as well.
fn expected(case: &Case) -> route::Routing {
    case.forward_on_cpu().1.routing
}

fn routed(case: &Case, seed: u64) -> Routing {
    let device = twin(seed);
    let on = case.on(&device, moevolve_kernels_cuda::products::Format::F32);
    let Case {
        rule,
        hidden,
        experts,
        chosen,
        tokens,
        ..
    } = *case;
    let routing = Routing::new(&device, rule, tokens, experts, chosen, padded(experts)).unwrap();
    let block = on.block(case);
    routing
        .select(block_input(&on), hidden, block.router, block.bias)
        .unwrap();
    routing.order().unwrap();
    routing
}

fn block_input(on: &common::OnDevice) -> u64 {
    on.h.address()
}

fn check(case: &Case, seed: u64) {
    let (found, expected) = (routed(case, seed), expected(case));
    assert_eq!(found.experts.download().unwrap(), expected.experts);
    assert!(apart(&found.weights.download().unwrap(), &expected.weights) < 1e-5);
    assert_eq!(found.slots.download().unwrap(), expected.slots);
    assert_eq!(found.row_tokens.download().unwrap(), expected.tokens);
    assert!(
        apart(
            &found.slot_weights.download().unwrap(),
            &expected.slot_weights
        ) < 1e-5
    );
    let offsets: Vec<usize> = found
        .offsets
        .download()
        .unwrap()
        .iter()
        .map(|&x| x as usize)
        .collect();
    assert_eq!(offsets, expected.offsets);
    for (tiles, side) in found.tiles.iter().zip([64, 128]) {
        let mut sum = 0;
        let mut begins = vec![0];
        for e in 0..case.experts {
            sum += expected.rows_of(e).len().div_ceil(side) as u32;
            begins.push(sum);
        }
        assert_eq!(tiles.download().unwrap(), begins);
    }
    if case.rule != Rule::Dense {
        let width = padded(case.experts);
        let scores = found.scores.download().unwrap();
        for (a, b) in scores
            .chunks_exact(width)
            .zip(expected.scores.chunks_exact(width))
        {
            assert!(apart(&a[..case.experts], &b[..case.experts]) < 1e-5);
        }
    }
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn every_rule_chooses_and_sorts_as_the_cpu(rule in 0usize..4, hidden in 1usize..70, experts in 1usize..200, chosen in 1usize..33, tokens in 1usize..600, seed: u64) {
        check(&Case::new(Sizes { rule, hidden, intermediate: 1, experts, chosen, tokens }, false, seed), seed);
    }

    #[test]
    fn of_equal_scores_the_lower_index_wins(rule in 0usize..3, experts in 2usize..80, chosen in 1usize..17, tokens in 1usize..40, seed: u64) {
        let mut case = Case::new(Sizes { rule, hidden: 1, intermediate: 1, experts, chosen, tokens }, false, seed);
        // A product of one column is one rounding, whoever computes it; few distinct ones, so ties abound.
        case.router = random(experts, seed).iter().map(|x| (x * 3.0).round() / 4.0).collect();
        case.h = random(tokens, seed ^ 5).iter().map(|x| (x * 4.0).round() / 2.0).collect();
        case.bias = vec![0.5; case.bias.len()];
        check(&case, seed);
    }

    #[test]
    fn gradients_of_logits_are_the_cpus(rule in 0usize..3, experts in 1usize..100, chosen in 1usize..17, tokens in 1usize..60, seed: u64) {
        let case = Case::new(Sizes { rule, hidden: 16, intermediate: 1, experts, chosen, tokens }, false, seed);
        let (found, mut cpu) = (routed(&case, seed), expected(&case));
        let device = twin(seed);
        let (width, dweights) = (padded(experts), random(found.copies(), seed ^ 8));
        let gradient = Memory::new(&device, tokens * width).unwrap();
        found.backward(&Memory::from_slice(&device, &dweights).unwrap(), &gradient).unwrap();
        let mut dlogits = vec![0.0; tokens * width];
        cpu.rule = on_cpu(case.rule);
        cpu.backward(width, &dweights, &mut dlogits);
        prop_assert!(apart(&gradient.download().unwrap(), &dlogits) < 1e-4);
    }
}

/// Scores whose exponential is past the largest number still share a token among its experts, as on the processor.
#[test]
fn logits_far_below_zero_are_routed_and_learnt_from_as_on_the_cpu() {
    let sizes = Sizes {
        rule: 0,
        hidden: 16,
        intermediate: 1,
        experts: 6,
        chosen: 2,
        tokens: 5,
    };
    let mut case = Case::new(sizes, false, 7);
    // Every logit is -110.
    case.h.fill(-10.0);
    case.router.fill(0.6875);
    let (found, mut cpu) = (routed(&case, 7), expected(&case));
    let weights = found.weights.download().unwrap();
    assert!(weights.iter().all(|w| w.is_finite()), "{weights:?}");
    check(&case, 7);
    let (device, width) = (twin(7), padded(case.experts));
    let dweights = random(found.copies(), 8);
    let gradient = Memory::new(&device, case.tokens * width).unwrap();
    let on = Memory::from_slice(&device, &dweights).unwrap();
    found.backward(&on, &gradient).unwrap();
    let mut dlogits = vec![0.0; case.tokens * width];
    cpu.rule = on_cpu(case.rule);
    cpu.backward(width, &dweights, &mut dlogits);
    let gradient = gradient.download().unwrap();
    assert!(apart(&gradient, &dlogits) < 1e-4, "{gradient:?}");
}

#[test]
fn a_router_of_the_largest_models_fits() {
    let sizes = Sizes {
        rule: 0,
        hidden: 40,
        intermediate: 1,
        experts: MOST_EXPERTS,
        chosen: MOST_CHOSEN,
        tokens: 50,
    };
    check(&Case::new(sizes, false, 3), 3);
}

#[test]
fn more_than_the_kernels_take_is_refused_by_name() {
    let device = twin(0);
    let experts = Routing::new(&device, Rule::Sigmoid, 1, 513, 1, 528)
        .err()
        .unwrap();
    assert_eq!(
        experts.to_string(),
        "the number of experts is 513; kernels take up to 512"
    );
    let chosen = Routing::new(&device, Rule::Softmax, 1, 64, 33, 64)
        .err()
        .unwrap();
    assert_eq!(
        chosen.to_string(),
        "the number of experts of a token is 33; kernels take up to 32"
    );
}

#[test]
fn rules_are_those_of_the_cpu() {
    assert_eq!(RULES.map(on_cpu).len(), 4);
    assert_eq!(
        on_cpu(Rule::Softmax),
        CpuRule::Softmax { normalised: false }
    );
    let _ = (Isa::best(), &OWN);
}
