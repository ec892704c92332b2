//! From stored bytes to floats: what the products must equal, and the rows of an embedding.

use super::format::{Format, Matrix, half_at};
use super::grids;
use super::narrow::{from_bf16, from_e8m0, from_f16, from_fp8};

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
                Format::Q5_1 => q5_1,
                Format::Q8_0 => q8_0,
                Format::Q2K => q2_k,
                Format::Q3K => q3_k,
                Format::Q4K => q4_k,
                Format::Q5K => q5_k,
                Format::Iq3Xxs => iq3_xxs,
                Format::Iq3S => iq3_s,
                Format::Iq4Nl => iq4_nl,
                Format::Iq4Xs => iq4_xs,
                Format::Mxfp4 => mxfp4,
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

fn q5_1(b: &[u8], out: &mut [f32]) {
    let (d, m) = (half_at(b, 0), half_at(b, 2));
    let high = u32::from_le_bytes([b[4], b[5], b[6], b[7]]);
    for i in 0..16 {
        let fifth = |bit: usize| (high >> bit & 1) << 4;
        let low = u32::from(b[8 + i] & 15) | fifth(i);
        let upper = u32::from(b[8 + i] >> 4) | fifth(i + 16);
        out[i] = d * low as f32 + m;
        out[i + 16] = d * upper as f32 + m;
    }
}

/// What four bits stand for in IQ4_NL and IQ4_XS.
pub(super) const IQ4_VALUES: [i8; 16] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];

/// What four bits stand for in MXFP4: twice E2M1.
pub(super) const FP4_VALUES: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// 32 values from a table, the low bits of sixteen bytes first.
fn looked_up(values: &[i8; 16], scale: f32, bytes: &[u8], out: &mut [f32]) {
    for (i, byte) in bytes.iter().enumerate() {
        out[i] = scale * f32::from(values[usize::from(byte & 15)]);
        out[i + 16] = scale * f32::from(values[usize::from(byte >> 4)]);
    }
}

fn iq4_nl(b: &[u8], out: &mut [f32]) {
    looked_up(&IQ4_VALUES, half_at(b, 0), &b[2..], out);
}

fn mxfp4(b: &[u8], out: &mut [f32]) {
    looked_up(&FP4_VALUES, from_e8m0(b[0]), &b[1..], out);
}

fn iq4_xs(b: &[u8], out: &mut [f32]) {
    let d = half_at(b, 0);
    let upper = u16::from_le_bytes([b[2], b[3]]);
    for (part, out) in out.chunks_exact_mut(32).enumerate() {
        let low = b[4 + part / 2] >> (part % 2 * 4) & 15;
        let six = i32::from(low) | i32::from(upper >> (2 * part) & 3) << 4;
        let bytes = &b[8 + 16 * part..][..16];
        looked_up(&IQ4_VALUES, d * (six - 32) as f32, bytes, out);
    }
}

/// Eight signs from seven: an even number of them is negative.
fn even_signs(seven: u32) -> u8 {
    let seven = (seven & 127) as u8;
    seven | (seven.count_ones() as u8 & 1) << 7
}

/// Four values from a grid's entry, times a scale; bit i of `signs` turns value i.
fn gridded(entry: u32, signs: u8, scale: f32, out: &mut [f32]) {
    for (i, x) in out.iter_mut().enumerate() {
        let value = scale * f32::from(entry.to_le_bytes()[i]);
        *x = if signs >> i & 1 == 1 { -value } else { value };
    }
}

fn iq3_xxs(b: &[u8], out: &mut [f32]) {
    let d = half_at(b, 0);
    for (part, out) in out.chunks_exact_mut(32).enumerate() {
        let at = 66 + 4 * part;
        let bits = u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
        let scale = d * (0.5 + (bits >> 28) as f32) * 0.5;
        for (i, out) in out.chunks_exact_mut(4).enumerate() {
            let signs = even_signs(bits >> (7 * (i / 2))) >> (4 * (i % 2));
            let entry = grids::IQ3_XXS[usize::from(b[2 + 8 * part + i])];
            gridded(entry, signs, scale, out);
        }
    }
}

fn iq3_s(b: &[u8], out: &mut [f32]) {
    let d = half_at(b, 0);
    for (part, out) in out.chunks_exact_mut(32).enumerate() {
        let four = b[106 + part / 2] >> (part % 2 * 4) & 15;
        let scale = d * f32::from(1 + 2 * four);
        for (i, out) in out.chunks_exact_mut(4).enumerate() {
            let ninth = usize::from(b[66 + part] >> i & 1) << 8;
            let signs = b[74 + 4 * part + i / 2] >> (4 * (i % 2));
            let entry = grids::IQ3_S[usize::from(b[2 + 8 * part + i]) | ninth];
            gridded(entry, signs, scale, out);
        }
    }
}

/// Two bits of value `i` of 256, in the order that Q2_K and Q3_K have them in.
fn two_bits(bytes: &[u8], i: usize) -> u8 {
    bytes[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3
}

fn q2_k(b: &[u8], out: &mut [f32]) {
    let (d, e) = (half_at(b, 80), half_at(b, 82));
    for (i, x) in out.iter_mut().enumerate() {
        let part = b[i / 16];
        let (scale, least) = (d * f32::from(part & 15), e * f32::from(part >> 4));
        *x = scale * f32::from(two_bits(&b[16..80], i)) - least;
    }
}

/// The 6-bit scale of part `part` of 16, 32 too large, from the 12 bytes that hold them.
///
/// Low four bits of parts 0 to 7 and 8 to 15 share the first eight bytes; the last four have the upper two of each.
pub(super) fn three_scale(packed: &[u8], part: usize) -> u8 {
    let low = packed[part % 8] >> (part / 8 * 4) & 15;
    low | (packed[8 + part % 4] >> (part / 4 * 2) & 3) << 4
}

fn q3_k(b: &[u8], out: &mut [f32]) {
    let d = half_at(b, 108);
    for (i, x) in out.iter_mut().enumerate() {
        let scale = d * (i32::from(three_scale(&b[96..108], i / 16)) - 32) as f32;
        let third = b[i % 32] >> (i / 32) & 1;
        let q = i32::from(two_bits(&b[32..96], i) | third << 2) - 4;
        *x = scale * q as f32;
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
