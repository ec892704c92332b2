//! Attention to less than all keys, or to more than keys.

use std::ops::Range;

use super::Heads;

/// What the rows of a layer see. The default is all keys, and nothing else.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reach<'a> {
    /// The newest keys that a row sees, its own among them; None: all.
    pub window: Option<usize>,
    /// A logit for each query head that takes part in the softmax and has no value (gpt-oss); empty without.
    pub sinks: &'a [f32],
}

impl<'a> Reach<'a> {
    /// Whether it is the default, for which there are kernels of their own.
    pub fn is_whole(&self) -> bool {
        self.window.is_none() && self.sinks.is_empty()
    }

    /// The first position that a row sees which sees `last` at last.
    pub(super) fn first(&self, last: u32) -> usize {
        let last = last as usize;
        self.window
            .map_or(0, |window| (last + 1).saturating_sub(window))
    }

    /// That of some query heads.
    pub(super) fn of(self, queries: Range<usize>) -> Self {
        let sinks: &'a [f32] = if self.sinks.is_empty() {
            &[]
        } else {
            &self.sinks[queries]
        };
        Self { sinks, ..self }
    }

    pub(super) fn check(&self, heads: Heads) {
        assert!(self.window != Some(0), "a row sees its own key");
        assert!(self.sinks.is_empty() || self.sinks.len() == heads.queries);
    }
}

/// Adds the gradient of the sinks to `dsinks`, one a query head.
///
/// With the sink's share s = 1 - Σ p over the keys, and the output o = Σ p v, it is -s (do · o), summed over the rows of
/// `last`. `probabilities` (rows, query heads, stride) as [`super::attend_within`] kept them; `attended` and `dout` (rows,
/// query heads × width).
#[allow(clippy::too_many_arguments)]
pub fn sink_gradient(
    heads: Heads,
    reach: Reach<'_>,
    last: &[u32],
    probabilities: &[f32],
    stride: usize,
    attended: &[f32],
    dout: &[f32],
    dsinks: &mut [f32],
) {
    for (row, &last) in last.iter().enumerate() {
        let seen = reach.first(last)..last as usize + 1;
        for (head, dsink) in dsinks.iter_mut().enumerate().take(heads.queries) {
            let at = row * heads.queries + head;
            let shares = &probabilities[at * stride..][seen.clone()];
            let rest = 1.0 - shares.iter().map(|&p| f64::from(p)).sum::<f64>();
            let outputs = attended[at * heads.width..][..heads.width].iter();
            let slopes = outputs.zip(&dout[at * heads.width..]);
            let slope: f64 = slopes.map(|(&o, &d)| f64::from(o) * f64::from(d)).sum();
            *dsink -= (rest * slope) as f32;
        }
    }
}
