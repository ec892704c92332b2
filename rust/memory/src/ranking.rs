//! One ranking over words and vectors: every allowed row's score as far as it is known, and the best of them.
//!
//! Words and vectors are weighed row by row before any is left out, so that a row which is good in both is among the best
//! though neither ranking alone would name it.

use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::{Mutex, PoisonError};
use std::thread::Builder;

use crate::codes;
use crate::filter::Allowed;
use crate::query::{Best, Weights};
#[cfg(target_arch = "x86_64")]
use crate::simd;

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

/// Rows that are worth a second thread.
const SPLIT: usize = 1 << 16;

/// Words of 64 rows whose cosines are estimated together.
const TOGETHER: usize = codes::BLOCK / 64;

/// Words of 64 rows that are weighed before the next are looked at: their numbers stay in the cache.
const STRIP: usize = 64 * TOGETHER;

/// The rows of a query with what is known of them.
pub struct Rows<'a> {
    pub allowed: &'a Allowed,
    pub mix: Mix,
    /// Whether the query has a vector, and rows cosines: negative infinity where one has no vector.
    pub vector: bool,
    /// What scores by words are multiplied with.
    pub unit: f32,
    /// How many are wanted.
    pub limit: usize,
}

/// `weigh_plain` for processors with a feature.
macro_rules! compiled {
    ($name:ident, $feature:literal) => {
        /// # Safety
        /// The processor has the feature.
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = $feature)]
        unsafe fn $name(
            &self,
            words: Range<usize>,
            scores: &[f32],
            cosines: &[f32],
            best: &mut Best,
        ) {
            self.weigh_plain(words, scores, cosines, best);
        }
    };
}

impl Rows<'_> {
    /// The best rows in no order, each with the sum of its words' parts. `fill` is given a row and the numbers of the rows
    /// from there to some other, whose sums are zero, and completes them. Rows that have neither words nor a vector are passed
    /// over. `closer` says a row's cosine better than `fill` did: with it, so many rows are weighed again.
    pub fn top(
        &self,
        fill: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
        closer: Option<(usize, impl Fn(&[u32]) -> Vec<f32> + Sync)>,
    ) -> Vec<(u32, f32)> {
        let count = self.allowed.bits.len();
        let first_limit = closer.as_ref().map_or(self.limit, |(limit, _)| *limit);
        let best = |words: Range<usize>| {
            let size = 64 * STRIP.min(words.len());
            let mut scores = vec![0.0; size];
            let mut cosines = vec![0.0; if self.vector { size } else { 0 }];
            let mut best = Best::new(first_limit);
            for first in words.clone().step_by(STRIP) {
                let strip = first..words.end.min(first + STRIP);
                let scores = &mut scores[..64 * strip.len()];
                let vectors = cosines.len().min(scores.len());
                scores.fill(0.0);
                fill(64 * first, scores, &mut cosines[..vectors]);
                self.weigh(strip, scores, &cosines[..vectors], &mut best);
            }
            match &closer {
                Some((_, closer)) => self.weigh_again(best, closer),
                None => best,
            }
        };
        if 64 * count < SPLIT {
            return best(0..count).rows();
        }
        let middle = (count / 2).next_multiple_of(TOGETHER);
        let (early, late) = both(Builder::new(), || best(0..middle), || best(middle..count));
        early.and(late).rows()
    }

    /// The best of some rows by their closer cosines.
    fn weigh_again(&self, rows: Best, closer: impl Fn(&[u32]) -> Vec<f32>) -> Best {
        let mut rows = rows.rows();
        rows.sort_unstable_by_key(|(row, _)| *row);
        let numbers: Vec<u32> = rows.iter().map(|(row, _)| *row).collect();
        let mut best = Best::new(self.limit);
        for ((row, sum), cosine) in rows.into_iter().zip(closer(&numbers)) {
            let near = self.mix.nearness(cosine);
            let trust = self.allowed.trust.get(row);
            best.push(self.mix.score(sum * self.unit, near, trust), row, sum);
        }
        best
    }

    /// Adds the rows of some words of the allowed rows' bits to the best, by the numbers of these rows.
    fn weigh(&self, words: Range<usize>, scores: &[f32], cosines: &[f32], best: &mut Best) {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has what the function is compiled for.
            return unsafe { self.weigh_wide(words, scores, cosines, best) };
        } else if simd::has_avx2() {
            // SAFETY: the processor has what the function is compiled for.
            return unsafe { self.weigh_narrow(words, scores, cosines, best) };
        }
        self.weigh_plain(words, scores, cosines, best);
    }

    compiled!(weigh_wide, "avx512f");
    compiled!(weigh_narrow, "avx2");

    #[inline(always)]
    fn weigh_plain(&self, words: Range<usize>, scores: &[f32], cosines: &[f32], best: &mut Best) {
        // By words alone a row scores above zero or has none of them.
        if !self.vector && self.mix.rises() {
            best.floor = best.floor.max(0.0);
        }
        let mut values = [0.0f32; 64];
        let (scores, _) = scores.as_chunks::<64>();
        let (cosines, _) = cosines.as_chunks::<64>();
        let (trusted, _) = self.allowed.trust.each.as_chunks::<64>();
        let same = [self.allowed.trust.same; 64];
        for (place, index) in words.enumerate() {
            let bits = self.allowed.bits[index];
            if bits == 0 {
                continue;
            }
            let words = &scores[place];
            let trust = trusted.get(index).unwrap_or(&same);
            if self.vector {
                let cosines = &cosines[place];
                for lane in 0..64 {
                    let near = self.mix.nearness(cosines[lane]);
                    values[lane] = self.mix.score(words[lane] * self.unit, near, trust[lane]);
                }
            } else {
                for lane in 0..64 {
                    values[lane] = self.mix.score(words[lane] * self.unit, 0.0, trust[lane]);
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
                // It has one of the words, or a vector.
                let near = self.vector && cosines[place][lane] > f32::NEG_INFINITY;
                if words[lane] > 0.0 || near {
                    best.push(values[lane], (64 * index + lane) as u32, words[lane]);
                }
            }
        }
    }
}

/// What two functions return, of which the second runs in a thread of its own where the machine lets one begin.
fn both<T: Send>(
    thread: Builder,
    early: impl FnOnce() -> T,
    late: impl FnOnce() -> T + Send,
) -> (T, T) {
    let waiting = Mutex::new(Some(late));
    let take = || {
        waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    };
    std::thread::scope(|scope| {
        let begun = thread.spawn_scoped(scope, || take().map(|late| late()));
        let early = early();
        let late = match begun {
            Ok(begun) => begun.join().unwrap_or_else(|panic| resume_unwind(panic)),
            Err(_) => take().map(|late| late()),
        };
        (
            early,
            late.unwrap_or_else(|| unreachable!("it is taken once")),
        )
    })
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
            let query = Rows { allowed: &allowed, mix, vector: vector.is_some(), unit: 0.25, limit };
            let score = |row: &u32| {
                let index = *row as usize;
                let near = vector.map_or(0.0, |_| mix.nearness(cosines[index]));
                mix.score(words[index] * 0.25, near, allowed.trust.get(*row))
            };
            let mut wanted: Vec<u32> = allowed.rows().filter(|row| {
                let index = *row as usize;
                words[index] > 0.0 || (vector.is_some() && cosines[index] > f32::NEG_INFINITY)
            }).collect();
            wanted.sort_by(|a, b| score(b).total_cmp(&score(a)).then(a.cmp(b)));
            wanted.truncate(limit);
            wanted.sort_unstable();
            let sorted = |rows: Vec<(u32, f32)>| {
                let mut numbers: Vec<u32> = rows.iter().map(|(row, _)| *row).collect();
                assert!(rows.iter().all(|(row, sum)| *sum == words[*row as usize]));
                numbers.sort_unstable();
                numbers
            };
            let mut plain = Best::new(limit);
            query.weigh_plain(0..4, &words, &cosines, &mut plain);
            let plain = sorted(plain.rows());
            let (mut early, mut late) = (Best::new(limit), Best::new(limit));
            query.weigh(0..1, &words[..64], &cosines[..64], &mut early);
            query.weigh(1..2, &words[64..], &cosines[64..], &mut late);
            query.weigh(2..4, &words[128..], &cosines[128..], &mut late);
            let parts = sorted(early.and(late).rows());
            let fast = sorted(query.top(|first, a, b| {
                a.copy_from_slice(&words[first..first + a.len()]);
                b.copy_from_slice(&cosines[first..first + b.len()]);
            }, None::<(usize, fn(&[u32]) -> Vec<f32>)>));
            // What is far off at first is weighed again, where it is among enough others.
            let again = sorted(query.top(|first, a, b| {
                a.copy_from_slice(&words[first..first + a.len()]);
                b.iter_mut().zip(&cosines[first..]).for_each(|(out, cosine)| *out = cosine.max(-1.0) + 0.3);
                b.iter_mut().zip(&cosines[first..]).for_each(|(out, cosine)| if cosine.is_infinite() { *out = *cosine });
            }, Some((256, |rows: &[u32]| rows.iter().map(|row| cosines[*row as usize]).collect()))));
            prop_assert_eq!(&plain, &wanted);
            prop_assert_eq!(&parts, &wanted);
            prop_assert_eq!(&fast, &wanted);
            if vector.is_some() {
                prop_assert_eq!(&again, &wanted);
            }
        }
    }

    #[test]
    fn where_no_thread_can_begin_both_parts_are_done_here() {
        let here = std::thread::current().id();
        let done = |number: u32| (number, std::thread::current().id() == here);
        let impossible = Builder::new().stack_size(isize::MAX as usize / 2);
        assert_eq!(
            both(impossible, || done(1), || done(2)),
            ((1, true), (2, true))
        );
        assert_eq!(
            both(Builder::new(), || done(1), || done(2)),
            ((1, true), (2, false))
        );
    }

    #[test]
    fn two_threads_see_every_row_once() {
        for (count, vector) in [
            (SPLIT / 64, true),
            (SPLIT / 64 + 12, true),
            (SPLIT / 64 + 4, false),
        ] {
            let size = 64 * count;
            let allowed = Allowed {
                bits: vec![u64::MAX; count],
                count: size,
                trust: Trust {
                    same: 0.5,
                    each: vec![],
                },
            };
            let mix = Mix::of(Weights::default(), true, vector.then_some(0.0));
            let rows = Rows {
                allowed: &allowed,
                mix,
                vector,
                unit: 1.0,
                limit: 5,
            };
            let words = |row: usize| ((row * 7919) % size) as f32 / size as f32;
            let found = rows.top(
                |first, scores, cosines| {
                    assert_eq!(cosines.len(), if vector { scores.len() } else { 0 });
                    for (index, score) in scores.iter_mut().enumerate() {
                        *score += words(first + index);
                    }
                    cosines.fill(0.1);
                },
                None::<(usize, fn(&[u32]) -> Vec<f32>)>,
            );
            let mut all: Vec<u32> = (0..size as u32).collect();
            all.sort_by(|a, b| {
                words(*b as usize)
                    .total_cmp(&words(*a as usize))
                    .then(a.cmp(b))
            });
            let mut found: Vec<u32> = found.into_iter().map(|(row, _)| row).collect();
            found.sort_unstable();
            all.truncate(5);
            all.sort_unstable();
            assert_eq!(found, all);
        }
    }
}
