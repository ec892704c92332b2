//! Rotary position embedding over the first dimensions of each head, in half-split pairs (i, i + r/2).

use crate::simd::Simd;
use crate::{LANES, padded};

/// Cosines and sines by position; grows on demand.
///
/// y[j] = x[j] cos[j] + x[j + r/2] ahead[j] + x[j - r/2] behind[j], where `ahead` is -sin in the first half of the
/// rotated dimensions, `behind` is sin in the second, and both are zero elsewhere: one form for any rotated width.
#[derive(Clone, Debug)]
pub struct Rotary {
    head: usize,
    half: usize,
    frequencies: Vec<f32>,
    /// What cosines and sines are multiplied by.
    factor: f32,
    cosine: Vec<f32>,
    ahead: Vec<f32>,
    behind: Vec<f32>,
}

impl Rotary {
    /// Rotation of the first 2 × `frequencies` of `head` (padded) dimensions; cosines and sines times `factor`.
    pub fn new(head: usize, frequencies: Vec<f32>, factor: f32) -> Self {
        assert!(head.is_multiple_of(LANES) && 2 * frequencies.len() <= head);
        Self {
            head,
            half: frequencies.len(),
            frequencies,
            factor,
            cosine: Vec::new(),
            ahead: Vec::new(),
            behind: Vec::new(),
        }
    }

    /// Floats that must lie, and be finite, before and after the rows that [`rotate`] reads.
    pub fn margin(&self) -> usize {
        padded(self.half)
    }

    /// Room for `floats` floats of rows between margins of zeros, as [`rotate`] reads them.
    pub fn frame<'a>(&self, buffer: &'a mut Vec<f32>, floats: usize) -> &'a mut [f32] {
        let (margin, end) = (self.margin(), self.margin() + floats);
        if buffer.len() < end + margin {
            buffer.resize(end + margin, 0.0);
        }
        // Zero times what an earlier, larger or diverged batch left there could be NaN.
        buffer[..margin].fill(0.0);
        buffer[end..end + margin].fill(0.0);
        &mut buffer[margin..end]
    }

    /// Makes positions below `positions` known.
    pub fn extend(&mut self, positions: usize) {
        for position in self.cosine.len() / self.head..positions {
            let start = position * self.head;
            self.cosine.resize(start + self.head, 1.0);
            self.ahead.resize(start + self.head, 0.0);
            self.behind.resize(start + self.head, 0.0);
            for (i, frequency) in self.frequencies.iter().enumerate() {
                let (sin, cos) = (position as f32 * frequency).sin_cos();
                let (sin, cos) = (sin * self.factor, cos * self.factor);
                self.cosine[start + i] = cos;
                self.cosine[start + self.half + i] = cos;
                self.ahead[start + i] = -sin;
                self.behind[start + self.half + i] = sin;
            }
        }
    }
}

kernel! {
    /// Rotates `heads` heads of each row from `x`, whose rows begin after the margin, to `y`; backwards if `back`.
    pub fn rotate = rotate_body(rotary: &Rotary, heads: usize, positions: &[u32], x: &[f32], y: &mut [f32], back: bool)
}

#[inline(always)]
unsafe fn rotate_body<S: Simd>(
    rotary: &Rotary,
    heads: usize,
    positions: &[u32],
    x: &[f32],
    y: &mut [f32],
    back: bool,
) {
    let (head, half, margin) = (rotary.head, rotary.half, rotary.margin());
    let width = heads * head;
    assert!(x.len() >= positions.len() * width + 2 * margin && y.len() >= positions.len() * width);
    let sign = S::splat(if back { -1.0 } else { 1.0 });
    for (row, &position) in positions.iter().enumerate() {
        let at = position as usize * head;
        assert!(at + head <= rotary.cosine.len());
        for h in 0..heads {
            let from = x.as_ptr().add(margin + row * width + h * head);
            let to = y.as_mut_ptr().add(row * width + h * head);
            let mut j = 0;
            while j < head {
                let ahead = S::load(rotary.ahead.as_ptr().add(at + j)).mul(sign);
                let behind = S::load(rotary.behind.as_ptr().add(at + j)).mul(sign);
                let mut turned =
                    S::load(from.add(j)).mul(S::load(rotary.cosine.as_ptr().add(at + j)));
                turned = S::load(from.add(j + half)).fma(ahead, turned);
                turned = S::load(from.add(j).sub(half)).fma(behind, turned);
                turned.store(to.add(j));
                j += LANES;
            }
        }
    }
}
