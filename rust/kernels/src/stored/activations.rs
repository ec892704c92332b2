//! Rows of activations as the products read them.
//!
//! For integer products each 32 values become int8 with one scale: `x = scale * a`, `scale = max|x| / 127`, `a` to the
//! nearest. Rows stand in groups, block after block, so that a tile reads its rows' blocks one after the other.

use super::narrow::{from_f16, to_f16};
use super::unpack::BLOCK;
use crate::LANES;
use crate::simd::Simd;

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
    /// What the integer sums of the [`Parts`] start from, to make up for weights that are too large by an offset.
    pub starts: [i32; Parts::MOST],
}

impl Block {
    pub const ZERO: Self = Self {
        quanta: [0; BLOCK],
        scale: 0.0,
        scaled_sum: 0.0,
        starts: [0; Parts::MOST],
    };
}

/// How the 32 columns of a block are added up: each part's integer sum is scaled by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Parts {
    /// One sum.
    Whole = 1,
    /// A sum for each sixteen columns, which have their own scales.
    Halves = 2,
    /// A sum for each four columns, and for each a chain over the blocks: see [`super::integer`].
    Fours = 8,
}

impl Parts {
    pub const MOST: usize = 8;
}

/// How an integer format reads its activations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Reading {
    /// What unsigned weights are too large by.
    pub offset: i32,
    pub parts: Parts,
    /// Whether scales, and sums of activations, are rounded to half precision.
    pub narrow: bool,
    /// Rows in a group.
    pub group: usize,
}

kernel! {
    /// Rounds rows `first..first + count` of `x` (rows, stride) of `inp` columns, whole groups but for the last row.
    ///
    /// `blocks` holds those rows only. Where a value is not finite, its block's scale is NaN, and so are the products.
    pub fn quantise = quantise_body(reading: Reading, x: &[f32], stride: usize, inp: usize, first: usize, count: usize, blocks: &mut [Block])
}

#[inline(always)]
unsafe fn quantise_body<S: Simd>(
    reading: Reading,
    x: &[f32],
    stride: usize,
    inp: usize,
    first: usize,
    count: usize,
    blocks: &mut [Block],
) {
    let per_row = inp / BLOCK;
    assert!(count == 0 || x.len() >= (first + count - 1) * stride + inp);
    assert!(inp.is_multiple_of(BLOCK) && blocks.len() == count * per_row);
    let mut row = 0;
    while row < count {
        let group = reading.group.min(count - row);
        for inside in 0..group {
            let from = x.as_ptr().add((first + row + inside) * stride);
            for b in 0..per_row {
                let to = &mut blocks[row * per_row + b * group + inside];
                quantise_block::<S>(reading, from.add(b * BLOCK), to);
            }
        }
        row += group;
    }
}

#[inline(always)]
unsafe fn quantise_block<S: Simd>(reading: Reading, from: *const f32, to: &mut Block) {
    let (a, b) = (S::load(from), S::load(from.add(LANES)));
    let zero = S::splat(0.0);
    let sizes = a.max(zero.sub(a)).max(b.max(zero.sub(b)));
    let most = sizes.maximum();
    // Zero, or NaN if anything is NaN or infinite.
    let doubt = a.mul(zero).add(b.mul(zero)).sum();
    if doubt != 0.0 || most < NOTHING {
        *to = Block {
            scale: doubt,
            scaled_sum: doubt,
            ..Block::ZERO
        };
        return;
    }
    let inverse = S::splat(127.0 / most);
    let mut rounded = [0.0f32; BLOCK];
    a.mul(inverse).round().store(rounded.as_mut_ptr());
    b.mul(inverse)
        .round()
        .store(rounded.as_mut_ptr().add(LANES));
    // Loops of their own, each of which becomes vectors.
    let mut quanta = [0i32; BLOCK];
    for i in 0..BLOCK {
        // Within -127 to 127 but for a rounding of the inverse, which cannot reach 127.5.
        quanta[i] = rounded[i].to_int_unchecked::<i32>();
    }
    for i in 0..BLOCK {
        to.quanta[i] = quanta[i] as i8;
    }
    let mut sums = [0i32; Parts::MOST];
    for (sum, four) in sums.iter_mut().zip(quanta.chunks_exact(4)) {
        *sum = four[0] + four[1] + four[2] + four[3];
    }
    let scale = most / 127.0;
    let total: i32 = sums.iter().sum();
    (to.scale, to.scaled_sum) = (scale, scale * total as f32);
    if reading.narrow {
        (to.scale, to.scaled_sum) = (from_f16(to_f16(to.scale)), from_f16(to_f16(to.scaled_sum)));
    }
    let mut starts = sums.map(|sum| -reading.offset * sum);
    match reading.parts {
        Parts::Whole => starts[0] = -reading.offset * total,
        Parts::Halves => {
            let (first, second) = starts.split_at(Parts::MOST / 2);
            (starts[0], starts[1]) = (first.iter().sum(), second.iter().sum());
        }
        Parts::Fours => {}
    }
    to.starts = starts;
}
