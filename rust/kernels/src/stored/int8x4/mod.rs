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
