//! The backward pass through a stored matrix: its rows are decoded a few at a time, and multiplied as packed ones are.

use super::format::Matrix;
use crate::panels::Precision;
use crate::{Isa, LANES, area, bf16, gemm, padded, reserve, strided};

/// Rows that are decoded together: a panel of them stays in the second-level cache.
const DECODED: usize = 64;

/// Buffers that hold nothing between calls.
#[derive(Clone, Debug, Default)]
pub struct BackwardScratch {
    decoded: Vec<f32>,
    single: Vec<f32>,
    half: Vec<u16>,
    /// `dy`, rounded.
    left: Vec<u16>,
}

/// `dx` (rows, padded inp) = `dy` (rows, `dy_stride`) times `matrix` (out, inp), added to `dx` if `add`.
///
/// Both sides are rounded to `precision`. `dy` has at least the padded number of outputs in a row; what lies there past
/// `matrix.out` must be finite and is multiplied by zero. Panics if the lengths do not fit.
#[allow(clippy::too_many_arguments)]
pub fn backward(
    isa: Isa,
    precision: Precision,
    matrix: Matrix<'_>,
    rows: usize,
    dy: &[f32],
    dy_stride: usize,
    dx: &mut [f32],
    add: bool,
    scratch: &mut BackwardScratch,
) {
    let (out, inp) = (padded(matrix.out), padded(matrix.inp));
    assert!(matrix.is_whole() && dy_stride >= out && dx.len() >= area([rows, inp]));
    assert!(dy.len() >= strided(rows, dy_stride, out));
    if rows == 0 {
        return;
    }
    if precision == Precision::Bf16 {
        reserve(&mut scratch.left, rows * out);
        for (to, from) in scratch
            .left
            .chunks_exact_mut(out)
            .zip(dy.chunks(dy_stride))
            .take(rows)
        {
            bf16::round(isa, &from[..out], to);
        }
    }
    for first in (0..out).step_by(DECODED) {
        let depth = DECODED.min(out - first);
        reserve(&mut scratch.decoded, depth * inp);
        let decoded = &mut scratch.decoded[..depth * inp];
        for (row, to) in decoded.chunks_exact_mut(inp).enumerate() {
            let (values, padding) = to.split_at_mut(matrix.inp);
            if first + row < matrix.out {
                matrix.decode_row(first + row, values);
            } else {
                values.fill(0.0);
            }
            padding.fill(0.0);
        }
        let add = add || first > 0;
        match precision {
            Precision::F32 => {
                reserve(&mut scratch.single, depth * inp);
                let panels = &mut scratch.single[..depth * inp];
                gemm::pack_backward(decoded, depth, inp, panels);
                gemm::multiply_apart(
                    isa,
                    rows,
                    depth,
                    inp,
                    &dy[first..],
                    dy_stride,
                    panels,
                    dx,
                    add,
                );
            }
            Precision::Bf16 => {
                reserve(&mut scratch.half, depth * inp);
                let panels = &mut scratch.half[..depth * inp];
                bf16::pack_backward(isa, decoded, depth, inp, panels);
                let left = &scratch.left[first..];
                bf16::multiply_rounded(isa, rows, depth, inp, left, out, panels, dx, add);
            }
        }
    }
    debug_assert!(out.is_multiple_of(LANES));
}
