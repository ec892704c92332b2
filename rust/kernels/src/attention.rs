//! Causal attention with grouped heads: the query heads that share a key head are computed together.
//!
//! Keys are stored transposed, (key heads, head, stride), so that a vector holds sixteen positions of one
//! dimension; values are (key heads, stride, head). Training lays a whole sequence out so; generation keeps it in
//! [`Block`]s of sixteen positions, which sequences may share. Both give the same bits.

use std::sync::Arc;

use crate::LANES;
use crate::simd::{Simd, exp};

/// Sixteen floats that lie in one line of the processor's cache.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
pub struct Line(pub [f32; LANES]);

/// Keys and values of [`LANES`] positions in every layer; each layer has [`Heads::lines`] of it.
///
/// A layer's part is its keys, (key heads, head width) lines of one position a lane, then its values,
/// (key heads, positions, head width).
pub type Block = Arc<[Line]>;

/// A block of zeros for so many layers.
pub fn block(heads: Heads, layers: usize) -> Block {
    std::iter::repeat_n(Line([0.0; LANES]), layers * heads.lines()).collect()
}

/// Head counts and widths.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// Query heads.
    pub queries: usize,
    /// Key and value heads; divides `queries`.
    pub keys: usize,
    /// Padded width of one head.
    pub width: usize,
    /// What scores are multiplied by, 1/√(true width).
    pub scale: f32,
}

impl Heads {
    fn group(self) -> usize {
        self.queries / self.keys
    }

    /// Lines of a [`Block`] that one layer has.
    pub fn lines(self) -> usize {
        2 * self.keys * self.width
    }
}

/// Keys and values of one sequence.
#[derive(Clone, Copy)]
pub struct Memory<'a> {
    /// (key heads, head width, stride); lanes past the last position must be finite.
    pub keys: &'a [f32],
    /// (key heads, stride, head width).
    pub values: &'a [f32],
    /// Positions there is room for, a multiple of [`LANES`].
    pub stride: usize,
}

impl Memory<'_> {
    fn check(&self, heads: Heads, last: &[u32]) {
        let room = heads.keys * heads.width * self.stride;
        assert!(heads.width.is_multiple_of(LANES) && self.stride.is_multiple_of(LANES));
        assert!(self.keys.len() >= room && self.values.len() >= room);
        assert!(last.iter().all(|&t| (t as usize) < self.stride));
    }
}

/// Writes the key and value rows of one sequence, from position `at` on, into its memory.
///
/// `keys` and `values` are rows of `heads.keys * heads.width` floats that begin `step` floats apart.
#[allow(clippy::too_many_arguments)]
pub fn remember(
    heads: Heads,
    rows: usize,
    at: usize,
    (keys, key_step): (&[f32], usize),
    (values, value_step): (&[f32], usize),
    stride: usize,
    key_memory: &mut [f32],
    value_memory: &mut [f32],
) {
    assert!(at + rows <= stride);
    for head in 0..heads.keys {
        let start = head * heads.width * stride;
        let key_memory = &mut key_memory[start..][..heads.width * stride];
        let value_memory = &mut value_memory[start..][..heads.width * stride];
        for row in 0..rows {
            let key = &keys[row * key_step + head * heads.width..][..heads.width];
            for (d, &x) in key.iter().enumerate() {
                key_memory[d * stride + at + row] = x;
            }
            let value = &values[row * value_step + head * heads.width..][..heads.width];
            value_memory[(at + row) * heads.width..][..heads.width].copy_from_slice(value);
        }
    }
}

/// Writes the key and value of one position, each `heads.keys * heads.width` floats, into a layer's part of its block.
///
/// `place` is the position's in the block.
pub fn remember_in_block(
    heads: Heads,
    layer: usize,
    place: usize,
    key: &[f32],
    value: &[f32],
    block: &mut [Line],
) {
    let (width, half) = (heads.width, heads.lines() / 2);
    let (keys, values) = block[layer * 2 * half..][..2 * half].split_at_mut(half);
    for (line, &x) in keys.iter_mut().zip(&key[..half]) {
        line.0[place] = x;
    }
    let lines = width / LANES;
    for (head, value) in value[..half].chunks_exact(width).enumerate() {
        let at = (head * LANES + place) * lines;
        for (line, value) in values[at..].iter_mut().zip(value.chunks_exact(LANES)) {
            line.0.copy_from_slice(value);
        }
    }
}

kernel! {
    /// As [`attend`] without keeping, over a sequence in blocks: `last` and `out` are of one or more rows of it.
    ///
    /// `scratch` has room for (query heads, positions rounded up to blocks).
    pub fn attend_blocks = attend_blocks_body(heads: Heads, blocks: &[Block], layer: usize, last: &[u32], queries: &[f32], scratch: &mut [f32], out: &mut [f32])
}

kernel! {
    /// Attends from each query row to positions 0..=`last[row]`.
    ///
    /// `queries` and `out` are (rows, query heads × width). `probabilities` is (rows, query heads, stride) if
    /// `keep`, else scratch for one row.
    pub fn attend = attend_body(heads: Heads, memory: Memory<'_>, last: &[u32], queries: &[f32], probabilities: &mut [f32], keep: bool, out: &mut [f32])
}

/// What the backward pass of one sequence reads.
#[derive(Clone, Copy)]
pub struct Saved<'a> {
    /// Rotated keys, rows of key heads × width.
    pub keys: &'a [f32],
    /// Values transposed, (key heads, head width, stride).
    pub values: &'a [f32],
    /// Rotated queries (rows, query heads × width).
    pub queries: &'a [f32],
    /// (rows, query heads, stride), as [`attend`] kept them.
    pub probabilities: &'a [f32],
    pub stride: usize,
}

kernel! {
    /// Gradients of [`attend`]: `dqueries` is written, `dkeys` and `dvalues` accumulate.
    ///
    /// `dkeys` has rows of key heads × width, `dvalues` the same rows `dvalue_step` floats apart. `scratch` grows once.
    pub fn attend_backward = attend_backward_body(heads: Heads, saved: Saved<'_>, last: &[u32], dout: &[f32], dqueries: &mut [f32], dkeys: &mut [f32], dvalues: &mut [f32], dvalue_step: usize, scratch: &mut Vec<f32>)
}

/// Calls `$each::<S, G>(..., first head of the block)` for blocks of 4, 2 and 1 heads of a group.
macro_rules! head_blocks {
    ($group:expr, $head:ident => $each:ident::<$S:ident>($($argument:expr),* $(,)?)) => {{
        let mut $head = 0;
        while $head < $group {
            match $group - $head {
                1 => { $each::<$S, 1>($($argument),*); $head += 1; }
                2 | 3 => { $each::<$S, 2>($($argument),*); $head += 2; }
                _ => { $each::<$S, 4>($($argument),*); $head += 4; }
            }
        }
    }};
}

/// Where a key head's keys and values lie, sixteen positions at a time.
trait Places: Copy {
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

#[inline(always)]
unsafe fn attend_blocks_body<S: Simd>(
    heads: Heads,
    blocks: &[Block],
    layer: usize,
    last: &[u32],
    queries: &[f32],
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
    for key_head in 0..heads.keys {
        let keys = layer * lines + key_head * width;
        let places = InBlocks {
            blocks,
            keys,
            values: keys + lines / 2,
        };
        for (row, &last) in last.iter().enumerate() {
            head_blocks!(group, head => attend_row::<S>(
                width,
                stride,
                heads.scale,
                last as usize,
                places,
                queries.as_ptr().add(row * row_width + (key_head * group + head) * width),
                scratch.as_mut_ptr().add((key_head * group + head) * stride),
                out.as_mut_ptr().add(row * row_width + (key_head * group + head) * width),
            ));
        }
    }
}

#[inline(always)]
unsafe fn attend_body<S: Simd>(
    heads: Heads,
    memory: Memory<'_>,
    last: &[u32],
    queries: &[f32],
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
    for key_head in 0..heads.keys {
        let places = Whole {
            keys: memory.keys.as_ptr().add(key_head * width * stride),
            values: memory.values.as_ptr().add(key_head * width * stride),
            stride,
            width,
        };
        for (row, &last) in last.iter().enumerate() {
            let kept = if keep { row } else { 0 };
            head_blocks!(group, head => attend_row::<S>(
                width,
                stride,
                heads.scale,
                last as usize,
                places,
                queries.as_ptr().add(row * row_width + (key_head * group + head) * width),
                probabilities.as_mut_ptr().add((kept * heads.queries + key_head * group + head) * stride),
                out.as_mut_ptr().add(row * row_width + (key_head * group + head) * width),
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

/// Inner products of `G` rows (`step` apart) with sixteen transposed columns.
#[inline(always)]
unsafe fn products<S: Simd, const G: usize>(
    width: usize,
    stride: usize,
    columns: *const f32,
    rows: *const f32,
    step: usize,
) -> [S; G] {
    let zero = S::splat(0.0);
    let (mut even, mut odd) = ([zero; G], [zero; G]);
    let mut d = 0;
    while d < width {
        let (one, two) = (
            S::load(columns.add(d * stride)),
            S::load(columns.add((d + 1) * stride)),
        );
        for h in 0..G {
            even[h] = S::splat(*rows.add(h * step + d)).fma(one, even[h]);
            odd[h] = S::splat(*rows.add(h * step + d + 1)).fma(two, odd[h]);
        }
        d += 2;
    }
    for h in 0..G {
        even[h] = even[h].add(odd[h]);
    }
    even
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn attend_backward_body<S: Simd>(
    heads: Heads,
    saved: Saved<'_>,
    last: &[u32],
    dout: &[f32],
    dqueries: &mut [f32],
    dkeys: &mut [f32],
    dvalues: &mut [f32],
    dvalue_step: usize,
    scratch: &mut Vec<f32>,
) {
    let (width, stride, group) = (heads.width, saved.stride, heads.group());
    let (row_width, key_width) = (heads.queries * width, heads.keys * width);
    let rows = last.len();
    let positions = last.iter().map(|&t| t as usize + 1).max().unwrap_or(0);
    assert!(positions <= stride && stride.is_multiple_of(LANES) && width.is_multiple_of(LANES));
    assert!(saved.queries.len() >= rows * row_width && saved.keys.len() >= positions * key_width);
    assert!(saved.values.len() >= key_width * stride);
    assert!(saved.probabilities.len() >= rows * heads.queries * stride);
    assert!(dout.len() >= rows * row_width && dqueries.len() >= rows * row_width);
    assert!(dkeys.len() >= positions * key_width);
    assert!(positions == 0 || dvalues.len() >= (positions - 1) * dvalue_step + key_width);
    if scratch.len() < 4 * stride {
        scratch.resize(4 * stride, 0.0);
    }
    for key_head in 0..heads.keys {
        for (row, &last) in last.iter().enumerate() {
            head_blocks!(group, head => backward_row::<S>(
                Row { width, stride, key_width, dvalue_step, scale: heads.scale, last: last as usize },
                saved.keys.as_ptr().add(key_head * width),
                saved.values.as_ptr().add(key_head * width * stride),
                saved.queries.as_ptr().add(row * row_width + (key_head * group + head) * width),
                saved.probabilities.as_ptr().add((row * heads.queries + key_head * group + head) * stride),
                dout.as_ptr().add(row * row_width + (key_head * group + head) * width),
                dqueries.as_mut_ptr().add(row * row_width + (key_head * group + head) * width),
                dkeys.as_mut_ptr().add(key_head * width),
                dvalues.as_mut_ptr().add(key_head * width),
                scratch.as_mut_ptr(),
            ));
        }
    }
}

#[derive(Clone, Copy)]
struct Row {
    width: usize,
    stride: usize,
    key_width: usize,
    dvalue_step: usize,
    scale: f32,
    last: usize,
}

/// `G` heads of one query row: dS = P ∘ (dP − Σ dP∘P), then dq, dk and dv.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn backward_row<S: Simd, const G: usize>(
    row: Row,
    keys: *const f32,
    values: *const f32,
    query: *const f32,
    probability: *const f32,
    dout: *const f32,
    dquery: *mut f32,
    dkeys: *mut f32,
    dvalues: *mut f32,
    dscore: *mut f32,
) {
    let Row {
        width,
        stride,
        key_width,
        dvalue_step,
        scale,
        last,
    } = row;
    let zero = S::splat(0.0);
    let blocks = last / LANES + 1;
    // Probabilities past `last` in the last block are zero, so those lanes drop out.
    let mut along = [zero; G];
    for block in 0..blocks {
        let slopes = products::<S, G>(width, stride, values.add(block * LANES), dout, width);
        for h in 0..G {
            let at = h * stride + block * LANES;
            along[h] = slopes[h].fma(S::load(probability.add(at)), along[h]);
            slopes[h].store(dscore.add(at));
        }
    }
    for (h, along) in along.iter().enumerate() {
        let along = S::splat(along.sum());
        for block in 0..blocks {
            let at = h * stride + block * LANES;
            let slope = S::load(dscore.add(at))
                .sub(along)
                .mul(S::load(probability.add(at)));
            slope.mul(S::splat(scale)).store(dscore.add(at));
        }
    }
    let mut d = 0;
    while d < width {
        let mut turns = [zero; G];
        let (mut asks, mut gains) = ([zero; G], [zero; G]);
        for h in 0..G {
            asks[h] = S::load(query.add(h * width + d));
            gains[h] = S::load(dout.add(h * width + d));
        }
        for t in 0..=last {
            let key = S::load(keys.add(t * key_width + d));
            let (dkey, dvalue) = (
                dkeys.add(t * key_width + d),
                dvalues.add(t * dvalue_step + d),
            );
            let (mut to_key, mut to_value) = (S::load(dkey), S::load(dvalue));
            for h in 0..G {
                let slope = S::splat(*dscore.add(h * stride + t));
                turns[h] = slope.fma(key, turns[h]);
                to_key = slope.fma(asks[h], to_key);
                to_value = S::splat(*probability.add(h * stride + t)).fma(gains[h], to_value);
            }
            to_key.store(dkey);
            to_value.store(dvalue);
        }
        for h in 0..G {
            turns[h].store(dquery.add(h * width + d));
        }
        d += LANES;
    }
}
