//! How many tokens come together in llama.cpp: it says which of ggml's kernels multiplies a row, and in what order that adds up.

/// Tokens of a prompt that llama.cpp reads at a time.
const BATCH: usize = 512;
/// The fewest tokens of a batch for which ggml has another kernel than for one.
const MANY: usize = 8;

/// The batch class of one row; by default the row is alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchClass {
    /// One of two or more, which floats multiply at once.
    pub twos: bool,
    /// One of four, which Q4_K multiplies at once.
    pub fours: bool,
    /// One of eight or more, which Q5_K and Q6_K multiply at once.
    pub eights: bool,
}

impl BatchClass {
    /// Whether row `row` is alone; all are where `classes` is empty.
    pub(crate) fn alone(classes: &[Self], row: usize) -> bool {
        !classes.get(row).is_some_and(|class| class.twos)
    }

    /// Class of the token at `position` of a sequence. llama.cpp reads a prompt in batches, of which the last tokens may
    /// be left over by fours, and what follows the prompt one by one.
    pub fn of(position: usize, prompt: usize) -> Self {
        if position >= prompt {
            return Self::default();
        }
        let first = position / BATCH * BATCH;
        let batch = (prompt - first).min(BATCH);
        Self {
            twos: batch >= 2,
            fours: position - first < batch / 4 * 4,
            eights: batch >= MANY,
        }
    }
}
