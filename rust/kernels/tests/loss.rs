//! Cross-entropy, its gradient, and the exponential under both.

mod common;

use common::{apart, everywhere, random};
use moevolve_kernels::loss::{cross_entropy, entropy, log_sum_exp};
use moevolve_kernels::scores::sigmoid_rows;
use moevolve_kernels::{Isa, padded};
use proptest::prelude::*;

fn softmax(row: &[f32]) -> (Vec<f64>, f64) {
    let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> = row.iter().map(|&x| f64::from(x - top).exp()).collect();
    let mass: f64 = weights.iter().sum();
    (
        weights.iter().map(|w| w / mass).collect(),
        mass.ln() + f64::from(top),
    )
}

proptest! {
    #![proptest_config(common::cases(64))]

    #[test]
    fn loss_and_gradient_equal_double_precision(rows in 0usize..6, vocabulary in 1usize..80, spread in 0.1f32..40.0, seed: u64) {
        let width = padded(vocabulary);
        let logits: Vec<f32> = random(rows * width, seed).into_iter().map(|x| x * spread).collect();
        let targets: Vec<u32> = (0..rows).map(|i| ((seed as usize).wrapping_add(i) % vocabulary) as u32).collect();
        let scale: Vec<f32> = random(rows, seed ^ 1).into_iter().map(f32::abs).collect();
        let found = everywhere(|isa| {
            let mut gradient = logits.clone();
            let loss = cross_entropy(isa, vocabulary, width, &targets, &scale, &mut gradient);
            gradient.push(loss as f32);
            gradient
        });
        let (mut expected, mut loss) = (Vec::new(), 0.0);
        for ((row, &target), &scale) in logits.chunks_exact(width).zip(&targets).zip(&scale) {
            let (mut share, mass) = softmax(&row[..vocabulary]);
            loss += f64::from(scale) * (mass - f64::from(row[target as usize]));
            share[target as usize] -= 1.0;
            expected.extend(share.iter().map(|p| p * f64::from(scale)));
            expected.resize(expected.len() + width - vocabulary, 0.0);
        }
        expected.push(loss);
        prop_assert!(apart(&found, &expected) < 1e-5);
    }

    #[test]
    fn log_sum_exp_ignores_the_padding(vocabulary in 1usize..80, seed: u64) {
        let mut logits = random(padded(vocabulary), seed);
        let (_, expected) = softmax(&logits[..vocabulary]);
        logits[vocabulary..].fill(1e9);
        let found = everywhere(|isa| vec![log_sum_exp(isa, vocabulary, &logits)]);
        prop_assert!((f64::from(found[0]) - expected).abs() < 1e-5);
    }

    #[test]
    fn entropy_equals_double_precision(vocabulary in 1usize..80, spread in 0.1f32..60.0, seed: u64) {
        let mut logits: Vec<f32> = random(padded(vocabulary), seed).into_iter().map(|x| x * spread).collect();
        let (shares, _) = softmax(&logits[..vocabulary]);
        let expected: f64 = shares.iter().filter(|&&p| p > 0.0).map(|p| -p * p.ln()).sum();
        logits[vocabulary..].fill(1e9);
        let found = everywhere(|isa| vec![entropy(isa, vocabulary, &logits)]);
        prop_assert!((f64::from(found[0]) - expected).abs() < 1e-5);
    }

    #[test]
    fn sigmoid_is_right_everywhere(x in prop::collection::vec(-120f32..120.0, 16)) {
        let found = everywhere(|isa| {
            let mut y = x.clone();
            sigmoid_rows(isa, &mut y);
            y
        });
        for (&x, &y) in x.iter().zip(&found) {
            let expected = common::sigmoid(f64::from(x));
            prop_assert!((f64::from(y) - expected).abs() <= 3e-7 * expected.max(1e-30), "{x}: {y} {expected}");
        }
    }
}

#[test]
fn nothing_finite_overflows() {
    let mut logits = vec![-1e30f32; 16];
    logits[3] = 1e30;
    for isa in Isa::available() {
        let mut gradient = logits.clone();
        let loss = cross_entropy(isa, 16, 16, &[3], &[1.0], &mut gradient);
        assert_eq!(loss, 0.0);
        assert!(gradient.iter().all(|x| x.is_finite()));
    }
}
