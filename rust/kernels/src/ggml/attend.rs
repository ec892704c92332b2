use std::ops::Range;

use super::exponential::exp;
use crate::attention::{
    BlockHeads, Heads, KeyValueBlocks, KeyValues, Queries, Row, RowKernel, attend_blocks_with,
    attend_with,
};
use crate::simd::Simd;
use crate::{LANES, strided};

/// Vectors that ggml's inner product of two rows keeps apart.
const APART: usize = 4;
/// Pairs of chains, eight apart, that are added up side by side.
const PAIRS: usize = 2;
/// The widest head that attention in ggml's arithmetic takes.
pub const WIDEST: usize = 512;

kernel! {
    /// As [`crate::attention::attend_blocks`].
    pub fn attend_blocks = attend_blocks_with [RowOrPair] (heads: Heads, part: BlockHeads<'_>, queries: Queries<'_>, scratch: &mut [f32], out: &mut [f32])
}

kernel! {
    /// As [`crate::attention::attend`]: queries, keys and values are rounded already, see [`round_to_half`], and keys stand
    /// in the cache in the order in which the file has a head's dimensions.
    pub fn attend = attend_with [RowOrPair] (heads: Heads, cache: KeyValues<'_>, queries: Queries<'_>, probabilities: &mut [f32], keep: bool, out: &mut [f32])
}

/// Sums as of ggml's product of two rows for a row alone, else as of its product of many.
struct RowOrPair;

impl RowKernel for RowOrPair {
    fn check(heads: Heads, queries: Queries<'_>) {
        let inside = queries.order.iter().all(|&d| (d as usize) < heads.width);
        assert!(queries.order.len() == heads.width && heads.width <= WIDEST && inside);
    }

    #[inline(always)]
    unsafe fn attend<S: Simd, const G: usize>(
        row: Row<'_>,
        cache: impl KeyValueBlocks,
        query: *const f32,
        probability: *mut f32,
        out: *mut f32,
    ) {
        attend_row::<S, G>(row, cache, query, probability, out);
    }
}

kernel! {
    /// Rounds `width` floats of each of `rows` rows, `step` apart, to what half precision can hold.
    pub fn round_to_half = round_to_half_body(rows: usize, width: usize, step: usize, x: &mut [f32])
}

#[inline(always)]
unsafe fn round_to_half_body<S: Simd>(rows: usize, width: usize, step: usize, x: &mut [f32]) {
    assert!(width.is_multiple_of(LANES) && x.len() >= strided(rows, step, width));
    for row in 0..rows {
        let row = x.as_mut_ptr().add(row * step);
        let mut j = 0;
        while j < width {
            S::load(row.add(j)).half().store(row.add(j));
            j += LANES;
        }
    }
}

/// `G` heads of a query row that sees positions 0..=`last`; leaves the probabilities, rounded, in `probability`.
#[inline(always)]
unsafe fn attend_row<S: Simd, const G: usize>(
    row: Row<'_>,
    cache: impl KeyValueBlocks,
    queries: *const f32,
    probability: *mut f32,
    out: *mut f32,
) {
    let Row {
        width,
        stride,
        scale,
        last,
        alone,
        order,
        ..
    } = row;
    let mut ordered = [[0.0f32; WIDEST]; G];
    for h in 0..G {
        for d in 0..width {
            ordered[h][d] = *queries.add(h * width + order[d] as usize);
        }
    }
    let blocks = last / LANES + 1;
    let mut tops = [S::splat(f32::NEG_INFINITY); G];
    for block in 0..blocks {
        let terms = Dimensions {
            keys: cache.keys(block),
            step: cache.step(),
        };
        let mut scores = sum::<S, G>(terms, width, ordered.as_ptr().cast(), WIDEST, alone);
        let count = if block + 1 == blocks {
            last % LANES + 1
        } else {
            LANES
        };
        for h in 0..G {
            scores[h] = scores[h]
                .mul(S::splat(scale))
                .first(count, f32::NEG_INFINITY);
            tops[h] = scores[h].max(tops[h]);
            scores[h].store(probability.add(h * stride + block * LANES));
        }
    }
    for h in 0..G {
        let (row, top) = (probability.add(h * stride), S::splat(tops[h].maximum()));
        let mut sum = 0.0f64;
        for block in 0..blocks {
            let at = row.add(block * LANES);
            // Of what is not seen this is zero.
            let e = exp(S::load(at).sub(top));
            e.store(at);
            sum += f64::from(e.sum());
        }
        let share = S::splat((1.0 / sum) as f32);
        for block in 0..blocks {
            let at = row.add(block * LANES);
            S::load(at).mul(share).half().store(at);
        }
    }
    let mut d = 0;
    while d < width {
        let terms = Positions { cache, width, d };
        let sums = sum::<S, G>(terms, last + 1, probability, stride, alone);
        for h in 0..G {
            sums[h].store(out.add(h * width + d));
        }
        d += LANES;
    }
}

/// Vectors that are weighted and added up, in the order of their chains.
trait Terms: Copy {
    /// Whether zeros follow up to a whole step, so that nothing is left over.
    const PADDED: bool;
    unsafe fn at(self, i: usize) -> *const f32;
}

/// A dimension of sixteen keys.
#[derive(Clone, Copy)]
struct Dimensions {
    keys: *const f32,
    step: usize,
}

impl Terms for Dimensions {
    const PADDED: bool = false;

    #[inline(always)]
    unsafe fn at(self, i: usize) -> *const f32 {
        self.keys.add(i * self.step)
    }
}

/// Sixteen dimensions of a position's value, from `d` on.
#[derive(Clone, Copy)]
struct Positions<P> {
    cache: P,
    width: usize,
    d: usize,
}

impl<P: KeyValueBlocks> Terms for Positions<P> {
    // llama.cpp has room for whole multiples of 256 positions, and weighs those after the last one with zero.
    const PADDED: bool = true;

    #[inline(always)]
    unsafe fn at(self, i: usize) -> *const f32 {
        let values = self.cache.values(i / LANES);
        values.add(i % LANES * self.width + self.d)
    }
}

/// Sums of `count` terms, `G` times with other weights, `stride` floats apart, as ggml adds them up: by its product of
/// many rows, or of two.
#[inline(always)]
unsafe fn sum<S: Simd, const G: usize>(
    terms: impl Terms,
    count: usize,
    weights: *const f32,
    stride: usize,
    alone: bool,
) -> [S; G] {
    if alone {
        sum_alone(terms, count, weights, stride)
    } else {
        sum_together(terms, count, weights, stride)
    }
}

/// Terms sixteen apart are a chain; then a tree.
#[inline(always)]
unsafe fn sum_together<S: Simd, const G: usize>(
    terms: impl Terms,
    count: usize,
    weights: *const f32,
    stride: usize,
) -> [S; G] {
    let zero = S::splat(0.0);
    let mut sums = [[zero; G]; LANES / 2];
    let mut first = 0;
    while first < LANES / 2 {
        let mut chains = [[[zero; G]; 2]; PAIRS];
        let mut from = first;
        while from < count {
            for i in 0..PAIRS {
                for side in 0..2 {
                    let at = from + i + side * LANES / 2;
                    if at < count {
                        add_term(terms, at, weights, stride, &mut chains[i][side]);
                    }
                }
            }
            from += LANES;
        }
        for i in 0..PAIRS {
            for h in 0..G {
                sums[first + i][h] = chains[i][0][h].add(chains[i][1][h]);
            }
        }
        first += PAIRS;
    }
    tree(sums)
}

/// Terms 64 apart are a chain; four vectors of them are added first. What is left over comes last, one by one in f64.
#[inline(always)]
unsafe fn sum_alone<S: Simd, T: Terms, const G: usize>(
    terms: T,
    count: usize,
    weights: *const f32,
    stride: usize,
) -> [S; G] {
    const STEP: usize = APART * LANES;
    let zero = S::splat(0.0);
    let whole = if T::PADDED {
        count
    } else {
        count / STEP * STEP
    };
    let mut sums = [[zero; G]; LANES / 2];
    for l in 0..LANES {
        let mut chains = [[zero; G]; APART];
        let mut from = l;
        while from < whole {
            for j in 0..APART {
                let at = from + j * LANES;
                if at < whole {
                    add_term(terms, at, weights, stride, &mut chains[j]);
                }
            }
            from += STEP;
        }
        let [a, b, c, d] = chains;
        for h in 0..G {
            let chain = a[h].add(c[h]).add(b[h].add(d[h]));
            let sum = &mut sums[l % (LANES / 2)][h];
            *sum = if l < LANES / 2 { chain } else { sum.add(chain) };
        }
    }
    let mut sums = tree(sums);
    if whole < count {
        for h in 0..G {
            sums[h] = left_over(terms, whole..count, weights.add(h * stride), sums[h]);
        }
    }
    sums
}

/// Adds one term to a chain of each of the sums.
#[inline(always)]
unsafe fn add_term<S: Simd, const G: usize>(
    terms: impl Terms,
    at: usize,
    weights: *const f32,
    stride: usize,
    chain: &mut [S; G],
) {
    let term = S::load(terms.at(at));
    for h in 0..G {
        chain[h] = term.fma(S::splat(*weights.add(h * stride + at)), chain[h]);
    }
}

/// The end of a sum over a tree: 8 apart is added already; then 4, 2, 1.
#[inline(always)]
unsafe fn tree<S: Simd, const G: usize>(mut sums: [[S; G]; LANES / 2]) -> [S; G] {
    let mut apart = LANES / 4;
    while apart > 0 {
        for i in 0..apart {
            for h in 0..G {
                sums[i][h] = sums[i][h].add(sums[i + apart][h]);
            }
        }
        apart /= 2;
    }
    sums[0]
}

/// Adds some terms to `sum`, rounded, one by one in f64.
#[inline(always)]
unsafe fn left_over<S: Simd>(
    terms: impl Terms,
    range: Range<usize>,
    weights: *const f32,
    sum: S,
) -> S {
    let mut lanes = [0.0f32; LANES];
    sum.store(lanes.as_mut_ptr());
    let mut exact = lanes.map(f64::from);
    for at in range {
        let product = S::load(terms.at(at)).mul(S::splat(*weights.add(at)));
        product.store(lanes.as_mut_ptr());
        for lane in 0..LANES {
            exact[lane] += f64::from(lanes[lane]);
        }
    }
    let rounded = exact.map(|x| x as f32);
    S::load(rounded.as_ptr())
}
