//! AdamW against double precision over several steps, and the reduction of shards.

mod common;

use common::{apart, doubles, everywhere, random};
use moevolve_kernels::adamw::{AdamW, adamw, add_and_square};
use proptest::prelude::*;

proptest! {
    #![proptest_config(common::cases(32))]

    #[test]
    fn steps_equal_the_formula(n in 1usize..5, decay in 0f32..0.2, clip in 0.01f32..1.0, seed: u64) {
        let n = 16 * n;
        let start = random(n, seed);
        let gradients: Vec<Vec<f32>> = (1..=3).map(|step| random(n, seed ^ step)).collect();
        let adam = |step| AdamW {
            learning_rate: 1e-2, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: decay, gradient_scale: clip, step,
        };
        let found = everywhere(|isa| {
            let (mut w, mut m, mut v) = (start.clone(), vec![0.0; n], vec![0.0; n]);
            for (step, gradient) in gradients.iter().enumerate() {
                adamw(isa, adam(step as u32 + 1), gradient, &mut w, &mut m, &mut v);
            }
            w
        });
        let mut expected = doubles(&start);
        for (i, w) in expected.iter_mut().enumerate() {
            let (mut m, mut v) = (0.0, 0.0);
            for (step, gradient) in gradients.iter().enumerate() {
                let g = f64::from(gradient[i]) * f64::from(clip);
                m = 0.9 * m + 0.1 * g;
                v = 0.95 * v + 0.05 * g * g;
                let (mean, spread) = (m / (1.0 - 0.9f64.powi(step as i32 + 1)), v / (1.0 - 0.95f64.powi(step as i32 + 1)));
                *w = *w * (1.0 - 1e-2 * f64::from(decay)) - 1e-2 * mean / (spread.sqrt() + 1e-8);
            }
        }
        prop_assert!(apart(&found, &expected) < 1e-5);
    }

    #[test]
    fn shards_are_summed_and_squared(n in 0usize..200, seed: u64) {
        let n = 16 * n;
        let (part, total) = (random(n, seed), random(n, seed ^ 1));
        let found = everywhere(|isa| {
            let mut total = total.clone();
            let squares = add_and_square(isa, &part, &mut total);
            total.push(squares as f32);
            total
        });
        let mut expected: Vec<f64> = doubles(&part).iter().zip(doubles(&total)).map(|(a, b)| a + b).collect();
        expected.push(expected.iter().map(|x| x * x).sum());
        prop_assert!(apart(&found, &expected) < 1e-5);
    }
}

#[test]
fn a_zero_gradient_leaves_a_zero_weight() {
    let zero = everywhere(|isa| {
        let (mut w, mut m, mut v) = ([0.0; 16], [0.0; 16], [0.0; 16]);
        let adam = AdamW {
            learning_rate: 0.1,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.1,
            gradient_scale: 1.0,
            step: 1,
        };
        adamw(isa, adam, &[0.0; 16], &mut w, &mut m, &mut v);
        w.to_vec()
    });
    assert!(zero.iter().all(|&x| x == 0.0), "padding stays zero");
}
