use super::Int8x4;
use crate::simd::{Scalar, Simd};
use crate::stored::narrow::from_f16;

/// Sixteen words in memory: what the vector instructions must equal.
#[derive(Clone, Copy)]
pub(crate) struct ScalarInt8x4([u32; 16]);

macro_rules! each {
    ($i:ident => $value:expr) => {{
        let mut out = [0; 16];
        for $i in 0..16 {
            out[$i] = $value;
        }
        ScalarInt8x4(out)
    }};
}

/// The two signed sixteen bits of a lane.
fn both(lane: u32) -> [i32; 2] {
    [i32::from(lane as i16), lane as i32 >> 16]
}

/// Apart, since its loops are unrolled wherever they stand.
#[inline(never)]
unsafe fn looked_up(x: ScalarInt8x4, table: *const u8) -> ScalarInt8x4 {
    each!(i => {
        let bytes = x.0[i].to_le_bytes();
        u32::from_le_bytes(bytes.map(|b| *table.add(usize::from(b & 15))))
    })
}

/// As [`looked_up`].
#[inline(never)]
unsafe fn gathered(x: ScalarInt8x4, table: *const u32) -> ScalarInt8x4 {
    each!(i => *table.add(x.0[i] as usize))
}

// SAFETY: plain Rust; only the pointers carry an obligation.
unsafe impl Int8x4 for ScalarInt8x4 {
    type Floats = Scalar;
    const BIASED: bool = false;
    const NARROW: bool = false;
    const ROWS: usize = 4;
    const ROWS_OF_FOURS: usize = 1;

    #[inline(always)]
    unsafe fn splat(x: u32) -> Self {
        Self([x; 16])
    }
    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        each!(i => from.cast::<u32>().add(i).read_unaligned())
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut u8) {
        to.cast::<[u32; 16]>().write_unaligned(self.0);
    }
    #[inline(always)]
    unsafe fn and(self, other: Self) -> Self {
        each!(i => self.0[i] & other.0[i])
    }
    #[inline(always)]
    unsafe fn or(self, other: Self) -> Self {
        each!(i => self.0[i] | other.0[i])
    }
    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        each!(i => self.0[i] ^ other.0[i])
    }
    #[inline(always)]
    unsafe fn left<const N: u32>(self) -> Self {
        each!(i => self.0[i] << N)
    }
    #[inline(always)]
    unsafe fn right<const N: u32>(self) -> Self {
        each!(i => self.0[i] >> N)
    }
    #[inline(always)]
    unsafe fn signed_right<const N: u32>(self) -> Self {
        each!(i => (self.0[i] as i32 >> N) as u32)
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        each!(i => self.0[i].wrapping_add(other.0[i]))
    }
    #[inline(always)]
    unsafe fn times(self, other: Self) -> Self {
        each!(i => self.0[i].wrapping_mul(other.0[i]))
    }
    #[inline(always)]
    unsafe fn columns(from: *const u8, stride: usize) -> [Self; 4] {
        let mut out = [Self([0; 16]); 4];
        for (j, out) in out.iter_mut().enumerate() {
            for row in 0..16 {
                let at = from.add(row * stride + 4 * j);
                out.0[row] = u32::from_le(at.cast::<u32>().read_unaligned());
            }
        }
        out
    }
    #[inline(always)]
    unsafe fn dot(self, weights: Self, activations: *const i8) -> Self {
        let mut sums = self;
        for lane in 0..16 {
            let bytes = weights.0[lane].to_le_bytes();
            for i in 0..4 {
                let product = i32::from(bytes[i]) * i32::from(*activations.add(i));
                sums.0[lane] = sums.0[lane].wrapping_add(product as u32);
            }
        }
        sums
    }
    #[inline(always)]
    unsafe fn dot_signed(self, weights: Self, activations: *const i8) -> Self {
        let mut sums = self;
        for lane in 0..16 {
            let bytes = weights.0[lane].to_le_bytes();
            for i in 0..4 {
                let product = i32::from(bytes[i] as i8) * i32::from(*activations.add(i));
                sums.0[lane] = sums.0[lane].wrapping_add(product as u32);
            }
        }
        sums
    }
    #[inline(always)]
    unsafe fn pairs(self, weights: Self, activations: *const i8) -> Self {
        each!(i => {
            let mut pairs = both(self.0[i]);
            for (j, &weight) in weights.0[i].to_le_bytes().iter().enumerate() {
                pairs[j / 2] += i32::from(weight) * i32::from(*activations.add(j));
            }
            (pairs[0] as u32 & 0xffff) | (pairs[1] as u32) << 16
        })
    }
    #[inline(always)]
    unsafe fn widened(self, by: Self) -> Self {
        each!(i => {
            let ([a, b], [c, d]) = (both(self.0[i]), both(by.0[i]));
            (a * c).wrapping_add(b * d) as u32
        })
    }
    #[inline(always)]
    unsafe fn dot_scaled(self, weights: Self, activations: *const i8, scales: Self) -> Self {
        let products = Self([0; 16]).dot(weights, activations);
        self.add(products.times(scales.signed_right::<16>()))
    }
    #[inline(always)]
    unsafe fn dot_scaled_from(
        self,
        weights: Self,
        activations: *const i8,
        start: i32,
        scales: Self,
    ) -> Self {
        // Both pairs have the same scale.
        let start: i32 = both(start as u32).iter().sum();
        let products = Self::splat(start as u32).dot(weights, activations);
        self.add(products.times(scales.signed_right::<16>()))
    }
    #[inline(always)]
    unsafe fn twice<const N: usize>(self) -> Self {
        each!(i => u32::from(self.0[i].to_le_bytes()[N]) * 0x0001_0001)
    }
    #[inline(always)]
    unsafe fn lookup(self, table: *const u8) -> Self {
        looked_up(self, table)
    }
    #[inline(always)]
    unsafe fn gather(self, table: *const u32) -> Self {
        gathered(self, table)
    }
    #[inline(always)]
    unsafe fn floats(self) -> Scalar {
        let mut out = [0.0; 16];
        for i in 0..16 {
            out[i] = self.0[i] as i32 as f32;
        }
        Scalar::load(out.as_ptr())
    }
    #[inline(always)]
    unsafe fn halves(self) -> Scalar {
        let mut out = [0.0; 16];
        for i in 0..16 {
            out[i] = from_f16(self.0[i] as u16);
        }
        Scalar::load(out.as_ptr())
    }
}
