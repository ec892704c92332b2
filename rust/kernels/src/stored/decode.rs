//! From stored bytes to floats: what the products must equal, and the rows of an embedding.

use super::format::{Format, Matrix, half_at};
use super::narrow::{from_bf16, from_f16, from_fp8};

/// Decodes a row's blocks into `out`; [`Format::Fp8`] without its scales (see [`Matrix::decode_row`]).
///
/// Panics unless `bytes` has the blocks of exactly `out.len()` values.
pub fn decode_row(format: Format, bytes: &[u8], out: &mut [f32]) {
    assert!(out.len().is_multiple_of(format.block_len()));
    assert!(bytes.len() == format.row_bytes(out.len()));
    let blocks = bytes.chunks_exact(format.block_bytes());
    match format {
        Format::F32 => {
            for (x, b) in out.iter_mut().zip(blocks) {
                *x = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            }
        }
        Format::F16 => {
            for (x, b) in out.iter_mut().zip(blocks) {
                *x = from_f16(u16::from_le_bytes([b[0], b[1]]));
            }
        }
        Format::Bf16 => {
            for (x, b) in out.iter_mut().zip(blocks) {
                *x = from_bf16(u16::from_le_bytes([b[0], b[1]]));
            }
        }
        Format::Fp8 => {
            for (x, &b) in out.iter_mut().zip(bytes) {
                *x = from_fp8(b);
            }
        }
        _ => {
            let block = match format {
                Format::Q4_0 => q4_0,
                Format::Q4_1 => q4_1,
                Format::Q5_0 => q5_0,
                Format::Q8_0 => q8_0,
                Format::Q4K => q4_k,
                Format::Q5K => q5_k,
                _ => q6_k,
            };
            for (out, bytes) in out.chunks_exact_mut(format.block_len()).zip(blocks) {
                block(bytes, out);
            }
        }
    }
}

/// Rows `ids` of `matrix`, decoded into `out` (ids, inp). Panics where an id is not below `matrix.out`.
pub fn embed(matrix: &Matrix<'_>, ids: &[u32], out: &mut [f32]) {
    assert!(out.len() == ids.len() * matrix.inp);
    for (&id, out) in ids.iter().zip(out.chunks_exact_mut(matrix.inp.max(1))) {
        matrix.decode_row(id as usize, out);
    }
}

fn q4_0(b: &[u8], out: &mut [f32]) {
    let d = half_at(b, 0);
    for i in 0..16 {
        out[i] = d * (i32::from(b[2 + i] & 15) - 8) as f32;
        out[i + 16] = d * (i32::from(b[2 + i] >> 4) - 8) as f32;
    }
}

fn q4_1(b: &[u8], out: &mut [f32]) {
    let (d, m) = (half_at(b, 0), half_at(b, 2));
    for i in 0..16 {
        out[i] = d * f32::from(b[4 + i] & 15) + m;
        out[i + 16] = d * f32::from(b[4 + i] >> 4) + m;
    }
}

fn q5_0(b: &[u8], out: &mut [f32]) {
    let d = half_at(b, 0);
    let high = u32::from_le_bytes([b[2], b[3], b[4], b[5]]);
    for i in 0..16 {
        let fifth = |bit: usize| (high >> bit & 1) << 4;
        let low = u32::from(b[6 + i] & 15) | fifth(i);
        let upper = u32::from(b[6 + i] >> 4) | fifth(i + 16);
        out[i] = d * (low as i32 - 16) as f32;
        out[i + 16] = d * (upper as i32 - 16) as f32;
    }
}

fn q8_0(b: &[u8], out: &mut [f32]) {
    let d = half_at(b, 0);
    for i in 0..32 {
        out[i] = d * f32::from(b[2 + i] as i8);
    }
}

/// The 6-bit scale and minimum of part `part` of 8 from the 12 bytes that hold them.
///
/// Four whole bytes of each come first with the low six bits of parts 0 to 3; parts 4 to 7 have their low four bits
/// in the last four bytes and their upper two above those of the first.
pub(super) fn six_bits(packed: &[u8], part: usize) -> (u8, u8) {
    if part < 4 {
        return (packed[part] & 63, packed[part + 4] & 63);
    }
    (
        packed[part + 4] & 15 | packed[part - 4] >> 6 << 4,
        packed[part + 4] >> 4 | packed[part] >> 6 << 4,
    )
}

fn q4_k(b: &[u8], out: &mut [f32]) {
    let (d, e) = (half_at(b, 0), half_at(b, 2));
    for (part, out) in out.chunks_exact_mut(32).enumerate() {
        let (s, m) = six_bits(&b[4..16], part);
        let (scale, least) = (d * f32::from(s), e * f32::from(m));
        for (i, x) in out.iter_mut().enumerate() {
            let q = b[16 + part / 2 * 32 + i] >> (part % 2 * 4) & 15;
            *x = scale * f32::from(q) - least;
        }
    }
}

fn q5_k(b: &[u8], out: &mut [f32]) {
    let (d, e) = (half_at(b, 0), half_at(b, 2));
    for (part, out) in out.chunks_exact_mut(32).enumerate() {
        let (s, m) = six_bits(&b[4..16], part);
        let (scale, least) = (d * f32::from(s), e * f32::from(m));
        for (i, x) in out.iter_mut().enumerate() {
            let low = b[48 + part / 2 * 32 + i] >> (part % 2 * 4) & 15;
            let q = low | (b[16 + i] >> part & 1) << 4;
            *x = scale * f32::from(q) - least;
        }
    }
}

fn q6_k(b: &[u8], out: &mut [f32]) {
    let d = half_at(b, 208);
    for (i, x) in out.iter_mut().enumerate() {
        let (half, part, at) = (i / 128, i / 32 % 4, i % 32);
        let low = b[half * 64 + part % 2 * 32 + at] >> (part / 2 * 4) & 15;
        let high = b[128 + half * 32 + at] >> (part * 2) & 3;
        let scale = d * f32::from(b[192 + i / 16] as i8);
        *x = scale * (i32::from(low | high << 4) - 32) as f32;
    }
}
