use std::arch::x86_64::*;

use super::{Int8x4, places};
use crate::simd::Avx2;

/// Two 256-bit registers; products by `vpmaddubsw`.
#[derive(Clone, Copy)]
pub(crate) struct Avx2Int8x4(__m256i, __m256i);

/// Four words of eight rows, transposed; `from` is at the first.
#[inline(always)]
unsafe fn eight_rows(from: *const u8, stride: usize) -> [__m256i; 4] {
    macro_rules! two_rows {
        ($row:literal) => {
            _mm256_inserti128_si256::<1>(
                _mm256_castsi128_si256(_mm_loadu_si128(from.add($row * stride).cast())),
                _mm_loadu_si128(from.add(($row + 4) * stride).cast()),
            )
        };
    }
    let (a, b, c, d) = (two_rows!(0), two_rows!(1), two_rows!(2), two_rows!(3));
    let (ab, cd) = (_mm256_unpacklo_epi32(a, b), _mm256_unpacklo_epi32(c, d));
    let (ef, gh) = (_mm256_unpackhi_epi32(a, b), _mm256_unpackhi_epi32(c, d));
    [
        _mm256_unpacklo_epi64(ab, cd),
        _mm256_unpackhi_epi64(ab, cd),
        _mm256_unpacklo_epi64(ef, gh),
        _mm256_unpackhi_epi64(ef, gh),
    ]
}

/// Sums of four products; pairs of them stay within 16 bits (127 * 127 * 2, and 128 * 127 * 2 of signed weights).
#[inline(always)]
unsafe fn four_products(unsigned: __m256i, signed: __m256i) -> __m256i {
    _mm256_madd_epi16(_mm256_maddubs_epi16(unsigned, signed), _mm256_set1_epi16(1))
}

// SAFETY: the trait's contract; every method is a few AVX2 or F16C instructions.
unsafe impl Int8x4 for Avx2Int8x4 {
    type Floats = Avx2;
    const BIASED: bool = false;
    const NARROW: bool = true;
    const ROWS: usize = 3;
    const ROWS_OF_FOURS: usize = 1;

    #[inline(always)]
    unsafe fn splat(x: u32) -> Self {
        let x = _mm256_set1_epi32(x as i32);
        Self(x, x)
    }
    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        Self(
            _mm256_loadu_si256(from.cast()),
            _mm256_loadu_si256(from.add(32).cast()),
        )
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut u8) {
        _mm256_storeu_si256(to.cast(), self.0);
        _mm256_storeu_si256(to.add(32).cast(), self.1);
    }
    #[inline(always)]
    unsafe fn and(self, other: Self) -> Self {
        Self(
            _mm256_and_si256(self.0, other.0),
            _mm256_and_si256(self.1, other.1),
        )
    }
    #[inline(always)]
    unsafe fn or(self, other: Self) -> Self {
        Self(
            _mm256_or_si256(self.0, other.0),
            _mm256_or_si256(self.1, other.1),
        )
    }
    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        Self(
            _mm256_xor_si256(self.0, other.0),
            _mm256_xor_si256(self.1, other.1),
        )
    }
    #[inline(always)]
    unsafe fn left<const N: u32>(self) -> Self {
        let by = _mm_cvtsi32_si128(N as i32);
        Self(_mm256_sll_epi32(self.0, by), _mm256_sll_epi32(self.1, by))
    }
    #[inline(always)]
    unsafe fn right<const N: u32>(self) -> Self {
        let by = _mm_cvtsi32_si128(N as i32);
        Self(_mm256_srl_epi32(self.0, by), _mm256_srl_epi32(self.1, by))
    }
    #[inline(always)]
    unsafe fn signed_right<const N: u32>(self) -> Self {
        let by = _mm_cvtsi32_si128(N as i32);
        Self(_mm256_sra_epi32(self.0, by), _mm256_sra_epi32(self.1, by))
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(
            _mm256_add_epi32(self.0, other.0),
            _mm256_add_epi32(self.1, other.1),
        )
    }
    #[inline(always)]
    unsafe fn times(self, other: Self) -> Self {
        Self(
            _mm256_mullo_epi32(self.0, other.0),
            _mm256_mullo_epi32(self.1, other.1),
        )
    }
    #[inline(always)]
    unsafe fn columns(from: *const u8, stride: usize) -> [Self; 4] {
        let first = eight_rows(from, stride);
        let second = eight_rows(from.add(8 * stride), stride);
        [
            Self(first[0], second[0]),
            Self(first[1], second[1]),
            Self(first[2], second[2]),
            Self(first[3], second[3]),
        ]
    }
    #[inline(always)]
    unsafe fn dot(self, weights: Self, activations: *const i8) -> Self {
        let four = _mm256_set1_epi32(activations.cast::<i32>().read_unaligned());
        Self(
            _mm256_add_epi32(self.0, four_products(weights.0, four)),
            _mm256_add_epi32(self.1, four_products(weights.1, four)),
        )
    }
    #[inline(always)]
    unsafe fn dot_signed(self, weights: Self, activations: *const i8) -> Self {
        let four = _mm256_set1_epi32(activations.cast::<i32>().read_unaligned());
        // The sign moves over to the activations, which are never -128.
        let first = four_products(
            _mm256_abs_epi8(weights.0),
            _mm256_sign_epi8(four, weights.0),
        );
        let second = four_products(
            _mm256_abs_epi8(weights.1),
            _mm256_sign_epi8(four, weights.1),
        );
        Self(
            _mm256_add_epi32(self.0, first),
            _mm256_add_epi32(self.1, second),
        )
    }
    #[inline(always)]
    unsafe fn pairs(self, weights: Self, activations: *const i8) -> Self {
        let four = _mm256_set1_epi32(activations.cast::<i32>().read_unaligned());
        Self(
            _mm256_add_epi16(self.0, _mm256_maddubs_epi16(weights.0, four)),
            _mm256_add_epi16(self.1, _mm256_maddubs_epi16(weights.1, four)),
        )
    }
    #[inline(always)]
    unsafe fn widened(self, by: Self) -> Self {
        Self(
            _mm256_madd_epi16(self.0, by.0),
            _mm256_madd_epi16(self.1, by.1),
        )
    }
    #[inline(always)]
    unsafe fn dot_scaled(self, weights: Self, activations: *const i8, scales: Self) -> Self {
        let four = _mm256_set1_epi32(activations.cast::<i32>().read_unaligned());
        let first = _mm256_maddubs_epi16(weights.0, four);
        let second = _mm256_maddubs_epi16(weights.1, four);
        Self(
            _mm256_add_epi32(self.0, _mm256_madd_epi16(first, scales.0)),
            _mm256_add_epi32(self.1, _mm256_madd_epi16(second, scales.1)),
        )
    }
    #[inline(always)]
    unsafe fn dot_scaled_from(
        self,
        weights: Self,
        activations: *const i8,
        start: i32,
        scales: Self,
    ) -> Self {
        let four = _mm256_set1_epi32(activations.cast::<i32>().read_unaligned());
        let start = _mm256_set1_epi32(start);
        let first = _mm256_add_epi16(_mm256_maddubs_epi16(weights.0, four), start);
        let second = _mm256_add_epi16(_mm256_maddubs_epi16(weights.1, four), start);
        Self(
            _mm256_add_epi32(self.0, _mm256_madd_epi16(first, scales.0)),
            _mm256_add_epi32(self.1, _mm256_madd_epi16(second, scales.1)),
        )
    }
    #[inline(always)]
    unsafe fn twice<const N: usize>(self) -> Self {
        let places =
            _mm256_broadcastsi128_si256(_mm_loadu_si128(const { &places(N) }.as_ptr().cast()));
        Self(
            _mm256_shuffle_epi8(self.0, places),
            _mm256_shuffle_epi8(self.1, places),
        )
    }
    #[inline(always)]
    unsafe fn lookup(self, table: *const u8) -> Self {
        let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.cast()));
        Self(
            _mm256_shuffle_epi8(table, self.0),
            _mm256_shuffle_epi8(table, self.1),
        )
    }
    #[inline(always)]
    unsafe fn gather(self, table: *const u32) -> Self {
        Self(
            _mm256_i32gather_epi32::<4>(table.cast(), self.0),
            _mm256_i32gather_epi32::<4>(table.cast(), self.1),
        )
    }
    #[inline(always)]
    unsafe fn floats(self) -> Avx2 {
        Avx2(_mm256_cvtepi32_ps(self.0), _mm256_cvtepi32_ps(self.1))
    }
    #[inline(always)]
    unsafe fn halves(self) -> Avx2 {
        let low = _mm256_set1_epi32(0xffff);
        let packed =
            _mm256_packus_epi32(_mm256_and_si256(self.0, low), _mm256_and_si256(self.1, low));
        let halves = _mm256_permute4x64_epi64::<0b11_01_10_00>(packed);
        Avx2(
            _mm256_cvtph_ps(_mm256_castsi256_si128(halves)),
            _mm256_cvtph_ps(_mm256_extracti128_si256::<1>(halves)),
        )
    }
}
