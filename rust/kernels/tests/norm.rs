//! RMSNorm and its gradients against double precision and finite differences, over padded and strided rows.

mod common;

use common::{apart, dot, doubles, everywhere, random, random_rows, slope};
use moevolve_kernels::norm::{Norm, rms_norm, rms_norm_backward};
use moevolve_kernels::padded;
use proptest::prelude::*;

const EPSILON: f32 = 1e-6;

fn reference(x: &[f64], gain: &[f64], count: usize) -> Vec<f64> {
    let scale = (dot(x, x) / count as f64 + f64::from(EPSILON)).sqrt();
    x.iter().zip(gain).map(|(x, g)| g * x / scale).collect()
}

proptest! {
    #![proptest_config(common::cases(48))]

    #[test]
    fn rows_are_normalised(rows in 0usize..9, count in 1usize..70, extra in 0usize..3, seed: u64) {
        let width = padded(count);
        let step = width + 16 * extra;
        let norm = Norm { groups: 1, width, count, epsilon: EPSILON };
        let x = random_rows(rows, count, step, seed);
        let gain = random_rows(1, count, width, seed ^ 1);
        let y = everywhere(|isa| {
            let (mut y, mut inverse) = (vec![0.0; rows * width], vec![0.0; rows]);
            rms_norm(isa, norm, rows, &x, step, &gain, &mut y, width, &mut inverse);
            y
        });
        let expected: Vec<f64> = x.chunks_exact(step.max(1))
            .flat_map(|x| reference(&doubles(&x[..width]), &doubles(&gain), count))
            .collect();
        prop_assert!(apart(&y, &expected) < 1e-5);
        for row in y.chunks_exact(width) {
            prop_assert!(row[count..].iter().all(|&x| x == 0.0), "padding stays zero");
        }
    }

    #[test]
    fn gradients_match_finite_differences(rows in 1usize..4, count in 1usize..20, add: bool, seed: u64) {
        let width = padded(count);
        let norm = Norm { groups: 1, width, count, epsilon: EPSILON };
        let x = random_rows(rows, count, width, seed);
        let gain = random_rows(1, count, width, seed ^ 1);
        let dy = random_rows(rows, count, width, seed ^ 2);
        let before = random_rows(rows, count, width, seed ^ 3);
        let both = everywhere(|isa| {
            let (mut y, mut inverse) = (vec![0.0; rows * width], vec![0.0; rows]);
            rms_norm(isa, norm, rows, &x, width, &gain, &mut y, width, &mut inverse);
            let (mut dx, mut dgain) = (before.clone(), vec![0.0; width]);
            rms_norm_backward(
                isa, norm, rows, &x, width, &gain, &inverse, &dy, width, &mut dx, width, add, &mut dgain,
            );
            dx.extend(dgain);
            dx
        });
        let all = |x: &[f64], gain: &[f64]| -> f64 {
            x.chunks_exact(width).zip(dy.chunks_exact(width))
                .map(|(x, dy)| dot(&reference(x, gain, count), &doubles(dy)))
                .sum()
        };
        let (x, gain) = (doubles(&x), doubles(&gain));
        let mut expected = slope(&x, |x| all(x, &gain));
        if add {
            expected.iter_mut().zip(&before).for_each(|(dx, &b)| *dx += f64::from(b));
        }
        expected.extend(slope(&gain, |gain| all(&x, gain)));
        // Padding is not part of the function.
        for row in expected.chunks_exact_mut(width) {
            row[count..].fill(0.0);
        }
        prop_assert!(apart(&both, &expected) < 1e-4);
    }
}

proptest! {
    #![proptest_config(common::cases(24))]

    /// Heads of a row normalised each alone are rows of their own.
    #[test]
    fn groups_are_rows(rows in 1usize..5, groups in 1usize..5, count in 1usize..40, extra in 0usize..3, seed: u64) {
        let width = padded(count);
        let (whole, step) = (groups * width, groups * width + 16 * extra);
        let one = Norm { groups: 1, width, count, epsilon: EPSILON };
        let many = Norm { groups, ..one };
        let packed = random_rows(rows * groups, count, width, seed);
        let mut x = vec![0.0; rows * step];
        for (to, from) in x.chunks_exact_mut(step).zip(packed.chunks_exact(whole)) {
            to[..whole].copy_from_slice(from);
        }
        let gain = random_rows(1, count, width, seed ^ 1);
        let dy = random_rows(rows * groups, count, width, seed ^ 2);
        let run = |isa, norm: Norm, rows, x: &[f32], step| {
            let (mut y, mut inverse) = (vec![0.0; packed.len()], vec![0.0; rows * norm.groups]);
            let (whole, mut dgain) = (norm.groups * width, vec![0.0; width]);
            rms_norm(isa, norm, rows, x, step, &gain, &mut y, whole, &mut inverse);
            let mut dx = vec![0.0; packed.len()];
            rms_norm_backward(
                isa, norm, rows, x, step, &gain, &inverse, &dy, whole, &mut dx, whole, false, &mut dgain,
            );
            [y, dx, dgain].concat()
        };
        let grouped = everywhere(|isa| run(isa, many, rows, &x, step));
        let alone = everywhere(|isa| run(isa, one, rows * groups, &packed, width));
        prop_assert_eq!(grouped, alone);
    }
}

#[test]
fn a_row_of_zeros_gives_zeros() {
    let norm = Norm {
        groups: 1,
        width: 16,
        count: 16,
        epsilon: EPSILON,
    };
    let gain = random(16, 1);
    let y = everywhere(|isa| {
        let (mut y, mut inverse) = (vec![1.0; 16], vec![0.0; 1]);
        rms_norm(
            isa,
            norm,
            1,
            &[0.0; 16],
            16,
            &gain,
            &mut y,
            16,
            &mut inverse,
        );
        y
    });
    assert!(y.iter().all(|&x| x == 0.0));
}
