//! Attention forward: scores, probabilities, and the values they weigh.

use super::{Heads, KeyValues, Line, products};
use crate::LANES;
use crate::batch_class::BatchClass;
use crate::simd::{Simd, exp};

/// Query rows of one sequence.
#[derive(Clone, Copy)]
pub struct Queries<'a> {
    /// (rows, query heads × width), rotated.
    pub values: &'a [f32],
    /// The last position that each row sees.
    pub last: &'a [u32],
    /// The batch class of each row, which ggml's arithmetic depends on; empty if every row is alone.
    pub classes: &'a [BatchClass],
    /// Which dimension of a key stands where in the cache, as ggml's arithmetic adds them up; empty if each in its own place.
    pub order: &'a [u32],
}

kernel! {
    /// As [`attend`] without keeping, over a sequence in blocks, of which `layer` counts: rows are one or more of it.
    ///
    /// `scratch` has room for (query heads, positions rounded up to blocks).
    pub fn attend_blocks = attend_blocks_body(heads: Heads, blocks: &[&[Line]], layer: usize, queries: Queries<'_>, scratch: &mut [f32], out: &mut [f32])
}

kernel! {
    /// Attends from each query row to positions 0..=`last[row]`.
    ///
    /// `out` is (rows, query heads × width); `probabilities` is (rows, query heads, stride) if `keep`, else scratch for
    /// one row.
    pub fn attend = attend_body(heads: Heads, cache: KeyValues<'_>, queries: Queries<'_>, probabilities: &mut [f32], keep: bool, out: &mut [f32])
}

/// The arithmetic of a query row.
pub(crate) trait RowKernel {
    /// Panics if the queries are not such as this arithmetic takes.
    fn check(heads: Heads, queries: Queries<'_>);

    /// `G` heads of one row, which share a key head; `probability` is left as it was used.
    unsafe fn attend<S: Simd, const G: usize>(
        row: Row<'_>,
        cache: impl KeyValueBlocks,
        query: *const f32,
        probability: *mut f32,
        out: *mut f32,
    );
}

/// One query row.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    /// Of a head.
    pub width: usize,
    /// From a head's probabilities to the next one's.
    pub stride: usize,
    pub scale: f32,
    /// The last position that it sees.
    pub last: usize,
    pub alone: bool,
    pub order: &'a [u32],
}

/// A key head's keys and values, sixteen positions at a time.
pub(crate) trait KeyValueBlocks: Copy {
    /// A block's keys: one dimension after another, [`Self::step`] floats apart.
    unsafe fn keys(self, block: usize) -> *const f32;
    /// Its values, row after row.
    unsafe fn values(self, block: usize) -> *const f32;
    fn step(self) -> usize;
}

/// A whole sequence side by side.
#[derive(Clone, Copy)]
struct Whole {
    keys: *const f32,
    values: *const f32,
    stride: usize,
    width: usize,
}

impl KeyValueBlocks for Whole {
    #[inline(always)]
    unsafe fn keys(self, block: usize) -> *const f32 {
        self.keys.add(block * LANES)
    }

    #[inline(always)]
    unsafe fn values(self, block: usize) -> *const f32 {
        self.values.add(block * LANES * self.width)
    }

    #[inline(always)]
    fn step(self) -> usize {
        self.stride
    }
}

/// A sequence in blocks; offsets are in lines.
#[derive(Clone, Copy)]
struct InBlocks<'a> {
    blocks: &'a [&'a [Line]],
    keys: usize,
    values: usize,
}

impl KeyValueBlocks for InBlocks<'_> {
    #[inline(always)]
    unsafe fn keys(self, block: usize) -> *const f32 {
        let block = self.blocks.get_unchecked(block).as_ptr();
        block.add(self.keys).cast()
    }

    #[inline(always)]
    unsafe fn values(self, block: usize) -> *const f32 {
        let block = self.blocks.get_unchecked(block).as_ptr();
        block.add(self.values).cast()
    }

    #[inline(always)]
    fn step(self) -> usize {
        LANES
    }
}

#[inline(always)]
unsafe fn attend_blocks_body<S: Simd>(
    heads: Heads,
    blocks: &[&[Line]],
    layer: usize,
    queries: Queries<'_>,
    scratch: &mut [f32],
    out: &mut [f32],
) {
    attend_blocks_with::<S, Own>(heads, blocks, layer, queries, scratch, out);
}

#[inline(always)]
unsafe fn attend_body<S: Simd>(
    heads: Heads,
    cache: KeyValues<'_>,
    queries: Queries<'_>,
    probabilities: &mut [f32],
    keep: bool,
    out: &mut [f32],
) {
    attend_with::<S, Own>(heads, cache, queries, probabilities, keep, out);
}

#[inline(always)]
pub(crate) unsafe fn attend_blocks_with<S: Simd, K: RowKernel>(
    heads: Heads,
    blocks: &[&[Line]],
    layer: usize,
    queries: Queries<'_>,
    scratch: &mut [f32],
    out: &mut [f32],
) {
    let (width, group, lines) = (heads.width, heads.group(), heads.lines());
    let stride = blocks.len() * LANES;
    assert!(blocks.iter().all(|b| b.len() >= (layer + 1) * lines));
    assert!(scratch.len() >= heads.queries * stride);
    check::<K>(heads, stride, queries, out);
    for key_head in 0..heads.keys {
        let keys = layer * lines + key_head * width;
        let cache = InBlocks {
            blocks,
            keys,
            values: keys + lines / 2,
        };
        let row = key_head * group * stride;
        let probabilities = scratch.as_mut_ptr().add(row);
        attend_rows::<S, K>(
            heads,
            stride,
            queries,
            key_head,
            cache,
            probabilities,
            0,
            out,
        );
    }
}

#[inline(always)]
pub(crate) unsafe fn attend_with<S: Simd, K: RowKernel>(
    heads: Heads,
    cache: KeyValues<'_>,
    queries: Queries<'_>,
    probabilities: &mut [f32],
    keep: bool,
    out: &mut [f32],
) {
    cache.check(heads);
    let (width, stride, group) = (heads.width, cache.stride, heads.group());
    let kept = if keep { queries.last.len() } else { 1 };
    assert!(probabilities.len() >= kept * heads.queries * stride);
    check::<K>(heads, stride, queries, out);
    for key_head in 0..heads.keys {
        let whole = Whole {
            keys: cache.keys.as_ptr().add(key_head * width * stride),
            values: cache.values.as_ptr().add(key_head * width * stride),
            stride,
            width,
        };
        let row = key_head * group * stride;
        let probabilities = probabilities.as_mut_ptr().add(row);
        let kept = if keep { heads.queries * stride } else { 0 };
        attend_rows::<S, K>(
            heads,
            stride,
            queries,
            key_head,
            whole,
            probabilities,
            kept,
            out,
        );
    }
}

fn check<K: RowKernel>(heads: Heads, stride: usize, queries: Queries<'_>, out: &[f32]) {
    let (rows, row_width) = (queries.last.len(), heads.queries * heads.width);
    assert!(heads.width.is_multiple_of(LANES));
    assert!(queries.last.iter().all(|&t| (t as usize) < stride));
    assert!(queries.values.len() >= rows * row_width && out.len() >= rows * row_width);
    K::check(heads, queries);
}

/// Every query row's heads that share a key head; probabilities of a row are `kept` floats apart.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn attend_rows<S: Simd, K: RowKernel>(
    heads: Heads,
    stride: usize,
    queries: Queries<'_>,
    key_head: usize,
    cache: impl KeyValueBlocks,
    probabilities: *mut f32,
    kept: usize,
    out: &mut [f32],
) {
    let (width, group) = (heads.width, heads.group());
    for (index, &last) in queries.last.iter().enumerate() {
        let at = (index * heads.queries + key_head * group) * width;
        let (query, out) = (queries.values.as_ptr().add(at), out.as_mut_ptr().add(at));
        let probability = probabilities.add(index * kept);
        let row = Row {
            width,
            stride,
            scale: heads.scale,
            last: last as usize,
            alone: BatchClass::alone(queries.classes, index),
            order: queries.order,
        };
        head_blocks!(group, head => attend_heads::<S, K>(
            row,
            cache,
            query.add(head * width),
            probability.add(head * stride),
            out.add(head * width),
        ));
    }
}

#[inline(always)]
unsafe fn attend_heads<S: Simd, K: RowKernel, const G: usize>(
    row: Row<'_>,
    cache: impl KeyValueBlocks,
    query: *const f32,
    probability: *mut f32,
    out: *mut f32,
) {
    K::attend::<S, G>(row, cache, query, probability, out);
}

/// Chains of fused multiply-adds, two for a score and two for a value.
struct Own;

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
        attend_row::<S, G>(row, cache, query, probability, out);
    }
}

/// `G` heads of one query row.
#[inline(always)]
unsafe fn attend_row<S: Simd, const G: usize>(
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
    let zero = S::splat(0.0);
    let blocks = last / LANES + 1;
    let visible = last % LANES + 1;
    let mut tops = [S::splat(f32::NEG_INFINITY); G];
    for block in 0..blocks {
        let mut scores = products::<S, G>(width, cache.step(), cache.keys(block), query, width);
        let count = if block + 1 == blocks { visible } else { LANES };
        for h in 0..G {
            scores[h] = scores[h]
                .mul(S::splat(scale))
                .first(count, f32::NEG_INFINITY);
            tops[h] = scores[h].max(tops[h]);
            scores[h].store(probability.add(h * stride + block * LANES));
        }
    }
    for (h, top) in tops.iter().enumerate() {
        let top = S::splat(top.maximum());
        let row = probability.add(h * stride);
        let mut sum = zero;
        for block in 0..blocks {
            let count = if block + 1 == blocks { visible } else { LANES };
            let at = row.add(block * LANES);
            let e = exp(S::load(at).sub(top)).first(count, 0.0);
            e.store(at);
            sum = sum.add(e);
        }
        let share = S::splat(1.0 / sum.sum());
        for block in 0..blocks {
            let at = row.add(block * LANES);
            S::load(at).mul(share).store(at);
        }
    }
    let mut d = 0;
    while d < width {
        // Two chains, even and odd positions, hide the latency of the fused multiply-add.
        let (mut even, mut odd) = ([zero; G], [zero; G]);
        for block in 0..blocks {
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
