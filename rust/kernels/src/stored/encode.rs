//! From floats to stored bytes, by the rules of ggml's reference quantisation.

use super::format::Format;
use super::narrow::{from_f16, to_bf16, to_f16};

/// Writes `values`, a row or several of whole blocks, in `format`.
///
/// Values must be finite. None for [`Format::Fp8`], which this crate only reads.
/// Panics unless `values` are whole blocks.
pub fn encode(format: Format, values: &[f32]) -> Option<Vec<u8>> {
    assert!(values.len().is_multiple_of(format.block_len()));
    let mut out = Vec::with_capacity(format.row_bytes(values.len()));
    let block: fn(&[f32], &mut Vec<u8>) = match format {
        Format::F32 => |x, out| out.extend(x[0].to_le_bytes()),
        Format::F16 => |x, out| out.extend(to_f16(x[0]).to_le_bytes()),
        Format::Bf16 => |x, out| out.extend(to_bf16(x[0]).to_le_bytes()),
        Format::Q4_0 => q4_0,
        Format::Q4_1 => q4_1,
        Format::Q5_0 => q5_0,
        Format::Q8_0 => q8_0,
        Format::Q4K => q4_k,
        Format::Q5K => q5_k,
        Format::Q6K => q6_k,
        Format::Fp8 => return None,
    };
    values
        .chunks_exact(format.block_len())
        .for_each(|x| block(x, &mut out));
    Some(out)
}

/// The value of largest magnitude, with its sign; the first of several.
fn furthest(x: &[f32]) -> f32 {
    x.iter().fold(
        0.0f32,
        |most, &x| {
            if x.abs() > most.abs() { x } else { most }
        },
    )
}

fn inverse(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { 1.0 / x }
}

/// To the nearest of 0 to `most` of a number that is not negative, halves upwards.
fn level(x: f32, most: u8) -> u8 {
    ((x + 0.5) as u8).min(most) // `as` cuts off, and saturates at both ends.
}

/// As [`level`], halves to the even side, which super-blocks take.
fn even_level(x: f32, most: u8) -> u8 {
    (x.round_ties_even() as u8).min(most)
}

fn q4_0(x: &[f32], out: &mut Vec<u8>) {
    // The furthest value becomes -8, which the other side does not have.
    let d = furthest(x) / -8.0;
    let inverse = inverse(d);
    out.extend(to_f16(d).to_le_bytes());
    let q = |x: f32| level(x * inverse + 8.0, 15);
    out.extend((0..16).map(|i| q(x[i]) | q(x[i + 16]) << 4));
}

fn extremes(x: &[f32]) -> (f32, f32) {
    let first = (f32::INFINITY, f32::NEG_INFINITY);
    x.iter()
        .fold(first, |(least, most), &x| (least.min(x), most.max(x)))
}

fn q4_1(x: &[f32], out: &mut Vec<u8>) {
    let (least, most) = extremes(x);
    let d = (most - least) / 15.0;
    let inverse = inverse(d);
    out.extend(to_f16(d).to_le_bytes());
    out.extend(to_f16(least).to_le_bytes());
    let q = |x: f32| level((x - least) * inverse, 15);
    out.extend((0..16).map(|i| q(x[i]) | q(x[i + 16]) << 4));
}

fn q5_0(x: &[f32], out: &mut Vec<u8>) {
    let d = furthest(x) / -16.0;
    let inverse = inverse(d);
    out.extend(to_f16(d).to_le_bytes());
    let q = |x: f32| level(x * inverse + 16.0, 31);
    let fifth = |i: usize| u32::from(q(x[i]) >> 4) << i;
    out.extend((0..32).map(fifth).sum::<u32>().to_le_bytes());
    out.extend((0..16).map(|i| q(x[i]) & 15 | q(x[i + 16]) << 4));
}

fn q8_0(x: &[f32], out: &mut Vec<u8>) {
    let d = furthest(x).abs() / 127.0;
    let inverse = inverse(d);
    out.extend(to_f16(d).to_le_bytes());
    out.extend(x.iter().map(|x| (x * inverse).round() as i8 as u8));
}

/// A super-block's head and its quanta, 0 to `most`, with the scales and minima as they will be read.
fn with_minima(x: &[f32], search: Search, out: &mut Vec<u8>) -> [u8; 256] {
    let (mut scales, mut minima) = ([0.0f32; 8], [0.0f32; 8]);
    for (i, part) in x.chunks_exact(32).enumerate() {
        (scales[i], minima[i]) = search.scale_and_minimum(part);
    }
    let largest = |of: [f32; 8]| of.into_iter().fold(0.0f32, f32::max);
    let (scale, least) = (largest(scales), largest(minima));
    let six = |x: f32, largest: f32| even_level(63.0 * inverse(largest) * x, 63);
    let (s, m) = (scales.map(|x| six(x, scale)), minima.map(|x| six(x, least)));
    let (d, e) = (to_f16(scale / 63.0), to_f16(least / 63.0));
    out.extend(d.to_le_bytes());
    out.extend(e.to_le_bytes());
    // See `six_bits` for the order.
    out.extend((0..4).map(|i| s[i] | s[i + 4] >> 4 << 6));
    out.extend((0..4).map(|i| m[i] | m[i + 4] >> 4 << 6));
    out.extend((0..4).map(|i| s[i + 4] & 15 | m[i + 4] << 4));
    let (d, e) = (from_f16(d), from_f16(e));
    let mut q = [0u8; 256];
    for (i, q) in q.iter_mut().enumerate() {
        let (scale, least) = (d * f32::from(s[i / 32]), e * f32::from(m[i / 32]));
        *q = even_level((x[i] + least) * inverse(scale), search.most);
    }
    q
}

fn q4_k(x: &[f32], out: &mut Vec<u8>) {
    let search = Search {
        most: 15,
        first: -1.0,
        steps: 20,
    };
    let q = with_minima(x, search, out);
    for pair in q.chunks_exact(64) {
        out.extend((0..32).map(|i| pair[i] | pair[i + 32] << 4));
    }
}

fn q5_k(x: &[f32], out: &mut Vec<u8>) {
    let search = Search {
        most: 31,
        first: -0.5,
        steps: 15,
    };
    let q = with_minima(x, search, out);
    let fifth = |i: usize| (0..8).map(|part| q[32 * part + i] >> 4 << part).sum::<u8>();
    out.extend((0..32).map(fifth));
    for pair in q.chunks_exact(64) {
        out.extend((0..32).map(|i| pair[i] & 15 | pair[i + 32] << 4));
    }
}

fn q6_k(x: &[f32], out: &mut Vec<u8>) {
    let mut scales = [0.0f32; 16];
    for (scale, part) in scales.iter_mut().zip(x.chunks_exact(16)) {
        *scale = symmetric_scale(part);
    }
    // The largest becomes -128, which the other side does not have.
    let d = to_f16(furthest(&scales) / -128.0);
    let back = -128.0 * inverse(furthest(&scales));
    let s = scales.map(|x| (x * back).round_ties_even() as i8);
    let d_read = from_f16(d);
    let mut q = [0u8; 256];
    for (i, q) in q.iter_mut().enumerate() {
        let scale = d_read * f32::from(s[i / 16]);
        *q = ((x[i] * inverse(scale)).round_ties_even().clamp(-32.0, 31.0) + 32.0) as u8;
    }
    let half = |n: usize, part: usize, i: usize| q[128 * n + 32 * part + i];
    for n in 0..2 {
        out.extend((0..32).map(|i| half(n, 0, i) & 15 | half(n, 2, i) << 4));
        out.extend((0..32).map(|i| half(n, 1, i) & 15 | half(n, 3, i) << 4));
    }
    for n in 0..2 {
        let upper = |i: usize, part: usize| half(n, part, i) >> 4 << (2 * part);
        out.extend((0..32).map(|i| upper(i, 0) | upper(i, 1) | upper(i, 2) | upper(i, 3)));
    }
    out.extend(s.map(|s| s as u8));
    out.extend(d.to_le_bytes());
}

/// The scale with `x` near `scale * q`, q from -32 to 31, errors weighted by the squares of the values: the best of 19
/// around the one that puts the furthest value at -32, each with its least-squares correction.
fn symmetric_scale(x: &[f32]) -> f32 {
    let furthest = furthest(x);
    if furthest.abs() < 1e-15 {
        return 0.0;
    }
    let fit = |inverse: f32| {
        let (mut xq, mut qq) = (0.0f32, 0.0f32);
        for &x in x {
            let q = (x * inverse).round_ties_even().clamp(-32.0, 31.0);
            xq += x * x * x * q;
            qq += x * x * q * q;
        }
        (xq, qq)
    };
    let (mut scale, mut best) = (0.0, f32::NEG_INFINITY);
    for step in [
        0, -9, -8, -7, -6, -5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 6, 7, 8, 9,
    ] {
        let (xq, qq) = fit(-(32.0 + 0.1 * step as f32) / furthest);
        // What the correction takes off the error.
        if qq > 0.0 && xq * xq / qq > best {
            (scale, best) = (xq / qq, xq * xq / qq);
        }
    }
    scale
}

/// The search of a scale and a minimum for 32 values.
#[derive(Clone, Copy)]
struct Search {
    /// Largest quantum.
    most: u8,
    /// The first of the spans that are tried, relative to `most`, and how many follow in steps of 0.1.
    first: f32,
    steps: u8,
}

impl Search {
    /// `(scale, minimum)` with `x` near `scale * q - minimum`, both not negative.
    ///
    /// Tries scales around the one that spans the values; for each, the quanta that it gives and then the least-squares
    /// scale and minimum for those quanta. Errors weigh more on large values.
    fn scale_and_minimum(self, x: &[f32]) -> (f32, f32) {
        let (least, most) = extremes(x);
        let least = least.min(0.0);
        if most <= least {
            return (0.0, -least);
        }
        let mean = (x.iter().map(|x| x * x).sum::<f32>() / x.len() as f32).sqrt();
        let weight = |x: f32| mean + x.abs();
        let quantum = |x: f32, inverse: f32, least: f32| {
            f32::from(even_level(inverse * (x - least), self.most))
        };
        // Of a scale and minimum with the quanta that another scale and minimum give.
        let miss = |scale: f32, minimum: f32, inverse: f32, least: f32| {
            x.iter()
                .map(|&x| {
                    let miss = scale * quantum(x, inverse, least) + minimum - x;
                    weight(x) * miss * miss
                })
                .sum::<f32>()
        };
        let span = f32::from(self.most);
        let inverse = span / (most - least);
        let (mut scale, mut minimum) = (1.0 / inverse, least);
        let mut best = miss(scale, minimum, inverse, minimum);
        for step in 0..=self.steps {
            // From the best minimum so far.
            let least = minimum;
            let inverse = (self.first + 0.1 * f32::from(step) + span) / (most - least);
            let (mut w, mut wx, mut wq, mut wqq, mut wqx) = (0.0f32, 0.0, 0.0, 0.0, 0.0);
            for &x in x {
                let (q, weight) = (quantum(x, inverse, least), weight(x));
                w += weight;
                wx += weight * x;
                wq += weight * q;
                wqq += weight * q * q;
                wqx += weight * q * x;
            }
            let determinant = w * wqq - wq * wq;
            if determinant <= 0.0 {
                continue;
            }
            let mut new_scale = (w * wqx - wx * wq) / determinant;
            let mut new_minimum = (wqq * wx - wq * wqx) / determinant;
            if new_minimum > 0.0 {
                new_minimum = 0.0;
                new_scale = wqx / wqq;
            }
            let new_miss = miss(new_scale, new_minimum, inverse, least);
            if new_miss < best && new_scale > 0.0 {
                (best, scale, minimum) = (new_miss, new_scale, new_minimum);
            }
        }
        (scale, -minimum)
    }
}
