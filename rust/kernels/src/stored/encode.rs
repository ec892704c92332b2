//! From floats to stored bytes, by the rules of ggml's reference quantisation.

use super::format::Format;
use super::narrow::{from_f16, to_bf16, to_f16};

/// Writes `values`, a row or several of whole blocks, in `format`.
///
/// Values must be finite. None for [`Format::Q5K`], [`Format::Q6K`] and [`Format::Fp8`], which this crate only reads.
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
        Format::Q5K | Format::Q6K | Format::Fp8 => return None,
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

fn q4_k(x: &[f32], out: &mut Vec<u8>) {
    let parts = |at: fn(&(f32, f32)) -> f32, found: &[(f32, f32)]| {
        found.iter().map(at).fold(0.0f32, f32::max)
    };
    let found: Vec<(f32, f32)> = x.chunks_exact(32).map(scale_and_minimum).collect();
    let (scale, least) = (parts(|p| p.0, &found), parts(|p| p.1, &found));
    let six = |x: f32, most: f32| level(63.0 * inverse(most) * x, 63);
    let s: Vec<u8> = found.iter().map(|p| six(p.0, scale)).collect();
    let m: Vec<u8> = found.iter().map(|p| six(p.1, least)).collect();
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
        // With the scale and minimum as they will be read.
        let (scale, least) = (d * f32::from(s[i / 32]), e * f32::from(m[i / 32]));
        *q = level((x[i] + least) * inverse(scale), 15);
    }
    for pair in q.chunks_exact(64) {
        out.extend((0..32).map(|i| pair[i] | pair[i + 32] << 4));
    }
}

/// `(scale, minimum)` with `x` near `scale * q - minimum`, q from 0 to 15 and both not negative.
///
/// Tries 21 scales around the one that spans the values; for each, the quanta that it gives and then the least-squares
/// scale and minimum for those quanta. Errors weigh more on large values.
fn scale_and_minimum(x: &[f32]) -> (f32, f32) {
    let (least, most) = extremes(x);
    let least = least.min(0.0);
    if most <= least {
        return (0.0, -least);
    }
    let mean = (x.iter().map(|x| x * x).sum::<f32>() / x.len() as f32).sqrt();
    let weight = |x: f32| mean + x.abs();
    let quantum = |x: f32, inverse: f32, least: f32| f32::from(level(inverse * (x - least), 15));
    let miss = |scale: f32, least: f32, inverse: f32, from: f32| {
        x.iter()
            .map(|&x| {
                let miss = scale * quantum(x, inverse, from) + least - x;
                weight(x) * miss * miss
            })
            .sum::<f32>()
    };
    let first = 15.0 / (most - least);
    let (mut scale, mut minimum) = (1.0 / first, least);
    let mut best = miss(scale, minimum, first, least);
    for step in 0..=20 {
        let inverse = (-1.0 + 0.1 * step as f32 + 15.0) / (most - least);
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
