//! Plain references in ggml's order of operations.

use moevolve_kernels::stored::{from_bf16, from_f16, to_bf16, to_f16};

pub fn half(x: f32) -> f32 {
    from_f16(to_f16(x))
}

/// A sum over a tree: the upper half is added to the lower one until one is left.
pub fn tree(mut x: Vec<f32>) -> f32 {
    while x.len() > 1 {
        let upper = x.split_off(x.len() / 2);
        for (x, y) in x.iter_mut().zip(upper) {
            *x += y;
        }
    }
    x[0]
}

/// ggml's inner product of rows of f16: of many rows at once, or of one.
pub fn rows_product(a: &[f32], b: &[f32], alone: bool) -> f32 {
    let apart = if alone { 64 } else { 16 };
    let whole = a.len() / apart * apart;
    let mut chains = vec![0.0f32; apart];
    for (i, (a, b)) in a[..whole].iter().zip(b).enumerate() {
        chains[i % apart] = a.mul_add(*b, chains[i % apart]);
    }
    if !alone {
        return tree(chains);
    }
    // Four vectors: the first and the third, the second and the fourth, then both.
    let mut sum = f64::from(tree(chains));
    for (a, b) in a[whole..].iter().zip(&b[whole..]) {
        sum += f64::from(a * b);
    }
    sum as f32
}

pub fn brain(x: f32) -> f32 {
    from_bf16(to_bf16(x))
}

/// ggml's inner product of rows of bf16: of many rows at once, or of one.
pub fn pairs_product(a: &[f32], b: &[f32], alone: bool) -> f32 {
    let vectors = if alone { 2 } else { 1 };
    let whole = a.len() / (32 * vectors) * (32 * vectors);
    let mut chains = vec![vec![0.0f32; 16]; vectors];
    for at in (0..whole).step_by(2) {
        let chain = &mut chains[at / 32 % vectors][at % 32 / 2];
        // The second of two neighbours first.
        *chain = a[at + 1].mul_add(b[at + 1], *chain);
        *chain = a[at].mul_add(b[at], *chain);
    }
    if !alone {
        return tree(chains.remove(0));
    }
    let mut sum: f64 = chains.into_iter().map(|chain| f64::from(tree(chain))).sum();
    for (a, b) in a[whole..].iter().zip(&b[whole..]) {
        sum += f64::from(a * b);
    }
    sum as f32
}

/// e^x in ggml's operations.
pub fn exponential(x: f32) -> f32 {
    let shift = 1.5 * 2.0f32.powi(23);
    let n = x.mul_add(f32::from_bits(0x3fb8_aa3b), shift) - shift;
    if n.abs() > 192.0 {
        return if n > 0.0 { f32::INFINITY } else { 0.0 };
    }
    let r = (-n).mul_add(f32::from_bits(0x3f31_7200), x);
    let r = (-n).mul_add(f32::from_bits(0x35bf_be8e), r);
    let square = r * r;
    let low = f32::from_bits(0x3f7f_fff6).mul_add(r, 1.0);
    let middle = f32::from_bits(0x3e2a_af33).mul_add(r, f32::from_bits(0x3eff_fedb));
    let high = f32::from_bits(0x3c07_2010).mul_add(r, f32::from_bits(0x3d2b_9f17));
    let polynomial = high.mul_add(square, middle).mul_add(square, low);
    // One rounding, of a product that f64 holds exactly.
    (f64::from(polynomial) * f64::from(n).exp2()) as f32
}
