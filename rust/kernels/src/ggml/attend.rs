use std::ops::Range;

use super::company::Company;
use super::exponential::exp;
use crate::LANES;
use crate::attention::Places;
use crate::simd::Simd;

/// Vectors that ggml's inner product of two rows keeps apart.
const APART: usize = 4;
/// Pairs of chains, eight apart, that are added up side by side.
const PAIRS: usize = 2;
/// The widest head that attention in ggml's arithmetic takes.
pub const WIDEST: usize = 512;

/// What attention needs to know to add up as ggml does. Queries, keys and values are rounded already, see
/// [`round_to_half`], and keys stand in memory in `order`.
#[derive(Clone, Copy, Debug)]
pub struct AsGgml<'a> {
    /// The dimensions of a head in the order in which the file has them.
    pub order: &'a [u32],
    /// Tokens of the sequence that came together, as its prompt; those after them were drawn one by one.
    pub prompt: usize,
}

kernel! {
    /// Rounds `width` floats of each of `rows` rows, `step` apart, to what half precision can hold.
    pub fn round_to_half = round_to_half_body(rows: usize, width: usize, step: usize, x: &mut [f32])
}

#[inline(always)]
unsafe fn round_to_half_body<S: Simd>(rows: usize, width: usize, step: usize, x: &mut [f32]) {
    assert!(width.is_multiple_of(LANES) && crate::norm::fits(x, rows, step, width));
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
#[allow(clippy::too_many_arguments)]
pub(crate) unsafe fn attend_row<S: Simd, const G: usize>(
    as_ggml: AsGgml<'_>,
    width: usize,
    stride: usize,
    scale: f32,
    last: usize,
    places: impl Places,
    queries: *const f32,
    probability: *mut f32,
    out: *mut f32,
) {
    assert!(width <= WIDEST);
    let alone = !Company::of(last, as_ggml.prompt).twos;
    let mut ordered = [[0.0f32; WIDEST]; G];
    for h in 0..G {
        for d in 0..width {
            ordered[h][d] = *queries.add(h * width + as_ggml.order[d] as usize);
        }
    }
    let blocks = last / LANES + 1;
    let mut tops = [S::splat(f32::NEG_INFINITY); G];
    for block in 0..blocks {
        let (keys, step) = (places.keys(block), places.step());
        let mut scores = if alone {
            products_alone::<S, G>(width, keys, step, &ordered)
        } else {
            products_together::<S, G>(width, keys, step, &ordered)
        };
        let count = visible(block, last);
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
            let e = exp(S::load(at).sub(top)).first(visible(block, last), 0.0);
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
        let sums = if alone {
            values_alone::<S, G>(width, stride, d, last, places, probability)
        } else {
            values_together::<S, G>(width, stride, d, last, places, probability)
        };
        for h in 0..G {
            sums[h].store(out.add(h * width + d));
        }
        d += LANES;
    }
}

/// Positions of a block that are seen.
#[inline(always)]
fn visible(block: usize, last: usize) -> usize {
    if block == last / LANES {
        last % LANES + 1
    } else {
        LANES
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

/// The four vectors of ggml's inner product of two rows, added up as it does.
#[inline(always)]
unsafe fn joined<S: Simd>([a, b, c, d]: [S; APART]) -> S {
    a.add(c).add(b.add(d))
}

/// Inner products of queries with sixteen keys, whose dimensions lie `step` apart. Dimensions sixteen apart are a chain.
#[inline(always)]
unsafe fn products_together<S: Simd, const G: usize>(
    width: usize,
    keys: *const f32,
    step: usize,
    queries: &[[f32; WIDEST]; G],
) -> [S; G] {
    let zero = S::splat(0.0);
    let mut sums = [[zero; G]; LANES / 2];
    let mut first = 0;
    while first < LANES / 2 {
        let mut chains = [[[zero; G]; 2]; PAIRS];
        let mut d = first;
        while d < width {
            for i in 0..PAIRS {
                for side in 0..2 {
                    let at = d + i + side * LANES / 2;
                    let key = S::load(keys.add(at * step));
                    for h in 0..G {
                        let query = S::splat(*queries[h].get_unchecked(at));
                        chains[i][side][h] = key.fma(query, chains[i][side][h]);
                    }
                }
            }
            d += LANES;
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

/// As [`products_together`], by the kernel for two rows: four vectors of chains, what is left over one by one in f64.
#[inline(always)]
unsafe fn products_alone<S: Simd, const G: usize>(
    width: usize,
    keys: *const f32,
    step: usize,
    queries: &[[f32; WIDEST]; G],
) -> [S; G] {
    const STEP: usize = APART * LANES;
    let zero = S::splat(0.0);
    let whole = width / STEP * STEP;
    let mut sums = [[zero; G]; LANES / 2];
    for l in 0..LANES {
        let mut chains = [[zero; APART]; G];
        let mut d = l;
        while d < whole {
            for j in 0..APART {
                let at = d + j * LANES;
                let key = S::load(keys.add(at * step));
                for h in 0..G {
                    let query = S::splat(*queries[h].get_unchecked(at));
                    chains[h][j] = key.fma(query, chains[h][j]);
                }
            }
            d += STEP;
        }
        for h in 0..G {
            let sum = &mut sums[l % (LANES / 2)][h];
            let chain = joined(chains[h]);
            *sum = if l < LANES / 2 { chain } else { sum.add(chain) };
        }
    }
    let mut sums = tree(sums);
    if whole < width {
        for h in 0..G {
            sums[h] = left_over(whole..width, keys, step, &queries[h], sums[h]);
        }
    }
    sums
}

/// Adds the products of some dimensions to `sum` one by one in f64.
#[inline(always)]
unsafe fn left_over<S: Simd>(
    dimensions: Range<usize>,
    keys: *const f32,
    step: usize,
    query: &[f32; WIDEST],
    sum: S,
) -> S {
    let mut lanes = [0.0f32; LANES];
    sum.store(lanes.as_mut_ptr());
    let mut exact = [0.0f64; LANES];
    for lane in 0..LANES {
        exact[lane] = f64::from(lanes[lane]);
    }
    for d in dimensions {
        let products = S::load(keys.add(d * step)).mul(S::splat(query[d]));
        products.store(lanes.as_mut_ptr());
        for lane in 0..LANES {
            exact[lane] += f64::from(lanes[lane]);
        }
    }
    for lane in 0..LANES {
        lanes[lane] = exact[lane] as f32;
    }
    S::load(lanes.as_ptr())
}

/// Sixteen dimensions of the values, weighted: positions sixteen apart are a chain.
#[inline(always)]
unsafe fn values_together<S: Simd, const G: usize>(
    width: usize,
    stride: usize,
    d: usize,
    last: usize,
    places: impl Places,
    probability: *const f32,
) -> [S; G] {
    let zero = S::splat(0.0);
    let mut sums = [[zero; G]; LANES / 2];
    let mut first = 0;
    while first < LANES / 2 {
        let mut chains = [[[zero; G]; 2]; PAIRS];
        for block in 0..=last / LANES {
            let (values, weights) = (places.values(block), probability.add(block * LANES));
            let count = visible(block, last);
            for i in 0..PAIRS {
                for side in 0..2 {
                    let t = first + i + side * LANES / 2;
                    if t < count {
                        let value = S::load(values.add(t * width + d));
                        for h in 0..G {
                            let weight = S::splat(*weights.add(h * stride + t));
                            chains[i][side][h] = weight.fma(value, chains[i][side][h]);
                        }
                    }
                }
            }
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

/// As [`values_together`], by the kernel for two rows: positions 64 apart are a chain.
#[inline(always)]
unsafe fn values_alone<S: Simd, const G: usize>(
    width: usize,
    stride: usize,
    d: usize,
    last: usize,
    places: impl Places,
    probability: *const f32,
) -> [S; G] {
    let zero = S::splat(0.0);
    let blocks = last / LANES + 1;
    let mut sums = [[zero; G]; LANES / 2];
    for t in 0..LANES {
        let mut chains = [[zero; APART]; G];
        let mut first = 0;
        while first < blocks {
            for j in 0..APART {
                let block = first + j;
                if block < blocks && t < visible(block, last) {
                    let value = S::load(places.values(block).add(t * width + d));
                    for h in 0..G {
                        let at = h * stride + block * LANES + t;
                        let weight = S::splat(*probability.add(at));
                        chains[h][j] = weight.fma(value, chains[h][j]);
                    }
                }
            }
            first += APART;
        }
        for h in 0..G {
            let sum = &mut sums[t % (LANES / 2)][h];
            let chain = joined(chains[h]);
            *sum = if t < LANES / 2 { chain } else { sum.add(chain) };
        }
    }
    tree(sums)
}
