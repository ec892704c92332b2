use std::arch::x86_64::*;

use super::{LEAST, MANTISSA, SHIFT, Simd, UP};

/// Two 256-bit registers.
#[derive(Clone, Copy)]
pub struct Avx2(pub(crate) __m256, pub(crate) __m256);

/// Lane numbers, for masks.
#[repr(align(32))]
struct Numbers([f32; 16]);
static NUMBERS: Numbers = Numbers([
    0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0,
]);

#[inline(always)]
unsafe fn power(x: __m256) -> __m256 {
    let biased = _mm256_add_epi32(_mm256_cvtps_epi32(x), _mm256_set1_epi32(127));
    _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
}

// SAFETY: the trait's contract; every method is a few AVX2 and FMA instructions.
unsafe impl Simd for Avx2 {
    // Sixteen registers: six rows of one vector, the right-hand vector and a broadcast.
    const TILE_ROWS: usize = 6;
    const WIDE_TILE: bool = false;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8)))
    }
    #[inline(always)]
    unsafe fn prefetch(at: *const f32) {
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        _mm256_storeu_ps(to, self.0);
        _mm256_storeu_ps(to.add(8), self.1);
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        let x = _mm256_set1_ps(x);
        Self(x, x)
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(
            _mm256_add_ps(self.0, other.0),
            _mm256_add_ps(self.1, other.1),
        )
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Self(
            _mm256_sub_ps(self.0, other.0),
            _mm256_sub_ps(self.1, other.1),
        )
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Self(
            _mm256_mul_ps(self.0, other.0),
            _mm256_mul_ps(self.1, other.1),
        )
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        Self(
            _mm256_div_ps(self.0, other.0),
            _mm256_div_ps(self.1, other.1),
        )
    }
    #[inline(always)]
    unsafe fn fma(self, factor: Self, term: Self) -> Self {
        Self(
            _mm256_fmadd_ps(self.0, factor.0, term.0),
            _mm256_fmadd_ps(self.1, factor.1, term.1),
        )
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        Self(
            _mm256_max_ps(self.0, other.0),
            _mm256_max_ps(self.1, other.1),
        )
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        Self(
            _mm256_min_ps(self.0, other.0),
            _mm256_min_ps(self.1, other.1),
        )
    }
    #[inline(always)]
    unsafe fn and(self, mask: Self) -> Self {
        Self(_mm256_and_ps(self.0, mask.0), _mm256_and_ps(self.1, mask.1))
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        Self(_mm256_sqrt_ps(self.0), _mm256_sqrt_ps(self.1))
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        Self(
            _mm256_round_ps::<NEAREST>(self.0),
            _mm256_round_ps::<NEAREST>(self.1),
        )
    }
    #[inline(always)]
    unsafe fn nearest(self) -> Self {
        Self(nearest(self.0), nearest(self.1))
    }
    #[inline(always)]
    unsafe fn half(self) -> Self {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT;
        Self(
            _mm256_cvtph_ps(_mm256_cvtps_ph::<NEAREST>(self.0)),
            _mm256_cvtph_ps(_mm256_cvtps_ph::<NEAREST>(self.1)),
        )
    }
    #[inline(always)]
    unsafe fn times_power(self, n: Self) -> Self {
        Self(
            _mm256_mul_ps(self.0, power(n.0)),
            _mm256_mul_ps(self.1, power(n.1)),
        )
    }
    #[inline(always)]
    unsafe fn first(self, count: usize, fill: f32) -> Self {
        let lanes = Self::load(NUMBERS.0.as_ptr());
        let count = _mm256_set1_ps(count as f32);
        let fill = _mm256_set1_ps(fill);
        Self(
            _mm256_blendv_ps(fill, self.0, _mm256_cmp_ps::<_CMP_LT_OQ>(lanes.0, count)),
            _mm256_blendv_ps(fill, self.1, _mm256_cmp_ps::<_CMP_LT_OQ>(lanes.1, count)),
        )
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        let eight = _mm256_add_ps(self.0, self.1);
        let four = _mm_add_ps(
            _mm256_castps256_ps128(eight),
            _mm256_extractf128_ps::<1>(eight),
        );
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
    }
    #[inline(always)]
    unsafe fn maximum(self) -> f32 {
        let eight = _mm256_max_ps(self.0, self.1);
        let four = _mm_max_ps(
            _mm256_castps256_ps128(eight),
            _mm256_extractf128_ps::<1>(eight),
        );
        let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
    }
    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut i8) -> [i32; 4] {
        let words = _mm256_packs_epi32(_mm256_cvtps_epi32(self.0), _mm256_cvtps_epi32(self.1));
        // The pack works on halves of 128 bits: order them again.
        let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
        let (low, high) = (
            _mm256_castsi256_si128(words),
            _mm256_extracti128_si256::<1>(words),
        );
        store_bytes(_mm_packs_epi16(low, high), to)
    }
    #[inline(always)]
    unsafe fn pair<const NATIVE: bool>(even: Self, odd: Self) -> Self {
        Self(side_by_side(even.0, odd.0), side_by_side(even.1, odd.1))
    }
    #[inline(always)]
    unsafe fn store_bf16<const NATIVE: bool>(self, to: *mut u16) {
        // The pack works on halves of 128 bits: order them again.
        let packed = _mm256_packus_epi32(rounded(self.0), rounded(self.1));
        _mm256_storeu_si256(to.cast(), _mm256_permute4x64_epi64::<0b11_01_10_00>(packed));
    }
    #[inline(always)]
    unsafe fn dot_pairs<const NATIVE: bool>(self, a: Self, b: Self) -> Self {
        let high = [[high(a.0), high(b.0)], [high(a.1), high(b.1)]];
        let low = [[low(a.0), low(b.0)], [low(a.1), low(b.1)]];
        let first = [
            _mm256_fmadd_ps(high[0][0], high[0][1], self.0),
            _mm256_fmadd_ps(high[1][0], high[1][1], self.1),
        ];
        let sums = [
            _mm256_fmadd_ps(low[0][0], low[0][1], first[0]),
            _mm256_fmadd_ps(low[1][0], low[1][1], first[1]),
        ];
        // All at once: hardly ever is one of them to be looked at.
        let least = _mm256_min_epu32(
            _mm256_min_epu32(magnitude(first[0]), magnitude(first[1])),
            _mm256_min_epu32(magnitude(sums[0]), magnitude(sums[1])),
        );
        let edge = _mm256_set1_epi32(EDGE);
        let clear = _mm256_cmpeq_epi32(_mm256_max_epu32(least, edge), least);
        if _mm256_movemask_epi8(clear) == -1 {
            return Self(sums[0], sums[1]);
        }
        Self(
            step(low[0], step(high[0], self.0)),
            step(low[1], step(high[1], self.1)),
        )
    }
}

#[inline(always)]
unsafe fn nearest(x: __m256) -> __m256 {
    let shift = _mm256_set1_ps(SHIFT);
    let bits = _mm256_castps_si256(_mm256_add_ps(x, shift));
    let mantissa = _mm256_and_si256(bits, _mm256_set1_epi32(MANTISSA as i32));
    // The exponent of 2^23 above it.
    let whole = _mm256_or_si256(mantissa, _mm256_set1_epi32(0x4b00_0000));
    _mm256_sub_ps(_mm256_castsi256_ps(whole), shift)
}

#[inline(always)]
unsafe fn side_by_side(even: __m256, odd: __m256) -> __m256 {
    let odd = _mm256_slli_epi32::<16>(rounded(odd));
    _mm256_castsi256_ps(_mm256_or_si256(rounded(even), odd))
}

/// Twice the bits of 2^-126: those of a magnitude, without its sign.
const EDGE: i32 = (f32::MIN_POSITIVE.to_bits() << 1) as i32;

/// Twice the bits of each magnitude less one: below [`EDGE`] for those up to 2^-126 that are not zero.
#[inline(always)]
unsafe fn magnitude(x: __m256) -> __m256i {
    let bits = _mm256_castps_si256(x);
    _mm256_add_epi32(_mm256_add_epi32(bits, bits), _mm256_set1_epi32(-1))
}

/// A fused multiply-add, with zero of its sign for a denormal.
#[inline(always)]
unsafe fn step([a, b]: [__m256; 2], sum: __m256) -> __m256 {
    let (plain, up) = (_mm256_fmadd_ps(a, b, sum), _mm256_set1_ps(UP));
    let scaled = _mm256_fmadd_ps(_mm256_mul_ps(a, up), b, _mm256_mul_ps(sum, up));
    let sign = _mm256_set1_ps(-0.0);
    let least = _mm256_set1_ps(LEAST);
    let denormal = _mm256_cmp_ps::<_CMP_LT_OQ>(_mm256_andnot_ps(sign, scaled), least);
    _mm256_blendv_ps(plain, _mm256_and_ps(plain, sign), denormal)
}

/// Each lane as bf16 in the low half.
#[inline(always)]
unsafe fn rounded(x: __m256) -> __m256i {
    let bits = _mm256_castps_si256(x);
    let top = _mm256_srli_epi32::<16>(bits);
    let tie = _mm256_and_si256(top, _mm256_set1_epi32(1));
    let up = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), tie);
    let up = _mm256_srli_epi32::<16>(up);
    let sign = _mm256_and_si256(top, _mm256_set1_epi32(0x8000));
    let value = _mm256_blendv_epi8(up, sign, denormal(bits));
    let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(x, x));
    let quiet = _mm256_or_si256(top, _mm256_set1_epi32(0x40));
    _mm256_blendv_epi8(value, quiet, nan)
}

/// All bits of the lanes whose exponent is zero.
#[inline(always)]
unsafe fn denormal(bits: __m256i) -> __m256i {
    let exponent = _mm256_and_si256(bits, _mm256_set1_epi32(0x7f80_0000));
    _mm256_cmpeq_epi32(exponent, _mm256_setzero_si256())
}

/// Zero of its sign for each denormal lane.
#[inline(always)]
unsafe fn normal(x: __m256) -> __m256 {
    let bits = _mm256_castps_si256(x);
    let magnitude = _mm256_and_si256(denormal(bits), _mm256_set1_epi32(i32::MAX));
    _mm256_castsi256_ps(_mm256_andnot_si256(magnitude, bits))
}

/// The high bf16 of each pair.
#[inline(always)]
unsafe fn high(x: __m256) -> __m256 {
    let mask = _mm256_castsi256_ps(_mm256_set1_epi32(0xffff_0000_u32 as i32));
    normal(_mm256_and_ps(x, mask))
}

/// The low bf16 of each pair.
#[inline(always)]
unsafe fn low(x: __m256) -> __m256 {
    normal(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(
        _mm256_castps_si256(x),
    )))
}

/// Stores sixteen bytes and returns the sums of each four.
#[inline(always)]
pub(super) unsafe fn store_bytes(bytes: __m128i, to: *mut i8) -> [i32; 4] {
    _mm_storeu_si128(to.cast(), bytes);
    let pairs = _mm_maddubs_epi16(_mm_set1_epi8(1), bytes);
    let fours = _mm_madd_epi16(pairs, _mm_set1_epi16(1));
    let mut sums = [0; 4];
    _mm_storeu_si128(sums.as_mut_ptr().cast(), fours);
    sums
}
