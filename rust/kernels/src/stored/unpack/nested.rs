//! Blocks of 256 columns whose parts have integers for scales.

use super::super::activations::{Alone, Block};
use super::super::format::{Parts, Together};
use super::super::int8x4::Int8x4;
use super::{Layout, PANEL_BLOCK, Q2K, Q3K, Q4K, Q5K, Q6K, Rows, ScaledSums, six_signed};
use crate::simd::Simd;

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

impl Layout for Q2K {
    const BLOCKS: usize = 8;
    const BYTES: usize = 84;
    const PARTS: Parts = Parts::Halves;
    const MINIMUM: bool = true;
    const TOGETHER: Together = Together::Fours;
    const GROUP: usize = 4;
    const OFFSET: i32 = 0;
    const MOST: usize = 3;

    #[inline(always)]
    unsafe fn unpack<Q: Int8x4>(mut rows: Rows, to: *mut u8) {
        let floats = to.add(Self::BLOCKS * PANEL_BLOCK);
        let both = rows.words::<Q>(80);
        both.halves().store(floats.cast());
        let least = Q::Floats::splat(0.0).sub(both.right::<16>().halves());
        least.store(floats.add(64).cast());
        let four = Q::splat(15);
        for (word, &parts) in rows.columns::<Q>(0).iter().enumerate() {
            macro_rules! half {
                ($at:literal, $to:expr) => {
                    let scale = parts.right::<{ 8 * $at }>().and(four);
                    let minimum = parts.right::<{ 8 * $at + 4 }>().and(four);
                    scale.left::<16>().or(minimum).store($to);
                };
            }
            let to = to.add(2 * word * PANEL_BLOCK);
            half!(0, to.add(512));
            half!(1, to.add(576));
            half!(2, to.add(PANEL_BLOCK + 512));
            half!(3, to.add(PANEL_BLOCK + 576));
        }
        let two = Q::splat(0x0303_0303);
        for side in 0..2 {
            for half in 0..2 {
                let columns = rows.columns::<Q>(16 + 32 * side + 16 * half);
                let to = to.add(4 * side * PANEL_BLOCK + 256 * half);
                for (j, &column) in columns.iter().enumerate() {
                    let to = to.add(64 * j);
                    column.and(two).store(to);
                    column.right::<2>().and(two).store(to.add(PANEL_BLOCK));
                    column.right::<4>().and(two).store(to.add(2 * PANEL_BLOCK));
                    column.right::<6>().and(two).store(to.add(3 * PANEL_BLOCK));
                }
            }
        }
    }
}

impl Layout for Q3K {
    const BLOCKS: usize = 8;
    const BYTES: usize = 110;
    const PARTS: Parts = Parts::Halves;
    const TOGETHER: Together = Together::Eights;
    const ALONE: Alone = Alone::Pairs;
    const OFFSET: i32 = 4;
    const MOST: usize = 7;

    #[inline(always)]
    unsafe fn unpack<Q: Int8x4>(mut rows: Rows, to: *mut u8) {
        let floats = to.add(Self::BLOCKS * PANEL_BLOCK);
        rows.halves::<Q>(108).store(floats.cast());
        let (low, two) = (Q::splat(0x0f0f_0f0f), Q::splat(0x0303_0303));
        let (first, second, third) = (
            rows.words::<Q>(96),
            rows.words::<Q>(100),
            rows.words::<Q>(104),
        );
        let upper = [
            third.and(two),
            third.right::<2>().and(two),
            third.right::<4>().and(two),
            third.right::<6>().and(two),
        ];
        let scales = [
            first.and(low).or(upper[0].left::<4>()),
            second.and(low).or(upper[1].left::<4>()),
            first.right::<4>().and(low).or(upper[2].left::<4>()),
            second.right::<4>().and(low).or(upper[3].left::<4>()),
        ];
        for (word, &parts) in scales.iter().enumerate() {
            macro_rules! half {
                ($at:literal, $to:expr) => {
                    let scale = six_signed(parts.right::<{ 8 * $at }>().and(Q::splat(63)));
                    let lower = scale.and(Q::splat(0xffff));
                    scale.left::<16>().or(lower).store($to);
                };
            }
            let to = to.add(2 * word * PANEL_BLOCK);
            half!(0, to.add(512));
            half!(1, to.add(576));
            half!(2, to.add(PANEL_BLOCK + 512));
            half!(3, to.add(PANEL_BLOCK + 576));
        }
        let third = Q::splat(0x0404_0404);
        for half in 0..2 {
            let high = rows.columns::<Q>(16 * half);
            // Bit p of these bytes belongs to block p, and must come to place 2.
            macro_rules! side {
                ($side:literal, $($block:literal $low:literal $shift:ident $by:literal),*) => {
                    let columns = rows.columns::<Q>(32 + 32 * $side + 16 * half);
                    let to = to.add(4 * $side * PANEL_BLOCK + 256 * half);
                    for j in 0..4 {
                        let to = to.add(64 * j);
                        $(
                            let bit = high[j].$shift::<$by>().and(third);
                            let low = columns[j].right::<$low>().and(two);
                            low.or(bit).store(to.add($block * PANEL_BLOCK));
                        )*
                    }
                };
            }
            side!(0, 0 0 left 2, 1 2 left 1, 2 4 left 0, 3 6 right 1);
            side!(1, 0 0 right 2, 1 2 right 3, 2 4 right 4, 3 6 right 5);
        }
    }
}

impl Layout for Q4K {
    const BLOCKS: usize = 8;
    const BYTES: usize = 144;
    const MINIMUM: bool = true;
    const TOGETHER: Together = Together::Fours;
    const OFFSET: i32 = 0;
    const MOST: usize = 15;

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
                scale.or(scale.left::<16>()).store(to.add(512));
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

    #[inline(always)]
    unsafe fn fused<Q: Int8x4>(mut rows: Rows, activations: *const Block) -> Option<ScaledSums<Q>> {
        if const { !Q::NARROW } {
            return None;
        }
        let [both, first, second, third] = rows.columns::<Q>(0);
        let (scales, minima) = part_scales([first, second, third]);
        let mut least = Q::splat(0);
        let bytes = Q::splat(0x00ff_00ff);
        for half in 0..2 {
            let sum = |b: usize| (*activations.add(4 * half + b)).sum as u32;
            let sums = |b: usize| Q::splat(sum(b) & 0xffff | sum(b + 2) << 16);
            least = least.add(minima[half].and(bytes).widened(sums(0)));
            let odd = minima[half].right::<8>().and(bytes);
            least = least.add(odd.widened(sums(1)));
        }
        let low = Q::splat(0x0f0f_0f0f);
        let mut products = Q::splat(0);
        macro_rules! quarter {
            ($quarter:literal, $even:literal, $odd:literal) => {
                let blocks = activations.add(2 * $quarter);
                let even = (*blocks).quanta.as_ptr();
                let odd = (*blocks.add(1)).quanta.as_ptr();
                let mut pairs = [Q::splat(0); 2];
                for half in 0..2 {
                    let columns = rows.columns::<Q>(16 + 32 * $quarter + 16 * half);
                    for (j, &column) in columns.iter().enumerate() {
                        let at = 16 * half + 4 * j;
                        pairs[0] = pairs[0].pairs(column.and(low), even.add(at));
                        let upper = column.right::<4>().and(low);
                        pairs[1] = pairs[1].pairs(upper, odd.add(at));
                    }
                }
                let scales = scales[$quarter / 2];
                products = products.add(pairs[0].widened(scales.twice::<$even>()));
                products = products.add(pairs[1].widened(scales.twice::<$odd>()));
            };
        }
        quarter!(0, 0, 1);
        quarter!(1, 2, 3);
        quarter!(2, 0, 1);
        quarter!(3, 2, 3);
        Some(ScaledSums {
            products,
            minima: least,
            scale: both.halves(),
            least: Q::Floats::splat(0.0).sub(both.right::<16>().halves()),
        })
    }
}

impl Layout for Q5K {
    const BLOCKS: usize = 8;
    const BYTES: usize = 176;
    const MINIMUM: bool = true;
    const TOGETHER: Together = Together::Eights;
    const OFFSET: i32 = 0;
    const MOST: usize = 31;

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
    const MOST: usize = 63;

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
