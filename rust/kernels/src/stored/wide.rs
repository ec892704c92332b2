//! Sixteen floats from narrower ones, exactly, on every instruction set.

use crate::simd::{LANES, Scalar, Simd};
use crate::stored::narrow;

/// # Safety
/// As [`Simd`]; pointers are good for sixteen of the narrow floats, at any alignment.
pub(super) unsafe trait Wide: Simd {
    unsafe fn from_f16(from: *const u8) -> Self;
    unsafe fn from_bf16(from: *const u8) -> Self;
    /// 2^-8 of what [`narrow::from_fp8`] gives.
    unsafe fn from_fp8(from: *const u8) -> Self;
    /// [`E2M1`] of the lower or the upper halves of sixteen bytes.
    unsafe fn from_fp4(from: *const u8, upper: bool) -> Self;
}

/// What three bits of an E2M1 mean; the fourth is the sign.
const E2M1: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];

/// How sixteen weights are read.
pub(super) trait Weights {
    const BYTES: usize;
    const SCALED: bool = false;
    /// Whether ggml adds the columns that are left over in f64.
    const IN_F64: bool = false;
    unsafe fn sixteen<S: Wide>(from: *const u8) -> S;
    /// Bytes of a row.
    #[inline(always)]
    fn row_bytes(inp: usize) -> usize {
        inp * Self::BYTES
    }
    /// Sixteen weights of a row from `column` on, a multiple of sixteen.
    #[inline(always)]
    unsafe fn at<S: Wide>(row: *const u8, column: usize) -> S {
        Self::sixteen(row.add(column * Self::BYTES))
    }
}

pub(super) struct F32;
pub(super) struct F16;
pub(super) struct Bf16;
pub(super) struct F8;
/// Blocks of 32: a power of two, then two numbers a byte.
pub(super) struct Fp4;

impl Weights for F32 {
    const BYTES: usize = 4;
    #[inline(always)]
    unsafe fn sixteen<S: Wide>(from: *const u8) -> S {
        S::load(from.cast())
    }
}

impl Weights for F16 {
    const BYTES: usize = 2;
    const IN_F64: bool = true;
    #[inline(always)]
    unsafe fn sixteen<S: Wide>(from: *const u8) -> S {
        S::from_f16(from)
    }
}

impl Weights for Bf16 {
    const BYTES: usize = 2;
    #[inline(always)]
    unsafe fn sixteen<S: Wide>(from: *const u8) -> S {
        S::from_bf16(from)
    }
}

impl Weights for F8 {
    const BYTES: usize = 1;
    const SCALED: bool = true;
    #[inline(always)]
    unsafe fn sixteen<S: Wide>(from: *const u8) -> S {
        S::from_fp8(from)
    }
}

impl Weights for Fp4 {
    const BYTES: usize = 1;
    /// Of the lower halves of a block.
    #[inline(always)]
    unsafe fn sixteen<S: Wide>(from: *const u8) -> S {
        Self::at(from, 0)
    }
    #[inline(always)]
    fn row_bytes(inp: usize) -> usize {
        inp / 32 * 17
    }
    #[inline(always)]
    unsafe fn at<S: Wide>(row: *const u8, column: usize) -> S {
        let block = row.add(column / 32 * 17);
        // 2^(bits - 127), the smallest of them denormal.
        let scale = match u32::from(*block) {
            0 => f32::from_bits(1 << 22),
            bits => f32::from_bits(bits << 23),
        };
        S::from_fp4(block.add(1), column % 32 >= LANES).mul(S::splat(scale))
    }
}

// SAFETY: plain Rust.
unsafe impl Wide for Scalar {
    #[inline(always)]
    unsafe fn from_f16(from: *const u8) -> Self {
        let mut out = [0.0; LANES];
        for i in 0..LANES {
            out[i] = narrow::from_f16(u16::from_le(from.cast::<u16>().add(i).read_unaligned()));
        }
        Self::load(out.as_ptr())
    }
    #[inline(always)]
    unsafe fn from_bf16(from: *const u8) -> Self {
        let mut out = [0.0; LANES];
        for i in 0..LANES {
            out[i] = narrow::from_bf16(u16::from_le(from.cast::<u16>().add(i).read_unaligned()));
        }
        Self::load(out.as_ptr())
    }
    #[inline(always)]
    unsafe fn from_fp8(from: *const u8) -> Self {
        let mut out = [0.0; LANES];
        for i in 0..LANES {
            out[i] = narrow::from_fp8(*from.add(i)) / 256.0;
        }
        Self::load(out.as_ptr())
    }
    #[inline(always)]
    unsafe fn from_fp4(from: *const u8, upper: bool) -> Self {
        let mut out = [0.0; LANES];
        for i in 0..LANES {
            let bits = *from.add(i) >> (4 * u32::from(upper)) & 15;
            let magnitude = E2M1[usize::from(bits & 7)];
            out[i] = if bits > 7 { -magnitude } else { magnitude };
        }
        Self::load(out.as_ptr())
    }
}

#[cfg(target_arch = "x86_64")]
mod vectors {
    use std::arch::x86_64::*;

    use super::{E2M1, Wide};
    use crate::simd::{Avx2, Avx512};

    // A byte's fields sit in a half's places, whose exponent bias is larger by 8. The extended sign ends in both upper
    // bits, of which the second belongs to the exponent. Where all seven bits are set, the half becomes NaN too.
    #[inline(always)]
    unsafe fn eighths(from: *const u8) -> __m256i {
        let bytes = _mm256_cvtepi8_epi16(_mm_loadu_si128(from.cast()));
        let shifted = _mm256_slli_epi16::<7>(bytes);
        let (fields, sign) = (
            _mm256_set1_epi16(0x3f80),
            _mm256_set1_epi16(0xbf80u16 as i16),
        );
        let magnitude = _mm256_and_si256(shifted, fields);
        let nan = _mm256_cmpeq_epi16(magnitude, fields);
        let nan = _mm256_and_si256(nan, _mm256_set1_epi16(0x7e00));
        _mm256_or_si256(_mm256_and_si256(shifted, sign), nan)
    }

    // Eight numbers of eight bytes.
    #[inline(always)]
    unsafe fn fourths(from: *const u8, upper: bool) -> __m256 {
        let bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast()));
        let bits = if upper {
            _mm256_srli_epi32::<4>(bytes)
        } else {
            bytes
        };
        // Of the index the lower three bits count.
        let magnitude = _mm256_permutevar8x32_ps(_mm256_loadu_ps(E2M1.as_ptr()), bits);
        let sign = _mm256_and_si256(_mm256_slli_epi32::<28>(bits), _mm256_set1_epi32(i32::MIN));
        _mm256_or_ps(magnitude, _mm256_castsi256_ps(sign))
    }

    // SAFETY: AVX-512 F and AVX2.
    unsafe impl Wide for Avx512 {
        #[inline(always)]
        unsafe fn from_f16(from: *const u8) -> Self {
            Self(_mm512_cvtph_ps(_mm256_loadu_si256(from.cast())))
        }
        #[inline(always)]
        unsafe fn from_bf16(from: *const u8) -> Self {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            Self(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide)))
        }
        #[inline(always)]
        unsafe fn from_fp8(from: *const u8) -> Self {
            Self(_mm512_cvtph_ps(eighths(from)))
        }
        #[inline(always)]
        unsafe fn from_fp4(from: *const u8, upper: bool) -> Self {
            let bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast()));
            let bits = if upper {
                _mm512_srli_epi32::<4>(bytes)
            } else {
                bytes
            };
            let magnitudes = _mm512_broadcast_f32x8(_mm256_loadu_ps(E2M1.as_ptr()));
            // Of the index the lower four bits count, and both halves of the table are the same.
            let magnitude = _mm512_permutexvar_ps(bits, magnitudes);
            let sign = _mm512_slli_epi32::<28>(bits);
            let sign = _mm512_and_si512(sign, _mm512_set1_epi32(i32::MIN));
            Self(_mm512_castsi512_ps(_mm512_or_si512(
                _mm512_castps_si512(magnitude),
                sign,
            )))
        }
    }

    // SAFETY: AVX2 and F16C.
    unsafe impl Wide for Avx2 {
        #[inline(always)]
        unsafe fn from_f16(from: *const u8) -> Self {
            Self(
                _mm256_cvtph_ps(_mm_loadu_si128(from.cast())),
                _mm256_cvtph_ps(_mm_loadu_si128(from.add(16).cast())),
            )
        }
        #[inline(always)]
        unsafe fn from_bf16(from: *const u8) -> Self {
            let first = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            let second = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.add(16).cast()));
            Self(
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(first)),
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(second)),
            )
        }
        #[inline(always)]
        unsafe fn from_fp8(from: *const u8) -> Self {
            let halves = eighths(from);
            Self(
                _mm256_cvtph_ps(_mm256_castsi256_si128(halves)),
                _mm256_cvtph_ps(_mm256_extracti128_si256::<1>(halves)),
            )
        }
        #[inline(always)]
        unsafe fn from_fp4(from: *const u8, upper: bool) -> Self {
            Self(fourths(from, upper), fourths(from.add(8), upper))
        }
    }
}
