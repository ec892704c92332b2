use std::arch::x86_64::*;

use super::{LEAST, MANTISSA, SHIFT, Simd, UP};

/// One 512-bit register.
#[derive(Clone, Copy)]
pub struct Avx512(pub(crate) __m512);

// SAFETY: the trait's contract; every method is one or a few AVX-512 F/DQ instructions.
unsafe impl Simd for Avx512 {
    const TILE_ROWS: usize = 12;
    const WIDE_TILE: bool = true;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(_mm512_loadu_ps(from))
    }
    #[inline(always)]
    unsafe fn prefetch(at: *const f32) {
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        _mm512_storeu_ps(to, self.0);
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self(_mm512_set1_ps(x))
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(_mm512_add_ps(self.0, other.0))
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Self(_mm512_sub_ps(self.0, other.0))
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Self(_mm512_mul_ps(self.0, other.0))
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        Self(_mm512_div_ps(self.0, other.0))
    }
    #[inline(always)]
    unsafe fn fma(self, factor: Self, term: Self) -> Self {
        Self(_mm512_fmadd_ps(self.0, factor.0, term.0))
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        Self(_mm512_max_ps(self.0, other.0))
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        Self(_mm512_min_ps(self.0, other.0))
    }
    #[inline(always)]
    unsafe fn and(self, mask: Self) -> Self {
        Self(_mm512_and_ps(self.0, mask.0))
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        Self(_mm512_sqrt_ps(self.0))
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        Self(_mm512_roundscale_ps::<0>(self.0))
    }
    #[inline(always)]
    unsafe fn nearest(self) -> Self {
        let shift = _mm512_set1_ps(SHIFT);
        let bits = _mm512_castps_si512(_mm512_add_ps(self.0, shift));
        let mantissa = _mm512_and_si512(bits, _mm512_set1_epi32(MANTISSA as i32));
        // The exponent of 2^23 above it.
        let whole = _mm512_or_si512(mantissa, _mm512_set1_epi32(0x4b00_0000));
        Self(_mm512_sub_ps(_mm512_castsi512_ps(whole), shift))
    }
    #[inline(always)]
    unsafe fn half(self) -> Self {
        let half = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0);
        Self(_mm512_cvtph_ps(half))
    }
    #[inline(always)]
    unsafe fn times_power(self, power: Self) -> Self {
        let biased = _mm512_add_epi32(_mm512_cvtps_epi32(power.0), _mm512_set1_epi32(127));
        Self(_mm512_mul_ps(
            self.0,
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased)),
        ))
    }
    #[inline(always)]
    unsafe fn first(self, count: usize, fill: f32) -> Self {
        let mask = ((1u32 << count) - 1) as u16;
        Self(_mm512_mask_mov_ps(_mm512_set1_ps(fill), mask, self.0))
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        let eight = _mm256_add_ps(
            _mm512_castps512_ps256(self.0),
            _mm512_extractf32x8_ps::<1>(self.0),
        );
        let four = _mm_add_ps(
            _mm256_castps256_ps128(eight),
            _mm256_extractf128_ps::<1>(eight),
        );
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
    }
    #[inline(always)]
    unsafe fn maximum(self) -> f32 {
        let eight = _mm256_max_ps(
            _mm512_castps512_ps256(self.0),
            _mm512_extractf32x8_ps::<1>(self.0),
        );
        let four = _mm_max_ps(
            _mm256_castps256_ps128(eight),
            _mm256_extractf128_ps::<1>(eight),
        );
        let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
    }
    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut i8) -> [i32; 4] {
        super::avx2::store_bytes(_mm512_cvtepi32_epi8(_mm512_cvtps_epi32(self.0)), to)
    }
    #[inline(always)]
    unsafe fn pair<const NATIVE: bool>(even: Self, odd: Self) -> Self {
        let (even, odd) = if NATIVE {
            (
                _mm512_cvtepu16_epi32(converted(even.0)),
                _mm512_cvtepu16_epi32(converted(odd.0)),
            )
        } else {
            (rounded(even.0), rounded(odd.0))
        };
        let both = _mm512_or_si512(even, _mm512_slli_epi32::<16>(odd));
        Self(_mm512_castsi512_ps(both))
    }
    #[inline(always)]
    unsafe fn store_bf16<const NATIVE: bool>(self, to: *mut u16) {
        let half = if NATIVE {
            converted(self.0)
        } else {
            _mm512_cvtepi32_epi16(rounded(self.0))
        };
        _mm256_storeu_si256(to.cast(), half);
    }
    #[inline(always)]
    unsafe fn dot_pairs<const NATIVE: bool>(self, a: Self, b: Self) -> Self {
        if NATIVE {
            let (a, b) = (
                std::mem::transmute::<__m512, __m512bh>(a.0),
                std::mem::transmute::<__m512, __m512bh>(b.0),
            );
            return Self(_mm512_dpbf16_ps(self.0, a, b));
        }
        let (high, low) = ([high(a.0), high(b.0)], [low(a.0), low(b.0)]);
        let first = _mm512_fmadd_ps(high[0], high[1], self.0);
        let sum = _mm512_fmadd_ps(low[0], low[1], first);
        // Hardly ever is one of them to be looked at.
        if tiny(first) | tiny(sum) == 0 {
            return Self(sum);
        }
        Self(step(low, step(high, self.0)))
    }
}

/// Sixteen bf16, by the processor's own conversion.
#[inline(always)]
unsafe fn converted(x: __m512) -> __m256i {
    std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x))
}

/// Each lane as bf16 in the low half.
#[inline(always)]
unsafe fn rounded(x: __m512) -> __m512i {
    let bits = _mm512_castps_si512(x);
    let top = _mm512_srli_epi32::<16>(bits);
    let tie = _mm512_and_si512(top, _mm512_set1_epi32(1));
    let up = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), tie);
    let normal = _mm512_test_epi32_mask(bits, _mm512_set1_epi32(0x7f80_0000));
    let sign = _mm512_and_si512(top, _mm512_set1_epi32(0x8000));
    let value = _mm512_mask_srli_epi32::<16>(sign, normal, up);
    let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
    _mm512_mask_or_epi32(value, nan, top, _mm512_set1_epi32(0x40))
}

/// Lanes up to 2^-126 that are not zero: of their bits less one those of a denormal or a zero are left, of a zero's NaN.
#[inline(always)]
unsafe fn tiny(x: __m512) -> __mmask16 {
    /// Positive zero, negative zero, denormal.
    const CLASSES: i32 = 0x26;
    let below = _mm512_add_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(-1));
    _mm512_fpclass_ps_mask::<CLASSES>(_mm512_castsi512_ps(below))
}

/// A fused multiply-add, with zero of its sign for a denormal.
#[inline(always)]
unsafe fn step([a, b]: [__m512; 2], sum: __m512) -> __m512 {
    let (plain, up) = (_mm512_fmadd_ps(a, b, sum), _mm512_set1_ps(UP));
    let scaled = _mm512_fmadd_ps(_mm512_mul_ps(a, up), b, _mm512_mul_ps(sum, up));
    let least = _mm512_set1_ps(LEAST);
    let denormal = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(_mm512_abs_ps(scaled), least);
    let bits = _mm512_castps_si512(plain);
    let sign = _mm512_set1_epi32(i32::MIN);
    _mm512_castsi512_ps(_mm512_mask_and_epi32(bits, denormal, bits, sign))
}

/// Zero of its sign for each denormal lane.
#[inline(always)]
unsafe fn normal(x: __m512) -> __m512 {
    let bits = _mm512_castps_si512(x);
    let denormal = _mm512_testn_epi32_mask(bits, _mm512_set1_epi32(0x7f80_0000));
    let sign = _mm512_set1_epi32(i32::MIN);
    _mm512_castsi512_ps(_mm512_mask_and_epi32(bits, denormal, bits, sign))
}

/// The high bf16 of each pair.
#[inline(always)]
unsafe fn high(x: __m512) -> __m512 {
    let mask = _mm512_set1_epi32(0xffff_0000_u32 as i32);
    normal(_mm512_castsi512_ps(_mm512_and_si512(
        _mm512_castps_si512(x),
        mask,
    )))
}

/// The low bf16 of each pair.
#[inline(always)]
unsafe fn low(x: __m512) -> __m512 {
    normal(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(
        _mm512_castps_si512(x),
    )))
}
