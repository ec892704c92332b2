//! Linear attention by the gated delta rule (Yang et al. 2025), token after token: what a head remembers is a matrix S of
//! (key width, value width), which decays, forgets what a key recalls, and takes the value in its place.
//!
//! S' = a S, d = b (v - S'ᵀ k), S = S' + k dᵀ, o = Sᵀ q, with k and q of length one, and q divided by the root of its width.
//! A token's numbers depend on the state and on the token alone, so that a text may be cut anywhere.

use crate::simd::{Simd, sigmoid};
use crate::{LANES, area, padded};

/// Sizes of a layer.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub key_heads: usize,
    /// A multiple of the key heads, which serve as many neighbours each.
    pub value_heads: usize,
    /// Width of a key head and of a value head, not padded.
    pub key: usize,
    pub value: usize,
    /// Tokens that the convolution before it sees.
    pub taps: usize,
}

/// Tokens from one kept state to the next in training: those between are computed again.
const KEPT: usize = 16;

impl Sizes {
    /// Numbers of a token that are convolved: queries, keys, values.
    pub fn channels(self) -> usize {
        2 * self.key_heads * self.key + self.value_heads * self.value
    }

    /// Floats of a head's state.
    pub fn state(self) -> usize {
        self.key * padded(self.value)
    }

    /// Where a value head's query, key and value begin among a token's channels.
    fn places(self, head: usize) -> [usize; 3] {
        let group = self.value_heads / self.key_heads;
        let keys = self.key_heads * self.key;
        let at = head / group * self.key;
        [at, keys + at, 2 * keys + head * self.value]
    }
}

/// Each channel's sum over the newest tokens: `taps` holds a channel's weights, the newest last, [`LANES`] floats apart.
///
/// `x` and `y` have rows `step` floats apart; `tail` are the rows before them, (taps - 1, channels), and after the call
/// those before what follows.
pub fn convolve(
    sizes: Sizes,
    rows: usize,
    taps: &[f32],
    tail: &mut [f32],
    x: &[f32],
    y: &mut [f32],
    step: usize,
) {
    let (channels, before) = (sizes.channels(), sizes.taps - 1);
    let mut turned = vec![0.0; sizes.taps * channels];
    for (channel, weights) in taps.chunks_exact(LANES).take(channels).enumerate() {
        for (tap, &weight) in weights.iter().take(sizes.taps).enumerate() {
            turned[tap * channels + channel] = weight;
        }
    }
    for row in 0..rows {
        let y = &mut y[row * step..][..channels];
        y.fill(0.0);
        for (tap, weights) in turned.chunks_exact(channels).enumerate() {
            let at = row + tap;
            let from = if at < before {
                &tail[at * channels..][..channels]
            } else {
                &x[(at - before) * step..][..channels]
            };
            for ((y, x), weight) in y.iter_mut().zip(from).zip(weights) {
                *y += weight * x;
            }
        }
    }
    // The newest rows, of the old tail where there are too few.
    for at in 0..before {
        let newest = rows + at;
        if newest < before {
            tail.copy_within(newest * channels..(newest + 1) * channels, at * channels);
        } else {
            let from = &x[(newest - before) * step..][..channels];
            tail[at * channels..][..channels].copy_from_slice(from);
        }
    }
}

/// Gradients of [`convolve`] over a whole sequence, all of `x`: `dx` is written, `dtaps` accumulates.
pub fn convolve_backward(
    sizes: Sizes,
    taps: &[f32],
    x: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    dtaps: &mut [f32],
    step: usize,
) {
    let (channels, before) = (sizes.channels(), sizes.taps - 1);
    let rows = x.len() / step;
    for row in 0..rows {
        dx[row * step..][..channels].fill(0.0);
    }
    for row in 0..rows {
        for tap in 0..sizes.taps {
            let Some(from) = (row + tap).checked_sub(before) else {
                continue;
            };
            for channel in 0..channels {
                let slope = dy[row * step + channel];
                dx[from * step + channel] += slope * taps[channel * LANES + tap];
                dtaps[channel * LANES + tap] += slope * x[from * step + channel];
            }
        }
    }
}

kernel! {
    /// `y` = x σ(x).
    pub fn silu = silu_body(x: &[f32], y: &mut [f32])
}

#[inline(always)]
unsafe fn silu_body<S: Simd>(x: &[f32], y: &mut [f32]) {
    assert!(x.len() == y.len() && x.len().is_multiple_of(LANES));
    let mut j = 0;
    while j < x.len() {
        let at = S::load(x.as_ptr().add(j));
        at.mul(sigmoid(at)).store(y.as_mut_ptr().add(j));
        j += LANES;
    }
}

kernel! {
    /// `dx` = `dy` times the slope of [`silu`] at `x`.
    pub fn silu_backward = silu_backward_body(x: &[f32], dy: &[f32], dx: &mut [f32])
}

#[inline(always)]
unsafe fn silu_backward_body<S: Simd>(x: &[f32], dy: &[f32], dx: &mut [f32]) {
    assert!(x.len() == dx.len() && dy.len() == dx.len() && x.len().is_multiple_of(LANES));
    let one = S::splat(1.0);
    let mut j = 0;
    while j < x.len() {
        let at = S::load(x.as_ptr().add(j));
        let s = sigmoid(at);
        let slope = one.sub(s).fma(at.mul(s), s);
        let dy = S::load(dy.as_ptr().add(j));
        dy.mul(slope).store(dx.as_mut_ptr().add(j));
        j += LANES;
    }
}

/// What makes a vector's length one.
fn unit(x: &[f32]) -> f32 {
    let squares = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>();
    ((squares + 1e-6).sqrt().recip()) as f32
}

/// One value head's tokens: (rows, channels), `step` floats apart, and of each token the decay and the strength.
#[derive(Clone, Copy)]
pub struct Tokens<'a> {
    pub rows: usize,
    pub values: &'a [f32],
    pub step: usize,
    pub decay: &'a [f32],
    pub strength: &'a [f32],
}

impl Tokens<'_> {
    /// Query and key of length one, the query divided by the root of its width, and the value, padded.
    fn of(self, sizes: Sizes, head: usize, row: usize, scratch: &mut Token) {
        let channels = &self.values[row * self.step..];
        let [query, key, value] = sizes.places(head);
        let (query, key) = (
            &channels[query..][..sizes.key],
            &channels[key..][..sizes.key],
        );
        let root = (sizes.key as f32).sqrt().recip();
        (scratch.query_unit, scratch.key_unit) = (unit(query), unit(key));
        let by = |to: &mut Vec<f32>, from: &[f32], factor: f32| {
            to.clear();
            to.extend(from.iter().map(|x| x * factor));
        };
        by(&mut scratch.query, query, scratch.query_unit * root);
        by(&mut scratch.key, key, scratch.key_unit);
        by(&mut scratch.value, &channels[value..][..sizes.value], 1.0);
        scratch.value.resize(padded(sizes.value), 0.0);
    }
}

/// One token of a head.
#[derive(Default)]
struct Token {
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
    query_unit: f32,
    key_unit: f32,
}

/// Reads a head's tokens: `state` goes on, `out` (rows, padded value width) is written.
pub fn recall(
    isa: crate::Isa,
    sizes: Sizes,
    head: usize,
    tokens: Tokens<'_>,
    state: &mut [f32],
    out: &mut [f32],
) {
    let (width, mut token) = (padded(sizes.value), Token::default());
    for row in 0..tokens.rows {
        tokens.of(sizes, head, row, &mut token);
        let out = &mut out[row * width..][..width];
        let (decay, strength) = (tokens.decay[row], tokens.strength[row]);
        let Token {
            query, key, value, ..
        } = &token;
        update(isa, decay, strength, query, key, value, state, out);
    }
}

kernel! {
    /// One token of a head.
    pub fn update = update_body(decay: f32, strength: f32, query: &[f32], key: &[f32], value: &[f32], state: &mut [f32], out: &mut [f32])
}

#[inline(always)]
unsafe fn update_body<S: Simd>(
    decay: f32,
    strength: f32,
    query: &[f32],
    key: &[f32],
    value: &[f32],
    state: &mut [f32],
    out: &mut [f32],
) {
    let width = value.len();
    assert!(width.is_multiple_of(LANES) && out.len() == width && query.len() == key.len());
    assert!(state.len() == area([key.len(), width]));
    let (decay, strength) = (S::splat(decay), S::splat(strength));
    let mut j = 0;
    while j < width {
        let mut recalled = S::splat(0.0);
        for (i, &k) in key.iter().enumerate() {
            let at = state.as_mut_ptr().add(i * width + j);
            let kept = S::load(at).mul(decay);
            kept.store(at);
            recalled = S::splat(k).fma(kept, recalled);
        }
        let new = S::load(value.as_ptr().add(j)).sub(recalled).mul(strength);
        let mut said = S::splat(0.0);
        for (i, (&k, &q)) in key.iter().zip(query).enumerate() {
            let at = state.as_mut_ptr().add(i * width + j);
            let now = S::splat(k).fma(new, S::load(at));
            now.store(at);
            said = S::splat(q).fma(now, said);
        }
        said.store(out.as_mut_ptr().add(j));
        j += LANES;
    }
}

/// Gradients of [`recall`] over a whole sequence that begins without a state: those of a token's channels accumulate in
/// `dvalues`, of decay and strength they are written.
#[allow(clippy::too_many_arguments)]
pub fn recall_backward(
    isa: crate::Isa,
    sizes: Sizes,
    head: usize,
    tokens: Tokens<'_>,
    dout: &[f32],
    dvalues: &mut [f32],
    ddecay: &mut [f32],
    dstrength: &mut [f32],
) {
    let (width, size) = (padded(sizes.value), sizes.state());
    let mut out = vec![0.0; width];
    let mut token = Token::default();
    // States before each run of tokens, then before each token of a run.
    let mut starts = vec![vec![0.0; size]];
    let mut state = vec![0.0; size];
    for row in 0..tokens.rows {
        tokens.of(sizes, head, row, &mut token);
        let (decay, strength) = (tokens.decay[row], tokens.strength[row]);
        let Token {
            query, key, value, ..
        } = &token;
        update(
            isa, decay, strength, query, key, value, &mut state, &mut out,
        );
        if (row + 1).is_multiple_of(KEPT) {
            starts.push(state.clone());
        }
    }
    let mut dstate = vec![0.0; size];
    let (mut dquery, mut dkey) = (vec![0.0; sizes.key], vec![0.0; sizes.key]);
    for run in (0..tokens.rows.div_ceil(KEPT)).rev() {
        let first = run * KEPT;
        let rows = first..tokens.rows.min(first + KEPT);
        let mut states = vec![starts[run].clone()];
        for row in rows.clone() {
            tokens.of(sizes, head, row, &mut token);
            let (decay, strength) = (tokens.decay[row], tokens.strength[row]);
            let Token {
                query, key, value, ..
            } = &token;
            let mut state = states[row - first].clone();
            update(
                isa, decay, strength, query, key, value, &mut state, &mut out,
            );
            states.push(state);
        }
        for row in rows.rev() {
            tokens.of(sizes, head, row, &mut token);
            let (decay, strength) = (tokens.decay[row], tokens.strength[row]);
            let dout = &dout[row * width..][..width];
            let (before, after) = (&states[row - first], &states[row - first + 1]);
            // What the key recalls, and the difference that is taken in.
            let mut missing = token.value.clone();
            for (i, k) in token.key.iter().enumerate() {
                for (missing, s) in missing.iter_mut().zip(&before[i * width..][..width]) {
                    *missing -= k * decay * s;
                }
            }
            let mut dmissing = vec![0.0; width];
            for i in 0..sizes.key {
                let at = i * width..(i + 1) * width;
                let (mut to_query, mut to_key) = (0.0, 0.0);
                let rows = dstate[at.clone()].iter_mut().zip(&after[at]).zip(dout);
                for ((((dstate, after), dout), missing), dmissing) in
                    rows.zip(&missing).zip(&mut dmissing)
                {
                    *dstate += token.query[i] * dout;
                    to_query += after * dout;
                    to_key += *dstate * (strength * missing);
                    *dmissing += *dstate * token.key[i];
                }
                (dquery[i], dkey[i]) = (to_query, to_key);
            }
            let along = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
            dstrength[row] = along(&missing, &dmissing);
            dmissing.iter_mut().for_each(|x| *x *= strength);
            let mut to_decay = 0.0;
            for i in 0..sizes.key {
                let at = i * width..(i + 1) * width;
                let mut to_key = 0.0;
                let rows = dstate[at.clone()].iter_mut().zip(&before[at]);
                for ((dstate, before), dmissing) in rows.zip(&dmissing) {
                    to_key -= decay * before * dmissing;
                    *dstate -= token.key[i] * dmissing;
                    to_decay += *dstate * before;
                    *dstate *= decay;
                }
                dkey[i] += to_key;
            }
            ddecay[row] = to_decay;
            let [query, key, value] = sizes.places(head);
            let channels = &mut dvalues[row * tokens.step..];
            for (to, from) in channels[value..][..sizes.value].iter_mut().zip(&dmissing) {
                *to += from;
            }
            // Through the lengths: with x = u r and u of length one, dr = (du - u (u · du)) / |r|.
            let root = (sizes.key as f32).sqrt().recip();
            for (at, unit, scale, x, dx) in [
                (query, token.query_unit, root, &token.query, &dquery),
                (key, token.key_unit, 1.0, &token.key, &dkey),
            ] {
                let along = along(x, dx);
                for ((to, x), dx) in channels[at..][..sizes.key].iter_mut().zip(x).zip(dx) {
                    *to += unit * (scale * dx - x / scale * along);
                }
            }
        }
    }
}
