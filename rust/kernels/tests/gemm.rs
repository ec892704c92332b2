//! Packed products against plain loops; a row's bits do not depend on its neighbours.

mod common;

use common::{apart, doubles, everywhere, product, random};
use moevolve_kernels::Isa;
use moevolve_kernels::gemm::{multiply, pack_backward, pack_forward, weight_gradient};
use proptest::prelude::*;

fn transpose(x: &[f32], columns: usize) -> Vec<f32> {
    let rows = x.len() / columns;
    (0..columns)
        .flat_map(|c| (0..rows).map(move |r| (r, c)))
        .map(|(r, c)| x[r * columns + c])
        .collect()
}

fn forward(isa: Isa, rows: usize, out: usize, inp: usize, x: &[f32], weight: &[f32]) -> Vec<f32> {
    let mut panels = vec![0.0; weight.len()];
    pack_forward(weight, out, inp, &mut panels);
    let mut y = vec![0.0; rows * out];
    multiply(isa, rows, inp, out, x, &panels, &mut y, false);
    y
}

proptest! {
    #![proptest_config(common::cases(48))]

    #[test]
    fn a_product_equals_plain_loops(rows in 0usize..40, out in 1usize..6, inp in 1usize..6, seed: u64) {
        let (out, inp) = (16 * out, 16 * inp);
        let (x, weight) = (random(rows * inp, seed), random(out * inp, seed ^ 1));
        let y = everywhere(|isa| forward(isa, rows, out, inp, &x, &weight));
        prop_assert!(apart(&y, &product(&doubles(&x), &doubles(&weight), inp)) < 1e-5);
    }

    #[test]
    fn the_backward_product_equals_plain_loops(rows in 0usize..40, out in 1usize..6, inp in 1usize..6, seed: u64) {
        let (out, inp) = (16 * out, 16 * inp);
        let (dy, weight) = (random(rows * out, seed), random(out * inp, seed ^ 1));
        let before = random(rows * inp, seed ^ 2);
        let mut panels = vec![0.0; weight.len()];
        pack_backward(&weight, out, inp, &mut panels);
        let dx = everywhere(|isa| {
            let mut dx = before.clone();
            multiply(isa, rows, out, inp, &dy, &panels, &mut dx, true);
            dx
        });
        let mut expected = product(&doubles(&dy), &doubles(&transpose(&weight, inp)), out);
        expected.iter_mut().zip(&before).for_each(|(sum, &b)| *sum += f64::from(b));
        prop_assert!(apart(&dx, &expected) < 1e-5);
    }

    #[test]
    fn a_weight_gradient_equals_plain_loops(rows in 0usize..600, out in 1usize..4, inp in 1usize..4, seed: u64) {
        let (out, inp) = (16 * out, 16 * inp);
        let (dy, x) = (random(rows * out, seed), random(rows * inp, seed ^ 1));
        let before = random(out * inp, seed ^ 2);
        let dw = everywhere(|isa| {
            let mut dw = before.clone();
            weight_gradient(isa, rows, out, inp, &dy, &x, &mut dw, &mut Vec::new());
            dw
        });
        let mut expected = doubles(&before);
        for (dy, x) in dy.chunks_exact(out).zip(x.chunks_exact(inp)) {
            for (dw, dy) in expected.chunks_exact_mut(inp).zip(dy) {
                dw.iter_mut().zip(x).for_each(|(dw, x)| *dw += f64::from(*dy) * f64::from(*x));
            }
        }
        prop_assert!(apart(&dw, &expected) < 1e-5);
    }

    #[test]
    fn a_row_does_not_depend_on_its_neighbours(rows in 1usize..40, pick: prop::sample::Index, seed: u64) {
        let (out, inp) = (48, 32);
        let (x, weight) = (random(rows * inp, seed), random(out * inp, seed ^ 1));
        let row = pick.index(rows);
        for isa in Isa::available() {
            let all = forward(isa, rows, out, inp, &x, &weight);
            let alone = forward(isa, 1, out, inp, &x[row * inp..][..inp], &weight);
            prop_assert_eq!(&all[row * out..][..out], &alone[..]);
        }
    }
}
