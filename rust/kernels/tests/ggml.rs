//! What lies between products, in ggml's arithmetic, against plain references in its order of operations, to the bit.

mod common;

use common::ggml::{exponential, half};
use common::{cases, doubles, everywhere, random, random_rows};
use moevolve_kernels::ggml::{rms_norm, round_to_half, swiglu};
use moevolve_kernels::norm::Norm;
use moevolve_kernels::padded;
use moevolve_kernels::rope::{Angles, Pairs, Rotary, rotate};
use proptest::prelude::*;

#[test]
fn the_exponential_behind_swiglu_is_right_over_its_whole_range() {
    let gates: Vec<f32> = (-2400..=2400).map(|i| i as f32 / 16.0).collect();
    let width = padded(gates.len());
    let mut gate_up = vec![1.0; 2 * width];
    gate_up[..gates.len()].copy_from_slice(&gates);
    let found = everywhere(|isa| {
        let mut out = vec![0.0; width];
        swiglu(isa, width, &gate_up, &mut out);
        out
    });
    for (&x, &y) in gates.iter().zip(&found) {
        assert_eq!(y.to_bits(), (x / (1.0 + exponential(-x))).to_bits(), "{x}");
        let exact = f64::from(x) * common::sigmoid(f64::from(x));
        assert!(
            (f64::from(y) - exact).abs() <= 3e-7 * exact.abs() + 1e-36,
            "{x}: {y} {exact}"
        );
    }
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn norms_add_squares_one_by_one(rows in 0usize..5, groups in 1usize..3, count in 1usize..90, seed: u64) {
        let width = padded(count);
        let norm = Norm { groups, width, count, epsilon: 1e-5 };
        let x = random_rows(rows * groups, count, width, seed);
        let gain = random_rows(1, count, width, seed ^ 1);
        let y = everywhere(|isa| {
            let (mut y, mut inverse) = (vec![0.0; x.len()], vec![0.0; rows * groups]);
            let step = groups * width;
            rms_norm(isa, norm, rows, &x, step, &gain, &mut y, step, &mut inverse);
            y
        });
        for (x, y) in x.chunks_exact(width).zip(y.chunks_exact(width)) {
            let sum: f64 = x.iter().map(|x| f64::from(x * x)).sum();
            let scale = 1.0 / ((sum / count as f64) as f32 + 1e-5).sqrt();
            for ((x, g), y) in x.iter().zip(&gain).zip(y) {
                prop_assert_eq!((x * scale * g).to_bits(), y.to_bits());
            }
        }
    }

    #[test]
    fn rotations_fuse_the_first_of_each_pair(rotated in 1usize..20, position in 0u32..600, scale in prop::sample::select(vec![1.0f32, 0.25]), seed: u64) {
        let (rotated, width) = (2 * rotated, padded(2 * rotated));
        let divisors: Vec<f32> = random(rotated / 2, seed ^ 1).iter().map(|x| x + 2.0).collect();
        let mut rotary = Rotary::new(width, Angles::chain(rotated, 1e5, scale, divisors.clone()), 1.0, Pairs::HalfFused);
        rotary.extend(601);
        let x = random_rows(1, rotated, width, seed);
        let margin = rotary.margin();
        let mut between = vec![0.0; width + 2 * margin];
        between[margin..margin + width].copy_from_slice(&x);
        let y = everywhere(|isa| {
            let mut y = vec![0.0; width];
            rotate(isa, &rotary, 1, &[position], &between, &mut y, false);
            y
        });
        let mut angle = position as f32;
        for (i, j) in (0..rotated / 2).map(|i| (i, i + rotated / 2)) {
            let (sin, cos) = (scale * (angle / divisors[i])).sin_cos();
            prop_assert_eq!(y[i], x[i].mul_add(cos, -(x[j] * sin)));
            prop_assert_eq!(y[j], x[i].mul_add(sin, x[j] * cos));
            angle *= 1e5f32.powf(-2.0 / rotated as f32);
        }
    }
}

#[test]
fn halves_are_rounded_to_the_nearest() {
    let mut x: Vec<f32> = random(4096, 1)
        .iter()
        .enumerate()
        .map(|(i, x)| x * 2.0f32.powi(i as i32 % 40 - 22))
        .collect();
    x[..4].copy_from_slice(&[65_519.0, 65_520.0, -1e9, 2.0f32.powi(-25)]);
    let found = everywhere(|isa| {
        let mut y = x.clone();
        round_to_half(isa, 64, 64, 64, &mut y);
        y
    });
    let expected: Vec<f64> = doubles(&x.iter().map(|&x| half(x)).collect::<Vec<_>>());
    assert_eq!(doubles(&found), expected);
}
