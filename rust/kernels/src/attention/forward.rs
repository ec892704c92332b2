//! Attention forward: scores, probabilities, and the values they weigh.

use super::row::{Own, Within};
use super::{BlockHeads, Heads, KeyValues, Line, Reach};
use crate::batch_class::BatchClass;
use crate::simd::Simd;
use crate::{LANES, area};

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
    /// As [`attend`] without keeping, over a sequence in blocks, of which rows are one or more.
    ///
    /// Of the query heads there are those that `part` names in `queries` and `out`, (rows, these × width), and in
    /// `scratch`, which has room for (these, positions rounded up to blocks).
    pub fn attend_blocks = attend_blocks_with [Own] (heads: Heads, part: BlockHeads<'_>, queries: Queries<'_>, scratch: &mut [f32], out: &mut [f32])
}

kernel! {
    /// Attends from each query row to positions 0..=`last[row]`.
    ///
    /// `out` is (rows, query heads × width); `probabilities` is (rows, query heads, stride) if `keep`, else scratch for
    /// one row.
    pub fn attend = attend_with [Own] (heads: Heads, cache: KeyValues<'_>, queries: Queries<'_>, probabilities: &mut [f32], keep: bool, out: &mut [f32])
}

kernel! {
    /// As [`attend_blocks`], within a reach.
    pub fn attend_blocks_within = attend_blocks_reaching [Within] (heads: Heads, reach: Reach<'_>, part: BlockHeads<'_>, queries: Queries<'_>, scratch: &mut [f32], out: &mut [f32])
}

kernel! {
    /// As [`attend`], within a reach; of the probabilities that are kept, those of blocks before it are not written.
    pub fn attend_within = attend_reaching [Within] (heads: Heads, reach: Reach<'_>, cache: KeyValues<'_>, queries: Queries<'_>, probabilities: &mut [f32], keep: bool, out: &mut [f32])
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
    /// The first and the last position that it sees.
    pub first: usize,
    pub last: usize,
    /// Its first head.
    pub head: usize,
    /// See [`Reach::sinks`].
    pub sinks: &'a [f32],
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
pub(crate) unsafe fn attend_blocks_with<S: Simd, K: RowKernel>(
    heads: Heads,
    part: BlockHeads<'_>,
    queries: Queries<'_>,
    scratch: &mut [f32],
    out: &mut [f32],
) {
    let reach = Reach::default();
    attend_blocks_reaching::<S, K>(heads, reach, part, queries, scratch, out);
}

#[inline(always)]
unsafe fn attend_blocks_reaching<S: Simd, K: RowKernel>(
    heads: Heads,
    reach: Reach<'_>,
    part: BlockHeads<'_>,
    queries: Queries<'_>,
    scratch: &mut [f32],
    out: &mut [f32],
) {
    let BlockHeads {
        blocks,
        layer,
        keys: part,
    } = part;
    heads.check();
    reach.check(heads);
    let (width, group, lines) = (heads.width, heads.group(), heads.lines());
    let stride = blocks.len() * LANES;
    assert!(blocks.iter().all(|b| b.len() / lines > layer));
    assert!(part.start <= part.end && part.end <= heads.keys);
    let reach = reach.of(part.start * group..part.end * group);
    let heads = Heads {
        queries: part.len() * group,
        keys: part.len(),
        ..heads
    };
    assert!(scratch.len() >= area([heads.queries, stride]));
    check::<K>(heads, stride, queries, out);
    for (key_head, at) in part.enumerate() {
        let keys = layer * lines + at * width;
        let cache = InBlocks {
            blocks,
            keys,
            values: keys + lines / 2,
        };
        let row = key_head * group * stride;
        let probabilities = scratch.as_mut_ptr().add(row);
        attend_rows::<S, K>(
            heads,
            reach,
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
    let reach = Reach::default();
    attend_reaching::<S, K>(heads, reach, cache, queries, probabilities, keep, out);
}

#[inline(always)]
unsafe fn attend_reaching<S: Simd, K: RowKernel>(
    heads: Heads,
    reach: Reach<'_>,
    cache: KeyValues<'_>,
    queries: Queries<'_>,
    probabilities: &mut [f32],
    keep: bool,
    out: &mut [f32],
) {
    cache.check(heads);
    let (width, stride, group) = (heads.width, cache.stride, heads.group());
    let kept = if keep { queries.last.len() } else { 1 };
    assert!(probabilities.len() >= area([kept, heads.queries, stride]));
    reach.check(heads);
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
            reach,
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
    heads.check();
    let floats = area([queries.last.len(), heads.queries, heads.width]);
    assert!(queries.last.iter().all(|&t| (t as usize) < stride));
    assert!(queries.values.len() >= floats && out.len() >= floats);
    K::check(heads, queries);
}

/// Every query row's heads that share a key head; probabilities of a row are `kept` floats apart.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn attend_rows<S: Simd, K: RowKernel>(
    heads: Heads,
    reach: Reach<'_>,
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
            first: reach.first(last),
            last: last as usize,
            head: key_head * group,
            sinks: reach.sinks,
            alone: BatchClass::alone(queries.classes, index),
            order: queries.order,
        };
        head_blocks!(group, head => attend_heads::<S, K>(
            Row { head: row.head + head, ..row },
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
