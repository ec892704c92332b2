//! Ranking by words: Okapi BM25 (Robertson and Zaragoza, 2009) with k1 = 1.2 and b = .75, exact to the last row.
//!
//! The rarest word comes first. As soon as what is left to add cannot lift another row among the best, only the rows
//! that may still be among them are looked up in the common words' postings (Turtle and Flood, 1995).

use heed::{AnyTls, RoTxn};

use crate::filter::Allowed;
use crate::postings::{Postings, length_of};
use crate::query::Best;
use crate::totals::Totals;

const K1: f32 = 1.2;
const B: f32 = 0.75;

/// Occurrences beyond this count as this many: more hardly change a score.
const MOST: usize = 31;

/// A word in so few rows is added whole without asking whether it must be.
const FEW: u32 = 4096;

/// A query's words with their weights, rarest first.
pub struct Words {
    words: Vec<(String, f32, u32)>,
    /// Sum of the weights, of words that no row holds too.
    total: f32,
    norms: Box<[f32; 256]>,
}

/// Normalised scores of rows.
pub struct Ranked {
    /// The best, best first.
    pub best: Vec<(f32, u32)>,
    /// Those that were named, in their order.
    pub others: Vec<(f32, u32)>,
}

/// Dense scores by row, all zero between two queries.
#[derive(Default)]
pub struct Scratch(Vec<f32>);

fn part(weight: f32, count: u8, norm: f32) -> f32 {
    let count = usize::from(count).min(MOST) as f32;
    weight * count * (K1 + 1.0) / (count + norm)
}

impl Words {
    /// Looks up how many rows hold each word.
    pub fn of(
        txn: &RoTxn<'_, AnyTls>,
        postings: Postings,
        totals: &Totals,
        words: &[(String, u32)],
    ) -> heed::Result<Self> {
        let mut known = Vec::with_capacity(words.len());
        let mut total = 0.0;
        for (word, _) in words {
            let rows = postings.term(txn, word)?.map_or(0, |term| term.rows);
            let (rows_, kept) = (f64::from(rows), f64::from(totals.kept.max(rows)));
            let weight = (1.0 + (kept - rows_ + 0.5) / (rows_ + 0.5)).ln() as f32;
            total += weight;
            if rows > 0 {
                known.push((word.clone(), weight, rows));
            }
        }
        known.sort_by(|a, b| a.2.cmp(&b.2).then_with(|| a.0.cmp(&b.0)));
        let mean = totals.mean_words();
        let mut norms = Box::new([0.0; 256]);
        for (code, norm) in norms.iter_mut().enumerate() {
            *norm = K1 * (1.0 - B + B * length_of(code as u8) / mean);
        }
        Ok(Self {
            words: known,
            total,
            norms,
        })
    }

    /// Whether a word stands in more than a quarter of the lessons, of which there are enough to say so.
    pub fn common(&self, word: &str, kept: u32) -> bool {
        let rows = self
            .words
            .iter()
            .find(|(known, _, _)| known == word)
            .map(|(_, _, rows)| *rows);
        kept >= 40 && rows.is_some_and(|rows| rows > kept / 4)
    }

    /// The best rows by normalised score, and the scores of other rows; None if a block is torn.
    pub fn rank(
        &self,
        txn: &RoTxn<'_, AnyTls>,
        postings: Postings,
        allowed: &Allowed,
        limit: usize,
        others: &[u32],
        scratch: &mut Scratch,
    ) -> heed::Result<Option<Ranked>> {
        let size = allowed.bits.len() * 64;
        scratch.0.resize(size.max(scratch.0.len()), 0.0);
        let ranked = self.ranked(
            txn,
            postings,
            allowed,
            limit,
            others,
            &mut scratch.0[..size],
        );
        scratch.0[..size].fill(0.0);
        ranked
    }

    fn ranked(
        &self,
        txn: &RoTxn<'_, AnyTls>,
        postings: Postings,
        allowed: &Allowed,
        limit: usize,
        others: &[u32],
        scores: &mut [f32],
    ) -> heed::Result<Option<Ranked>> {
        let mut done = 0;
        let mut survivors = None;
        for (index, (word, weight, rows)) in self.words.iter().enumerate() {
            if *rows > FEW && index > 0 {
                let left: f32 = self.words[index..]
                    .iter()
                    .map(|(_, weight, _)| weight * (K1 + 1.0))
                    .sum();
                let mut best = Best::new(limit);
                each_above(scores, allowed, 0.0, |score, row| {
                    best.push(score, row);
                    best.floor.max(0.0)
                });
                if let Some(threshold) = best.threshold().filter(|threshold| left < *threshold) {
                    let mut rows = Vec::new();
                    each_above(scores, allowed, threshold - left, |_, row| {
                        rows.push(row);
                        threshold - left
                    });
                    survivors = Some(rows);
                    break;
                }
            }
            let mut table = [[0.0; 256]; MOST + 1];
            for (count, lengths) in table.iter_mut().enumerate().skip(1) {
                for (score, norm) in lengths.iter_mut().zip(self.norms.iter()) {
                    *score = part(*weight, count as u8, *norm);
                }
            }
            let whole = postings.walk(txn, word, |block| {
                block.each(|row, count, length| {
                    if let Some(score) = scores.get_mut(row as usize) {
                        *score += table[usize::from(count).min(MOST)][usize::from(length)];
                    }
                });
            })?;
            if !whole {
                return Ok(None);
            }
            done = index + 1;
        }
        let rest = |row: u32| -> heed::Result<f32> {
            let mut score = scores[row as usize];
            for (word, weight, _) in &self.words[done..] {
                if let Some(found) = postings.find(txn, word, row)? {
                    score += part(*weight, found.count, self.norms[usize::from(found.length)]);
                }
            }
            Ok(score)
        };
        let mut best = Best::new(limit);
        match survivors {
            Some(rows) => {
                for row in rows {
                    best.push(rest(row)?, row);
                }
            }
            None => each_above(scores, allowed, 0.0, |score, row| {
                best.push(score, row);
                best.floor.max(0.0)
            }),
        }
        let total = self.total.max(f32::MIN_POSITIVE);
        let best = best.sorted().into_iter();
        Ok(Some(Ranked {
            best: best.map(|(score, row)| (score / total, row)).collect(),
            others: others
                .iter()
                .map(|&row| Ok((rest(row)? / total, row)))
                .collect::<heed::Result<_>>()?,
        }))
    }
}

/// Calls `each` with the allowed rows above a floor, which it may raise, in ascending order.
fn each_above(
    scores: &[f32],
    allowed: &Allowed,
    mut floor: f32,
    mut each: impl FnMut(f32, u32) -> f32,
) {
    for (index, (chunk, &bits)) in scores.chunks_exact(64).zip(&allowed.bits).enumerate() {
        if bits == 0
            || !chunk
                .iter()
                .fold(false, |any, score| any | (*score > floor))
        {
            continue;
        }
        for (lane, &score) in chunk.iter().enumerate() {
            if score > floor && bits >> lane & 1 == 1 {
                floor = each(score, (index * 64 + lane) as u32);
            }
        }
    }
}
