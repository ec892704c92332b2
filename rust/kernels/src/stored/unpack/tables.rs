//! Formats whose bits are places in a table or a grid.

use std::hint::black_box;

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
    const MOST: usize = 24;

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
        let (mut low, mut upper) = (low, first.right::<16>());
        // Unrolled, the loops of this file would be the larger part of the crate.
        for part in 0..black_box(Self::BLOCKS) {
            let to = to.add(part * PANEL_BLOCK);
            let six = low.and(Q::splat(15)).or(upper.and(Q::splat(3)).left::<4>());
            six_signed(six).left::<16>().store(to.add(512));
            looked_up(rows.columns::<Q>(8 + 16 * part), iq4_table::<Q>(), to);
            (low, upper) = (low.right::<4>(), upper.right::<2>());
        }
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
        for block in 0..black_box(Self::BLOCKS) {
            let to = to.add(block * PANEL_BLOCK);
            let bits = rows.words::<Q>(66 + 4 * block);
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
            let mut signs = signs.or(odd.left::<7>());
            for word in 0..black_box(2) {
                let mut entries = rows.words::<Q>(2 + 8 * block + 4 * word);
                for j in 0..4 {
                    let four = gridded(entries.and(byte), IQ3_XXS.as_ptr(), signs);
                    four.store(to.add(256 * word + 64 * j));
                    (entries, signs) = (entries.right::<8>(), signs.right::<4>());
                }
            }
        }
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
        let mut scales = rows.words::<Q>(106);
        for half in 0..black_box(2) {
            let mut ninths = rows.words::<Q>(66 + 4 * half);
            for block in 4 * half..4 * half + black_box(4) {
                let to = to.add(block * PANEL_BLOCK);
                store_odd(scales.and(Q::splat(15)), to);
                scales = scales.right::<4>();
                let mut signs = rows.words::<Q>(74 + 4 * block);
                for word in 0..black_box(2) {
                    let mut entries = rows.words::<Q>(2 + 8 * block + 4 * word);
                    for j in 0..4 {
                        let entry = entries.and(byte).or(ninths.and(bit).left::<8>());
                        let four = gridded(entry, IQ3_S.as_ptr(), signs);
                        four.store(to.add(256 * word + 64 * j));
                        (entries, signs) = (entries.right::<8>(), signs.right::<4>());
                        ninths = ninths.right::<1>();
                    }
                }
            }
        }
    }
}
