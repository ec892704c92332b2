//! Causal attention with grouped heads: the query heads that share a key head are computed together.
//!
//! Keys are stored transposed, (key heads, head, stride), so that a vector holds sixteen positions of one
//! dimension; values are (key heads, stride, head). Training lays a whole sequence out so; generation keeps it in
//! blocks of sixteen positions, which sequences may share. Both give the same bits.

/// Calls `$each::<..., G>(..., first head of the block)` for blocks of 4, 2 and 1 heads of a group.
macro_rules! head_blocks {
    ($group:expr, $head:ident => $each:ident::<$($T:ident),+>$arguments:tt) => {{
        let mut $head = 0;
        while $head < $group {
            match $group - $head {
                1 => { head_blocks!(@call $each, [$($T),+], 1, $arguments); $head += 1; }
                2 | 3 => { head_blocks!(@call $each, [$($T),+], 2, $arguments); $head += 2; }
                _ => { head_blocks!(@call $each, [$($T),+], 4, $arguments); $head += 4; }
            }
        }
    }};
    (@call $each:ident, [$($T:ident),+], $heads:literal, ($($argument:expr),* $(,)?)) => {
        $each::<$($T),+, $heads>($($argument),*)
    };
}

mod backward;
mod forward;
mod reach;
mod row;

use std::ops::Range;

use crate::simd::Simd;
use crate::{LANES, area};

pub use backward::{Saved, attend_backward, attend_backward_within};
pub(crate) use forward::{KeyValueBlocks, Row, RowKernel, attend_blocks_with, attend_with};
pub use forward::{Queries, attend, attend_blocks, attend_blocks_within, attend_within};
pub use reach::{Reach, sink_gradient};

/// Sixteen floats that lie in one line of the processor's cache.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
pub struct Line(pub [f32; LANES]);

/// A block of zeros, `lines` long: keys and values of [`LANES`] positions in every layer, [`Heads::lines`] each.
///
/// A layer's part is its keys, (key heads, head width) lines of one position a lane, then its values,
/// (key heads, positions, head width).
pub fn block(lines: usize) -> Box<[Line]> {
    std::iter::repeat_n(Line([0.0; LANES]), lines).collect()
}

/// Key heads of a layer in a sequence's blocks, and with them the query heads that they serve.
#[derive(Clone)]
pub struct BlockHeads<'a> {
    /// As of [`block`], in the order of their positions.
    pub blocks: &'a [&'a [Line]],
    /// Whose keys and values.
    pub layer: usize,
    /// Of [`Heads::keys`].
    pub keys: Range<usize>,
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

    /// Panics unless heads are whole vectors, and each key head has as many query heads.
    fn check(self) {
        assert!(self.width.is_multiple_of(LANES) && self.queries.is_multiple_of(self.keys));
    }

    /// Lines of a block that one layer has.
    pub fn lines(self) -> usize {
        area([2, self.keys, self.width])
    }
}

/// Keys and values of one sequence.
#[derive(Clone, Copy)]
pub struct KeyValues<'a> {
    /// (key heads, head width, stride); lanes past the last position must be finite.
    pub keys: &'a [f32],
    /// (key heads, stride, head width).
    pub values: &'a [f32],
    /// Positions there is room for, a multiple of [`LANES`].
    pub stride: usize,
}

impl KeyValues<'_> {
    fn check(&self, heads: Heads) {
        let room = area([heads.keys, heads.width, self.stride]);
        assert!(self.stride.is_multiple_of(LANES));
        assert!(self.keys.len() >= room && self.values.len() >= room);
    }
}

/// Writes the key and value rows of one sequence, from position `at` on, into its cache.
///
/// `keys` and `values` are rows of `heads.keys * heads.width` floats that begin `step` floats apart. `order` as for
/// [`Queries::order`].
#[allow(clippy::too_many_arguments)]
pub fn append(
    heads: Heads,
    rows: usize,
    at: usize,
    (keys, key_step): (&[f32], usize),
    (values, value_step): (&[f32], usize),
    order: &[u32],
    stride: usize,
    key_cache: &mut [f32],
    value_cache: &mut [f32],
) {
    assert!(at + rows <= stride);
    for head in 0..heads.keys {
        let start = head * heads.width * stride;
        let key_cache = &mut key_cache[start..][..heads.width * stride];
        let value_cache = &mut value_cache[start..][..heads.width * stride];
        for row in 0..rows {
            let key = &keys[row * key_step + head * heads.width..][..heads.width];
            for d in 0..heads.width {
                key_cache[d * stride + at + row] = key[from(order, d)];
            }
            let value = &values[row * value_step + head * heads.width..][..heads.width];
            value_cache[(at + row) * heads.width..][..heads.width].copy_from_slice(value);
        }
    }
}

/// The dimension that stands at offset `d`.
fn from(order: &[u32], d: usize) -> usize {
    order.get(d).map_or(d, |&from| from as usize)
}

/// Writes the key and value of one position, each `heads.keys * heads.width` floats, into a layer's part of its block.
///
/// `offset` is the position's in the block; `order` as for [`Queries::order`].
pub fn append_to_block(
    heads: Heads,
    layer: usize,
    offset: usize,
    key: &[f32],
    value: &[f32],
    order: &[u32],
    block: &mut [Line],
) {
    let (width, half) = (heads.width, heads.lines() / 2);
    let (keys, values) = block[layer * 2 * half..][..2 * half].split_at_mut(half);
    for (keys, key) in keys.chunks_exact_mut(width).zip(key.chunks_exact(width)) {
        for (d, line) in keys.iter_mut().enumerate() {
            line.0[offset] = key[from(order, d)];
        }
    }
    let lines = width / LANES;
    for (head, value) in value[..half].chunks_exact(width).enumerate() {
        let at = (head * LANES + offset) * lines;
        let (value, _) = value.as_chunks::<LANES>();
        for (line, value) in values[at..].iter_mut().zip(value) {
            line.0 = *value;
        }
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
