//! Attention forward: scores, probabilities, and the values they weigh.

use super::{Block, Heads, Memory, products};
use crate::LANES;
use crate::ggml::{AsGgml, Company, attend_row as attend_row_as_ggml};
use crate::simd::{Simd, exp};

kernel! {
    /// As [`attend`] without keeping, over a sequence in blocks: `last` and `out` are of one or more rows of it.
    ///
    /// `scratch` has room for (query heads, positions rounded up to blocks). `as_ggml`: in ggml's arithmetic.
    pub fn attend_blocks = attend_blocks_body(heads: Heads, blocks: &[Block], layer: usize, last: &[u32], queries: &[f32], as_ggml: Option<AsGgml<'_>>, scratch: &mut [f32], out: &mut [f32])
}

kernel! {
    /// Attends from each query row to positions 0..=`last[row]`.
    ///
    /// `queries` and `out` are (rows, query heads × width). `probabilities` is (rows, query heads, stride) if
    /// `keep`, else scratch for one row. `as_ggml`: in ggml's arithmetic.
    pub fn attend = attend_body(heads: Heads, memory: Memory<'_>, last: &[u32], queries: &[f32], as_ggml: Option<AsGgml<'_>>, probabilities: &mut [f32], keep: bool, out: &mut [f32])
}

/// Where a key head's keys and values lie, sixteen positions at a time.
pub(crate) trait Places: Copy {
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

impl Places for Whole {
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
    blocks: &'a [Block],
    keys: usize,
    values: usize,
}

impl Places for InBlocks<'_> {
    #[inline(always)]
    unsafe fn keys(self, block: usize) -> *const f32 {
        self.blocks
            .get_unchecked(block)
            .as_ptr()
            .add(self.keys)
            .cast()
    }

    #[inline(always)]
    unsafe fn values(self, block: usize) -> *const f32 {
        self.blocks
            .get_unchecked(block)
            .as_ptr()
            .add(self.values)
            .cast()
    }

    #[inline(always)]
    fn step(self) -> usize {
        LANES
    }
}

fn check_order(heads: Heads, as_ggml: Option<AsGgml<'_>>) {
    if let Some(AsGgml { order, .. }) = as_ggml {
        let inside = order.iter().all(|&d| (d as usize) < heads.width);
        assert!(order.len() == heads.width && inside);
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn attend_blocks_body<S: Simd>(
    heads: Heads,
    blocks: &[Block],
    layer: usize,
    last: &[u32],
    queries: &[f32],
    as_ggml: Option<AsGgml<'_>>,
    scratch: &mut [f32],
    out: &mut [f32],
) {
    let (width, group, lines) = (heads.width, heads.group(), heads.lines());
    let row_width = heads.queries * width;
    let stride = blocks.len() * LANES;
    assert!(width.is_multiple_of(LANES));
    assert!(last.iter().all(|&t| (t as usize) < stride));
    assert!(blocks.iter().all(|b| b.len() >= (layer + 1) * lines));
    assert!(queries.len() >= last.len() * row_width && out.len() >= last.len() * row_width);
    assert!(scratch.len() >= heads.queries * stride);
    check_order(heads, as_ggml);
    for key_head in 0..heads.keys {
        let keys = layer * lines + key_head * width;
        let places = InBlocks {
            blocks,
            keys,
            values: keys + lines / 2,
        };
        let (at, row) = (key_head * group * width, key_head * group * stride);
        attend_rows::<S>(
            heads,
            stride,
            last,
            places,
            queries.as_ptr().add(at),
            as_ggml,
            scratch.as_mut_ptr().add(row),
            0,
            out.as_mut_ptr().add(at),
        );
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn attend_body<S: Simd>(
    heads: Heads,
    memory: Memory<'_>,
    last: &[u32],
    queries: &[f32],
    as_ggml: Option<AsGgml<'_>>,
    probabilities: &mut [f32],
    keep: bool,
    out: &mut [f32],
) {
    memory.check(heads, last);
    let (width, stride, group) = (heads.width, memory.stride, heads.group());
    let row_width = heads.queries * width;
    assert!(queries.len() >= last.len() * row_width && out.len() >= last.len() * row_width);
    let kept = if keep { last.len() } else { 1 };
    assert!(probabilities.len() >= kept * heads.queries * stride);
    check_order(heads, as_ggml);
    for key_head in 0..heads.keys {
        let places = Whole {
            keys: memory.keys.as_ptr().add(key_head * width * stride),
            values: memory.values.as_ptr().add(key_head * width * stride),
            stride,
            width,
        };
        let (at, row) = (key_head * group * width, key_head * group * stride);
        attend_rows::<S>(
            heads,
            stride,
            last,
            places,
            queries.as_ptr().add(at),
            as_ggml,
            probabilities.as_mut_ptr().add(row),
            if keep { heads.queries * stride } else { 0 },
            out.as_mut_ptr().add(at),
        );
    }
}

/// Every query row's heads that share a key head; probabilities of a head are `stride` floats apart, of a row `kept`.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn attend_rows<S: Simd>(
    heads: Heads,
    stride: usize,
    last: &[u32],
    places: impl Places,
    queries: *const f32,
    as_ggml: Option<AsGgml<'_>>,
    probabilities: *mut f32,
    kept: usize,
    out: *mut f32,
) {
    let (width, group, scale) = (heads.width, heads.group(), heads.scale);
    for (row, &last) in last.iter().enumerate() {
        let (at, last) = (row * heads.queries * width, last as usize);
        let (query, out) = (queries.add(at), out.add(at));
        let probability = probabilities.add(row * kept);
        if let Some(as_ggml) = as_ggml {
            let alone = Company::alone(as_ggml.company, row);
            head_blocks!(group, head => attend_row_as_ggml::<S>(
                as_ggml.order,
                alone,
                width,
                stride,
                scale,
                last,
                places,
                query.add(head * width),
                probability.add(head * stride),
                out.add(head * width),
            ));
        } else {
            head_blocks!(group, head => attend_row::<S>(
                width,
                stride,
                scale,
                last,
                places,
                query.add(head * width),
                probability.add(head * stride),
                out.add(head * width),
            ));
        }
    }
}

/// `G` heads of one query row.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn attend_row<S: Simd, const G: usize>(
    width: usize,
    stride: usize,
    scale: f32,
    last: usize,
    places: impl Places,
    query: *const f32,
    probability: *mut f32,
    out: *mut f32,
) {
    let zero = S::splat(0.0);
    let blocks = last / LANES + 1;
    let visible = last % LANES + 1;
    let mut tops = [S::splat(f32::NEG_INFINITY); G];
    for block in 0..blocks {
        let mut scores = products::<S, G>(width, places.step(), places.keys(block), query, width);
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
            let (values, row) = (places.values(block), probability.add(block * LANES));
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
