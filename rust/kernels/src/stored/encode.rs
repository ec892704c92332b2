//! From floats to stored bytes: the bytes that ggml's reference quantisation makes.
//!
//! Formats with a scale for each block are below, those with nested scales in [`super::search`]. No operation is fused and
//! sums go from left to right, as there.

use super::format::Format;
use super::narrow::{to_bf16, to_f16};
use super::search::{q4_k, q5_k, q6_k};
use crate::Isa;
use crate::shared::Shared;
use crate::simd::Simd;
use crate::worker_pool::WorkerPool;

/// Values that a thread encodes at a time: whole blocks of every format.
const PART: usize = 16 * 1024;

/// Writes `values`, a row or several of whole blocks, in `format`, on the calling thread: see [`encode_into`].
pub fn encode(format: Format, values: &[f32]) -> Option<Vec<u8>> {
    assert!(values.len().is_multiple_of(format.block_len()));
    let mut out = vec![0; format.row_bytes(values.len())];
    let pool = WorkerPool::new(1);
    encode_into(Isa::best(), &pool, format, values, &mut out).then_some(out)
}

/// Writes `values`, whole blocks, in `format` into `out`, shared out over the threads of `pool`.
///
/// Values must be finite; the bytes depend on neither `isa` nor the pool. False, and nothing written, for formats that this
/// crate only reads: FP8, and those below four bits or by table. Panics unless the lengths fit together.
pub fn encode_into(
    isa: Isa,
    pool: &WorkerPool,
    format: Format,
    values: &[f32],
    out: &mut [u8],
) -> bool {
    assert!(values.len().is_multiple_of(format.block_len()));
    assert!(out.len() == format.row_bytes(values.len()));
    if !is_written(format) {
        return false;
    }
    let shared = Shared::new(out);
    pool.run(values.len().div_ceil(PART), &|part, _| {
        let (first, end) = (part * PART, values.len().min((part + 1) * PART));
        let bytes = format.row_bytes(first)..format.row_bytes(end);
        // SAFETY: parts do not overlap.
        let out = unsafe { shared.slice(bytes) };
        encode_part(isa, format, &values[first..end], out);
    });
    true
}

fn is_written(format: Format) -> bool {
    !matches!(
        format,
        Format::Q2K
            | Format::Q3K
            | Format::Iq3Xxs
            | Format::Iq3S
            | Format::Iq4Nl
            | Format::Iq4Xs
            | Format::Mxfp4
            | Format::Fp8
    )
}

kernel! {
    /// Encodes whole blocks.
    pub fn encode_part = encode_body(format: Format, values: &[f32], out: &mut [u8])
}

#[inline(always)]
unsafe fn encode_body<S: Simd>(format: Format, values: &[f32], out: &mut [u8]) {
    match format {
        Format::Q4K => return q4_k::<S>(values, out),
        Format::Q5K => return q5_k::<S>(values, out),
        Format::Q6K => return q6_k::<S>(values, out),
        _ => {}
    }
    let blocks = values.chunks_exact(format.block_len());
    for (x, out) in blocks.zip(out.chunks_exact_mut(format.block_bytes())) {
        match format {
            Format::F32 => out.copy_from_slice(&x[0].to_le_bytes()),
            Format::F16 => out.copy_from_slice(&to_f16(x[0]).to_le_bytes()),
            Format::Bf16 => out.copy_from_slice(&to_bf16(x[0]).to_le_bytes()),
            Format::Q4_0 => q4_0(x, out),
            Format::Q4_1 => q4_1(x, out),
            Format::Q5_0 => q5_0(x, out),
            Format::Q5_1 => q5_1(x, out),
            _ => q8_0(x, out),
        }
    }
}

/// The value of largest magnitude, with its sign; the first of several.
#[inline(always)]
fn furthest(x: &[f32]) -> f32 {
    let mut most = 0.0f32;
    for &x in x {
        if x.abs() > most.abs() {
            most = x;
        }
    }
    most
}

#[inline(always)]
fn inverse(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { 1.0 / x }
}

#[inline(always)]
fn put_half(x: f32, out: &mut [u8]) {
    out[..2].copy_from_slice(&to_f16(x).to_le_bytes());
}

/// What a cast of C makes on x86-64: cut off, and nothing of what no 32 bits hold, as an infinite scale's inverse makes it.
#[inline(always)]
fn cut(x: f32) -> u8 {
    if x.abs() < 2_147_483_648.0 {
        x as i32 as u8
    } else {
        0
    }
}

/// Puts the low four bits of 32 levels into sixteen bytes.
#[inline(always)]
fn put_nibbles(levels: &[u8; 32], out: &mut [u8]) {
    for i in 0..16 {
        out[i] = levels[i] & 15 | levels[i + 16] << 4;
    }
}

/// Puts the fifth bits of 32 levels into four bytes.
#[inline(always)]
fn put_fifths(levels: &[u8; 32], out: &mut [u8]) {
    let mut bits = 0u32;
    for (i, level) in levels.iter().enumerate() {
        bits |= u32::from(level >> 4) << i;
    }
    out[..4].copy_from_slice(&bits.to_le_bytes());
}

/// Levels 0 to `most` of a block whose furthest value becomes the lowest, which the other side does not have.
#[inline(always)]
fn signed_levels(x: &[f32], most: u8, scale: &mut f32) -> [u8; 32] {
    let half = f32::from(most / 2 + 1);
    *scale = furthest(x) / -half;
    let inverse = inverse(*scale);
    let mut levels = [0; 32];
    for i in 0..32 {
        levels[i] = cut(x[i] * inverse + (half + 0.5)).min(most);
    }
    levels
}

/// Levels 0 to `most` between a block's least and largest value.
#[inline(always)]
fn spanned_levels(x: &[f32], most: u8, scale: &mut f32, least: &mut f32) -> [u8; 32] {
    let mut largest = x[0];
    *least = x[0];
    for &x in x {
        if x < *least {
            *least = x;
        }
        if x > largest {
            largest = x;
        }
    }
    *scale = (largest - *least) / f32::from(most);
    let inverse = inverse(*scale);
    let mut levels = [0; 32];
    for i in 0..32 {
        levels[i] = cut((x[i] - *least) * inverse + 0.5).min(most);
    }
    levels
}

#[inline(always)]
fn q4_0(x: &[f32], out: &mut [u8]) {
    let mut scale = 0.0;
    let levels = signed_levels(x, 15, &mut scale);
    put_half(scale, out);
    put_nibbles(&levels, &mut out[2..]);
}

#[inline(always)]
fn q4_1(x: &[f32], out: &mut [u8]) {
    let (mut scale, mut least) = (0.0, 0.0);
    let levels = spanned_levels(x, 15, &mut scale, &mut least);
    put_half(scale, out);
    put_half(least, &mut out[2..]);
    put_nibbles(&levels, &mut out[4..]);
}

#[inline(always)]
fn q5_0(x: &[f32], out: &mut [u8]) {
    let mut scale = 0.0;
    let levels = signed_levels(x, 31, &mut scale);
    put_half(scale, out);
    put_fifths(&levels, &mut out[2..]);
    put_nibbles(&levels, &mut out[6..]);
}

#[inline(always)]
fn q5_1(x: &[f32], out: &mut [u8]) {
    let (mut scale, mut least) = (0.0, 0.0);
    let levels = spanned_levels(x, 31, &mut scale, &mut least);
    put_half(scale, out);
    put_half(least, &mut out[2..]);
    put_fifths(&levels, &mut out[4..]);
    put_nibbles(&levels, &mut out[8..]);
}

#[inline(always)]
fn q8_0(x: &[f32], out: &mut [u8]) {
    let mut most = 0.0f32;
    for x in x {
        most = most.max(x.abs());
    }
    let scale = most / 127.0;
    let inverse = inverse(scale);
    put_half(scale, out);
    for i in 0..32 {
        // Halves away from zero.
        let (size, sign) = ((x[i] * inverse).abs(), x[i].is_sign_negative());
        let whole = cut(size);
        let rounded = whole + u8::from(size - f32::from(whole) >= 0.5 && size < 128.0);
        out[2 + i] = if sign {
            rounded.wrapping_neg()
        } else {
            rounded
        };
    }
}
