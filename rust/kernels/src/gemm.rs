//! Matrix products with weights packed in panels.
//!
//! A panel is 32 columns of the right-hand matrix (16 for a last odd one), stored row after row, so that a tile
//! streams it. Each element of a product is one chain of fused multiply-adds over k in ascending order: its bits
//! depend neither on the tile nor on other rows.

use crate::simd::Simd;
use crate::{Isa, LANES, area, strided};

/// Columns of a full panel.
pub const PANEL: usize = 2 * LANES;

/// Rows of activations that a weight gradient packs at a time: 256 rows of a panel fill the first-level cache.
const GRADIENT_BLOCK: usize = 256;

/// Packs `weight` (out, inp) for Y = X Wᵀ: panels of output columns.
///
/// Both widths are multiples of [`LANES`]; `panels` has the length of `weight`.
pub fn pack_forward(weight: &[f32], out: usize, inp: usize, panels: &mut [f32]) {
    assert!(weight.len() == area([out, inp]) && panels.len() == weight.len());
    let mut first = 0;
    while first < out {
        let wide = PANEL.min(out - first);
        let panel = &mut panels[first * inp..][..wide * inp];
        for column in 0..wide {
            let row = &weight[(first + column) * inp..][..inp];
            for (to, &from) in panel[column..].iter_mut().step_by(wide).zip(row) {
                *to = from;
            }
        }
        first += wide;
    }
}

/// Packs `weight` (out, inp) for dX = dY W: panels of input columns.
pub fn pack_backward(weight: &[f32], out: usize, inp: usize, panels: &mut [f32]) {
    assert!(weight.len() == area([out, inp]) && panels.len() == weight.len());
    let mut first = 0;
    while first < inp {
        let wide = PANEL.min(inp - first);
        let panel = &mut panels[first * out..][..wide * out];
        for (to, from) in panel.chunks_exact_mut(wide).zip(weight.chunks_exact(inp)) {
            to.copy_from_slice(&from[first..first + wide]);
        }
        first += wide;
    }
}

/// `c` (rows, columns) = `a` (rows, depth) times packed panels (depth, columns), added to `c` if `add`.
#[allow(clippy::too_many_arguments)]
pub fn multiply(
    isa: Isa,
    rows: usize,
    depth: usize,
    columns: usize,
    a: &[f32],
    panels: &[f32],
    c: &mut [f32],
    add: bool,
) {
    multiply_apart(isa, rows, depth, columns, a, depth, panels, c, add);
}

kernel! {
    /// As [`multiply`] with the rows of `a` `a_row` floats apart: rows a power of two apart share few sets of the cache.
    pub fn multiply_apart = multiply_body(rows: usize, depth: usize, columns: usize, a: &[f32], a_row: usize, panels: &[f32], c: &mut [f32], add: bool)
}

kernel! {
    /// `dw` (out, inp) += `dy` (rows, out)ᵀ times `x` (rows, inp). `packed` is scratch that grows once.
    pub fn weight_gradient = weight_gradient_body(rows: usize, out: usize, inp: usize, dy: &[f32], x: &[f32], dw: &mut [f32], packed: &mut Vec<f32>)
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn multiply_body<S: Simd>(
    rows: usize,
    depth: usize,
    columns: usize,
    a: &[f32],
    a_row: usize,
    panels: &[f32],
    c: &mut [f32],
    add: bool,
) {
    assert!(columns.is_multiple_of(LANES) && depth <= a_row);
    assert!(a.len() >= strided(rows, a_row, depth));
    assert!(panels.len() == area([depth, columns]) && c.len() >= area([rows, columns]));
    let left = Left {
        at: a.as_ptr(),
        row: a_row,
        step: 1,
    };
    across::<S, Single>(
        rows,
        depth,
        columns,
        left,
        panels.as_ptr(),
        c.as_mut_ptr(),
        add,
    );
}

#[inline(always)]
unsafe fn weight_gradient_body<S: Simd>(
    rows: usize,
    out: usize,
    inp: usize,
    dy: &[f32],
    x: &[f32],
    dw: &mut [f32],
    packed: &mut Vec<f32>,
) {
    assert!(inp.is_multiple_of(LANES) && dy.len() >= area([rows, out]));
    assert!(x.len() >= area([rows, inp]) && dw.len() == area([out, inp]));
    if packed.len() < GRADIENT_BLOCK * PANEL {
        packed.resize(GRADIENT_BLOCK * PANEL, 0.0);
    }
    let mut start = 0;
    while start < rows {
        let block = GRADIENT_BLOCK.min(rows - start);
        let left = Left {
            at: dy.as_ptr().add(start * out),
            row: 1,
            step: out,
        };
        let mut first = 0;
        while first < inp {
            let wide = PANEL.min(inp - first);
            // Packed, because rows a power of two apart would share a few sets of the cache.
            for row in 0..block {
                let from = x.as_ptr().add((start + row) * inp + first);
                let to = packed.as_mut_ptr().add(row * wide);
                S::load(from).store(to);
                if wide == PANEL {
                    S::load(from.add(LANES)).store(to.add(LANES));
                }
            }
            strip::<S, Single>(
                out,
                block,
                left,
                packed.as_ptr(),
                wide,
                dw.as_mut_ptr().add(first),
                inp,
                true,
            );
            first += wide;
        }
        start += block;
    }
}

/// Lanes of 32 bits by which a tile of many rows asks for its panel ahead; one of few rows eats it faster.
const AHEAD: usize = 1024;

/// What a lane of 32 bits holds, and so what one step along the depth of a product adds.
pub(crate) trait Term<S: Simd> {
    unsafe fn add(sum: S, left: S, right: S) -> S;
}

/// A float a lane.
struct Single;

impl<S: Simd> Term<S> for Single {
    #[inline(always)]
    unsafe fn add(sum: S, left: S, right: S) -> S {
        left.fma(right, sum)
    }
}

/// The left-hand matrix: lane (i, k) is at `at + i * row + k * step`.
#[derive(Clone, Copy)]
pub(crate) struct Left {
    pub at: *const f32,
    pub row: usize,
    pub step: usize,
}

impl Left {
    #[inline(always)]
    unsafe fn down(self, rows: usize) -> Self {
        Self {
            at: self.at.add(rows * self.row),
            ..self
        }
    }
}

/// All panels of a product (rows, columns), one after another. `depth` counts lanes.
#[inline(always)]
pub(crate) unsafe fn across<S: Simd, T: Term<S>>(
    rows: usize,
    depth: usize,
    columns: usize,
    left: Left,
    panels: *const f32,
    c: *mut f32,
    add: bool,
) {
    let mut first = 0;
    while first < columns {
        let wide = PANEL.min(columns - first);
        let panel = panels.add(first * depth);
        strip::<S, T>(rows, depth, left, panel, wide, c.add(first), columns, add);
        first += wide;
    }
}

/// All rows of one panel. `depth` counts lanes.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(crate) unsafe fn strip<S: Simd, T: Term<S>>(
    rows: usize,
    depth: usize,
    left: Left,
    panel: *const f32,
    wide: usize,
    c: *mut f32,
    c_row: usize,
    add: bool,
) {
    if S::WIDE_TILE && wide == PANEL {
        tiles::<S, T, 2>(rows, depth, left, panel, wide, c, c_row, add);
    } else {
        tiles::<S, T, 1>(rows, depth, left, panel, wide, c, c_row, add);
        if wide == PANEL {
            tiles::<S, T, 1>(
                rows,
                depth,
                left,
                panel.add(LANES),
                wide,
                c.add(LANES),
                c_row,
                add,
            );
        }
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn tiles<S: Simd, T: Term<S>, const VECTORS: usize>(
    rows: usize,
    depth: usize,
    left: Left,
    panel: *const f32,
    wide: usize,
    c: *mut f32,
    c_row: usize,
    add: bool,
) {
    macro_rules! tile {
        ($rows:literal, $at:expr) => {
            tile::<S, T, $rows, VECTORS>(
                depth,
                left.down($at),
                panel,
                wide,
                c.add($at * c_row),
                c_row,
                add,
            )
        };
    }
    let mut i = 0;
    if S::TILE_ROWS == 12 {
        while i + 12 <= rows {
            tile!(12, i);
            i += 12;
        }
        match rows - i {
            7 => return tile!(7, i),
            8 => return tile!(8, i),
            9 => return tile!(9, i),
            10 => return tile!(10, i),
            11 => return tile!(11, i),
            _ => {}
        }
    }
    while i + 6 <= rows {
        tile!(6, i);
        i += 6;
    }
    match rows - i {
        1 => tile!(1, i),
        2 => tile!(2, i),
        3 => tile!(3, i),
        4 => tile!(4, i),
        5 => tile!(5, i),
        _ => {}
    }
}

#[inline(always)]
unsafe fn tile<S: Simd, T: Term<S>, const ROWS: usize, const VECTORS: usize>(
    depth: usize,
    left: Left,
    panel: *const f32,
    wide: usize,
    c: *mut f32,
    c_row: usize,
    add: bool,
) {
    let zero = S::splat(0.0);
    let mut sums = [[zero; VECTORS]; ROWS];
    let (mut a, mut b) = (left.at, panel);
    // A panel is a stream that the processor's own prefetcher loses at every page.
    let ahead = if ROWS > 4 { AHEAD } else { 2 * AHEAD };
    for _ in 0..depth {
        let mut right = [zero; VECTORS];
        for (v, right) in right.iter_mut().enumerate() {
            S::prefetch(b.wrapping_add(ahead + v * LANES));
            *right = S::load(b.add(v * LANES));
        }
        for (r, sums) in sums.iter_mut().enumerate() {
            // Pairs of bf16 need not lie where floats may.
            let x = S::splat(a.add(r * left.row).read_unaligned());
            for (sum, right) in sums.iter_mut().zip(right) {
                *sum = T::add(*sum, x, right);
            }
        }
        a = a.add(left.step);
        b = b.add(wide);
    }
    for (r, sums) in sums.iter().enumerate() {
        for (v, sum) in sums.iter().enumerate() {
            let to = c.add(r * c_row + v * LANES);
            let sum = if add { sum.add(S::load(to)) } else { *sum };
            sum.store(to);
        }
    }
}
