//! Formats whose bits are places in a table or a grid.

use super::super::activations::Alone;
use super::super::decode::{FP4_VALUES, IQ4_VALUES};
use super::super::format::Together;
use super::super::grids::{IQ3_S, IQ3_XXS};
use super::super::int8x4::Int8x4;
use super::super::narrow::e8m0_bits;
use super::{Iq3S, Iq3Xxs, Iq4Nl, Iq4Xs, Layout, Mxfp4, PANEL_BLOCK, PANEL_ROWS, Rows};
use super::{six_signed, store_scale};
use crate::simd::Simd;

/// As [`nibbles`], each replaced by its entry of `table`.
#[inline(always)]
unsafe fn looked_up<Q: Int8x4>(columns: [Q; 4], table: &[u8; 16], to: *mut u8) {
    let low = Q::splat(0x0f0f_0f0f);
    for (j, &column) in columns.iter().enumerate() {
        let (first, second) = (column.and(low), column.right::<4>().and(low));
        first.lookup(table.as_ptr()).store(to.add(64 * j));
        second.lookup(table.as_ptr()).store(to.add(256 + 64 * j));
    }
}

/// A table of values, each too large by `by` modulo 256.
const fn raised(values: [i8; 16], by: u8) -> [u8; 16] {
    let mut table = [0; 16];
    let mut i = 0;
    while i < 16 {
        table[i] = (values[i] as u8).wrapping_add(by);
        i += 1;
    }
    table
}

/// The table of IQ4_NL as [`Int8x4::dot_signed`] wants weights.
#[inline(always)]
fn iq4_table<Q: Int8x4>() -> &'static [u8; 16] {
    static SIGNED: [u8; 16] = raised(IQ4_VALUES, 0);
    static BIASED: [u8; 16] = raised(IQ4_VALUES, 128);
    if Q::BIASED { &BIASED } else { &SIGNED }
}

impl Layout for Iq4Nl {
    const BLOCKS: usize = 1;
    const BYTES: usize = 18;
    const OFFSET: i32 = 128;
    const WIDE: bool = true;

    #[inline(always)]
    unsafe fn unpack<Q: Int8x4>(mut rows: Rows, to: *mut u8) {
        looked_up(rows.columns::<Q>(2), iq4_table::<Q>(), to);
        store_scale::<Q>(rows.halves::<Q>(0), to);
    }
}

impl Layout for Mxfp4 {
    const BLOCKS: usize = 1;
    const BYTES: usize = 17;
    const OFFSET: i32 = 12;

    #[inline(always)]
    unsafe fn unpack<Q: Int8x4>(mut rows: Rows, to: *mut u8) {
        static TABLE: [u8; 16] = raised(FP4_VALUES, 12);
        looked_up(rows.columns::<Q>(1), &TABLE, to);
        let mut scales = [0u32; PANEL_ROWS];
        for (row, scale) in scales.iter_mut().enumerate() {
            *scale = e8m0_bits(*rows.from.add(row * rows.stride));
        }
        store_scale::<Q>(Q::Floats::load(scales.as_ptr().cast()), to);
    }
}

impl Layout for Iq4Xs {
    const BLOCKS: usize = 8;
    const BYTES: usize = 136;
    const TOGETHER: Together = Together::Eights;
    const ALONE: Alone = Alone::Fours;
    const OFFSET: i32 = 128;
    const WIDE: bool = true;

    #[inline(always)]
    unsafe fn unpack<Q: Int8x4>(mut rows: Rows, to: *mut u8) {
        let (first, low) = (rows.words::<Q>(0), rows.words::<Q>(4));
        first
            .halves()
            .store(to.add(Self::BLOCKS * PANEL_BLOCK).cast());
        let upper = first.right::<16>();
        macro_rules! part {
            ($low:literal, $upper:literal, $part:literal) => {
                let to = to.add($part * PANEL_BLOCK);
                let low = low.right::<$low>().and(Q::splat(15));
                let upper = upper.right::<$upper>().and(Q::splat(3));
                six_signed(low.or(upper.left::<4>()))
                    .left::<16>()
                    .store(to.add(512));
                let columns = rows.columns::<Q>(8 + 16 * $part);
                looked_up(columns, iq4_table::<Q>(), to);
            };
        }
        part!(0, 0, 0);
        part!(4, 2, 1);
        part!(8, 4, 2);
        part!(12, 6, 3);
        part!(16, 8, 4);
        part!(20, 10, 5);
        part!(24, 12, 6);
        part!(28, 14, 7);
    }
}

/// Four columns from a grid's entries, 64 too large; bit i of `signs` turns column i.
#[inline(always)]
unsafe fn gridded<Q: Int8x4>(entries: Q, grid: *const u32, signs: Q) -> Q {
    // As in `five_bits`.
    let (four, spread) = (Q::splat(15), Q::splat(0x0020_4081));
    let ones = signs.and(four).times(spread).and(Q::splat(0x0101_0101));
    // 127 less 64 + x is 63 - x.
    let raised = entries.gather(grid).add(Q::splat(0x4040_4040));
    raised.xor(ones.times(Q::splat(127))).add(ones)
}

/// An odd scale from its half, for sums of pairs.
#[inline(always)]
unsafe fn store_odd<Q: Int8x4>(half: Q, to: *mut u8) {
    let scale = half.left::<1>().or(Q::splat(1));
    scale.or(scale.left::<16>()).store(to.add(512));
}

/// Calls a macro with each block's number, as a literal.
macro_rules! each_block {
    ($block:ident) => {
        $block!(0);
        $block!(1);
        $block!(2);
        $block!(3);
        $block!(4);
        $block!(5);
        $block!(6);
        $block!(7);
    };
}

/// Calls a macro with each four columns' number, the word of their indices and the shift in it, as literals.
macro_rules! each_four {
    ($four:ident) => {
        $four!(0, 0, 0);
        $four!(1, 0, 8);
        $four!(2, 0, 16);
        $four!(3, 0, 24);
        $four!(4, 1, 0);
        $four!(5, 1, 8);
        $four!(6, 1, 16);
        $four!(7, 1, 24);
    };
}

impl Layout for Iq3Xxs {
    const BLOCKS: usize = 8;
    const BYTES: usize = 98;
    const TOGETHER: Together = Together::Eights;
    const ALONE: Alone = Alone::Pairs;
    const OFFSET: i32 = 64;

    #[inline(always)]
    unsafe fn unpack<Q: Int8x4>(mut rows: Rows, to: *mut u8) {
        let scale = rows.halves::<Q>(0).mul(Q::Floats::splat(0.25));
        scale.store(to.add(Self::BLOCKS * PANEL_BLOCK).cast());
        let (byte, seven) = (Q::splat(0xff), 127);
        let grid = IQ3_XXS.as_ptr();
        macro_rules! block {
            ($block:literal) => {
                let to = to.add($block * PANEL_BLOCK);
                let bits = rows.words::<Q>(66 + 4 * $block);
                store_odd(bits.right::<28>(), to);
                // Seven signs in each byte; the eighth makes the number of those that are set even.
                let signs = bits
                    .and(Q::splat(seven))
                    .or(bits.left::<1>().and(Q::splat(seven << 8)))
                    .or(bits.left::<2>().and(Q::splat(seven << 16)))
                    .or(bits.left::<3>().and(Q::splat(seven << 24)));
                let odd = signs.xor(signs.right::<4>());
                let odd = odd.xor(odd.right::<2>());
                let odd = odd.xor(odd.right::<1>()).and(Q::splat(0x0101_0101));
                let signs = signs.or(odd.left::<7>());
                let words = [
                    rows.words::<Q>(2 + 8 * $block),
                    rows.words::<Q>(6 + 8 * $block),
                ];
                macro_rules! four {
                    ($j:literal, $word:literal, $shift:literal) => {
                        let entries = words[$word].right::<$shift>().and(byte);
                        let signs = signs.right::<{ 4 * $j }>();
                        gridded(entries, grid, signs).store(to.add(64 * $j));
                    };
                }
                each_four!(four);
            };
        }
        each_block!(block);
    }
}

impl Layout for Iq3S {
    const BLOCKS: usize = 8;
    const BYTES: usize = 110;
    const TOGETHER: Together = Together::Eights;
    const ALONE: Alone = Alone::Pairs;
    const OFFSET: i32 = 64;

    #[inline(always)]
    unsafe fn unpack<Q: Int8x4>(mut rows: Rows, to: *mut u8) {
        let floats = to.add(Self::BLOCKS * PANEL_BLOCK);
        rows.halves::<Q>(0).store(floats.cast());
        let (byte, bit) = (Q::splat(0xff), Q::splat(1));
        let (ninths, scales) = (
            [rows.words::<Q>(66), rows.words::<Q>(70)],
            rows.words::<Q>(106),
        );
        let grid = IQ3_S.as_ptr();
        macro_rules! block {
            ($block:literal) => {
                let to = to.add($block * PANEL_BLOCK);
                store_odd(scales.right::<{ 4 * $block }>().and(Q::splat(15)), to);
                let signs = rows.words::<Q>(74 + 4 * $block);
                let ninth = ninths[$block / 4].right::<{ $block % 4 * 8 }>();
                let words = [
                    rows.words::<Q>(2 + 8 * $block),
                    rows.words::<Q>(6 + 8 * $block),
                ];
                macro_rules! four {
                    ($j:literal, $word:literal, $shift:literal) => {
                        let upper = ninth.right::<$j>().and(bit).left::<8>();
                        let entries = words[$word].right::<$shift>().and(byte).or(upper);
                        let signs = signs.right::<{ 4 * $j }>();
                        gridded(entries, grid, signs).store(to.add(64 * $j));
                    };
                }
                each_four!(four);
            };
        }
        each_block!(block);
    }
}
