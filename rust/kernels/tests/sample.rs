//! Draws: uniform, by key and counter alone, from the right tokens.

mod common;

use common::random;
use moevolve_kernels::sample::{Cuts, draw, greedy, largest, uniform};
use proptest::prelude::*;

/// The definition of a draw, with everything sorted and copied at each cut.
fn reference(logits: &[f32], cuts: Cuts, u: f64) -> usize {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let inverse = 1.0 / f64::from(cuts.temperature);
    let weigh = |(i, &x): (usize, &f32)| (i, (f64::from(x - most) * inverse).exp());
    let mut left: Vec<(usize, f64)> = logits.iter().enumerate().map(weigh).collect();
    let mass = |left: &[(usize, f64)]| left.iter().map(|&(_, w)| w).sum::<f64>();
    let mut total = mass(&left);
    let cut = cuts.top_k > 0 && cuts.top_k < left.len();
    if cut || cuts.top_p < 1.0 {
        left.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    }
    if cut {
        left.truncate(cuts.top_k);
        total = mass(&left);
    }
    if cuts.top_p < 1.0 {
        let enough = total * f64::from(cuts.top_p);
        let count = (1..=left.len()).find(|&n| mass(&left[..n]) >= enough);
        left.truncate(count.unwrap_or(left.len()));
        total = mass(&left);
    }
    if cuts.min_p > 0.0 {
        left.retain(|&(_, w)| w >= f64::from(cuts.min_p));
        total = mass(&left);
    }
    let mut rest = u * total;
    for &(i, w) in &left {
        rest -= w;
        if rest < 0.0 {
            return i;
        }
    }
    left.iter()
        .rev()
        .find(|&&(_, w)| w > 0.0)
        .map_or(0, |&(i, _)| i)
}

const ALL: Cuts = Cuts {
    temperature: 1.0,
    top_k: 0,
    top_p: 1.0,
    min_p: 0.0,
};

proptest! {
    #![proptest_config(common::cases(512))]

    #[test]
    fn a_draw_is_what_its_definition_says(
        n in 1usize..900, step in prop::sample::select(vec![0.0f32, 0.5]), temperature in 0.1f32..30.0, top_k in 0usize..400,
        top_p in prop::sample::select(vec![0.05f32, 0.5, 0.95, 1.0]), min_p in prop::sample::select(vec![0.0f32, 0.02, 0.5, 1.0]),
        u in 0f64..1.0, seed: u64,
    ) {
        // With a step there are many equal logits.
        let logits: Vec<f32> = random(n, seed).into_iter().map(|x| if step > 0.0 { (4.0 * x / step).round() * step } else { 4.0 * x }).collect();
        let cuts = Cuts { temperature, top_k, top_p, min_p };
        prop_assert_eq!(draw(&logits, cuts, u, &mut Vec::new()), Some(reference(&logits, cuts, u)));
    }

    #[test]
    fn the_largest_are_those_of_a_sorted_list(n in 1usize..60, count in 0usize..25, seed: u64) {
        let logits: Vec<f32> = random(n, seed).into_iter().map(|x| (3.0 * x).round() + 0.0).collect();
        let mut sorted: Vec<(usize, f32)> = logits.iter().copied().enumerate().collect();
        sorted.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        sorted.truncate(count);
        prop_assert_eq!(largest(&logits, count), sorted);
    }
}

proptest! {
    #![proptest_config(common::cases(256))]

    #[test]
    fn a_draw_comes_from_the_nucleus(n in 1usize..60, temperature in 0.1f32..3.0, top_p in 0.01f32..1.0, u in 0f64..1.0, seed: u64) {
        let logits: Vec<f32> = random(n, seed).into_iter().map(|x| 4.0 * x).collect();
        let drawn = draw(&logits, Cuts { temperature, top_p, ..ALL }, u, &mut Vec::new()).expect("a token");
        let weight = |i: usize| f64::from(logits[i] / temperature).exp();
        let mass: f64 = (0..n).map(weight).sum();
        let likelier: f64 = (0..n).filter(|&i| logits[i] > logits[drawn]).map(weight).sum();
        prop_assert!(likelier < mass * f64::from(top_p) * (1.0 + 1e-6));
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest(logits in prop::collection::vec(-3i8..3, 1..40)) {
        let logits: Vec<f32> = logits.into_iter().map(f32::from).collect();
        let best = greedy(&logits).expect("a token");
        prop_assert!(logits.iter().all(|&x| x <= logits[best]));
        prop_assert!(logits[..best].iter().all(|&x| x < logits[best]));
    }

    #[test]
    fn a_tiny_nucleus_is_greedy(n in 1usize..40, u in 0f64..1.0, seed: u64) {
        let logits = random(n, seed);
        prop_assert_eq!(draw(&logits, Cuts { top_p: 1e-6, ..ALL }, u, &mut Vec::new()), greedy(&logits));
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

#[test]
fn what_is_no_number_is_never_drawn() {
    const NAN: f32 = f32::NAN;
    const INF: f32 = f32::INFINITY;
    let all = |logits: &[f32], cuts: Cuts| {
        let mut seen: Vec<Option<usize>> = (0..500)
            .map(|i| draw(logits, cuts, f64::from(i) / 500.0, &mut Vec::new()))
            .collect();
        seen.sort();
        seen.dedup();
        seen
    };
    let cut = [
        ALL,
        Cuts { top_k: 2, ..ALL },
        Cuts {
            top_p: 0.999,
            ..ALL
        },
        Cuts { min_p: 1e-4, ..ALL },
    ];
    for cuts in cut {
        assert_eq!(all(&[1.0, INF, 0.0], cuts), [Some(1)]);
        assert_eq!(all(&[INF, 1.0, NAN, INF], cuts), [Some(0), Some(3)]);
        assert_eq!(all(&[0.0, NAN, 5.0], cuts), [Some(0), Some(2)]);
        assert_eq!(all(&[0.0, -INF, 0.0, NAN], cuts), [Some(0), Some(2)]);
        for nothing in [&[NAN, NAN][..], &[-INF, NAN, -INF], &[-INF]] {
            assert_eq!(all(nothing, cuts), [None]);
        }
    }
    assert_eq!(greedy(&[NAN, 5.0]), Some(1));
    assert_eq!(greedy(&[1.0, NAN, INF, INF]), Some(2));
    assert_eq!(greedy(&[NAN, -INF]), None);
    assert_eq!(largest(&[NAN, 1.0, NAN, 3.0], 3), [(3, 3.0), (1, 1.0)]);
}
