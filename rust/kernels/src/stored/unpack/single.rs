//! Blocks of 32 columns with a scale of their own.

use super::super::format::Parts;
use super::super::int8x4::Int8x4;
use super::{Layout, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Rows};
use super::{five_bits, nibbles, store_extra, store_scale};

impl Layout for Q4_0 {
    const BLOCKS: usize = 1;
    const BYTES: usize = 18;
    const OFFSET: i32 = 8;
    const MOST: usize = 15;

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
    const MOST: usize = 15;

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
    const MOST: usize = 31;

    #[inline(always)]
    unsafe fn unpack<Q: Int8x4>(mut rows: Rows, to: *mut u8) {
        let (columns, fifth) = (rows.columns::<Q>(6), rows.words::<Q>(2));
        five_bits(columns, fifth, to);
        store_scale::<Q>(rows.halves::<Q>(0), to);
    }
}

impl Layout for Q5_1 {
    const BLOCKS: usize = 1;
    const BYTES: usize = 24;
    const PARTS: Parts = Parts::Fours;
    const MINIMUM: bool = true;
    const OFFSET: i32 = 0;
    const MOST: usize = 31;

    #[inline(always)]
    unsafe fn unpack<Q: Int8x4>(mut rows: Rows, to: *mut u8) {
        let (columns, fifth) = (rows.columns::<Q>(8), rows.words::<Q>(4));
        five_bits(columns, fifth, to);
        let both = rows.words::<Q>(0);
        store_scale::<Q>(both.halves(), to);
        store_extra::<Q>(both.right::<16>().halves(), to);
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
