use crate::stored::{from_f16, to_f16};

use super::{LANES, LEAST, Simd, UP, nearest, to_bf16};

/// Sixteen floats in memory: what the vector instructions must equal.
#[derive(Clone, Copy)]
pub struct Scalar([f32; LANES]);

/// Applies an expression to each lane; a macro, because closures are not always inlined.
macro_rules! each {
    ($i:ident => $value:expr) => {{
        let mut out = [0.0; LANES];
        for $i in 0..LANES {
            out[$i] = $value;
        }
        Scalar(out)
    }};
}

// SAFETY: plain Rust; only the pointers carry an obligation.
unsafe impl Simd for Scalar {
    const TILE_ROWS: usize = 6;
    const WIDE_TILE: bool = false;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        each!(i => *from.add(i))
    }
    #[inline(always)]
    unsafe fn prefetch(_at: *const f32) {}
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        for i in 0..LANES {
            *to.add(i) = self.0[i];
        }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self([x; LANES])
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        each!(i => self.0[i] + other.0[i])
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        each!(i => self.0[i] - other.0[i])
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        each!(i => self.0[i] * other.0[i])
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        each!(i => self.0[i] / other.0[i])
    }
    #[inline(always)]
    unsafe fn fma(self, factor: Self, term: Self) -> Self {
        each!(i => self.0[i].mul_add(factor.0[i], term.0[i]))
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        each!(i => if self.0[i] > other.0[i] { self.0[i] } else { other.0[i] })
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        each!(i => if self.0[i] < other.0[i] { self.0[i] } else { other.0[i] })
    }
    #[inline(always)]
    unsafe fn and(self, mask: Self) -> Self {
        each!(i => f32::from_bits(self.0[i].to_bits() & mask.0[i].to_bits()))
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        each!(i => self.0[i].sqrt())
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        each!(i => self.0[i].round_ties_even())
    }
    #[inline(always)]
    unsafe fn nearest(self) -> Self {
        each!(i => nearest(self.0[i]) as f32)
    }
    #[inline(always)]
    unsafe fn half(self) -> Self {
        each!(i => from_f16(to_f16(self.0[i])))
    }
    #[inline(always)]
    unsafe fn times_power(self, power: Self) -> Self {
        each!(i => self.0[i] * f32::from_bits(((power.0[i] as i32 + 127) as u32) << 23))
    }
    #[inline(always)]
    unsafe fn first(self, count: usize, fill: f32) -> Self {
        each!(i => if i < count { self.0[i] } else { fill })
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        let mut x = self.0;
        let mut apart = LANES / 2;
        while apart > 0 {
            for i in 0..apart {
                x[i] += x[i + apart];
            }
            apart /= 2;
        }
        x[0]
    }
    #[inline(always)]
    unsafe fn maximum(self) -> f32 {
        let mut x = self.0;
        let mut apart = LANES / 2;
        while apart > 0 {
            for i in 0..apart {
                x[i] = if x[i] > x[i + apart] {
                    x[i]
                } else {
                    x[i + apart]
                };
            }
            apart /= 2;
        }
        x[0]
    }
    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut i8) -> [i32; 4] {
        let mut sums = [0; 4];
        for i in 0..LANES {
            let byte = self.0[i].round_ties_even() as i8;
            to.add(i).write(byte);
            sums[i / 4] += i32::from(byte);
        }
        sums
    }
    #[inline(always)]
    unsafe fn pair<const NATIVE: bool>(even: Self, odd: Self) -> Self {
        each!(i => f32::from_bits(u32::from(to_bf16(odd.0[i])) << 16 | u32::from(to_bf16(even.0[i]))))
    }
    #[inline(always)]
    unsafe fn store_bf16<const NATIVE: bool>(self, to: *mut u16) {
        for i in 0..LANES {
            to.add(i).write(to_bf16(self.0[i]));
        }
    }
    #[inline(always)]
    unsafe fn dot_pairs<const NATIVE: bool>(self, a: Self, b: Self) -> Self {
        let high = |x: f32| normal(f32::from_bits(x.to_bits() & 0xffff_0000));
        let low = |x: f32| normal(f32::from_bits(x.to_bits() << 16));
        let first: Self = each!(i => high(a.0[i]).mul_add(high(b.0[i]), self.0[i]));
        let sum: Self = each!(i => low(a.0[i]).mul_add(low(b.0[i]), first.0[i]));
        // All at once: hardly ever is one of them to be looked at.
        let mut tiny = false;
        for i in 0..LANES {
            tiny |= is_tiny(first.0[i]) | is_tiny(sum.0[i]);
        }
        if !tiny {
            return sum;
        }
        each!(i => {
            let first = step(high(a.0[i]), high(b.0[i]), self.0[i]);
            step(low(a.0[i]), low(b.0[i]), first)
        })
    }
}

/// Whether x is up to 2^-126 and not zero.
#[inline(always)]
fn is_tiny(x: f32) -> bool {
    (x.to_bits() << 1).wrapping_sub(1) < f32::MIN_POSITIVE.to_bits() << 1
}

/// A fused multiply-add, with zero of its sign for a denormal.
#[inline(always)]
fn step(a: f32, b: f32, sum: f32) -> f32 {
    let plain = a.mul_add(b, sum);
    if (a * UP).mul_add(b, sum * UP).abs() < LEAST {
        0.0f32.copysign(plain)
    } else {
        plain
    }
}

/// Zero of x's sign if x is denormal.
#[inline(always)]
fn normal(x: f32) -> f32 {
    if x.abs() < f32::MIN_POSITIVE {
        0.0f32.copysign(x)
    } else {
        x
    }
}
