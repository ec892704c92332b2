//! What the kernel tests share: random numbers, plain double-precision references, equality on every instruction set.

#![allow(dead_code)] // Each test crate uses a part.

pub mod blocks;
pub mod ggml;

use moevolve_kernels::Isa;
use moevolve_kernels::sample::uniform;
use proptest::test_runner::{Config, RngSeed};

/// So many cases, the same in every run.
pub fn cases(n: u32) -> Config {
    Config {
        rng_seed: RngSeed::Fixed(7),
        failure_persistence: None,
        ..Config::with_cases(n)
    }
}

/// `n` numbers in [-1, 1) that depend on `seed` alone.
pub fn random(n: usize, seed: u64) -> Vec<f32> {
    (0..n)
        .map(|i| (2.0 * uniform(seed, i as u64) - 1.0) as f32)
        .collect()
}

/// Random rows of `count` numbers, padded with zeros to `width`.
pub fn random_rows(rows: usize, count: usize, width: usize, seed: u64) -> Vec<f32> {
    let mut out = random(rows * width, seed);
    for row in out.chunks_exact_mut(width.max(1)) {
        row[count..].fill(0.0);
    }
    out
}

/// Runs `work` on every instruction set here and returns its result, which must be the same bits on all.
pub fn everywhere(work: impl Fn(Isa) -> Vec<f32>) -> Vec<f32> {
    let mut isas = Isa::available().into_iter().rev();
    let scalar = work(isas.next().expect("scalar is always there"));
    for isa in isas {
        let other = work(isa);
        assert_eq!(scalar.len(), other.len());
        for (i, (a, b)) in scalar.iter().zip(&other).enumerate() {
            assert_eq!(
                a.to_bits(),
                b.to_bits(),
                "element {i}: scalar {a:?}, {isa} {b:?}"
            );
        }
    }
    scalar
}

pub fn doubles(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

/// Largest distance of `found` from `expected`, relative to the largest of `expected` or 1.
pub fn apart(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(1.0f64, |most, x| most.max(x.abs()));
    let gap = |(&a, &b): (&f32, &f64)| (f64::from(a) - b).abs() / scale;
    found
        .iter()
        .zip(expected)
        .map(gap)
        .fold(0.0, |most, gap| if gap <= most { most } else { gap })
}

/// Gradient of a function at `x` by central differences.
pub fn slope(x: &[f64], f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    const STEP: f64 = 1e-5;
    let mut x = x.to_vec();
    (0..x.len())
        .map(|i| {
            let here = x[i];
            x[i] = here + STEP;
            let up = f(&x);
            x[i] = here - STEP;
            let down = f(&x);
            x[i] = here;
            (up - down) / (2.0 * STEP)
        })
        .collect()
}

pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// (rows, inp) times (out, inp)ᵀ.
pub fn product(x: &[f64], weight: &[f64], inp: usize) -> Vec<f64> {
    let each = |row| weight.chunks_exact(inp).map(move |w| dot(row, w));
    x.chunks_exact(inp).flat_map(each).collect()
}

pub fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}
