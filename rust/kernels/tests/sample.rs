//! Draws: uniform, by key and counter alone, from the right tokens.

mod common;

use common::random;
use moevolve_kernels::sample::{greedy, nucleus, uniform};
use proptest::prelude::*;

proptest! {
    #![proptest_config(common::cases(256))]

    #[test]
    fn a_draw_comes_from_the_nucleus(n in 1usize..60, temperature in 0.1f32..3.0, top_p in 0.01f32..1.0, u in 0f64..1.0, seed: u64) {
        let logits: Vec<f32> = random(n, seed).into_iter().map(|x| 4.0 * x).collect();
        let drawn = nucleus(&logits, temperature, top_p, u, &mut Vec::new());
        let weight = |i: usize| f64::from(logits[i] / temperature).exp();
        let mass: f64 = (0..n).map(weight).sum();
        let likelier: f64 = (0..n).filter(|&i| logits[i] > logits[drawn]).map(weight).sum();
        prop_assert!(likelier < mass * f64::from(top_p) * (1.0 + 1e-6));
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest(logits in prop::collection::vec(-3i8..3, 1..40)) {
        let logits: Vec<f32> = logits.into_iter().map(f32::from).collect();
        let best = greedy(&logits);
        prop_assert!(logits.iter().all(|&x| x <= logits[best]));
        prop_assert!(logits[..best].iter().all(|&x| x < logits[best]));
    }

    #[test]
    fn a_tiny_nucleus_is_greedy(n in 1usize..40, u in 0f64..1.0, seed: u64) {
        let logits = random(n, seed);
        prop_assert_eq!(nucleus(&logits, 1.0, 1e-6, u, &mut Vec::new()), greedy(&logits));
    }
}

#[test]
fn uniform_numbers_are_uniform_along_keys_and_counters() {
    let cells = 64;
    for stride in [(1u64, 0u64), (0, 1)] {
        let mut seen = vec![0u32; cells];
        let n = 64_000u64;
        for i in 0..n {
            let u = uniform(5 + i * stride.0, 9 + i * stride.1);
            assert!((0.0..1.0).contains(&u));
            seen[(u * cells as f64) as usize] += 1;
        }
        let expected = n as f64 / cells as f64;
        let chi: f64 = seen
            .iter()
            .map(|&s| (f64::from(s) - expected).powi(2) / expected)
            .sum();
        assert!(
            chi < cells as f64 + 5.0 * (2.0 * cells as f64).sqrt(),
            "{stride:?}: {chi}"
        );
    }
}

#[test]
fn the_generator_never_changes() {
    // A journal's replay rests on these very numbers.
    assert_eq!(uniform(0, 0), 0.28176129772258496);
    assert_eq!(uniform(1, 0), 0.2668471864940366);
    assert_eq!(uniform(0, 1), 0.6524484863740322);
    assert_eq!(uniform(u64::MAX, u64::MAX), 0.016151934466988482);
}
