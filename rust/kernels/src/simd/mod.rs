//! Sixteen floats as one value, three times: AVX-512, AVX2 with FMA, plain Rust.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod scalar;

#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;
pub use scalar::Scalar;

/// Floats in a vector.
pub const LANES: usize = 16;

/// A vector of sixteen floats. Every method is exactly rounded, so all implementations agree to the bit.
///
/// # Safety
/// Methods may run only where the processor has the instruction set; pointers must be good for sixteen floats.
#[allow(clippy::missing_safety_doc)] // The trait says it once for all methods.
pub unsafe trait Simd: Copy {
    /// Rows of a matrix-product tile that fit in the registers.
    const TILE_ROWS: usize;
    /// Whether a tile is two vectors wide rather than one.
    const WIDE_TILE: bool;

    unsafe fn load(from: *const f32) -> Self;
    /// Asks for the cache line at `at`, which may lie anywhere: nothing is read.
    unsafe fn prefetch(at: *const f32);
    unsafe fn store(self, to: *mut f32);
    unsafe fn splat(x: f32) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    /// `self * factor + term`, rounded once.
    unsafe fn fma(self, factor: Self, term: Self) -> Self;
    /// The larger of each pair; `other` where either is NaN.
    unsafe fn max(self, other: Self) -> Self;
    /// The smaller of each pair; `other` where either is NaN.
    unsafe fn min(self, other: Self) -> Self;
    /// The bits that `mask` has too.
    unsafe fn and(self, mask: Self) -> Self;
    unsafe fn sqrt(self) -> Self;
    /// To the nearest integer, ties to even.
    unsafe fn round(self) -> Self;
    /// ggml's `nearest_int`: to the nearest integer, ties to even, up to 2^22; beyond, and of what is not finite, what its
    /// trick of adding 1.5 * 2^23 leaves in the mantissa.
    unsafe fn nearest(self) -> Self;
    /// Rounded to what IEEE half precision can hold: to nearest, ties to even.
    unsafe fn half(self) -> Self;
    /// `self * 2^power` for integral powers from -126 to 127.
    unsafe fn times_power(self, power: Self) -> Self;
    /// Keeps the first `count` lanes and puts `fill` in the others.
    unsafe fn first(self, count: usize, fill: f32) -> Self;
    /// Sum over a fixed tree: lanes 8 apart, then 4, 2, 1.
    unsafe fn sum(self) -> f32;
    /// Largest lane, over the same tree.
    unsafe fn maximum(self) -> f32;

    /// Stores the lanes as sixteen signed bytes, to the nearest, ties to even, and returns the sums of each four; all are
    /// within -127.5 and 127.5.
    unsafe fn store_bytes(self, to: *mut i8) -> [i32; 4];
    /// Rounds two vectors to bf16 and puts them side by side in each lane's 32 bits: `even` in the low half, `odd` in
    /// the high half. To nearest, ties to even; a denormal becomes zero, a NaN a quiet NaN.
    unsafe fn pair<const NATIVE: bool>(even: Self, odd: Self) -> Self;
    /// Stores the lanes as sixteen bf16, rounded as [`Self::pair`] does.
    unsafe fn store_bf16<const NATIVE: bool>(self, to: *mut u16);
    /// `self` plus the products of both bf16 of each lane: a fused multiply-add of the high halves, then one of the low
    /// halves, where denormal operands and results count as zero. A result is rounded to 24 bits as though exponents had
    /// no end, and is denormal where it is then below 2^-126 ([`UP`]). So does Zen 4's `VDPBF16PS` (Intel's manual fuses
    /// too); `NATIVE` uses that instruction and may be true only where the processor has it. `self` is not denormal, as
    /// no sum of this is.
    unsafe fn dot_pairs<const NATIVE: bool>(self, a: Self, b: Self) -> Self;
}

/// What [`Simd::dot_pairs`] scales by where a sum may be denormal. A plain sum is rounded to multiples of 2^-149 there, and
/// the halfway case just below 2^-126 becomes 2^-126; one that is scaled up keeps its 24 bits, and its place: overflow needs
/// a product above 2^-62, and then the sum is zero or above it as well.
const UP: f32 = (1u128 << 64) as f32;
/// 2^-126 times [`UP`].
const LEAST: f32 = f32::MIN_POSITIVE * UP;

/// What [`Simd::nearest`] adds: behind it a mantissa's bits are whole numbers.
const SHIFT: f32 = 12_582_912.0;
const MANTISSA: u32 = 0x7f_ffff;

/// As [`Simd::nearest`], of one number.
#[inline(always)]
pub(crate) fn nearest(x: f32) -> i32 {
    ((x + SHIFT).to_bits() & MANTISSA) as i32 - 0x40_0000
}

/// x rounded to bf16, as [`Simd::pair`] does.
pub fn to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    if bits & 0x7f80_0000 == 0 {
        return (bits >> 16) as u16 & 0x8000;
    }
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// e^x to about 1 ulp for x in [-87.3, 88], clamped outside.
///
/// Range reduction by ln 2 in two parts and the degree-5 polynomial of Cephes' `expf`.
#[inline(always)]
pub(crate) unsafe fn exp<S: Simd>(x: S) -> S {
    let x = S::splat(88.0).min(S::splat(-87.3).max(x));
    let n = x.mul(S::splat(std::f32::consts::LOG2_E)).round();
    let r = n.fma(S::splat(-0.693_359_4), x);
    let r = n.fma(S::splat(2.121_944_4e-4), r);
    let mut p = S::splat(1.987_569_1e-4);
    p = p.fma(r, S::splat(1.398_199_9e-3));
    p = p.fma(r, S::splat(8.333_452e-3));
    p = p.fma(r, S::splat(4.166_579_6e-2));
    p = p.fma(r, S::splat(1.666_666_5e-1));
    p = p.fma(r, S::splat(0.5));
    p.fma(r.mul(r), r.add(S::splat(1.0))).times_power(n)
}

/// 1 / (1 + e^-x).
#[inline(always)]
pub(crate) unsafe fn sigmoid<S: Simd>(x: S) -> S {
    let one = S::splat(1.0);
    one.div(one.add(exp(S::splat(0.0).sub(x))))
}

/// Inner product of `width` floats, a multiple of [`LANES`].
#[inline(always)]
pub(crate) unsafe fn dot<S: Simd>(a: *const f32, b: *const f32, width: usize) -> f32 {
    let mut sum = S::splat(0.0);
    let mut i = 0;
    while i < width {
        sum = S::load(a.add(i)).fma(S::load(b.add(i)), sum);
        i += LANES;
    }
    sum.sum()
}
