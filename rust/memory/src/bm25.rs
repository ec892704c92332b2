//! Scores by words: Okapi BM25 (Robertson and Zaragoza, 2009) with k1 = 1.2 and b = .75, word by word, the rarest first.

use heed::{AnyTls, RoTxn};

use crate::postings::{Postings, length_of};
use crate::totals::Totals;

const K1: f32 = 1.2;
const B: f32 = 0.75;

/// Occurrences beyond this count as this many: more hardly change a score.
const MOST: usize = 31;

/// In so many rows a word's parts are worth a table of all counts and lengths.
const TABLED: u32 = 8192;

/// A query's words with their weights, rarest first.
pub struct Words {
    words: Vec<Word>,
    /// Sum of the weights, of words that no row holds too.
    total: f32,
    norms: Box<[f32; 256]>,
}

struct Word {
    text: String,
    /// Its inverse document frequency.
    weight: f32,
    rows: u32,
}

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
                known.push(Word {
                    text: word.clone(),
                    weight,
                    rows,
                });
            }
        }
        known.sort_by(|a, b| a.rows.cmp(&b.rows).then_with(|| a.text.cmp(&b.text)));
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
        let known = self.words.iter().find(|known| known.text == word);
        kept >= 40 && known.is_some_and(|known| known.rows > kept / 4)
    }

    /// The sum of the weights of all words that are asked for, those too that no row holds.
    pub fn total(&self) -> f32 {
        self.total.max(f32::MIN_POSITIVE)
    }

    /// Adds every word's parts to the scores of its rows; false if a block is torn.
    pub fn add(
        &self,
        txn: &RoTxn<'_, AnyTls>,
        postings: Postings,
        scores: &mut [f32],
    ) -> heed::Result<bool> {
        for word in &self.words {
            let norm = |length: u8| self.norms[usize::from(length)];
            let whole = if word.rows < TABLED {
                postings.walk(txn, &word.text, |block| {
                    block.each(|row, count, length| {
                        if let Some(score) = scores.get_mut(row as usize) {
                            *score += part(word.weight, count, norm(length));
                        }
                    });
                })?
            } else {
                let mut table = [[0.0; 256]; MOST + 1];
                for (count, lengths) in table.iter_mut().enumerate().skip(1) {
                    for (score, norm) in lengths.iter_mut().zip(self.norms.iter()) {
                        *score = part(word.weight, count as u8, *norm);
                    }
                }
                postings.walk(txn, &word.text, |block| {
                    block.each(|row, count, length| {
                        if let Some(score) = scores.get_mut(row as usize) {
                            *score += table[usize::from(count).min(MOST)][usize::from(length)];
                        }
                    });
                })?
            };
            if !whole {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
