//! From sixteen stored rows to a panel of unsigned bytes that the integer products read.
//!
//! Per 32 columns a panel holds eight vectors (vector j: columns 4j to 4j + 3 of the sixteen rows), the sixteen scales,
//! and sixteen minima where the format has them, or the scales of columns 16 to 31. These are floats, or integers whose
//! floats follow a whole unit: see [`Layout::NESTED`].
//!
//! One file above 400 lines: one unpacking a format, in one table that the compiler specialises.

use super::format::{Parts, Together};
use super::int8x4::Int8x4;
use super::prefetch::prefetch;
use crate::simd::Simd;

/// Rows of a matrix in a panel.
pub(super) const PANEL_ROWS: usize = 16;
/// Bytes of a panel per block: 512 of quanta, 64 of scales, 64 of minima or second scales.
pub(super) const PANEL_BLOCK: usize = 640;
/// Bytes of the sixteen scales of a unit's scales, and of those of its minima.
const NESTED_FLOATS: usize = 128;
/// The most bytes of a panel per block.
pub(super) const PANEL_MOST: usize = PANEL_BLOCK + NESTED_FLOATS / 8;

/// A quantised format's bytes, one unit of `BLOCKS` blocks at a time.
pub(super) trait Layout {
    const BLOCKS: usize;
    const BYTES: usize;
    const PARTS: Parts = Parts::Whole;
    /// Whether there is a minimum for each scale, which multiplies the sum of the activations.
    const MINIMUM: bool = false;
    /// What the unsigned bytes are too large by.
    const OFFSET: i32;
    /// Whether bytes use all eight bits.
    const WIDE: bool = false;

    /// Which rows are added up in another order than a row alone.
    const TOGETHER: Together = Together::None;
    /// Whether scales and minima are integers, with a float for both in each unit: in a block's places for floats stand
    /// the integers (scales in sixteen bits, see `half_scales`), and the floats follow the unit's blocks, that of the
    /// minima with its sign turned.
    const NESTED: bool = !matches!(Self::TOGETHER, Together::None);
    /// Bytes of a panel per unit.
    const PANEL_UNIT: usize =
        Self::BLOCKS * PANEL_BLOCK + if Self::NESTED { NESTED_FLOATS } else { 0 };

    /// Unpacks a unit of sixteen rows into `to`, `PANEL_UNIT` bytes.
    ///
    /// # Safety
    /// The processor has the instruction set of `Q`, and the pointers are good for that.
    unsafe fn unpack<Q: Int8x4>(rows: Rows, to: *mut u8);
}

pub(super) struct Q4_0;
pub(super) struct Q4_1;
pub(super) struct Q5_0;
pub(super) struct Q8_0;
pub(super) struct Q4K;
pub(super) struct Q5K;
pub(super) struct Q6K;

/// A unit of sixteen stored rows, and where the same amount lies that is needed later.
///
/// Sixteen rows are more streams than processors prefetch; the next sixteen lie behind them in one piece, so for what
/// is read here as much is asked for there.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub from: *const u8,
    pub stride: usize,
    /// Memory that need not exist.
    pub later: *const u8,
}

impl Rows {
    /// The next unit, `bytes` further in each row.
    #[inline(always)]
    pub unsafe fn next(self, bytes: usize) -> Self {
        Self {
            from: self.from.add(bytes),
            later: self.later.wrapping_add(PANEL_ROWS * bytes),
            ..self
        }
    }

    /// Asks for `LINES` lines of memory.
    #[inline(always)]
    fn prefetch<const LINES: usize>(&mut self) {
        for _ in 0..LINES {
            prefetch(self.later);
            self.later = self.later.wrapping_add(64);
        }
    }

    /// Sixteen bytes of each row: see [`Int8x4::columns`].
    #[inline(always)]
    unsafe fn columns<Q: Int8x4>(&mut self, at: usize) -> [Q; 4] {
        self.prefetch::<4>();
        Q::columns(self.from.add(at), self.stride)
    }

    /// Four bytes of each row.
    #[inline(always)]
    unsafe fn words<Q: Int8x4>(&mut self, at: usize) -> Q {
        self.prefetch::<1>();
        let mut words = [0u32; PANEL_ROWS];
        for (row, word) in words.iter_mut().enumerate() {
            let from = self.from.add(at + row * self.stride).cast::<u32>();
            *word = u32::from_le(from.read_unaligned());
        }
        Q::load(words.as_ptr().cast())
    }

    /// Two bytes of each row, as halves.
    #[inline(always)]
    unsafe fn halves<Q: Int8x4>(&mut self, at: usize) -> Q::Floats {
        self.prefetch::<1>();
        let mut words = [0u32; PANEL_ROWS];
        for (row, word) in words.iter_mut().enumerate() {
            let from = self.from.add(at + row * self.stride).cast::<u16>();
            *word = u32::from(u16::from_le(from.read_unaligned()));
        }
        Q::load(words.as_ptr().cast()).halves()
    }
}

#[inline(always)]
unsafe fn store_scale<Q: Int8x4>(scale: Q::Floats, to: *mut u8) {
    scale.store(to.add(512).cast());
}

#[inline(always)]
unsafe fn store_extra<Q: Int8x4>(extra: Q::Floats, to: *mut u8) {
    extra.store(to.add(576).cast());
}

/// Low nibbles to the first four vectors of `to`, high ones to the last four.
#[inline(always)]
unsafe fn nibbles<Q: Int8x4>(columns: [Q; 4], to: *mut u8) {
    let low = Q::splat(0x0f0f_0f0f);
    for (j, &column) in columns.iter().enumerate() {
        column.and(low).store(to.add(64 * j));
        column.right::<4>().and(low).store(to.add(256 + 64 * j));
    }
}

impl Layout for Q4_0 {
    const BLOCKS: usize = 1;
    const BYTES: usize = 18;
    const OFFSET: i32 = 8;

    #[inline(always)]
    unsafe fn unpack<Q: Int8x4>(mut rows: Rows, to: *mut u8) {
        nibbles(rows.columns::<Q>(2), to);
        store_scale::<Q>(rows.halves::<Q>(0), to);
    }
}

impl Layout for Q4_1 {
    const BLOCKS: usize = 1;
    const BYTES: usize = 20;
    const PARTS: Parts = Parts::Fours;
    const MINIMUM: bool = true;
    const OFFSET: i32 = 0;

    #[inline(always)]
    unsafe fn unpack<Q: Int8x4>(mut rows: Rows, to: *mut u8) {
        nibbles(rows.columns::<Q>(4), to);
        let both = rows.words::<Q>(0);
        store_scale::<Q>(both.halves(), to);
        store_extra::<Q>(both.right::<16>().halves(), to);
    }
}

impl Layout for Q5_0 {
    const BLOCKS: usize = 1;
    const BYTES: usize = 22;
    const PARTS: Parts = Parts::Fours;
    const OFFSET: i32 = 16;

    #[inline(always)]
    unsafe fn unpack<Q: Int8x4>(mut rows: Rows, to: *mut u8) {
        let columns = rows.columns::<Q>(6);
        let fifth = rows.words::<Q>(2);
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
        store_scale::<Q>(rows.halves::<Q>(0), to);
    }
}

impl Layout for Q8_0 {
    const BLOCKS: usize = 1;
    const BYTES: usize = 34;
    const PARTS: Parts = Parts::Fours;
    const OFFSET: i32 = 128;
    const WIDE: bool = true;

    #[inline(always)]
    unsafe fn unpack<Q: Int8x4>(mut rows: Rows, to: *mut u8) {
        let bias = Q::splat(if Q::BIASED { 0x8080_8080 } else { 0 });
        let (first, second) = (rows.columns::<Q>(2), rows.columns::<Q>(18));
        for j in 0..4 {
            first[j].xor(bias).store(to.add(64 * j));
            second[j].xor(bias).store(to.add(256 + 64 * j));
        }
        store_scale::<Q>(rows.halves::<Q>(0), to);
    }
}

/// Scales and minima of a super-block's eight parts, six bits each, from its words but the first: four parts a word.
///
/// See `six_bits`: the same for four parts and sixteen rows at once.
#[inline(always)]
unsafe fn part_scales<Q: Int8x4>([first, second, third]: [Q; 3]) -> ([Q; 2], [Q; 2]) {
    let (six, four, two) = (
        Q::splat(0x3f3f_3f3f),
        Q::splat(0x0f0f_0f0f),
        Q::splat(0x0303_0303),
    );
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
    (scales, minima)
}

/// Calls a macro with each part's half and place in it, as literals: a loop's sixteen addresses would not fit in the
/// registers.
macro_rules! each_part {
    ($part:ident) => {
        $part!(0, 0);
        $part!(0, 1);
        $part!(0, 2);
        $part!(0, 3);
        $part!(1, 0);
        $part!(1, 1);
        $part!(1, 2);
        $part!(1, 3);
    };
}

impl Layout for Q4K {
    const BLOCKS: usize = 8;
    const BYTES: usize = 144;
    const MINIMUM: bool = true;
    const TOGETHER: Together = Together::Fours;
    const OFFSET: i32 = 0;

    #[inline(always)]
    unsafe fn unpack<Q: Int8x4>(mut rows: Rows, to: *mut u8) {
        let [both, first, second, third] = rows.columns::<Q>(0);
        let (scales, minima) = part_scales([first, second, third]);
        let byte = Q::splat(0xff);
        macro_rules! part {
            ($half:literal, $i:literal) => {
                let to = to.add((4 * $half + $i) * PANEL_BLOCK);
                let (scale, minimum) = (scales[$half], minima[$half]);
                let scale = scale.right::<{ 8 * $i }>().and(byte);
                scale.left::<16>().store(to.add(512));
                minimum.right::<{ 8 * $i }>().and(byte).store(to.add(576));
            };
        }
        each_part!(part);
        let floats = to.add(Self::BLOCKS * PANEL_BLOCK);
        both.halves().store(floats.cast());
        let least = Q::Floats::splat(0.0).sub(both.right::<16>().halves());
        least.store(floats.add(64).cast());
        let low = Q::splat(0x0f0f_0f0f);
        macro_rules! columns {
            ($half:literal, $quarter:literal) => {
                let at = 16 + 32 * $quarter + 16 * $half;
                let to = to.add(2 * $quarter * PANEL_BLOCK + 256 * $half);
                for (j, &column) in rows.columns::<Q>(at).iter().enumerate() {
                    column.and(low).store(to.add(64 * j));
                    let upper = column.right::<4>().and(low);
                    upper.store(to.add(PANEL_BLOCK + 64 * j));
                }
            };
        }
        each_part!(columns);
    }
}

impl Layout for Q5K {
    const BLOCKS: usize = 8;
    const BYTES: usize = 176;
    const MINIMUM: bool = true;
    const TOGETHER: Together = Together::Eights;
    const OFFSET: i32 = 0;

    #[inline(always)]
    unsafe fn unpack<Q: Int8x4>(mut rows: Rows, to: *mut u8) {
        let [both, first, second, third] = rows.columns::<Q>(0);
        let (scales, minima) = part_scales([first, second, third]);
        let byte = Q::splat(0xff);
        macro_rules! part {
            ($half:literal, $i:literal) => {
                let to = to.add((4 * $half + $i) * PANEL_BLOCK);
                let scale = scales[$half].right::<{ 8 * $i }>().and(byte);
                let minimum = minima[$half].right::<{ 8 * $i }>().and(byte);
                scale.or(scale.left::<16>()).store(to.add(512));
                minimum.store(to.add(576));
            };
        }
        each_part!(part);
        let floats = to.add(Self::BLOCKS * PANEL_BLOCK);
        both.halves().store(floats.cast());
        let least = Q::Floats::splat(0.0).sub(both.right::<16>().halves());
        least.store(floats.add(64).cast());
        let (low, fifth) = (Q::splat(0x0f0f_0f0f), Q::splat(0x1010_1010));
        for half in 0..2 {
            // Bit p of these bytes belongs to part p, and must come to place 4.
            let bits = rows.columns::<Q>(16 + 16 * half);
            macro_rules! quarter {
                ($quarter:literal, $even:ident $by_even:literal, $odd:ident $by_odd:literal) => {
                    let columns = rows.columns::<Q>(48 + 32 * $quarter + 16 * half);
                    let to = to.add(2 * $quarter * PANEL_BLOCK + 256 * half);
                    for j in 0..4 {
                        let even = bits[j].$even::<$by_even>().and(fifth);
                        let odd = bits[j].$odd::<$by_odd>().and(fifth);
                        columns[j].and(low).or(even).store(to.add(64 * j));
                        let upper = columns[j].right::<4>().and(low).or(odd);
                        upper.store(to.add(PANEL_BLOCK + 64 * j));
                    }
                };
            }
            quarter!(0, left 4, left 3);
            quarter!(1, left 2, left 1);
            quarter!(2, left 0, right 1);
            quarter!(3, right 2, right 3);
        }
    }
}

/// The signed byte at the top of each lane in both halves of it.
#[inline(always)]
unsafe fn twice<Q: Int8x4>(x: Q) -> Q {
    let upper = x.signed_right::<8>().and(Q::splat(0xffff_0000));
    upper.or(upper.right::<16>())
}

impl Layout for Q6K {
    const BLOCKS: usize = 8;
    const BYTES: usize = 210;
    const PARTS: Parts = Parts::Halves;
    const TOGETHER: Together = Together::Eights;
    const OFFSET: i32 = 32;

    #[inline(always)]
    unsafe fn unpack<Q: Int8x4>(mut rows: Rows, to: *mut u8) {
        let floats = to.add(Self::BLOCKS * PANEL_BLOCK);
        rows.halves::<Q>(208).store(floats.cast());
        for (word, &parts) in rows.columns::<Q>(192).iter().enumerate() {
            let to = to.add(2 * word * PANEL_BLOCK);
            twice(parts.left::<24>()).store(to.add(512));
            twice(parts.left::<16>()).store(to.add(576));
            let to = to.add(PANEL_BLOCK);
            twice(parts.left::<8>()).store(to.add(512));
            twice(parts).store(to.add(576));
        }
        let (low, upper) = (Q::splat(0x0f0f_0f0f), Q::splat(0x3030_3030));
        for side in 0..2 {
            for half in 0..2 {
                let high = rows.columns::<Q>(128 + 32 * side + 16 * half);
                let at = 64 * side + 16 * half;
                let (even, odd) = (rows.columns::<Q>(at), rows.columns::<Q>(at + 32));
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
