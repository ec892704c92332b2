//! From sixteen stored rows to a panel of unsigned bytes that the integer products read.
//!
//! Per 32 columns a panel holds eight vectors (vector j: columns 4j to 4j + 3 of the sixteen rows), the sixteen scales,
//! and sixteen minima where the format has them, or the scales of columns 16 to 31. These are floats, or integers whose
//! floats follow a whole unit: see [`Layout::NESTED`].
//!
//! The formats of one scale a block stand in `single`, those of nested scales in `nested`, those by table in `tables`.

mod nested;
mod single;
mod tables;

use std::sync::atomic::{Ordering, compiler_fence};

use super::activations::{Alone, Block};
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
    /// The largest of the unsigned bytes, where they do not.
    const MOST: usize = 127;
    /// Vectors whose sums of pairs sixteen bits hold, of those of a part.
    const NARROW: usize = {
        let (part, most) = (
            8 / Self::PARTS as usize,
            i16::MAX as usize / (2 * 127 * Self::MOST),
        );
        if most < part { most } else { part }
    };

    /// Which rows are added up in another order than a row alone.
    const TOGETHER: Together = Together::None;
    /// Blocks that rows together take at a time, where they come in fours.
    const GROUP: usize = 2;
    /// How a row alone makes up for bytes that are too large.
    const ALONE: Alone = Alone::Parts;
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

    /// A unit's integer sums with one row of activations and the floats for them, where they cost less than what
    /// [`Self::unpack`] writes.
    ///
    /// # Safety
    /// As [`Self::unpack`]; there are `BLOCKS` blocks of activations.
    #[inline(always)]
    unsafe fn fused<Q: Int8x4>(_: Rows, _: *const Block) -> Option<ScaledSums<Q>> {
        None
    }
}

/// One row's integer sums over blocks of nested scales, and the floats that multiply them.
pub(super) struct ScaledSums<Q: Int8x4> {
    pub products: Q,
    pub minima: Q,
    pub scale: Q::Floats,
    /// With its sign turned.
    pub least: Q::Floats,
}

pub(super) struct Q4_0;
pub(super) struct Q4_1;
pub(super) struct Q5_0;
pub(super) struct Q5_1;
pub(super) struct Q8_0;
pub(super) struct Q2K;
pub(super) struct Q3K;
pub(super) struct Q4K;
pub(super) struct Q5K;
pub(super) struct Q6K;
pub(super) struct Iq3Xxs;
pub(super) struct Iq3S;
pub(super) struct Iq4Nl;
pub(super) struct Iq4Xs;
pub(super) struct Mxfp4;

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
        // Or the compiler asks for a whole unit's lines at once, behind all that reads it.
        compiler_fence(Ordering::SeqCst);
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

/// As [`nibbles`] with bit i of `fifth` above those of column i.
#[inline(always)]
unsafe fn five_bits<Q: Int8x4>(columns: [Q; 4], fifth: Q, to: *mut u8) {
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
}

/// Six bits that are 32 too large as a signed integer.
#[inline(always)]
unsafe fn six_signed<Q: Int8x4>(six: Q) -> Q {
    six.xor(Q::splat(32)).left::<26>().signed_right::<26>()
}
