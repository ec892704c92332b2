//! Rows of activations as the products read them.
//!
//! For integer products 32 values, or 256, become int8 with one scale: `x = scale * a`, `scale = max|x| / 127`, `a` to
//! the nearest. Rows stand in groups, block after block, so that a tile reads its rows' blocks one after the other.

use super::format::{BLOCK, Parts, Together};
use super::narrow::{from_f16, to_f16};
use crate::batch_class::BatchClass;
use crate::simd::Simd;
use crate::{LANES, area, strided};

/// Largest magnitudes below this count as zero: their inverses would overflow.
const NOTHING: f32 = 1e-30;

/// One row's 32 columns.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
pub(super) struct Block {
    pub quanta: [i8; BLOCK],
    pub scale: f32,
    /// The scale times the sum of the quanta: what a minimum multiplies.
    pub scaled_sum: f32,
    /// What the integer sums of the [`Parts`] start from, to make up for weights that are too large by an offset; see
    /// [`Alone`] for rows alone.
    pub starts: [i32; Parts::MOST],
    /// The sum of the quanta.
    pub sum: i32,
    /// Whether the row is one of those that the format takes [`Together`].
    pub together: bool,
}

impl Block {
    pub const ZERO: Self = Self {
        quanta: [0; BLOCK],
        scale: 0.0,
        scaled_sum: 0.0,
        starts: [0; Parts::MOST],
        sum: 0,
        together: false,
    };
}

/// How the sums of a row alone make up for weights that are too large by an offset, in formats with nested scales.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Alone {
    /// As those of rows together: by the [`Parts`].
    Parts,
    /// For each four columns: two products and two, as sixteen bits each.
    Pairs,
    /// For each four columns.
    Fours,
}

/// How an integer format reads its activations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Reading {
    /// What unsigned weights are too large by; -1 where each half's sum is asked for itself, for its minimum.
    pub offset: i32,
    pub parts: Parts,
    /// What a row alone starts from in a unit of nested scales.
    pub alone: Alone,
    /// Whether scales, and sums of activations, are rounded to half precision.
    pub narrow: bool,
    /// Blocks that share a scale.
    pub shared: usize,
    pub together: Together,
    /// Rows in a group.
    pub group: usize,
}

kernel! {
    /// Rounds rows `first..first + count` of `x` (rows, stride) of `inp` columns, whole groups but for the last row.
    ///
    /// `blocks` holds those rows only, `classes` is of all rows or empty. Where a value is not finite, its block's scale is
    /// NaN, and so are the products.
    pub fn quantise = quantise_body(reading: Reading, x: &[f32], stride: usize, inp: usize, first: usize, count: usize, classes: &[BatchClass], blocks: &mut [Block])
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn quantise_body<S: Simd>(
    reading: Reading,
    x: &[f32],
    stride: usize,
    inp: usize,
    first: usize,
    count: usize,
    classes: &[BatchClass],
    blocks: &mut [Block],
) {
    let per_row = inp / BLOCK;
    assert!(count == 0 || x.len() >= strided(first + count, stride, inp));
    assert!(inp.is_multiple_of(BLOCK) && blocks.len() == area([count, per_row]));
    let mut row = 0;
    while row < count {
        let group = reading.group.min(count - row);
        for inside in 0..group {
            let from = x.as_ptr().add((first + row + inside) * stride);
            let class = classes
                .get(first + row + inside)
                .copied()
                .unwrap_or_default();
            let together = match reading.together {
                Together::None => false,
                Together::Fours => class.fours,
                Together::Eights => class.eights,
            };
            let mut b = 0;
            while b < per_row {
                let at = row * per_row + b * group + inside;
                let from = from.add(b * BLOCK);
                if reading.shared == 1 {
                    quantise_block::<S>(reading, from, &mut blocks[at]);
                } else {
                    quantise_shared::<S>(reading, together, from, &mut blocks[at..], group);
                }
                b += reading.shared;
            }
        }
        row += group;
    }
}

/// The largest magnitude among some blocks' values, and zero, or NaN if any of them is NaN or infinite.
#[inline(always)]
unsafe fn extent<S: Simd>(from: *const f32, blocks: usize) -> (f32, f32) {
    let zero = S::splat(0.0);
    let (mut sizes, mut doubt) = (zero, zero);
    for at in (0..blocks * BLOCK).step_by(LANES) {
        let x = S::load(from.add(at));
        sizes = sizes.max(x.max(zero.sub(x)));
        doubt = doubt.add(x.mul(zero));
    }
    (sizes.maximum(), doubt.sum())
}

/// A block's values times `inverse`, to the nearest integers, and the sums of each four. They are within -127 and 127 but
/// for a rounding of the inverse, which cannot reach 127.5.
#[inline(always)]
unsafe fn rounded<S: Simd>(
    from: *const f32,
    inverse: f32,
    to: &mut [i8; BLOCK],
) -> [i32; Parts::MOST] {
    let inverse = S::splat(inverse);
    let mut sums = [0i32; Parts::MOST];
    for (at, sums) in [0, LANES].into_iter().zip(sums.chunks_exact_mut(LANES / 4)) {
        let scaled = S::load(from.add(at)).mul(inverse);
        sums.copy_from_slice(&scaled.store_bytes(to.as_mut_ptr().add(at)));
    }
    sums
}

#[inline(always)]
unsafe fn quantise_block<S: Simd>(reading: Reading, from: *const f32, to: &mut Block) {
    let (most, doubt) = extent::<S>(from, 1);
    if doubt != 0.0 || most < NOTHING {
        *to = Block {
            scale: doubt,
            scaled_sum: doubt,
            ..Block::ZERO
        };
        return;
    }
    let sums = rounded::<S>(from, 127.0 / most, &mut to.quanta);
    let scale = most / 127.0;
    to.sum = sums.iter().sum();
    (to.scale, to.scaled_sum) = (scale, scale * to.sum as f32);
    if reading.narrow {
        (to.scale, to.scaled_sum) = (from_f16(to_f16(to.scale)), from_f16(to_f16(to.scaled_sum)));
    }
    to.starts = starts(reading, sums);
}

/// What a block's parts start from, given the sums of each four of its quanta.
#[inline(always)]
fn starts(reading: Reading, sums: [i32; Parts::MOST]) -> [i32; Parts::MOST] {
    let mut starts = sums.map(|sum| -reading.offset * sum);
    let (first, second) = starts.split_at(Parts::MOST / 2);
    let halves: (i32, i32) = (first.iter().sum(), second.iter().sum());
    match reading.parts {
        Parts::Whole => starts[0] = halves.0 + halves.1,
        Parts::Halves => (starts[0], starts[1]) = halves,
        Parts::Fours => {}
    }
    starts
}

/// What each four columns start from, the first two in the lower sixteen bits and the last two in the upper ones.
#[inline(always)]
fn starts_of_pairs(reading: Reading, quanta: &[i8; BLOCK]) -> [i32; Parts::MOST] {
    let mut starts = [0i32; Parts::MOST];
    for (start, four) in starts.iter_mut().zip(quanta.chunks_exact(4)) {
        let four = [four[0], four[1], four[2], four[3]].map(i32::from);
        let first = -reading.offset * (four[0] + four[1]);
        let second = -reading.offset * (four[2] + four[3]);
        *start = first & 0xffff | second << 16;
    }
    starts
}

/// Blocks `step` apart in `to` that share a scale. In ggml its sign makes the value of the largest magnitude -127, which
/// turns the sign of all quanta as well, and changes no bit of a product.
#[inline(always)]
unsafe fn quantise_shared<S: Simd>(
    reading: Reading,
    together: bool,
    from: *const f32,
    to: &mut [Block],
    step: usize,
) {
    let (most, doubt) = extent::<S>(from, reading.shared);
    let nothing = doubt != 0.0 || most < NOTHING;
    let inverse = 127.0 / most;
    for b in 0..reading.shared {
        let to = &mut to[b * step];
        *to = Block {
            scale: doubt,
            together,
            ..Block::ZERO
        };
        if nothing {
            continue;
        }
        let sums = rounded::<S>(from.add(b * BLOCK), inverse, &mut to.quanta);
        to.sum = sums.iter().sum();
        if reading.offset != 0 {
            to.starts = match reading.alone {
                Alone::Pairs if !together => starts_of_pairs(reading, &to.quanta),
                Alone::Fours if !together => sums.map(|sum| -reading.offset * sum),
                _ => starts(reading, sums),
            };
        }
        to.scale = 1.0 / inverse;
    }
}
