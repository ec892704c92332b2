use std::arch::x86_64::*;

use super::{Int8x4, places};
use crate::simd::Avx512;

/// One 512-bit register; products by `vpdpbusd`.
#[derive(Clone, Copy)]
pub(crate) struct VnniInt8x4(__m512i);

/// Sixteen bytes of the rows `row`, `row + 4`, `row + 8` and `row + 12`.
#[inline(always)]
unsafe fn four_rows(from: *const u8, stride: usize, row: usize) -> __m512i {
    let from = from.add(row * stride);
    let (a, b) = (
        _mm_loadu_si128(from.cast()),
        _mm_loadu_si128(from.add(4 * stride).cast()),
    );
    let (c, d) = (
        _mm_loadu_si128(from.add(8 * stride).cast()),
        _mm_loadu_si128(from.add(12 * stride).cast()),
    );
    let low = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(a), b);
    let high = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(c), d);
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
}

// SAFETY: the trait's contract; every method is one or a few AVX-512 F/BW/VNNI instructions.
unsafe impl Int8x4 for VnniInt8x4 {
    type Floats = Avx512;
    const BIASED: bool = true;
    const NARROW: bool = false;
    const ROWS: usize = 8;
    const ROWS_OF_FOURS: usize = 3;

    #[inline(always)]
    unsafe fn splat(x: u32) -> Self {
        Self(_mm512_set1_epi32(x as i32))
    }
    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        Self(_mm512_loadu_si512(from.cast()))
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut u8) {
        _mm512_storeu_si512(to.cast(), self.0);
    }
    #[inline(always)]
    unsafe fn and(self, other: Self) -> Self {
        Self(_mm512_and_si512(self.0, other.0))
    }
    #[inline(always)]
    unsafe fn or(self, other: Self) -> Self {
        Self(_mm512_or_si512(self.0, other.0))
    }
    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        Self(_mm512_xor_si512(self.0, other.0))
    }
    #[inline(always)]
    unsafe fn left<const N: u32>(self) -> Self {
        Self(_mm512_slli_epi32::<N>(self.0))
    }
    #[inline(always)]
    unsafe fn right<const N: u32>(self) -> Self {
        Self(_mm512_srli_epi32::<N>(self.0))
    }
    #[inline(always)]
    unsafe fn signed_right<const N: u32>(self) -> Self {
        Self(_mm512_srai_epi32::<N>(self.0))
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(_mm512_add_epi32(self.0, other.0))
    }
    #[inline(always)]
    unsafe fn times(self, other: Self) -> Self {
        Self(_mm512_mullo_epi32(self.0, other.0))
    }
    #[inline(always)]
    unsafe fn columns(from: *const u8, stride: usize) -> [Self; 4] {
        // A 4 x 4 transposition of words in each quarter, which holds rows 4q to 4q + 3.
        let (a, b) = (four_rows(from, stride, 0), four_rows(from, stride, 1));
        let (c, d) = (four_rows(from, stride, 2), four_rows(from, stride, 3));
        let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
        let (ef, gh) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
        [
            Self(_mm512_unpacklo_epi64(ab, cd)),
            Self(_mm512_unpackhi_epi64(ab, cd)),
            Self(_mm512_unpacklo_epi64(ef, gh)),
            Self(_mm512_unpackhi_epi64(ef, gh)),
        ]
    }
    #[inline(always)]
    unsafe fn dot(self, weights: Self, activations: *const i8) -> Self {
        let four = _mm512_set1_epi32(activations.cast::<i32>().read_unaligned());
        Self(_mm512_dpbusd_epi32(self.0, weights.0, four))
    }
    #[inline(always)]
    unsafe fn dot_signed(self, weights: Self, activations: *const i8) -> Self {
        self.dot(weights, activations)
    }
    #[inline(always)]
    unsafe fn pairs(self, weights: Self, activations: *const i8) -> Self {
        let four = _mm512_set1_epi32(activations.cast::<i32>().read_unaligned());
        let pairs = _mm512_maddubs_epi16(weights.0, four);
        Self(_mm512_add_epi16(self.0, pairs))
    }
    #[inline(always)]
    unsafe fn widened(self, by: Self) -> Self {
        Self(_mm512_madd_epi16(self.0, by.0))
    }
    #[inline(always)]
    unsafe fn dot_scaled(self, weights: Self, activations: *const i8, scales: Self) -> Self {
        let four = _mm512_set1_epi32(activations.cast::<i32>().read_unaligned());
        let pairs = _mm512_maddubs_epi16(weights.0, four);
        Self(_mm512_dpwssd_epi32(self.0, pairs, scales.0))
    }
    #[inline(always)]
    unsafe fn dot_scaled_from(
        self,
        weights: Self,
        activations: *const i8,
        start: i32,
        scales: Self,
    ) -> Self {
        let four = _mm512_set1_epi32(activations.cast::<i32>().read_unaligned());
        let pairs = _mm512_maddubs_epi16(weights.0, four);
        let pairs = _mm512_add_epi16(pairs, _mm512_set1_epi32(start));
        Self(_mm512_dpwssd_epi32(self.0, pairs, scales.0))
    }
    #[inline(always)]
    unsafe fn twice<const N: usize>(self) -> Self {
        let places = _mm512_broadcast_i32x4(_mm_loadu_si128(const { &places(N) }.as_ptr().cast()));
        Self(_mm512_shuffle_epi8(self.0, places))
    }
    #[inline(always)]
    unsafe fn lookup(self, table: *const u8) -> Self {
        let table = _mm512_broadcast_i32x4(_mm_loadu_si128(table.cast()));
        Self(_mm512_shuffle_epi8(table, self.0))
    }
    #[inline(always)]
    unsafe fn gather(self, table: *const u32) -> Self {
        Self(_mm512_i32gather_epi32::<4>(self.0, table.cast()))
    }
    #[inline(always)]
    unsafe fn floats(self) -> Avx512 {
        Avx512(_mm512_cvtepi32_ps(self.0))
    }
    #[inline(always)]
    unsafe fn halves(self) -> Avx512 {
        Avx512(_mm512_cvtph_ps(_mm512_cvtepi32_epi16(self.0)))
    }
}
