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

/// `a b + sum` rounded to 24 bits as though exponents had no end, with zero for what is then below 2^-126.
fn step(a: f32, b: f32, sum: f32) -> f32 {
    let plain = a.mul_add(b, sum);
    // Exact where it matters; 2^-126 less half a unit in the last place of what is below it is even again.
    let exact = f64::from(a) * f64::from(b) + f64::from(sum);
    let least = f64::from(f32::MIN_POSITIVE) * (1.0 - 2.0f64.powi(-25));
    if exact.abs() < least {
        0.0f32.copysign(plain)
    } else {
        plain
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
            .fold(sum, |sum: f32, (a, b)| step(*a, *b, sum))
    })
}

/// `x` (rows, inp) times the transposed `weight` (out, inp).
fn product([rows, out, inp]: [usize; 3], x: &[f32], weight: &[f32]) -> Vec<f32> {
    everywhere(|isa| {
        let (mut panels, mut y) = (vec![0; weight.len()], vec![f32::NAN; rows * out]);
        let scratch = &mut Scratch::default();
        pack_forward(isa, weight, out, inp, &mut panels);
        multiply(isa, rows, inp, out, x, &panels, &mut y, false, scratch);
        y
    })
}

/// The same by chains of pairs.
fn chains(inp: usize, x: &[f32], weight: &[f32]) -> Vec<f32> {
    let each = |x: &[f32], w: &[f32]| chain(x.iter().copied(), w.iter().copied());
    let rows = x.chunks_exact(inp);
    rows.flat_map(|x| weight.chunks_exact(inp).map(move |w| each(x, w)))
        .collect()
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
        prop_assert_eq!(bits(&product([rows, out, inp], &x, &weight)), bits(&chains(inp, &x, &weight)));
    }

    #[test]
    fn sums_at_the_edge_of_the_denormals_are_chains_too(rows in 1usize..14, out in 1usize..5, inp in 1usize..4, power in -64i32..-61, seed: u64) {
        let (out, inp) = (16 * out, 16 * inp);
        let few = |n, seed| -> Vec<f32> { random(n, seed).into_iter().map(|x| (4.0 * x).round() / 4.0 * 2.0f32.powi(power)).collect() };
        let (mut x, weight) = (few(rows * inp, seed), few(out * inp, seed ^ 1));
        // Small beside large ones: halfway cases of the last bits.
        x.iter_mut().step_by(3).for_each(|x| *x *= 2.0f32.powi(-25));
        prop_assert_eq!(bits(&product([rows, out, inp], &x, &weight)), bits(&chains(inp, &x, &weight)));
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

#[test]
fn what_is_below_the_least_normal_number_in_24_bits_is_zero() {
    let power = |power: i32| 2.0f32.powi(power);
    for (first, expected) in [
        // Between 2^-126 less 2^-150 and halfway up to 2^-126: in multiples of 2^-149 it would be 2^-126.
        ([1.5 * power(-76), -power(-75)], 0.0),
        ([1.25 * power(-76), -power(-75)], 0.0),
        // Halfway, and the even one is 2^-126.
        ([power(-76), -power(-75)], f32::MIN_POSITIVE),
        ([power(-78), -power(-75)], f32::MIN_POSITIVE),
        ([power(100), 0.0], f32::MIN_POSITIVE),
    ] {
        for sign in [1.0, -1.0] {
            let (mut x, mut weight) = (vec![0.0; 16], vec![0.0; 256]);
            // The second of a pair comes first.
            (x[1], x[0]) = (power(-63), first[0]);
            for w in weight.chunks_exact_mut(16) {
                (w[1], w[0]) = (sign * power(-63), sign * first[1]);
            }
            let y = product([1, 16, 16], &x, &weight);
            // The pairs behind it make zero of either sign a positive one.
            let expected = sign * expected + 0.0;
            assert_eq!(bits(&y), [expected.to_bits(); 16], "{first:?}");
        }
    }
}
