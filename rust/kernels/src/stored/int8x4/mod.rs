//! Sixteen outputs by four bytes: the vector of the integer products, three times.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod vnni;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2Int8x4;
pub(crate) use scalar::ScalarInt8x4;
#[cfg(target_arch = "x86_64")]
pub(crate) use vnni::VnniInt8x4;

use crate::simd::Simd;

/// A vector of sixteen 32-bit lanes, one for each of sixteen rows of a matrix: an integer or four bytes of the row.
/// All methods are exact, so all implementations agree to the bit.
///
/// # Safety
/// Methods may run only where the processor has the instruction set; pointers must be good for what is read.
pub(crate) unsafe trait Int8x4: Copy {
    /// Sixteen floats on the same instruction set.
    type Floats: Simd;
    /// Whether [`Self::dot_signed`] wants its weights as unsigned bytes, 128 too large, and the sum corrected.
    const BIASED: bool;
    /// Whether sums of pairs ([`Self::pairs`]) cost less than sums of four ([`Self::dot`]).
    const NARROW: bool;
    /// Rows of activations whose sums fit in the registers.
    const ROWS: usize;
    /// The same where each row has a sum for every four columns of a block.
    const ROWS_OF_FOURS: usize;

    unsafe fn splat(x: u32) -> Self;
    unsafe fn load(from: *const u8) -> Self;
    unsafe fn store(self, to: *mut u8);
    unsafe fn and(self, other: Self) -> Self;
    unsafe fn or(self, other: Self) -> Self;
    unsafe fn xor(self, other: Self) -> Self;
    unsafe fn left<const N: u32>(self) -> Self;
    unsafe fn right<const N: u32>(self) -> Self;
    /// Shift to the right that keeps the sign.
    unsafe fn signed_right<const N: u32>(self) -> Self;
    /// Sum of the lanes, modulo 2^32.
    unsafe fn add(self, other: Self) -> Self;
    /// Product of the lanes, modulo 2^32.
    unsafe fn times(self, other: Self) -> Self;
    /// Sixteen bytes at `from + row * stride` of each row: vector j holds bytes 4j to 4j + 3 of them.
    unsafe fn columns(from: *const u8, stride: usize) -> [Self; 4];
    /// Adds to each lane the inner product of its four unsigned bytes of `weights`, at most 127, with the four
    /// signed bytes at `activations`.
    unsafe fn dot(self, weights: Self, activations: *const i8) -> Self;
    /// As [`Self::dot`] with signed weights, or biased ones, see [`Self::BIASED`].
    unsafe fn dot_signed(self, weights: Self, activations: *const i8) -> Self;
    /// As [`Self::dot`], to two sums of sixteen bits: of the first two products and of the last two. Neither may leave
    /// sixteen bits.
    unsafe fn pairs(self, weights: Self, activations: *const i8) -> Self;
    /// The sum of the two products of each lane's signed sixteen bits.
    unsafe fn widened(self, by: Self) -> Self;
    /// As [`Self::dot`], the inner products multiplied by `scales`: signed sixteen bits, each of them twice in a lane.
    unsafe fn dot_scaled(self, weights: Self, activations: *const i8, scales: Self) -> Self;
    /// As [`Self::dot_scaled`] with sums of two products that start from the two signed sixteen bits of `start`.
    unsafe fn dot_scaled_from(
        self,
        weights: Self,
        activations: *const i8,
        start: i32,
        scales: Self,
    ) -> Self;
    /// Byte `N` of each lane, in the lower eight of both its sixteen bits.
    unsafe fn twice<const N: usize>(self) -> Self;
    /// Each byte, at most 15, replaced by that entry of the sixteen at `table`.
    unsafe fn lookup(self, table: *const u8) -> Self;
    /// Each lane replaced by that entry of `table`, which has it.
    unsafe fn gather(self, table: *const u32) -> Self;
    /// The lanes as signed integers, rounded to the nearest float.
    unsafe fn floats(self) -> Self::Floats;
    /// The lower sixteen bits of each lane as IEEE half precision.
    unsafe fn halves(self) -> Self::Floats;
}

/// Where [`Int8x4::twice`] finds the bytes of four lanes, for a shuffle that writes zeros elsewhere.
#[cfg(target_arch = "x86_64")]
const fn places(byte: usize) -> [u8; 16] {
    let mut places = [0x80; 16];
    let mut lane = 0;
    while lane < 4 {
        places[4 * lane] = (4 * lane + byte) as u8;
        places[4 * lane + 2] = places[4 * lane];
        lane += 1;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::{Int8x4, ScalarInt8x4};

    /// What the methods that few formats use make of sixteen lanes.
    unsafe fn all<Q: Int8x4>(
        weights: &[u8; 64],
        others: &[u8; 64],
        four: &[i8; 4],
    ) -> Vec<[u32; 16]> {
        let (weights, others) = (Q::load(weights.as_ptr()), Q::load(others.as_ptr()));
        let pairs = Q::splat(0x0102_fffe).pairs(weights, four.as_ptr());
        let results = [
            pairs,
            pairs.widened(others),
            others.twice::<0>(),
            others.twice::<1>(),
            others.twice::<2>(),
            others.twice::<3>(),
        ];
        let mut out = vec![[0; 16]; results.len()];
        for (result, out) in results.into_iter().zip(&mut out) {
            result.store(out.as_mut_ptr().cast());
        }
        out
    }

    #[test]
    fn every_instruction_set_computes_the_same() {
        for seed in 0..50u64 {
            let byte = |at: u64| ((seed * 64 + at).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8;
            let (mut weights, mut others, mut four) = ([0; 64], [0; 64], [0; 4]);
            (0..64).for_each(|i| {
                (weights[i], others[i]) = (byte(i as u64) & 63, byte(i as u64 + 7777))
            });
            (0..4).for_each(|i| four[i] = (byte(i as u64 + 99) as i8).max(-127));
            // SAFETY: the processor has what each needs; all pointers are good for their arrays.
            unsafe {
                let plain = all::<ScalarInt8x4>(&weights, &others, &four);
                #[cfg(target_arch = "x86_64")]
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c") {
                    assert_eq!(all::<super::Avx2Int8x4>(&weights, &others, &four), plain);
                }
                #[cfg(target_arch = "x86_64")]
                if is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512bw") {
                    assert_eq!(all::<super::VnniInt8x4>(&weights, &others, &four), plain);
                }
                assert_eq!(plain[2][0], u32::from(others[0]) * 0x0001_0001);
            }
        }
    }
}
