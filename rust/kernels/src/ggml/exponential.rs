use crate::simd::Simd;

/// e^x as ggml's vectors compute it: about 1.5 ulp, zero or infinity where the result leaves f32's range, denormals kept.
///
/// Range reduction by ln 2 in two parts and the degree-5 polynomial of Arm's optimized routines.
#[inline(always)]
pub(super) unsafe fn exp<S: Simd>(x: S) -> S {
    // Beyond, the result is zero or infinity anyway, and the powers of two below stay within their range.
    let x = S::splat(133.0).min(S::splat(-133.0).max(x));
    let shift = S::splat(12_582_912.0); // 1.5 * 2^23: adding it rounds to an integer.
    let n = x.fma(S::splat(bits(0x3fb8_aa3b)), shift).sub(shift);
    let r = n.fma(S::splat(bits(0xbf31_7200)), x);
    let r = n.fma(S::splat(bits(0xb5bf_be8e)), r);
    let square = r.mul(r);
    let low = S::splat(bits(0x3f7f_fff6)).fma(r, S::splat(1.0));
    let middle = S::splat(bits(0x3e2a_af33)).fma(r, S::splat(bits(0x3eff_fedb)));
    let high = S::splat(bits(0x3c07_2010)).fma(r, S::splat(bits(0x3d2b_9f17)));
    let polynomial = high.fma(square, middle).fma(square, low);
    // Two steps, the first exact: one power alone cannot reach denormals.
    let half = n.mul(S::splat(0.5)).round();
    polynomial.times_power(half).times_power(n.sub(half))
}

#[inline(always)]
const fn bits(bits: u32) -> f32 {
    f32::from_bits(bits)
}
