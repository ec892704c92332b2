//! Matrix products of bf16 with sums in f32.
//!
//! As in [`crate::gemm`], but a lane holds two neighbours along the depth, rounded to bf16, and a step adds both
//! products: twice the rate and half the traffic where the processor has `VDPBF16PS`. The sums are chains in f32 in
//! a fixed order, and what the instruction does with them is written out for the other instruction sets
//! ([`Simd::dot_pairs`]), so that all give the same bits here too.

use crate::gemm::{Left, PANEL, Term, across, strip};
use crate::simd::Simd;
use crate::{LANES, area, reserve, strided};

/// Pairs of rows of activations that a weight gradient packs at a time: the panel and both tiles' sides stay in the
/// first-level cache.
const GRADIENT_BLOCK: usize = 128;

/// Two bf16 a lane.
struct Pair<const NATIVE: bool>;

impl<S: Simd, const NATIVE: bool> Term<S> for Pair<NATIVE> {
    #[inline(always)]
    unsafe fn add(sum: S, left: S, right: S) -> S {
        sum.dot_pairs::<NATIVE>(left, right)
    }
}

/// Buffers that hold nothing between calls.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    /// The left-hand matrix, rounded.
    left: Vec<u16>,
    /// Lanes of a gradient's right-hand panel.
    right: Vec<f32>,
    /// Lanes of a gradient's left-hand side.
    pairs: Vec<f32>,
}

pair_kernel! {
    /// Packs `weight` (out, inp) for Y = X Wᵀ as [`crate::gemm::pack_forward`] does, in bf16: a panel is
    /// (inp / 2, columns, 2). Both widths are multiples of [`LANES`].
    pub fn pack_forward = pack_forward_body(weight: &[f32], out: usize, inp: usize, panels: &mut [u16])
}

pair_kernel! {
    /// Packs `weight` (out, inp) for dX = dY W as [`crate::gemm::pack_backward`] does, in bf16: a panel is
    /// (out / 2, columns, 2). Both widths are multiples of [`LANES`].
    pub fn pack_backward = pack_backward_body(weight: &[f32], out: usize, inp: usize, panels: &mut [u16])
}

pair_kernel! {
    /// `c` (rows, columns) = `a` (rows, depth), rounded to bf16, times packed panels (depth, columns), added to `c` if
    /// `add`. Depth and columns are multiples of [`LANES`].
    pub fn multiply = multiply_body(rows: usize, depth: usize, columns: usize, a: &[f32], panels: &[u16], c: &mut [f32], add: bool, scratch: &mut Scratch)
}

pair_kernel! {
    /// `out` = `x` rounded to bf16; the length is a multiple of [`LANES`].
    pub fn round = round_body(x: &[f32], out: &mut [u16])
}

pair_kernel! {
    /// As [`multiply`] with `a` already rounded, its rows `a_row` numbers apart, an even number.
    pub fn multiply_rounded = multiply_rounded_body(rows: usize, depth: usize, columns: usize, a: &[u16], a_row: usize, panels: &[u16], c: &mut [f32], add: bool)
}

pair_kernel! {
    /// `dw` (out, inp) += `dy` (rows, out)ᵀ times `x` (rows, inp), both rounded to bf16.
    pub fn weight_gradient = weight_gradient_body(rows: usize, out: usize, inp: usize, dy: &[f32], x: &[f32], dw: &mut [f32], scratch: &mut Scratch)
}

#[inline(always)]
unsafe fn round_body<S: Simd, const NATIVE: bool>(x: &[f32], out: &mut [u16]) {
    assert!(x.len() == out.len() && x.len().is_multiple_of(LANES));
    let mut j = 0;
    while j < x.len() {
        S::load(x.as_ptr().add(j)).store_bf16::<NATIVE>(out.as_mut_ptr().add(j));
        j += LANES;
    }
}

#[inline(always)]
unsafe fn pack_forward_body<S: Simd, const NATIVE: bool>(
    weight: &[f32],
    out: usize,
    inp: usize,
    panels: &mut [u16],
) {
    assert!(weight.len() == area([out, inp]) && panels.len() == weight.len());
    assert!(out.is_multiple_of(LANES) && inp.is_multiple_of(LANES));
    let mut first = 0;
    while first < out {
        let wide = PANEL.min(out - first);
        let panel = panels.as_mut_ptr().add(first * inp).cast::<u32>();
        for column in 0..wide {
            let row = weight.as_ptr().add((first + column) * inp);
            let mut rounded = [0u16; LANES];
            let mut k = 0;
            while k < inp {
                S::load(row.add(k)).store_bf16::<NATIVE>(rounded.as_mut_ptr());
                for p in 0..LANES / 2 {
                    let pair = rounded.as_ptr().add(2 * p).cast::<u32>().read_unaligned();
                    panel.add((k / 2 + p) * wide + column).write_unaligned(pair);
                }
                k += LANES;
            }
        }
        first += wide;
    }
}

#[inline(always)]
unsafe fn pack_backward_body<S: Simd, const NATIVE: bool>(
    weight: &[f32],
    out: usize,
    inp: usize,
    panels: &mut [u16],
) {
    assert!(weight.len() == area([out, inp]) && panels.len() == weight.len());
    assert!(out.is_multiple_of(LANES) && inp.is_multiple_of(LANES));
    let mut first = 0;
    while first < inp {
        let wide = PANEL.min(inp - first);
        let panel = panels.as_mut_ptr().add(first * out).cast::<f32>();
        pair_rows::<S, NATIVE>(out, wide, weight.as_ptr().add(first), inp, panel);
        first += wide;
    }
}

/// Rows of `wide` floats, `step` apart, two and two side by side in lanes: (rows / 2, wide). An odd last row is
/// paired with zeros.
#[inline(always)]
unsafe fn pair_rows<S: Simd, const NATIVE: bool>(
    rows: usize,
    wide: usize,
    from: *const f32,
    step: usize,
    to: *mut f32,
) {
    let mut row = 0;
    while row < rows {
        // There may be no second row.
        let (even, odd) = (from.add(row * step), from.wrapping_add((row + 1) * step));
        let to = to.add(row / 2 * wide);
        let mut j = 0;
        while j < wide {
            let high = if row + 1 < rows {
                S::load(odd.add(j))
            } else {
                S::splat(0.0)
            };
            S::pair::<NATIVE>(S::load(even.add(j)), high).store(to.add(j));
            j += LANES;
        }
        row += 2;
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn multiply_body<S: Simd, const NATIVE: bool>(
    rows: usize,
    depth: usize,
    columns: usize,
    a: &[f32],
    panels: &[u16],
    c: &mut [f32],
    add: bool,
    scratch: &mut Scratch,
) {
    let count = area([rows, depth]);
    reserve(&mut scratch.left, count);
    round_body::<S, NATIVE>(&a[..count], &mut scratch.left[..count]);
    let left = &scratch.left[..count];
    multiply_rounded_body::<S, NATIVE>(rows, depth, columns, left, depth, panels, c, add);
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn multiply_rounded_body<S: Simd, const NATIVE: bool>(
    rows: usize,
    depth: usize,
    columns: usize,
    a: &[u16],
    a_row: usize,
    panels: &[u16],
    c: &mut [f32],
    add: bool,
) {
    assert!(columns.is_multiple_of(LANES) && depth.is_multiple_of(LANES));
    assert!(depth <= a_row && a_row.is_multiple_of(2));
    assert!(a.len() >= strided(rows, a_row, depth));
    assert!(panels.len() == area([depth, columns]) && c.len() >= area([rows, columns]));
    let left = Left {
        at: a.as_ptr().cast(),
        row: a_row / 2,
        step: 1,
    };
    across::<S, Pair<NATIVE>>(
        rows,
        depth / 2,
        columns,
        left,
        panels.as_ptr().cast(),
        c.as_mut_ptr(),
        add,
    );
}

#[inline(always)]
unsafe fn weight_gradient_body<S: Simd, const NATIVE: bool>(
    rows: usize,
    out: usize,
    inp: usize,
    dy: &[f32],
    x: &[f32],
    dw: &mut [f32],
    scratch: &mut Scratch,
) {
    assert!(inp.is_multiple_of(LANES) && out.is_multiple_of(LANES));
    assert!(dy.len() >= area([rows, out]) && x.len() >= area([rows, inp]));
    assert!(dw.len() == area([out, inp]));
    reserve(&mut scratch.right, GRADIENT_BLOCK * PANEL);
    reserve(&mut scratch.pairs, area([GRADIENT_BLOCK, out]));
    let (right, pairs) = (scratch.right.as_mut_ptr(), scratch.pairs.as_mut_ptr());
    let mut start = 0;
    while start < rows {
        let block = (2 * GRADIENT_BLOCK).min(rows - start);
        pair_rows::<S, NATIVE>(block, out, dy.as_ptr().add(start * out), out, pairs);
        let left = Left {
            at: pairs,
            row: 1,
            step: out,
        };
        let mut first = 0;
        while first < inp {
            let wide = PANEL.min(inp - first);
            let from = x.as_ptr().add(start * inp + first);
            pair_rows::<S, NATIVE>(block, wide, from, inp, right);
            strip::<S, Pair<NATIVE>>(
                out,
                block.div_ceil(2),
                left,
                right,
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
