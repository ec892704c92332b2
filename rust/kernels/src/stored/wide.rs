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
}

/// How sixteen weights are read.
pub(super) trait Weights {
    const BYTES: usize;
    const SCALED: bool = false;
    /// Whether ggml adds the columns that are left over in f64.
    const IN_F64: bool = false;
    unsafe fn sixteen<S: Wide>(from: *const u8) -> S;
}

pub(super) struct F32;
pub(super) struct F16;
pub(super) struct Bf16;
pub(super) struct F8;

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
}

#[cfg(target_arch = "x86_64")]
mod vectors {
    use std::arch::x86_64::*;

    use super::Wide;
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
    }
}
