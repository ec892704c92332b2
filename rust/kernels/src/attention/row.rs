//! A query row in our own arithmetic: chains of fused multiply-adds, two for a score and two for a value.

use super::forward::{KeyValueBlocks, Queries, Row, RowKernel};
use super::{Heads, products};
use crate::LANES;
use crate::simd::{Simd, exp};

/// All keys up to the last.
pub(super) struct Own;

impl RowKernel for Own {
    fn check(_: Heads, queries: Queries<'_>) {
        assert!(queries.order.is_empty(), "keys stand in their own order");
    }

    #[inline(always)]
    unsafe fn attend<S: Simd, const G: usize>(
        row: Row<'_>,
        cache: impl KeyValueBlocks,
        query: *const f32,
        probability: *mut f32,
        out: *mut f32,
    ) {
        attend_row::<S, G, false>(row, cache, query, probability, out);
    }
}

/// The same within a [`super::Reach`].
pub(super) struct Within;

impl RowKernel for Within {
    fn check(heads: Heads, queries: Queries<'_>) {
        Own::check(heads, queries);
    }

    #[inline(always)]
    unsafe fn attend<S: Simd, const G: usize>(
        row: Row<'_>,
        cache: impl KeyValueBlocks,
        query: *const f32,
        probability: *mut f32,
        out: *mut f32,
    ) {
        attend_row::<S, G, true>(row, cache, query, probability, out);
    }
}

/// Puts `fill` in the first `count` of the sixteen numbers at `at`.
#[inline(always)]
unsafe fn hide(at: *mut f32, count: usize, fill: f32) {
    for lane in 0..count {
        *at.add(lane) = fill;
    }
}

/// `G` heads of one query row; `WITHIN`: not of all keys up to the last, or with sinks.
#[inline(always)]
unsafe fn attend_row<S: Simd, const G: usize, const WITHIN: bool>(
    row: Row<'_>,
    cache: impl KeyValueBlocks,
    query: *const f32,
    probability: *mut f32,
    out: *mut f32,
) {
    let Row {
        width,
        stride,
        scale,
        last,
        ..
    } = row;
    let first = if WITHIN { row.first } else { 0 };
    let sinks: &[f32] = if WITHIN { row.sinks } else { &[] };
    let (start, hidden) = (first / LANES, first % LANES);
    let zero = S::splat(0.0);
    let blocks = last / LANES + 1;
    let visible = last % LANES + 1;
    let mut tops = [S::splat(f32::NEG_INFINITY); G];
    for block in start..blocks {
        let mut scores = products::<S, G>(width, cache.step(), cache.keys(block), query, width);
        let count = if block + 1 == blocks { visible } else { LANES };
        for h in 0..G {
            scores[h] = scores[h]
                .mul(S::splat(scale))
                .first(count, f32::NEG_INFINITY);
            let at = probability.add(h * stride + block * LANES);
            if WITHIN && block == start && hidden > 0 {
                scores[h].store(at);
                hide(at, hidden, f32::NEG_INFINITY);
                scores[h] = S::load(at);
            }
            tops[h] = scores[h].max(tops[h]);
            scores[h].store(at);
        }
    }
    for (h, top) in tops.iter().enumerate() {
        let sink = sinks.get(row.head + h).copied();
        let top = S::splat(sink.map_or(top.maximum(), |sink| top.maximum().max(sink)));
        let row = probability.add(h * stride);
        let mut sum = zero;
        for block in start..blocks {
            let count = if block + 1 == blocks { visible } else { LANES };
            let at = row.add(block * LANES);
            let mut e = exp(S::load(at).sub(top)).first(count, 0.0);
            e.store(at);
            if WITHIN && block == start && hidden > 0 {
                hide(at, hidden, 0.0);
                e = S::load(at);
            }
            sum = sum.add(e);
        }
        let sink = sink.map_or(0.0, |sink| exp(S::splat(sink).sub(top)).maximum());
        let share = S::splat(1.0 / (sum.sum() + sink));
        for block in start..blocks {
            let at = row.add(block * LANES);
            S::load(at).mul(share).store(at);
        }
    }
    let mut d = 0;
    while d < width {
        // Two chains, even and odd positions, hide the latency of the fused multiply-add.
        let (mut even, mut odd) = ([zero; G], [zero; G]);
        for block in start..blocks {
            let count = if block + 1 == blocks { visible } else { LANES };
            let (values, row) = (cache.values(block), probability.add(block * LANES));
            let mut t = 0;
            while t + 2 <= count {
                let (value, next) = (
                    S::load(values.add(t * width + d)),
                    S::load(values.add((t + 1) * width + d)),
                );
                for h in 0..G {
                    even[h] = S::splat(*row.add(h * stride + t)).fma(value, even[h]);
                    odd[h] = S::splat(*row.add(h * stride + t + 1)).fma(next, odd[h]);
                }
                t += 2;
            }
            if t < count {
                let value = S::load(values.add(t * width + d));
                for h in 0..G {
                    even[h] = S::splat(*row.add(h * stride + t)).fma(value, even[h]);
                }
            }
        }
        for h in 0..G {
            even[h].add(odd[h]).store(out.add(h * width + d));
        }
        d += LANES;
    }
}
