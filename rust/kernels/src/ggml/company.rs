/// Tokens of a prompt that llama.cpp reads at a time.
const BATCH: usize = 512;
/// The fewest tokens of a batch for which ggml has another kernel than for one.
const MANY: usize = 8;

/// What llama.cpp multiplies a token together with, as far as the order of ggml's sums depends on it. By default it is alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Company {
    /// It is one of two or more, which floats multiply at once.
    pub twos: bool,
    /// It is one of four, which Q4_K multiplies at once.
    pub fours: bool,
    /// It is one of eight or more, which Q5_K and Q6_K multiply at once.
    pub eights: bool,
}

impl Company {
    /// Whether row `row` is alone; all are where nothing is said of them.
    pub(crate) fn alone(company: &[Self], row: usize) -> bool {
        !company.get(row).is_some_and(|company| company.twos)
    }

    /// Of the token at `position` of a sequence. llama.cpp reads a prompt in batches, of which the last tokens may be left
    /// over by fours, and what follows the prompt one by one.
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
