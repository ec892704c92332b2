//! Linear attention by the gated delta rule, and the convolution before it, against double precision and finite differences.

mod common;

use common::{apart, dot, doubles, everywhere, random, slope};
use moevolve_kernels::delta::{
    Sizes, Tokens, convolve, convolve_backward, recall, recall_backward,
};
use moevolve_kernels::{LANES, padded};
use proptest::prelude::*;

fn sizes(groups: usize, key_heads: usize, key: usize, value: usize, taps: usize) -> Sizes {
    Sizes {
        key_heads,
        value_heads: groups * key_heads,
        key,
        value,
        taps,
    }
}

/// What the papers write, of one value head, from (rows, channels), decays and strengths: (rows, value width).
fn reference(
    sizes: Sizes,
    head: usize,
    values: &[f64],
    decay: &[f64],
    strength: &[f64],
) -> Vec<f64> {
    let (key, value) = (sizes.key, sizes.value);
    let group = sizes.value_heads / sizes.key_heads;
    let keys = sizes.key_heads * key;
    let unit = |x: &[f64]| {
        let length = (dot(x, x) + 1e-6).sqrt();
        x.iter().map(|x| x / length).collect::<Vec<_>>()
    };
    let (mut state, mut out) = (vec![0.0; key * value], Vec::new());
    for (row, channels) in values.chunks_exact(sizes.channels()).enumerate() {
        let at = head / group * key;
        let (q, k) = (
            unit(&channels[at..][..key]),
            unit(&channels[keys + at..][..key]),
        );
        let v = &channels[2 * keys + head * value..][..value];
        state.iter_mut().for_each(|s| *s *= decay[row]);
        let recalled = |state: &[f64], k: &[f64], j: usize| -> f64 {
            (0..key).map(|i| k[i] * state[i * value + j]).sum()
        };
        let new: Vec<f64> = (0..value)
            .map(|j| strength[row] * (v[j] - recalled(&state, &k, j)))
            .collect();
        for i in 0..key {
            for j in 0..value {
                state[i * value + j] += k[i] * new[j];
            }
        }
        out.extend((0..value).map(|j| recalled(&state, &q, j) / (key as f64).sqrt()));
    }
    out
}

/// Numbers between 0 and 1.
fn shares(rows: usize, seed: u64) -> Vec<f32> {
    random(rows, seed)
        .iter()
        .map(|x| 0.5 + 0.49 * x.clamp(-1.0, 1.0))
        .collect()
}

fn unpadded(rows: &[f32], width: usize) -> Vec<f32> {
    rows.chunks_exact(padded(width))
        .flat_map(|row| &row[..width])
        .copied()
        .collect()
}

proptest! {
    #![proptest_config(common::cases(24))]

    #[test]
    fn a_head_recalls_what_plain_loops_do_wherever_its_text_is_cut(groups in 1usize..3, keys in 1usize..3, key in 1usize..9, value in 1usize..20, rows in 1usize..24, cut in 0usize..24, seed: u64) {
        let sizes = sizes(groups, keys, key, value, 4);
        let (head, step) = (sizes.value_heads - 1, sizes.channels());
        let values = random(rows * step, seed);
        let (decay, strength) = (shares(rows, seed ^ 1), shares(rows, seed ^ 2));
        let expected = reference(sizes, head, &doubles(&values), &doubles(&decay), &doubles(&strength));
        let cut = cut.min(rows);
        let out = everywhere(|isa| {
            let (mut state, mut out) = (vec![0.0; sizes.state()], vec![f32::NAN; rows * padded(value)]);
            for part in [0..cut, cut..rows] {
                let tokens = Tokens {
                    rows: part.len(), values: &values[part.start * step..], step,
                    decay: &decay[part.clone()], strength: &strength[part.clone()],
                };
                recall(isa, sizes, head, tokens, &mut state, &mut out[part.start * padded(value)..]);
            }
            out
        });
        prop_assert!(apart(&unpadded(&out, value), &expected) < 1e-5);
    }

    #[test]
    fn a_convolution_equals_plain_loops_wherever_its_text_is_cut(keys in 1usize..3, taps in 1usize..6, rows in 1usize..12, cut in 0usize..12, seed: u64) {
        let sizes = sizes(1, keys, 3, 5, taps);
        let (channels, cut) = (sizes.channels(), cut.min(rows));
        let step = padded(channels);
        let (x, weights) = (random(rows * step, seed), random(channels * LANES, seed ^ 1));
        let (mut y, mut tail) = (vec![0.0; rows * step], vec![0.0; (taps - 1) * channels]);
        for part in [0..cut, cut..rows] {
            let at = part.start * step..part.end * step;
            convolve(sizes, part.len(), &weights, &mut tail, &x[at.clone()], &mut y[at], step);
        }
        for row in 0..rows {
            for channel in 0..channels {
                let expected: f64 = (0..taps)
                    .filter(|tap| row + tap + 1 >= taps)
                    .map(|tap| f64::from(weights[channel * LANES + tap]) * f64::from(x[(row + tap + 1 - taps) * step + channel]))
                    .sum();
                prop_assert!((f64::from(y[row * step + channel]) - expected).abs() < 1e-5);
            }
        }
    }
}

proptest! {
    #![proptest_config(common::cases(8))]

    #[test]
    fn gradients_match_finite_differences(groups in 1usize..3, keys in 1usize..3, key in 1usize..5, value in 1usize..6, rows in 1usize..20, seed: u64) {
        let sizes = sizes(groups, keys, key, value, 3);
        let (head, step) = (sizes.value_heads - 1, sizes.channels());
        let values = random(rows * step, seed);
        let (decay, strength) = (shares(rows, seed ^ 1), shares(rows, seed ^ 2));
        let dout = random(rows * value, seed ^ 3);
        let mut padded_dout = vec![0.0; rows * padded(value)];
        for (to, from) in padded_dout.chunks_exact_mut(padded(value)).zip(dout.chunks_exact(value)) {
            to[..value].copy_from_slice(from);
        }
        let found = everywhere(|isa| {
            let tokens = Tokens { rows, values: &values, step, decay: &decay, strength: &strength };
            let mut dvalues = vec![0.0; values.len()];
            let (mut ddecay, mut dstrength) = (vec![0.0; rows], vec![0.0; rows]);
            recall_backward(isa, sizes, head, tokens, &padded_dout, &mut dvalues, &mut ddecay, &mut dstrength);
            [dvalues, ddecay, dstrength].concat()
        });
        let (v, a, b, dout) = (doubles(&values), doubles(&decay), doubles(&strength), doubles(&dout));
        let mut expected = slope(&v, |v| dot(&reference(sizes, head, v, &a, &b), &dout));
        expected.extend(slope(&a, |a| dot(&reference(sizes, head, &v, a, &b), &dout)));
        expected.extend(slope(&b, |b| dot(&reference(sizes, head, &v, &a, b), &dout)));
        prop_assert!(apart(&found, &expected) < 1e-3);
    }

    #[test]
    fn gradients_of_a_convolution_match_finite_differences(taps in 1usize..5, rows in 1usize..8, seed: u64) {
        let sizes = sizes(1, 1, 2, 3, taps);
        let channels = sizes.channels();
        let step = padded(channels);
        let (x, weights) = (random(rows * step, seed), random(channels * LANES, seed ^ 1));
        let mut dy = random(rows * step, seed ^ 2);
        dy.chunks_exact_mut(step).for_each(|row| row[channels..].fill(0.0));
        let loss = |x: &[f64], weights: &[f64]| {
            let mut sum = 0.0;
            for row in 0..rows {
                for channel in 0..channels {
                    for tap in (0..taps).filter(|tap| row + tap + 1 >= taps) {
                        let from = x[(row + tap + 1 - taps) * step + channel];
                        sum += f64::from(dy[row * step + channel]) * weights[channel * LANES + tap] * from;
                    }
                }
            }
            sum
        };
        let (mut dx, mut dtaps) = (vec![0.0; x.len()], vec![0.0; weights.len()]);
        convolve_backward(sizes, &weights, &x, &dy, &mut dx, &mut dtaps, step);
        let (x, weights) = (doubles(&x), doubles(&weights));
        let mut expected = slope(&x, |x| loss(x, &weights));
        expected.extend(slope(&weights, |weights| loss(&x, weights)));
        prop_assert!(apart(&[dx, dtaps].concat(), &expected) < 1e-4);
    }
}
