//! Stretched frequencies against the formulas of transformers, worked out for one head.

use moevolve_kernels::frequencies::Scaling;

fn close(found: &[f32], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (a, b) in found.iter().zip(expected) {
        assert!(
            (f64::from(*a) - b).abs() <= 1e-6 * b,
            "{found:?} {expected:?}"
        );
    }
}

const PLAIN: [f64; 8] = [
    1.0,
    0.316_227_77,
    0.1,
    0.031_622_777,
    0.01,
    0.003_162_277_7,
    0.001,
    0.000_316_227_77,
];

#[test]
fn plain_frequencies_fall_with_the_dimension() {
    close(&Scaling::Plain.frequencies(16, 1e4), &PLAIN);
}

#[test]
fn linear_scaling_divides_all() {
    let scaling = Scaling::Linear { factor: 4.0 };
    close(&scaling.frequencies(16, 1e4), &PLAIN.map(|f| f / 4.0));
    assert_eq!(scaling.attention(), 1.0);
}

#[test]
fn llama3_keeps_short_waves_and_stretches_long_ones() {
    let scaling = Scaling::Llama3 {
        factor: 8.0,
        low: 1.0,
        high: 4.0,
        original: 1024.0,
    };
    let found = scaling.frequencies(16, 1e4);
    // Waves below 256 stay, those above 1024 are stretched eightfold.
    close(&found[..4], &PLAIN[..4]);
    close(&found[6..], &[0.001 / 8.0, 0.000_316_227_77 / 8.0]);
    let smooth = (1024.0 * 0.01 / std::f64::consts::TAU - 1.0) / 3.0;
    close(&found[4..5], &[0.01 * ((1.0 - smooth) / 8.0 + smooth)]);
}

#[test]
fn yarn_blends_by_turns() {
    let scaling = Scaling::Yarn {
        factor: 4.0,
        beta_fast: 32.0,
        beta_slow: 1.0,
        original: 4096.0,
        attention: 1.25,
        truncate: true,
    };
    let found = scaling.frequencies(16, 1e4);
    // 32 turns in 4,096 positions fall on dimension 2.62, one turn on 5.63: the blend runs from 2 to 6.
    close(&found[..3], &PLAIN[..3]);
    let part = |i: usize, stretched: f64| PLAIN[i] * (stretched / 4.0 + 1.0 - stretched);
    close(
        &found[3..],
        &[
            part(3, 0.25),
            part(4, 0.5),
            part(5, 0.75),
            PLAIN[6] / 4.0,
            PLAIN[7] / 4.0,
        ],
    );
    assert_eq!(scaling.attention(), 1.25);
}
