//! Rotation against plain complex numbers; turning back undoes it.

mod common;

use common::{apart, everywhere, random_rows};
use moevolve_kernels::Isa;
use moevolve_kernels::frequencies::Scaling;
use moevolve_kernels::padded;
use moevolve_kernels::rope::{Angles, Pairs, Rotary, rotate};
use proptest::prelude::*;

fn plain(rotated: usize, theta: f32) -> Angles {
    Angles::Frequencies(Scaling::Plain.frequencies(rotated, theta))
}

fn turn(rotary: &Rotary, heads: usize, positions: &[u32], x: &[f32], back: bool) -> Vec<f32> {
    let margin = rotary.margin();
    let mut between = vec![0.0; x.len() + 2 * margin];
    between[margin..margin + x.len()].copy_from_slice(x);
    everywhere(|isa| {
        let mut y = vec![0.0; x.len()];
        rotate(isa, rotary, heads, positions, &between, &mut y, back);
        y
    })
}

proptest! {
    #![proptest_config(common::cases(48))]

    #[test]
    fn pairs_turn_as_complex_numbers(head in 2usize..40, part in 0usize..=4, heads in 1usize..4, seed: u64) {
        let rotated = head * part / 4 / 2 * 2;
        let width = padded(head);
        let positions = [0u32, 1, 7, 300];
        let theta = 10_000.0f32;
        let mut rotary = Rotary::new(width, plain(rotated, theta), 1.0, Pairs::Fused);
        rotary.extend(301);
        let x = random_rows(positions.len() * heads, head, width, seed);
        let y = turn(&rotary, heads, &positions, &x, false);
        let mut expected: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
        for (row, y) in expected.chunks_exact_mut(width).enumerate() {
            let x = &x[row * width..][..width];
            for i in 0..rotated / 2 {
                let frequency = 1.0 / theta.powf((2 * i) as f32 / rotated as f32);
                let angle = f64::from(positions[row / heads] as f32 * frequency);
                let (a, b) = (f64::from(x[i]), f64::from(x[i + rotated / 2]));
                y[i] = a * angle.cos() - b * angle.sin();
                y[i + rotated / 2] = b * angle.cos() + a * angle.sin();
            }
        }
        prop_assert!(apart(&y, &expected) < 1e-5);
        let again = turn(&rotary, heads, &positions, &y, true);
        let x: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
        prop_assert!(apart(&again, &x) < 1e-5);
    }
}

#[test]
fn extending_in_steps_changes_nothing() {
    let mut one = Rotary::new(16, plain(8, 1e4), 1.0, Pairs::Fused);
    one.extend(100);
    let mut two = Rotary::new(16, plain(8, 1e4), 1.0, Pairs::Fused);
    two.extend(3);
    two.extend(50);
    two.extend(100);
    let x = random_rows(1, 16, 16, 5);
    assert_eq!(
        turn(&one, 1, &[99], &x, false),
        turn(&two, 1, &[99], &x, false)
    );
}

/// A row that is not finite stays alone, whatever lies around it: rows, heads and margins next to one another.
#[test]
fn a_row_that_is_not_finite_turns_no_other() {
    for (head, rotated, pairs) in [
        (16, 16, Pairs::Fused),
        (32, 20, Pairs::Fused),
        (64, 64, Pairs::Fused),
        (16, 8, Pairs::HalfFused),
        (64, 64, Pairs::HalfFused),
    ] {
        let mut rotary = Rotary::new(head, plain(rotated, 1e4), 1.0, pairs);
        rotary.extend(8);
        let (heads, positions) = (2, [5, 0, 7]);
        let width = heads * head;
        for bad in [f32::NAN, f32::INFINITY] {
            for back in [false, true] {
                let mut x = random_rows(3, width, width, 11);
                x[width..2 * width].fill(bad);
                let outer = |y: &[f32]| -> Vec<u32> {
                    let rows = [&y[..width], &y[2 * width..]];
                    rows.concat().iter().map(|y| y.to_bits()).collect()
                };
                let zero = vec![0.0; width];
                let alone = [0, 1, 2].map(|row| {
                    let x = if row == 1 {
                        &zero
                    } else {
                        &x[row * width..][..width]
                    };
                    turn(&rotary, heads, &positions[row..row + 1], x, back)
                });
                let margin = rotary.margin();
                let mut between = vec![bad; x.len() + 2 * margin];
                between[margin..margin + x.len()].copy_from_slice(&x);
                for isa in Isa::available() {
                    let mut y = vec![0.0; x.len()];
                    rotate(isa, &rotary, heads, &positions, &between, &mut y, back);
                    assert_eq!(
                        outer(&y),
                        outer(&alone.concat()),
                        "{isa} {pairs:?} {head} {bad}"
                    );
                }
            }
        }
    }
}
