//! From sixteen stored rows to a panel of unsigned bytes that the integer products read.
//!
//! Per 32 columns a panel holds eight vectors (vector j: columns 4j to 4j + 3 of the sixteen rows), the sixteen scales,
//! and sixteen more floats: minima where the format has them, or the scales of columns 16 to 31.

use super::quads::Quads;
use crate::simd::Simd;

/// Columns that share one scale of the activations.
pub(super) const BLOCK: usize = 32;
/// Rows of a matrix in a panel.
pub(super) const PANEL_ROWS: usize = 16;
/// Bytes of a panel per block: 512 of quanta, 64 of scales, 64 of minima or second scales.
pub(super) const PANEL_BLOCK: usize = 640;

/// What follows the integer sum of a block.
pub(super) mod kind {
    /// One scale.
    pub const SCALE: u8 = 0;
    /// One scale, and a minimum that multiplies the sum of the activations.
    pub const MINIMUM: u8 = 1;
    /// A scale for each half.
    pub const HALVES: u8 = 2;
}

/// A quantised format's bytes, one unit of `BLOCKS` blocks at a time.
pub(super) trait Layout {
    const BLOCKS: usize;
    const BYTES: usize;
    const KIND: u8;
    /// What the unsigned bytes are too large by.
    const OFFSET: i32;
    /// Whether bytes use all eight bits.
    const WIDE: bool = false;

    /// Unpacks the unit at `from` of sixteen rows `stride` bytes apart into `to`, `BLOCKS * PANEL_BLOCK` bytes.
    ///
    /// # Safety
    /// The processor has the instruction set of `Q`, and the pointers are good for that.
    unsafe fn unpack<Q: Quads>(from: *const u8, stride: usize, to: *mut u8);
}

pub(super) struct Q4_0;
pub(super) struct Q4_1;
pub(super) struct Q5_0;
pub(super) struct Q8_0;
pub(super) struct Q4K;
pub(super) struct Q5K;
pub(super) struct Q6K;

/// The sixteen 16-bit numbers at `from + row * stride`, as halves.
#[inline(always)]
unsafe fn halves<Q: Quads>(from: *const u8, stride: usize) -> Q::Floats {
    let mut words = [0u32; PANEL_ROWS];
    for (row, word) in words.iter_mut().enumerate() {
        *word = u32::from(u16::from_le(
            from.add(row * stride).cast::<u16>().read_unaligned(),
        ));
    }
    Q::load(words.as_ptr().cast()).halves()
}

#[inline(always)]
unsafe fn store_scale<Q: Quads>(scale: Q::Floats, to: *mut u8) {
    scale.store(to.add(512).cast());
}

#[inline(always)]
unsafe fn store_extra<Q: Quads>(extra: Q::Floats, to: *mut u8) {
    extra.store(to.add(576).cast());
}

/// Low nibbles to the first four vectors of `to`, high ones to the last four.
#[inline(always)]
unsafe fn nibbles<Q: Quads>(columns: [Q; 4], to: *mut u8) {
    let low = Q::splat(0x0f0f_0f0f);
    for (j, &column) in columns.iter().enumerate() {
        column.and(low).store(to.add(64 * j));
        column.right::<4>().and(low).store(to.add(256 + 64 * j));
    }
}

impl Layout for Q4_0 {
    const BLOCKS: usize = 1;
    const BYTES: usize = 18;
    const KIND: u8 = kind::SCALE;
    const OFFSET: i32 = 8;

    #[inline(always)]
    unsafe fn unpack<Q: Quads>(from: *const u8, stride: usize, to: *mut u8) {
        nibbles(Q::columns(from.add(2), stride), to);
        store_scale::<Q>(halves::<Q>(from, stride), to);
    }
}

impl Layout for Q4_1 {
    const BLOCKS: usize = 1;
    const BYTES: usize = 20;
    const KIND: u8 = kind::MINIMUM;
    const OFFSET: i32 = 0;

    #[inline(always)]
    unsafe fn unpack<Q: Quads>(from: *const u8, stride: usize, to: *mut u8) {
        nibbles(Q::columns(from.add(4), stride), to);
        let mut words = [0u32; PANEL_ROWS];
        for (row, word) in words.iter_mut().enumerate() {
            *word = u32::from_le(from.add(row * stride).cast::<u32>().read_unaligned());
        }
        let both = Q::load(words.as_ptr().cast());
        store_scale::<Q>(both.halves(), to);
        store_extra::<Q>(both.right::<16>().halves(), to);
    }
}

impl Layout for Q5_0 {
    const BLOCKS: usize = 1;
    const BYTES: usize = 22;
    const KIND: u8 = kind::SCALE;
    const OFFSET: i32 = 16;

    #[inline(always)]
    unsafe fn unpack<Q: Quads>(from: *const u8, stride: usize, to: *mut u8) {
        let columns = Q::columns(from.add(6), stride);
        let mut words = [0u32; PANEL_ROWS];
        for (row, word) in words.iter_mut().enumerate() {
            *word = u32::from_le(from.add(row * stride + 2).cast::<u32>().read_unaligned());
        }
        let fifth = Q::load(words.as_ptr().cast());
        let (low, one) = (Q::splat(0x0f0f_0f0f), Q::splat(0x0101_0101));
        // Puts bit i of four into byte i: the factor shifts by 0, 7, 14 and 21, and nothing overlaps.
        let (four, spread) = (Q::splat(15), Q::splat(0x0020_4081));
        macro_rules! vector {
            ($j:literal, $nibbles:expr) => {
                let bits = fifth.right::<{ 4 * $j }>().and(four).times(spread).and(one);
                $nibbles
                    .and(low)
                    .or(bits.left::<4>())
                    .store(to.add(64 * $j));
            };
        }
        vector!(0, columns[0]);
        vector!(1, columns[1]);
        vector!(2, columns[2]);
        vector!(3, columns[3]);
        vector!(4, columns[0].right::<4>());
        vector!(5, columns[1].right::<4>());
        vector!(6, columns[2].right::<4>());
        vector!(7, columns[3].right::<4>());
        store_scale::<Q>(halves::<Q>(from, stride), to);
    }
}

impl Layout for Q8_0 {
    const BLOCKS: usize = 1;
    const BYTES: usize = 34;
    const KIND: u8 = kind::SCALE;
    const OFFSET: i32 = 128;
    const WIDE: bool = true;

    #[inline(always)]
    unsafe fn unpack<Q: Quads>(from: *const u8, stride: usize, to: *mut u8) {
        let bias = Q::splat(if Q::BIASED { 0x8080_8080 } else { 0 });
        let (first, second) = (
            Q::columns(from.add(2), stride),
            Q::columns(from.add(18), stride),
        );
        for j in 0..4 {
            first[j].xor(bias).store(to.add(64 * j));
            second[j].xor(bias).store(to.add(256 + 64 * j));
        }
        store_scale::<Q>(halves::<Q>(from, stride), to);
    }
}

/// Scales and negative minima of a super-block's eight parts, from its first sixteen bytes.
#[inline(always)]
unsafe fn part_scales<Q: Quads>(from: *const u8, stride: usize, to: *mut u8) {
    let [both, first, second, third] = Q::columns(from, stride);
    let scale = both.halves();
    let least = Q::Floats::splat(0.0).sub(both.right::<16>().halves());
    let (six, four, two) = (
        Q::splat(0x3f3f_3f3f),
        Q::splat(0x0f0f_0f0f),
        Q::splat(0x0303_0303),
    );
    // See `six_bits`: the same for four parts and sixteen rows at once.
    let scales = [
        first.and(six),
        third.and(four).or(first.right::<6>().and(two).left::<4>()),
    ];
    let minima = [
        second.and(six),
        third
            .right::<4>()
            .and(four)
            .or(second.right::<6>().and(two).left::<4>()),
    ];
    let byte = Q::splat(0xff);
    for half in 0..2 {
        macro_rules! part {
            ($i:literal) => {
                let to = to.add((4 * half + $i) * PANEL_BLOCK);
                let s = scales[half].right::<{ 8 * $i }>().and(byte).floats();
                let m = minima[half].right::<{ 8 * $i }>().and(byte).floats();
                store_scale::<Q>(scale.mul(s), to);
                store_extra::<Q>(least.mul(m), to);
            };
        }
        part!(0);
        part!(1);
        part!(2);
        part!(3);
    }
}

impl Layout for Q4K {
    const BLOCKS: usize = 8;
    const BYTES: usize = 144;
    const KIND: u8 = kind::MINIMUM;
    const OFFSET: i32 = 0;

    #[inline(always)]
    unsafe fn unpack<Q: Quads>(from: *const u8, stride: usize, to: *mut u8) {
        part_scales::<Q>(from, stride, to);
        let low = Q::splat(0x0f0f_0f0f);
        for quarter in 0..4 {
            for half in 0..2 {
                let at = from.add(16 + 32 * quarter + 16 * half);
                let to = to.add(2 * quarter * PANEL_BLOCK + 256 * half);
                for (j, &column) in Q::columns(at, stride).iter().enumerate() {
                    column.and(low).store(to.add(64 * j));
                    let upper = column.right::<4>().and(low);
                    upper.store(to.add(PANEL_BLOCK + 64 * j));
                }
            }
        }
    }
}

impl Layout for Q5K {
    const BLOCKS: usize = 8;
    const BYTES: usize = 176;
    const KIND: u8 = kind::MINIMUM;
    const OFFSET: i32 = 0;

    #[inline(always)]
    unsafe fn unpack<Q: Quads>(from: *const u8, stride: usize, to: *mut u8) {
        part_scales::<Q>(from, stride, to);
        let (low, fifth) = (Q::splat(0x0f0f_0f0f), Q::splat(0x1010_1010));
        for half in 0..2 {
            // Bit p of these bytes belongs to part p.
            let mut bits = Q::columns(from.add(16 + 16 * half), stride);
            for quarter in 0..4 {
                let at = from.add(48 + 32 * quarter + 16 * half);
                let to = to.add(2 * quarter * PANEL_BLOCK + 256 * half);
                for (j, &column) in Q::columns(at, stride).iter().enumerate() {
                    let even = bits[j].left::<4>().and(fifth);
                    let odd = bits[j].left::<3>().and(fifth);
                    bits[j] = bits[j].right::<2>();
                    column.and(low).or(even).store(to.add(64 * j));
                    let upper = column.right::<4>().and(low).or(odd);
                    upper.store(to.add(PANEL_BLOCK + 64 * j));
                }
            }
        }
    }
}

impl Layout for Q6K {
    const BLOCKS: usize = 8;
    const BYTES: usize = 210;
    const KIND: u8 = kind::HALVES;
    const OFFSET: i32 = 32;

    #[inline(always)]
    unsafe fn unpack<Q: Quads>(from: *const u8, stride: usize, to: *mut u8) {
        let scale = halves::<Q>(from.add(208), stride);
        for (word, &parts) in Q::columns(from.add(192), stride).iter().enumerate() {
            let to = to.add(2 * word * PANEL_BLOCK);
            let (first, second) = (
                parts.left::<24>().signed_right::<24>(),
                parts.left::<16>().signed_right::<24>(),
            );
            store_scale::<Q>(scale.mul(first.floats()), to);
            store_extra::<Q>(scale.mul(second.floats()), to);
            let (third, fourth) = (
                parts.left::<8>().signed_right::<24>(),
                parts.signed_right::<24>(),
            );
            store_scale::<Q>(scale.mul(third.floats()), to.add(PANEL_BLOCK));
            store_extra::<Q>(scale.mul(fourth.floats()), to.add(PANEL_BLOCK));
        }
        let (low, upper) = (Q::splat(0x0f0f_0f0f), Q::splat(0x3030_3030));
        for side in 0..2 {
            for half in 0..2 {
                let high = Q::columns(from.add(128 + 32 * side + 16 * half), stride);
                let at = from.add(64 * side + 16 * half);
                let (even, odd) = (Q::columns(at, stride), Q::columns(at.add(32), stride));
                let to = to.add(4 * side * PANEL_BLOCK + 256 * half);
                for j in 0..4 {
                    let to = to.add(64 * j);
                    let bits = [
                        high[j].left::<4>().and(upper),
                        high[j].left::<2>().and(upper),
                        high[j].and(upper),
                        high[j].right::<2>().and(upper),
                    ];
                    even[j].and(low).or(bits[0]).store(to);
                    odd[j].and(low).or(bits[1]).store(to.add(PANEL_BLOCK));
                    let (even, odd) = (even[j].right::<4>(), odd[j].right::<4>());
                    even.and(low).or(bits[2]).store(to.add(2 * PANEL_BLOCK));
                    odd.and(low).or(bits[3]).store(to.add(3 * PANEL_BLOCK));
                }
            }
        }
    }
}
