//! A question to memory, and its answer.

use crate::lesson::{Kind, Standing};

/// How much each part of a score counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weights {
    pub words: f32,
    pub vector: f32,
    /// A lesson of trust 1 scores by this share more than one of trust 0.
    pub trust: f32,
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            words: 0.5,
            vector: 0.5,
            trust: 0.2,
        }
    }
}

/// What is looked for. Without text and vector the newest lessons that pass the filters are returned.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Query<'a> {
    pub text: Option<&'a str>,
    pub vector: Option<&'a [f32]>,
    /// Any of these kinds; all of them if there are none.
    pub kinds: &'a [Kind],
    /// A node of the skill tree: its own lessons and those of the skills below it.
    pub skill: Option<&'a str>,
    /// Another skill whose own lessons pass the filter by skill as well.
    pub besides: Option<&'a str>,
    pub run: Option<&'a str>,
    pub source: Option<&'a str>,
    /// Memory as it stood when this cycle began.
    pub before_cycle: Option<u64>,
    /// Lessons that are forgotten, instead of those that hold.
    pub forgotten: bool,
    pub k: usize,
    /// Lessons of less confidence are not returned, so that a query may have no answer.
    pub confidence: f32,
    pub weights: Weights,
}

/// A lesson that a query found.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    pub id: String,
    /// The weighted mean of `words` and `vector`, by the lesson's trust.
    pub score: f32,
    /// BM25 over the sum of the query's inverse document frequencies: about 1 for a lesson of mean length that has
    /// every word once; None without a text.
    pub words: Option<f32>,
    /// How much nearer than the mean lesson, 1 for the query's own direction; None without a vector.
    pub vector: Option<f32>,
    /// The share of the query's own words that the lesson has (`coverage.rs`); without a text, `vector`; in [0, 1].
    pub confidence: f32,
    pub standing: Standing,
    pub body: Vec<u8>,
}

/// The best so many rows by score; of equals the smaller row.
pub(crate) struct Best {
    limit: usize,
    /// Score, row and what comes with it.
    rows: Vec<(f32, u32, f32)>,
    /// Scores up to this one are too low.
    pub floor: f32,
}

impl Best {
    pub fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            rows: Vec::new(),
            floor: f32::NEG_INFINITY,
        }
    }

    /// Takes note of a row; rows of one score come in ascending order.
    pub fn push(&mut self, score: f32, row: u32, with: f32) {
        if score <= self.floor {
            return;
        }
        self.rows.push((score, row, with));
        if self.rows.len() >= 4 * self.limit + 64 {
            self.cut();
        }
    }

    fn cut(&mut self) {
        if self.rows.len() > self.limit {
            self.rows.select_nth_unstable_by(self.limit - 1, order);
            self.rows.truncate(self.limit);
            self.floor = self.rows[self.limit - 1].0;
        }
    }

    /// The best of both; `other` has later rows.
    pub fn and(mut self, other: Self) -> Self {
        self.rows.extend(other.rows);
        self.cut();
        self
    }

    /// Those that are kept, in no order, each with what came with it.
    pub fn rows(mut self) -> Vec<(u32, f32)> {
        self.cut();
        self.rows
            .into_iter()
            .map(|(_, row, with)| (row, with))
            .collect()
    }
}

fn order(a: &(f32, u32, f32), b: &(f32, u32, f32)) -> std::cmp::Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Best;

    proptest! {
        #[test]
        fn the_best_are_those_of_a_full_sort(scores in prop::collection::vec(0u8..20, 0..500), limit in 1usize..40) {
            let mut best = Best::new(limit);
            for (row, score) in scores.iter().enumerate() {
                best.push(f32::from(*score), row as u32, row as f32);
            }
            let mut parts = [Best::new(limit), Best::new(limit)];
            for (row, score) in scores.iter().enumerate() {
                parts[usize::from(row >= scores.len() / 3)].push(f32::from(*score), row as u32, row as f32);
            }
            let [first, second] = parts;
            let sorted = |best: Best| {
                let mut rows = best.rows();
                assert!(rows.iter().all(|(row, with)| *with == *row as f32));
                rows.sort_unstable_by_key(|(row, _)| *row);
                rows.into_iter().map(|(row, _)| row).collect::<Vec<u32>>()
            };
            let joined = sorted(first.and(second));
            let mut all: Vec<(f32, u32)> = scores.iter().enumerate().map(|(row, score)| (f32::from(*score), row as u32)).collect();
            all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            all.truncate(limit);
            let mut wanted: Vec<u32> = all.into_iter().map(|(_, row)| row).collect();
            wanted.sort_unstable();
            prop_assert_eq!(&sorted(best), &wanted);
            prop_assert_eq!(joined, wanted);
        }
    }
}
