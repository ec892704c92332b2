//! Rotary position embedding over the first dimensions of each head, in half-split pairs (i, i + r/2).

use crate::simd::Simd;
use crate::{LANES, area, padded};

/// Cosines and sines by position; grows on demand.
///
/// `y[j] = x[j] cos[j] + x[j + r/2] ahead[j] + x[j - r/2] behind[j]`, where `ahead` is -sin in the first half of the
/// rotated dimensions, `behind` is sin in the second, and both are zero elsewhere: one form for any rotated width. What the
/// loads find outside of a pair (other dimensions, heads or rows) is zeroed first: it may be infinite or NaN.
#[derive(Clone, Debug)]
pub struct Rotary {
    head: usize,
    half: usize,
    angles: Angles,
    /// What cosines and sines are multiplied by.
    factor: f32,
    pairs: Pairs,
    cosine: Vec<f32>,
    /// [`Pairs::HalfFused`]: `cosine` of the first half, which is zero there.
    fused: Vec<f32>,
    ahead: Vec<f32>,
    behind: Vec<f32>,
    /// By dimension, all bits where `ahead` and `behind` have a sine.
    paired: [Vec<f32>; 2],
}

/// Which products of a pair are fused with the sums that take them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairs {
    /// Those with sines.
    Fused,
    /// As in ggml: that with the cosine for a pair's first dimension, that with the sine for its second; the others are
    /// rounded before.
    HalfFused,
}

/// Angles by which pairs of dimensions are rotated.
#[derive(Clone, Debug)]
pub enum Angles {
    /// The position times each.
    Frequencies(Vec<f32>),
    /// As ggml has them: from the position on, times `ratio` from pair to pair, which rounds every time; then divided by
    /// the pair's divisor and times `scale`.
    Chain {
        ratio: f32,
        scale: f32,
        divisors: Vec<f32>,
    },
}

impl Angles {
    /// ggml's for the base θ; `divisors`, one a pair, may be missing.
    pub fn chain(rotated: usize, theta: f32, scale: f32, mut divisors: Vec<f32>) -> Self {
        divisors.resize(rotated / 2, 1.0);
        Self::Chain {
            ratio: theta.powf(-2.0 / rotated as f32),
            scale,
            divisors,
        }
    }

    fn pairs(&self) -> usize {
        match self {
            Self::Frequencies(frequencies) => frequencies.len(),
            Self::Chain { divisors, .. } => divisors.len(),
        }
    }

    /// One a pair.
    fn at(&self, position: usize) -> Vec<f32> {
        let position = position as f32;
        match self {
            Self::Frequencies(frequencies) => frequencies.iter().map(|f| position * f).collect(),
            Self::Chain {
                ratio,
                scale,
                divisors,
            } => std::iter::successors(Some(position), |angle| Some(angle * ratio))
                .zip(divisors)
                .map(|(angle, divisor)| scale * (angle / divisor))
                .collect(),
        }
    }
}

impl Rotary {
    /// Rotation of the first dimensions of `head` (padded), two for each angle; cosines and sines times `factor`.
    pub fn new(head: usize, angles: Angles, factor: f32, pairs: Pairs) -> Self {
        let half = angles.pairs();
        assert!(head.is_multiple_of(LANES) && 2 * half <= head);
        let paired = [0..half, half..2 * half].map(|dimensions| {
            let bits = |j| if dimensions.contains(&j) { u32::MAX } else { 0 };
            (0..head).map(|j| f32::from_bits(bits(j))).collect()
        });
        Self {
            head,
            half,
            angles,
            factor,
            pairs,
            cosine: Vec::new(),
            fused: Vec::new(),
            ahead: Vec::new(),
            behind: Vec::new(),
            paired,
        }
    }

    /// Floats that must lie before and after the rows that [`rotate`] reads.
    pub fn margin(&self) -> usize {
        padded(self.half)
    }

    /// Room for `floats` floats of rows between margins, as [`rotate`] reads them.
    pub fn frame<'a>(&self, buffer: &'a mut Vec<f32>, floats: usize) -> &'a mut [f32] {
        let (margin, end) = (self.margin(), self.margin() + floats);
        if buffer.len() < end + margin {
            buffer.resize(end + margin, 0.0);
        }
        &mut buffer[margin..end]
    }

    /// Makes positions below `positions` known.
    pub fn extend(&mut self, positions: usize) {
        for position in self.cosine.len() / self.head..positions {
            let start = position * self.head;
            self.cosine.resize(start + self.head, 1.0);
            if self.pairs == Pairs::HalfFused {
                self.fused.resize(start + self.head, 0.0);
            }
            self.ahead.resize(start + self.head, 0.0);
            self.behind.resize(start + self.head, 0.0);
            for (i, angle) in self.angles.at(position).into_iter().enumerate() {
                let (sin, cos) = angle.sin_cos();
                let (sin, cos) = (sin * self.factor, cos * self.factor);
                if self.pairs == Pairs::HalfFused {
                    self.fused[start + i] = cos;
                    self.cosine[start + i] = 0.0;
                } else {
                    self.cosine[start + i] = cos;
                }
                self.cosine[start + self.half + i] = cos;
                self.ahead[start + i] = -sin;
                self.behind[start + self.half + i] = sin;
            }
        }
    }

    /// Cosines and sines (positions, pairs) of positions below `positions`, which must be known.
    pub fn table(&self, positions: usize) -> [Vec<f32>; 2] {
        let pairs = |from: &[f32]| {
            let rows = from[..positions * self.head].chunks_exact(self.head);
            rows.flat_map(|row| &row[self.half..2 * self.half])
                .copied()
                .collect()
        };
        [pairs(&self.cosine), pairs(&self.behind)]
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
    let width = area([heads, head]);
    let floats = area([positions.len(), width]);
    assert!(y.len() >= floats && x.len() >= floats + 2 * margin);
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
                let (x, cosine) = (
                    S::load(from.add(j)),
                    S::load(rotary.cosine.as_ptr().add(at + j)),
                );
                let [first, second] = &rotary.paired;
                let (mut later, mut earlier) = (S::splat(0.0), S::splat(0.0));
                if j < half {
                    later = S::load(from.add(j + half)).and(S::load(first.as_ptr().add(j)));
                }
                if j + LANES > half && j < 2 * half {
                    earlier = S::load(from.add(j).sub(half)).and(S::load(second.as_ptr().add(j)));
                }
                let rotated = if rotary.pairs == Pairs::HalfFused {
                    let fused = S::load(rotary.fused.as_ptr().add(at + j));
                    let rounded = later.mul(ahead).add(x.mul(cosine));
                    earlier.fma(behind, x.fma(fused, rounded))
                } else {
                    earlier.fma(behind, later.fma(ahead, x.mul(cosine)))
                };
                rotated.store(to.add(j));
                j += LANES;
            }
        }
    }
}
