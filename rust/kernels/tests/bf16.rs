//! Products of bf16 pairs: the same bits as two fused multiply-adds a pair, on every instruction set.

mod common;

use common::{everywhere, random};
use moevolve_kernels::Isa;
use moevolve_kernels::bf16::{
    Scratch, multiply, pack_backward, pack_forward, round, weight_gradient,
};
use moevolve_kernels::simd::to_bf16;
use proptest::prelude::*;

fn wide(x: u16) -> f32 {
    f32::from_bits(u32::from(x) << 16)
}

fn normal(x: f32) -> f32 {
    if x.is_subnormal() {
        0.0f32.copysign(x)
    } else {
        x
    }
}

/// Σ a b over pairs, the second of each first, every step rounded to f32 with denormals as zero.
fn chain(a: impl Iterator<Item = f32>, b: impl Iterator<Item = f32>) -> f32 {
    let terms: Vec<(f32, f32)> = a
        .zip(b)
        .map(|(a, b)| (wide(to_bf16(a)), wide(to_bf16(b))))
        .collect();
    terms.chunks(2).fold(0.0, |sum, pair| {
        pair.iter()
            .rev()
            .fold(sum, |sum: f32, (a, b)| normal(a.mul_add(*b, sum)))
    })
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// Numbers of all magnitudes, so that sums and products under- and overflow.
fn wild(n: usize, seed: u64) -> Vec<f32> {
    let scale = random(n, seed ^ 99);
    let number = |(x, scale): (f32, f32)| x * (85.0 * scale).exp();
    random(n, seed).into_iter().zip(scale).map(number).collect()
}

fn numbers(n: usize, seed: u64, are_wild: bool) -> Vec<f32> {
    if are_wild {
        wild(n, seed)
    } else {
        random(n, seed)
    }
}

proptest! {
    #![proptest_config(common::cases(48))]

    #[test]
    fn a_product_is_a_chain_of_pairs(rows in 0usize..40, out in 1usize..6, inp in 1usize..6, seed: u64, far: bool) {
        let (out, inp) = (16 * out, 16 * inp);
        let (x, weight) = (numbers(rows * inp, seed, far), random(out * inp, seed ^ 1));
        let y = everywhere(|isa| {
            let (mut panels, mut y) = (vec![0; weight.len()], vec![f32::NAN; rows * out]);
            pack_forward(isa, &weight, out, inp, &mut panels);
            multiply(isa, rows, inp, out, &x, &panels, &mut y, false, &mut Scratch::default());
            y
        });
        let mut expected = Vec::new();
        for x in x.chunks_exact(inp) {
            expected.extend(weight.chunks_exact(inp).map(|w| chain(x.iter().copied(), w.iter().copied())));
        }
        prop_assert_eq!(bits(&y), bits(&expected));
    }

    #[test]
    fn the_backward_product_is_a_chain_of_pairs(rows in 0usize..40, out in 1usize..6, inp in 1usize..6, seed: u64) {
        let (out, inp) = (16 * out, 16 * inp);
        let (dy, weight) = (random(rows * out, seed), random(out * inp, seed ^ 1));
        let before = random(rows * inp, seed ^ 2);
        let dx = everywhere(|isa| {
            let (mut panels, mut dx) = (vec![0; weight.len()], before.clone());
            pack_backward(isa, &weight, out, inp, &mut panels);
            multiply(isa, rows, out, inp, &dy, &panels, &mut dx, true, &mut Scratch::default());
            dx
        });
        let mut expected = Vec::new();
        for (row, dy) in dy.chunks_exact(out).enumerate() {
            for i in 0..inp {
                let column = (0..out).map(|o| weight[o * inp + i]);
                expected.push(before[row * inp + i] + chain(dy.iter().copied(), column));
            }
        }
        prop_assert_eq!(bits(&dx), bits(&expected));
    }

    #[test]
    fn a_weight_gradient_is_a_sum_of_chains(rows in 0usize..600, out in 1usize..4, inp in 1usize..4, seed: u64, far: bool) {
        let (out, inp) = (16 * out, 16 * inp);
        let (dy, x) = (random(rows * out, seed), numbers(rows * inp, seed ^ 1, far));
        let before = random(out * inp, seed ^ 2);
        let dw = everywhere(|isa| {
            let mut dw = before.clone();
            weight_gradient(isa, rows, out, inp, &dy, &x, &mut dw, &mut Scratch::default());
            dw
        });
        let mut expected = before.clone();
        // Chains of 256 rows.
        for (dy, x) in dy.chunks(256 * out).zip(x.chunks(256 * inp)) {
            for o in 0..out {
                for i in 0..inp {
                    let sum = chain(dy[o..].iter().step_by(out).copied(), x[i..].iter().step_by(inp).copied());
                    // An odd number of rows ends with a pair whose second is zero.
                    expected[o * inp + i] += sum;
                }
            }
        }
        prop_assert_eq!(bits(&dw), bits(&expected));
    }

    #[test]
    fn rounding_is_to_nearest_even(pattern in prop::array::uniform16(any::<u32>())) {
        let x = pattern.map(f32::from_bits);
        for isa in Isa::available() {
            let mut out = [0; 16];
            round(isa, &x, &mut out);
            for (&x, &got) in x.iter().zip(&out) {
                if x.is_nan() {
                    prop_assert!(wide(got).is_nan());
                    continue;
                }
                prop_assert_eq!(got, to_bf16(x));
                if x.is_normal() && wide(got).is_finite() {
                    let gap = |y: u16| (f64::from(wide(y)) - f64::from(x)).abs();
                    for neighbour in [got.wrapping_sub(1), got.wrapping_add(1)] {
                        if wide(neighbour).is_finite() {
                            prop_assert!(gap(neighbour) >= gap(got), "{} to {} on {}", x, wide(got), isa);
                            prop_assert!(gap(neighbour) > gap(got) || got % 2 == 0);
                        }
                    }
                }
            }
        }
    }
}
