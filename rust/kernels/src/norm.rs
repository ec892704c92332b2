//! Root-mean-square normalisation: y = g x / sqrt(mean(x²) + ε) (Zhang & Sennrich 2019).

use crate::simd::{Simd, dot};
use crate::{LANES, area, strided};

/// Shape of a normalisation over rows that may lie in a wider matrix.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    /// Pieces of a row that are normalised each alone, with one gain: heads, or 1 for the whole row.
    pub groups: usize,
    /// Floats of a piece, padding included.
    pub width: usize,
    /// Floats that count for the mean.
    pub count: usize,
    pub epsilon: f32,
}

kernel! {
    /// Normalises `rows` rows; `x` and `y` have rows `x_step` and `y_step` apart. Keeps 1/rms of each
    /// piece in `inverse` (rows, groups).
    pub fn rms_norm = normalise [Chains] (norm: Norm, rows: usize, x: &[f32], x_step: usize, gain: &[f32], y: &mut [f32], y_step: usize, inverse: &mut [f32])
}

kernel! {
    /// Gradients of [`rms_norm`]: `dx` gets the input's (added if `add`), `dgain` accumulates the gain's.
    pub fn rms_norm_backward = rms_norm_backward_body(norm: Norm, rows: usize, x: &[f32], x_step: usize, gain: &[f32], inverse: &[f32], dy: &[f32], dy_step: usize, dx: &mut [f32], dx_step: usize, add: bool, dgain: &mut [f32])
}

/// How the squares of a piece are added up.
pub(crate) trait Squares {
    /// Their mean.
    unsafe fn mean<S: Simd>(norm: Norm, x: *const f32) -> f32;
}

/// Sixteen chains.
struct Chains;

impl Squares for Chains {
    #[inline(always)]
    unsafe fn mean<S: Simd>(norm: Norm, x: *const f32) -> f32 {
        dot::<S>(x, x, norm.width) / norm.count as f32
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(crate) unsafe fn normalise<S: Simd, Q: Squares>(
    norm: Norm,
    rows: usize,
    x: &[f32],
    x_step: usize,
    gain: &[f32],
    y: &mut [f32],
    y_step: usize,
    inverse: &mut [f32],
) {
    let width = norm.width;
    let groups = norm.groups;
    let (pieces, whole) = (area([rows, groups]), area([groups, width]));
    assert!(width.is_multiple_of(LANES) && gain.len() == width && inverse.len() >= pieces);
    assert!(x.len() >= strided(rows, x_step, whole) && y.len() >= strided(rows, y_step, whole));
    let gain = gain.as_ptr();
    for piece in 0..pieces {
        let (row, group) = (piece / groups, piece % groups);
        let (from, to) = (
            x.as_ptr().add(row * x_step + group * width),
            y.as_mut_ptr().add(row * y_step + group * width),
        );
        let scale = 1.0 / (Q::mean::<S>(norm, from) + norm.epsilon).sqrt();
        *inverse.as_mut_ptr().add(piece) = scale;
        let scale = S::splat(scale);
        let mut j = 0;
        while j < width {
            S::load(from.add(j))
                .mul(scale)
                .mul(S::load(gain.add(j)))
                .store(to.add(j));
            j += LANES;
        }
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn rms_norm_backward_body<S: Simd>(
    norm: Norm,
    rows: usize,
    x: &[f32],
    x_step: usize,
    gain: &[f32],
    inverse: &[f32],
    dy: &[f32],
    dy_step: usize,
    dx: &mut [f32],
    dx_step: usize,
    add: bool,
    dgain: &mut [f32],
) {
    let width = norm.width;
    let groups = norm.groups;
    let (pieces, whole) = (area([rows, groups]), area([groups, width]));
    assert!(width.is_multiple_of(LANES) && gain.len() == width && dgain.len() == width);
    assert!(inverse.len() >= pieces && x.len() >= strided(rows, x_step, whole));
    assert!(dy.len() >= strided(rows, dy_step, whole) && dx.len() >= strided(rows, dx_step, whole));
    let (gain, dgain) = (gain.as_ptr(), dgain.as_mut_ptr());
    for piece in 0..pieces {
        let (row, at) = (piece / groups, piece % groups * width);
        let (x, dy) = (
            x.as_ptr().add(row * x_step + at),
            dy.as_ptr().add(row * dy_step + at),
        );
        let dx = dx.as_mut_ptr().add(row * dx_step + at);
        let inverse = *inverse.as_ptr().add(piece);
        let scale = S::splat(inverse);
        let mut along = S::splat(0.0);
        let mut j = 0;
        while j < width {
            let both = S::load(dy.add(j)).mul(S::load(x.add(j)));
            along = both.fma(S::load(gain.add(j)), along);
            both.fma(scale, S::load(dgain.add(j))).store(dgain.add(j));
            j += LANES;
        }
        let back = S::splat(-along.sum() * inverse * inverse * inverse / norm.count as f32);
        let mut j = 0;
        while j < width {
            let through = S::load(dy.add(j)).mul(S::load(gain.add(j))).mul(scale);
            let slope = S::load(x.add(j)).fma(back, through);
            let slope = if add {
                slope.add(S::load(dx.add(j)))
            } else {
                slope
            };
            slope.store(dx.add(j));
            j += LANES;
        }
    }
}
