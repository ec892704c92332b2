//! Rows moved, added and summed against plain loops.

mod common;

use common::{apart, everywhere, random};
use moevolve_kernels::rows::{add_row, sum_rows};
use proptest::prelude::*;

proptest! {
    #![proptest_config(common::cases(24))]

    #[test]
    fn a_bias_is_added_to_every_row_and_its_gradient_sums_them(rows in 0usize..9, vectors in 1usize..4, seed: u64) {
        let width = 16 * vectors;
        let (bias, x) = (random(width, seed), random(rows * width, seed ^ 1));
        let y = everywhere(|isa| {
            let mut y = x.clone();
            add_row(isa, rows, &bias, &mut y);
            y
        });
        for (i, (y, x)) in y.iter().zip(&x).enumerate() {
            prop_assert_eq!(*y, x + bias[i % width]);
        }
        let sum = everywhere(|isa| {
            let mut sum = bias.clone();
            sum_rows(isa, rows, &x, &mut sum);
            sum
        });
        let expected: Vec<f64> = (0..width)
            .map(|j| f64::from(bias[j]) + (0..rows).map(|r| f64::from(x[r * width + j])).sum::<f64>())
            .collect();
        prop_assert!(apart(&sum, &expected) < 1e-6);
    }
}
