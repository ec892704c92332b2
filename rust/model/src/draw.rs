//! Draws of tokens from logits: what a scheduler wants of a backend, and what comes of it.

use moevolve_kernels::sample::Cuts;

/// How a token is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Choice {
    /// The largest logit, the lowest id of equals.
    Greedy,
    /// From what cuts leave over, by a number in [0, 1).
    Random { cuts: Cuts, uniform: f64 },
}

/// One draw from a row of a head's logits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    pub row: usize,
    pub choice: Choice,
    /// Whether the token is chosen from what [`Sampler::bend`] makes of the logits.
    pub bent: bool,
    /// Likeliest tokens that are told with it.
    pub top: usize,
}

/// Likeliest tokens with their log-probabilities at temperature 1.
pub type Top = Vec<(u32, f32)>;

/// A drawn token. Log-probabilities are those of the logits before anybody bends them, at temperature 1.
#[derive(Clone, Debug, PartialEq)]
pub struct DrawnToken {
    pub token: u32,
    pub logprob: f32,
    pub top: Top,
}

/// Draws of one text in one step, each of which may depend on what those before it gave.
///
/// A backend may make the draws of many samplers at once; those of one come in their order.
pub trait Sampler: Send {
    /// The next draw; None when there is none to come. It is the same until it is taken or refused.
    fn next(&mut self) -> Option<Draw>;

    /// Changes a copy of the row's logits, one a token of the vocabulary. False refuses the draw: no token may come.
    fn bend(&mut self, logits: &mut [f32]) -> bool;

    /// Takes that the next draw gives no token: its logits give no distribution, since one is NaN or +inf, or none is above -inf.
    fn refuse(&mut self);

    /// Takes what came of the next draw.
    fn take(&mut self, drawn: DrawnToken);
}
