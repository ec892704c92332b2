//! What the engine is asked, and what it answers.

use crate::batch::Positions;
use crate::schedule::{Finish, Sampling, Top};

/// One training example: cross-entropy of `ids[answer_start..]`, each predicted from what stands before it.
#[derive(Clone, Debug)]
pub struct Example {
    pub ids: Vec<u32>,
    pub answer_start: usize,
    /// Rotary positions: consecutive from an offset, or with gaps.
    pub positions: Positions,
    pub weight: f32,
}

impl Example {
    pub fn answer_tokens(&self) -> usize {
        self.ids.len() - self.answer_start
    }
}

/// A prompt and how to continue it; one sample a key.
#[derive(Clone, Debug)]
pub struct Request {
    pub prompt: Vec<u32>,
    pub keys: Vec<u64>,
    pub sampling: Sampling,
}

/// A continuation.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Without the end token.
    pub tokens: Vec<u32>,
    /// At temperature 1, the end token's included.
    pub logprobs: Vec<f32>,
    /// The likeliest tokens beside each, if the request asks for them.
    pub top: Vec<Top>,
    pub finish: Finish,
}

/// Logits of ragged rows: (rows, longest, vocabulary), NaN past each row's end.
pub struct Logits {
    pub shape: [usize; 3],
    pub values: Vec<f32>,
}
