//! Blocks of 256 values with nested scales: the search for a scale, and a minimum, of each part.
//!
//! Sixteen parts are searched at once, one in each lane of a vector: every lane does what ggml does for its part, one
//! operation after another, so that the bytes are ggml's on every instruction set.

use super::narrow::{from_f16, to_f16};
use crate::LANES;
use crate::simd::{Simd, nearest};

const BLOCK: usize = 256;
/// Magnitudes below which a part of Q6_K counts as zeros.
const NOTHING: f32 = 1e-15;

type Lanes = [f32; LANES];

/// Values of sixteen parts of up to 32: vector i has value i of each.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Columns([Lanes; 32]);

impl Columns {
    /// Of parts of `length` values, one after another; lanes without a part are zeros.
    #[inline(always)]
    fn of(values: &[f32], length: usize) -> Self {
        let mut columns = Self([[0.0; LANES]; 32]);
        for (lane, part) in values.chunks_exact(length).enumerate() {
            for (i, &x) in part.iter().enumerate() {
                columns.0[i][lane] = x;
            }
        }
        columns
    }

    #[inline(always)]
    unsafe fn at<S: Simd>(&self, i: usize) -> S {
        S::load(self.0[i].as_ptr())
    }
}

#[inline(always)]
unsafe fn lanes<S: Simd>(x: S) -> Lanes {
    let mut lanes = [0.0; LANES];
    x.store(lanes.as_mut_ptr());
    lanes
}

#[inline(always)]
unsafe fn vector<S: Simd>(lanes: &Lanes) -> S {
    S::load(lanes.as_ptr())
}

/// To the nearest whole number as ggml finds it, kept between two.
#[inline(always)]
unsafe fn level<S: Simd>(x: S, least: S, most: S) -> S {
    x.nearest().max(least).min(most)
}

/// What is kept of each part while scales and minima are tried.
struct Best {
    scale: Lanes,
    minimum: Lanes,
    error: Lanes,
    /// What made the levels: times this, after this was taken off.
    inverse: Lanes,
    base: Lanes,
}

/// Scales and minima of sixteen parts of 32 with `x` near `scale * level - minimum`, both not negative.
///
/// Tried are `steps` + 1 spans around `most` levels, from `first` on in steps of 0.1; for each the levels that it gives, and then
/// the least-squares scale and minimum of those. Errors weigh more on large values.
#[inline(always)]
unsafe fn scales_and_minima<S: Simd>(x: &Columns, most: f32, first: f32, steps: u8) -> Best {
    let (zero, top) = (S::splat(0.0), S::splat(most));
    let mut squares = zero;
    for i in 0..32 {
        let x = x.at::<S>(i);
        squares = squares.add(x.mul(x));
    }
    let mean = squares.div(S::splat(32.0)).sqrt();
    let mut weights = Columns([[0.0; LANES]; 32]);
    let (mut least, mut largest) = (x.at::<S>(0), x.at::<S>(0));
    let (mut sum_w, mut sum_x) = (zero, zero);
    for i in 0..32 {
        let x = x.at::<S>(i);
        let w = mean.add(x.max(zero.sub(x)));
        w.store(weights.0[i].as_mut_ptr());
        (least, largest) = (least.min(x), largest.max(x));
        (sum_w, sum_x) = (sum_w.add(w), sum_x.add(w.mul(x)));
    }
    let least = least.min(zero);
    let span = largest.sub(least);
    let inverse = top.div(span);
    let scale = S::splat(1.0).div(inverse);
    let mut error = zero;
    for i in 0..32 {
        let x = x.at::<S>(i);
        let l = level(inverse.mul(x.sub(least)), zero, top);
        let miss = scale.mul(l).add(least).sub(x);
        error = error.add(weights.at::<S>(i).mul(miss.mul(miss)));
    }
    let mut best = Best {
        scale: lanes(scale),
        minimum: lanes(least),
        error: lanes(error),
        inverse: lanes(inverse),
        base: lanes(least),
    };
    let largest = lanes(largest);
    let (sums_w, sums_x) = (lanes(sum_w), lanes(sum_x));
    let mut levels = Columns([[0.0; LANES]; 32]);
    for step in 0..=steps {
        // From the best minimum so far.
        let base = vector::<S>(&best.minimum);
        let span = vector::<S>(&largest).sub(base);
        let inverse = S::splat(first + 0.1 * f32::from(step) + most).div(span);
        let (mut l1, mut l2, mut lx) = (zero, zero, zero);
        for i in 0..32 {
            let (x, w) = (x.at::<S>(i), weights.at::<S>(i));
            let l = level(inverse.mul(x.sub(base)), zero, top);
            l.store(levels.0[i].as_mut_ptr());
            let wl = w.mul(l);
            (l1, l2, lx) = (l1.add(wl), l2.add(wl.mul(l)), lx.add(wl.mul(x)));
        }
        let (l1, l2, lx) = (lanes(l1), lanes(l2), lanes(lx));
        let (mut scale, mut minimum, mut determinant) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
        for i in 0..LANES {
            let d = sums_w[i] * l2[i] - l1[i] * l1[i];
            determinant[i] = d;
            scale[i] = (sums_w[i] * lx[i] - sums_x[i] * l1[i]) / d;
            minimum[i] = (l2[i] * sums_x[i] - l1[i] * lx[i]) / d;
            if minimum[i] > 0.0 {
                minimum[i] = 0.0;
                scale[i] = lx[i] / l2[i];
            }
        }
        let (scales, minima) = (vector::<S>(&scale), vector::<S>(&minimum));
        let mut error = zero;
        for i in 0..32 {
            let miss = scales.mul(levels.at::<S>(i)).add(minima).sub(x.at::<S>(i));
            error = error.add(weights.at::<S>(i).mul(miss.mul(miss)));
        }
        let (error, inverse, base) = (lanes(error), lanes(inverse), lanes(base));
        for i in 0..LANES {
            if determinant[i] > 0.0 && error[i] < best.error[i] {
                best.error[i] = error[i];
                best.scale[i] = scale[i];
                best.minimum[i] = minimum[i];
                best.inverse[i] = inverse[i];
                best.base[i] = base[i];
            }
        }
    }
    let least = lanes(least);
    for i in 0..LANES {
        if largest[i] == least[i] {
            (best.scale[i], best.minimum[i]) = (0.0, least[i]);
            (best.inverse[i], best.base[i]) = (0.0, 0.0);
        }
        best.minimum[i] = -best.minimum[i];
    }
    best
}

/// To the nearest of 0 to 63. A scale that the search made negative wraps as ggml's byte does, and is the largest.
#[inline(always)]
fn six(x: f32) -> u8 {
    (nearest(x) as u8).min(63)
}

/// The larger of two; the first where neither is, one being NaN or both zeros.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// Heads and levels of up to two blocks whose parts have minima; `put` writes a block's levels behind its head.
#[inline(always)]
unsafe fn with_minima<S: Simd>(
    values: &[f32],
    (most, first, steps): (f32, f32, u8),
    heads: &mut [[u8; 16]; 2],
    levels: &mut [[u8; BLOCK]; 2],
) {
    let x = Columns::of(values, 32);
    let best = scales_and_minima::<S>(&x, most, first, steps);
    let (mut scales, mut minima) = ([0.0; LANES], [0.0; LANES]);
    for (block, head) in heads.iter_mut().enumerate() {
        let lanes = 8 * block..8 * block + 8;
        let (mut scale, mut least) = (0.0f32, 0.0f32);
        for i in lanes.clone() {
            scale = larger(scale, best.scale[i]);
            least = larger(least, best.minimum[i]);
        }
        let by_scale = if scale > 0.0 { 63.0 / scale } else { 0.0 };
        let by_least = if least > 0.0 { 63.0 / least } else { 0.0 };
        let (mut s, mut m) = ([0u8; 8], [0u8; 8]);
        for i in 0..8 {
            s[i] = six(by_scale * best.scale[lanes.start + i]);
            m[i] = six(by_least * best.minimum[lanes.start + i]);
        }
        let (d, e) = (to_f16(scale / 63.0), to_f16(least / 63.0));
        head[..2].copy_from_slice(&d.to_le_bytes());
        head[2..4].copy_from_slice(&e.to_le_bytes());
        // See `six_bits` for the order.
        for i in 0..4 {
            head[4 + i] = s[i] | s[i + 4] >> 4 << 6;
            head[8 + i] = m[i] | m[i + 4] >> 4 << 6;
            head[12 + i] = s[i + 4] & 15 | m[i + 4] << 4;
        }
        for i in 0..8 {
            scales[lanes.start + i] = from_f16(d) * f32::from(s[i]);
            minima[lanes.start + i] = from_f16(e) * f32::from(m[i]);
        }
    }
    let (zero, top) = (S::splat(0.0), S::splat(most));
    let (by, least) = (vector::<S>(&scales), vector::<S>(&minima));
    let (inverse, base) = (vector::<S>(&best.inverse), vector::<S>(&best.base));
    for i in 0..32 {
        let x = x.at::<S>(i);
        let found = lanes(level(x.add(least).div(by), zero, top));
        // Of a part whose scale is zero the search's levels stay.
        let searched = lanes(level(inverse.mul(x.sub(base)), zero, top));
        for lane in 0..LANES {
            let level = if scales[lane] == 0.0 {
                searched[lane]
            } else {
                found[lane]
            };
            levels[lane / 8][lane % 8 * 32 + i] = level as u8;
        }
    }
}

#[inline(always)]
pub(super) unsafe fn q4_k<S: Simd>(values: &[f32], out: &mut [u8]) {
    for (x, out) in values.chunks(2 * BLOCK).zip(out.chunks_mut(2 * 144)) {
        let (mut heads, mut levels) = ([[0; 16]; 2], [[0; BLOCK]; 2]);
        with_minima::<S>(x, (15.0, -1.0, 20), &mut heads, &mut levels);
        for (block, out) in out.chunks_exact_mut(144).enumerate() {
            out[..16].copy_from_slice(&heads[block]);
            put_nibbles(&levels[block], &mut out[16..]);
        }
    }
}

#[inline(always)]
pub(super) unsafe fn q5_k<S: Simd>(values: &[f32], out: &mut [u8]) {
    for (x, out) in values.chunks(2 * BLOCK).zip(out.chunks_mut(2 * 176)) {
        let (mut heads, mut levels) = ([[0; 16]; 2], [[0; BLOCK]; 2]);
        with_minima::<S>(x, (31.0, -0.5, 15), &mut heads, &mut levels);
        for (block, out) in out.chunks_exact_mut(176).enumerate() {
            out[..16].copy_from_slice(&heads[block]);
            for i in 0..32 {
                let mut fifths = 0;
                for part in 0..8 {
                    fifths |= levels[block][32 * part + i] >> 4 << part;
                }
                out[16 + i] = fifths;
            }
            put_nibbles(&levels[block], &mut out[48..]);
        }
    }
}

/// Low four bits of each 64 levels: the first 32 below, the last above.
#[inline(always)]
fn put_nibbles(levels: &[u8; BLOCK], out: &mut [u8]) {
    for (pair, out) in levels.chunks_exact(64).zip(out.chunks_exact_mut(32)) {
        for i in 0..32 {
            out[i] = pair[i] & 15 | pair[i + 32] << 4;
        }
    }
}

/// Scales of sixteen parts of 16 with `x` near `scale * q`, q from -32 to 31, and the factor that made the levels: the best of
/// 19 around the one that puts the furthest value at -32, each with its least-squares correction.
#[inline(always)]
unsafe fn symmetric_scales<S: Simd>(x: &Columns, furthest: &Lanes) -> (Lanes, Lanes) {
    let (mut scale, mut best, mut inverse) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
    for step in [
        0i8, -9, -8, -7, -6, -5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 6, 7, 8, 9,
    ] {
        let numerator = S::splat(-(32.0 + 0.1 * f32::from(step)));
        let by = numerator.div(vector::<S>(furthest));
        let (mut lx, mut l2) = (S::splat(0.0), S::splat(0.0));
        for i in 0..16 {
            let x = x.at::<S>(i);
            let l = level(by.mul(x), S::splat(-32.0), S::splat(31.0));
            let w = x.mul(x);
            lx = lx.add(w.mul(x).mul(l));
            l2 = l2.add(w.mul(l).mul(l));
        }
        let (lx, l2, by) = (lanes(lx), lanes(l2), lanes(by));
        for i in 0..LANES {
            let first = step == 0;
            if first || l2[i] > 0.0 && lx[i] * lx[i] > best[i] * l2[i] {
                scale[i] = if l2[i] == 0.0 { 0.0 } else { lx[i] / l2[i] };
                best[i] = scale[i] * lx[i];
                inverse[i] = by[i];
            }
        }
    }
    (scale, inverse)
}

#[inline(always)]
pub(super) unsafe fn q6_k<S: Simd>(values: &[f32], out: &mut [u8]) {
    for (values, out) in values.chunks_exact(BLOCK).zip(out.chunks_exact_mut(210)) {
        let x = Columns::of(values, 16);
        let mut furthest = [0.0f32; LANES];
        for (most, part) in furthest.iter_mut().zip(values.chunks_exact(16)) {
            for &x in part {
                if x.abs() > most.abs() {
                    *most = x;
                }
            }
        }
        let (mut scales, inverses) = symmetric_scales::<S>(&x, &furthest);
        let mut most = 0.0f32;
        for i in 0..LANES {
            if furthest[i].abs() < NOTHING {
                scales[i] = 0.0;
            }
            if scales[i].abs() > most.abs() {
                most = scales[i];
            }
        }
        if most.abs() < NOTHING {
            out.fill(0);
            continue;
        }
        // The largest becomes -128, which the other side does not have.
        let by = -128.0 / most;
        let d = to_f16(1.0 / by);
        let mut steps = [0.0f32; LANES];
        for i in 0..LANES {
            let s = nearest(by * scales[i]).min(127) as i8;
            out[192 + i] = s as u8;
            steps[i] = from_f16(d) * f32::from(s);
        }
        out[208..].copy_from_slice(&d.to_le_bytes());
        let mut levels = [0u8; BLOCK];
        let (least, top) = (S::splat(-32.0), S::splat(31.0));
        for i in 0..16 {
            let x = x.at::<S>(i);
            let found = lanes(level(x.div(vector::<S>(&steps)), least, top));
            let searched = lanes(level(x.mul(vector::<S>(&inverses)), least, top));
            for lane in 0..LANES {
                let level = match steps[lane] == 0.0 {
                    true if furthest[lane].abs() < NOTHING => 0.0,
                    true => searched[lane] + 32.0,
                    false => found[lane] + 32.0,
                };
                levels[16 * lane + i] = level as u8;
            }
        }
        for n in 0..2 {
            let half = &levels[128 * n..][..128];
            for i in 0..32 {
                let [a, b, c, d] = [half[i], half[32 + i], half[64 + i], half[96 + i]];
                out[64 * n + i] = a & 15 | c << 4;
                out[64 * n + 32 + i] = b & 15 | d << 4;
                out[128 + 32 * n + i] = a >> 4 | b >> 4 << 2 | c >> 4 << 4 | d >> 4 << 6;
            }
        }
    }
}
