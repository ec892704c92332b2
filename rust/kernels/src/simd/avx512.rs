use std::arch::x86_64::*;

use super::Simd;

/// One 512-bit register.
#[derive(Clone, Copy)]
pub struct Avx512(__m512);

// SAFETY: the trait's contract; every method is one or a few AVX-512 F/DQ instructions.
unsafe impl Simd for Avx512 {
    const TILE_ROWS: usize = 12;
    const WIDE_TILE: bool = true;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(_mm512_loadu_ps(from))
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
    unsafe fn sqrt(self) -> Self {
        Self(_mm512_sqrt_ps(self.0))
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        Self(_mm512_roundscale_ps::<0>(self.0))
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
}
