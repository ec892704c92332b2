//! Gradients of attention.

use super::{Heads, Reach, products};
use crate::simd::Simd;
use crate::{LANES, area, strided};

/// What the backward pass of one sequence reads.
#[derive(Clone, Copy)]
pub struct Saved<'a> {
    /// Rotated keys, rows of key heads × width.
    pub keys: &'a [f32],
    /// Values transposed, (key heads, head width, stride).
    pub values: &'a [f32],
    /// Rotated queries (rows, query heads × width).
    pub queries: &'a [f32],
    /// (rows, query heads, stride), as `attend` kept them.
    pub probabilities: &'a [f32],
    pub stride: usize,
}

kernel! {
    /// Gradients of `attend`: `dqueries` is written, `dkeys` and `dvalues` accumulate.
    ///
    /// `dkeys` has rows of key heads × width, `dvalues` the same rows `dvalue_step` floats apart. `scratch` grows once.
    pub fn attend_backward = attend_backward_body(heads: Heads, saved: Saved<'_>, last: &[u32], dout: &[f32], dqueries: &mut [f32], dkeys: &mut [f32], dvalues: &mut [f32], dvalue_step: usize, scratch: &mut Vec<f32>)
}

kernel! {
    /// As [`attend_backward`] of `attend_within`; the sinks' gradient is [`super::sink_gradient`].
    pub fn attend_backward_within = attend_backward_within_body(heads: Heads, reach: Reach<'_>, saved: Saved<'_>, last: &[u32], dout: &[f32], dqueries: &mut [f32], dkeys: &mut [f32], dvalues: &mut [f32], dvalue_step: usize, scratch: &mut Vec<f32>)
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
    attend_backward_within_body::<S>(
        heads,
        Reach::default(),
        saved,
        last,
        dout,
        dqueries,
        dkeys,
        dvalues,
        dvalue_step,
        scratch,
    );
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn attend_backward_within_body<S: Simd>(
    heads: Heads,
    reach: Reach<'_>,
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
    let (row_width, key_width) = (area([heads.queries, width]), area([heads.keys, width]));
    let rows = last.len();
    let positions = last.iter().map(|&t| t as usize + 1).max().unwrap_or(0);
    heads.check();
    reach.check(heads);
    assert!(positions <= stride && stride.is_multiple_of(LANES));
    let (outputs, keys) = (area([rows, row_width]), area([positions, key_width]));
    assert!(saved.queries.len() >= outputs && saved.keys.len() >= keys);
    assert!(saved.values.len() >= area([key_width, stride]));
    assert!(saved.probabilities.len() >= area([rows, heads.queries, stride]));
    assert!(dout.len() >= outputs && dqueries.len() >= outputs && dkeys.len() >= keys);
    assert!(dvalues.len() >= strided(positions, dvalue_step, key_width));
    let scores = area([4, stride]);
    if scratch.len() < scores {
        scratch.resize(scores, 0.0);
    }
    for key_head in 0..heads.keys {
        for (row, &last) in last.iter().enumerate() {
            head_blocks!(group, head => backward_row::<S>(
                Row { width, stride, key_width, dvalue_step, scale: heads.scale, first: reach.first(last), last: last as usize },
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
    first: usize,
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
        first,
        last,
    } = row;
    let zero = S::splat(0.0);
    let (start, blocks) = (first / LANES, last / LANES + 1);
    // Probabilities before `first` and past `last` in their blocks are zero, so those lanes drop out.
    let mut along = [zero; G];
    for block in start..blocks {
        let slopes = products::<S, G>(width, stride, values.add(block * LANES), dout, width);
        for h in 0..G {
            let at = h * stride + block * LANES;
            along[h] = slopes[h].fma(S::load(probability.add(at)), along[h]);
            slopes[h].store(dscore.add(at));
        }
    }
    for (h, along) in along.iter().enumerate() {
        let along = S::splat(along.sum());
        for block in start..blocks {
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
        for t in first..=last {
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
