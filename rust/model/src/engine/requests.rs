//! What the engine is asked, and what it answers.

use crate::batch::Positions;

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

/// Logits of ragged rows: (rows, longest, vocabulary), NaN past each row's end.
pub struct Logits {
    pub shape: [usize; 3],
    pub values: Vec<f32>,
}
