//! One ranking over words and vectors: every allowed row's score as far as it is known, and the best of them.
//!
//! Words and vectors are weighed row by row before any is left out, so that a row which is good in both is among the best
//! though neither ranking alone would name it.

use crate::filter::Allowed;
use crate::query::{Best, Weights};

/// Dense numbers by row, kept between queries: all scores are zero there.
#[derive(Default)]
pub struct Scratch {
    pub words: Vec<f32>,
    pub cosines: Vec<f32>,
}

/// How a row's parts become its score.
#[derive(Debug, Clone, Copy)]
pub struct Mix {
    /// What a normalised score by words counts.
    words: f32,
    /// What a nearness counts.
    vector: f32,
    trust: f32,
    /// The mean lesson's cosine.
    mean: f32,
    /// One over how far the query's own direction lies from there.
    inverse: f32,
    /// What stands for both where neither counts.
    same: f32,
}

impl Mix {
    /// Of a query that has words, a vector, or both.
    pub fn of(weights: Weights, words: bool, vector: Option<f32>) -> Self {
        let part = |has: bool, weight: f32| if has { weight } else { 0.0 };
        let (by_words, by_vector) = (
            part(words, weights.words),
            part(vector.is_some(), weights.vector),
        );
        let whole = by_words + by_vector;
        let mean = vector.unwrap_or(0.0);
        let share = |part: f32| if whole > 0.0 { part / whole } else { 0.0 };
        Self {
            words: share(by_words),
            vector: share(by_vector),
            trust: weights.trust,
            mean,
            inverse: 1.0 / (1.0 - mean).max(1e-6),
            same: if whole > 0.0 { 0.0 } else { 1.0 },
        }
    }

    /// The score of a row by its normalised score by words and its nearness; 1 by trust where neither counts.
    pub fn score(&self, words: f32, near: f32, trust: f32) -> f32 {
        let mean = self.words * words + self.vector * near + self.same;
        mean * (1.0 + self.trust * (trust - 0.5))
    }

    /// 1 in the query's own direction, 0 where the mean lesson lies or farther, and of a row without a vector.
    pub fn nearness(&self, cosine: f32) -> f32 {
        ((cosine - self.mean) * self.inverse).clamp(0.0, 1.0)
    }

    /// Whether a row with some of the words scores above zero.
    fn rises(&self) -> bool {
        self.words > 0.0 && self.trust.abs() < 2.0
    }
}

/// The rows of a query with what is known of them.
pub struct Rows<'a> {
    pub allowed: &'a Allowed,
    pub mix: Mix,
    /// Cosines by row, negative infinity where a row has no vector; None without a vector in the query.
    pub cosines: Option<&'a [f32]>,
}

impl Rows<'_> {
    /// The best rows in no order, by their words' sums (in units of 1 / `unit`) and their cosines. Rows that have neither
    /// are passed over.
    pub fn top(&self, scores: &[f32], unit: f32, limit: usize) -> Vec<u32> {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has what the function is compiled for.
            return unsafe { self.top_wide(scores, unit, limit) };
        }
        self.top_plain(scores, unit, limit)
    }

    /// # Safety
    /// The processor has AVX-512 F.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f")]
    unsafe fn top_wide(&self, scores: &[f32], unit: f32, limit: usize) -> Vec<u32> {
        self.top_plain(scores, unit, limit)
    }

    #[inline(always)]
    fn top_plain(&self, scores: &[f32], unit: f32, limit: usize) -> Vec<u32> {
        let mut best = Best::new(limit);
        // By words alone a row scores above zero or has none of them.
        if self.cosines.is_none() && self.mix.rises() {
            best.floor = 0.0;
        }
        let mut values = [0.0f32; 64];
        let (scored, _) = scores.as_chunks::<64>();
        let (trusted, _) = self.allowed.trust.each.as_chunks::<64>();
        let same = [self.allowed.trust.same; 64];
        let cosines = self.cosines.map(|cosines| cosines.as_chunks::<64>().0);
        for (index, &bits) in self.allowed.bits.iter().enumerate() {
            if bits == 0 {
                continue;
            }
            let words = &scored[index];
            let trust = trusted.get(index).unwrap_or(&same);
            match cosines.map(|cosines| &cosines[index]) {
                None => {
                    for lane in 0..64 {
                        values[lane] = self.mix.score(words[lane] * unit, 0.0, trust[lane]);
                    }
                }
                Some(cosines) => {
                    for lane in 0..64 {
                        let near = self.mix.nearness(cosines[lane]);
                        values[lane] = self.mix.score(words[lane] * unit, near, trust[lane]);
                    }
                }
            }
            if !values
                .iter()
                .fold(false, |any, value| any | (*value > best.floor))
            {
                continue;
            }
            let mut above = 0u64;
            for (lane, value) in values.iter().enumerate() {
                above |= u64::from(*value > best.floor) << lane;
            }
            let mut left = above & bits;
            while left != 0 {
                let lane = left.trailing_zeros() as usize;
                left &= left - 1;
                let row = 64 * index + lane;
                if self.speaks(scores, row) {
                    best.push(values[lane], row as u32);
                }
            }
        }
        best.rows()
    }

    /// Whether a row has one of the words, or a vector.
    fn speaks(&self, scores: &[f32], row: usize) -> bool {
        scores[row] > 0.0
            || self
                .cosines
                .is_some_and(|cosines| cosines[row] > f32::NEG_INFINITY)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::filter::Trust;

    proptest! {
        #[test]
        fn the_best_are_those_of_a_full_sort_with_and_without_vectors(
            rows in prop::collection::vec((0.0f32..4.0, -1.0f32..1.0, 0.0f32..1.0, any::<bool>(), any::<bool>()), 256),
            parts in 0usize..4, limit in 1usize..300, some in any::<bool>(), trusted in any::<bool>(),
        ) {
            let mut bits = vec![0u64; 4];
            for (row, (.., allowed)) in rows.iter().enumerate() {
                bits[row / 64] |= u64::from(*allowed) << (row % 64);
            }
            let count = rows.iter().filter(|row| row.4).count();
            let trust = Trust { same: 0.5, each: rows.iter().map(|row| row.2).collect() };
            let trust = if parts & 1 == 0 { trust } else { Trust { same: 0.5, each: vec![] } };
            let allowed = Allowed { bits, count, trust };
            let words: Vec<f32> = rows.iter().map(|row| if row.3 { row.0 } else { 0.0 }).collect();
            let cosines: Vec<f32> = rows.iter().map(|row| if row.1 < -0.5 { f32::NEG_INFINITY } else { row.1 }).collect();
            let vector = (parts & 2 == 0).then_some(0.1);
            let weights = Weights {
                words: if some { 0.5 } else { 0.0 },
                trust: if trusted { 2.0 } else { 0.2 },
                ..Weights::default()
            };
            let mix = Mix::of(weights, true, vector);
            let query = Rows { allowed: &allowed, mix, cosines: vector.map(|_| &cosines[..]) };
            let score = |row: &u32| {
                let index = *row as usize;
                let near = vector.map_or(0.0, |_| mix.nearness(cosines[index]));
                mix.score(words[index] * 0.25, near, allowed.trust.get(*row))
            };
            let mut wanted: Vec<u32> = allowed.rows().filter(|row| query.speaks(&words, *row as usize)).collect();
            wanted.sort_by(|a, b| score(b).total_cmp(&score(a)).then(a.cmp(b)));
            wanted.truncate(limit);
            wanted.sort_unstable();
            let mut plain = query.top_plain(&words, 0.25, limit);
            plain.sort_unstable();
            let mut fast = query.top(&words, 0.25, limit);
            fast.sort_unstable();
            prop_assert_eq!(&plain, &wanted);
            prop_assert_eq!(&fast, &wanted);
        }
    }
}
