//! Scores by words: Okapi BM25 (Robertson and Zaragoza, 2009) with k1 = 1.2 and b = .75, word by word, the rarest first.

use heed::{AnyTls, RoTxn};

use crate::block::{Block, length_of};
use crate::postings::Postings;
use crate::segments::Segment;
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
    /// Looks up how many rows hold each word; None if a batch of postings is torn.
    pub fn of(
        txn: &RoTxn<'_, AnyTls>,
        postings: Postings,
        apart: &[Segment<'_>],
        totals: &Totals,
        words: &[(String, u32)],
    ) -> heed::Result<Option<Self>> {
        let mut known = Vec::with_capacity(words.len());
        let mut total = 0.0;
        for (word, _) in words {
            let Some(rows) = postings.rows(txn, apart, word)? else {
                return Ok(None);
            };
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
        Ok(Some(Self {
            words: known,
            total,
            norms,
        }))
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

    /// The blocks of all words; None if one is torn.
    pub fn postings<'t>(
        &self,
        txn: &'t RoTxn<'_, AnyTls>,
        postings: Postings,
        apart: &[Segment<'t>],
    ) -> heed::Result<Option<QueryPostings<'_, 't>>> {
        let mut words = Vec::with_capacity(self.words.len());
        for word in &self.words {
            let Some(blocks) = postings.blocks(txn, apart, &word.text)? else {
                return Ok(None);
            };
            words.push((Impact::of(word, &self.norms), blocks));
        }
        Ok(Some(QueryPostings { words }))
    }
}

/// What a word adds to a row's score, by how often the row holds it and by the row's length.
enum Impact<'w> {
    Computed(f32, &'w [f32; 256]),
    Tabled(Box<[[f32; 256]; MOST + 1]>),
}

impl<'w> Impact<'w> {
    fn of(word: &Word, norms: &'w [f32; 256]) -> Self {
        if word.rows < TABLED {
            return Self::Computed(word.weight, norms);
        }
        let mut table = Box::new([[0.0; 256]; MOST + 1]);
        for (count, lengths) in table.iter_mut().enumerate().skip(1) {
            for (score, norm) in lengths.iter_mut().zip(norms) {
                *score = part(word.weight, count as u8, *norm);
            }
        }
        Self::Tabled(table)
    }
}

/// The postings of a query's words.
pub struct QueryPostings<'w, 't> {
    words: Vec<(Impact<'w>, Vec<Block<'t>>)>,
}

impl QueryPostings<'_, '_> {
    /// Adds every word's parts to the scores of the rows from `first` on, as many as there are scores.
    pub fn add(&self, first: u32, scores: &mut [f32]) {
        let end = u64::from(first) + scores.len() as u64;
        for (impact, blocks) in &self.words {
            let begin = blocks.partition_point(|block| block.first <= first);
            let within = &blocks[begin.saturating_sub(1)..];
            for (index, block) in within.iter().enumerate() {
                if u64::from(block.first) >= end {
                    break;
                }
                if let Some(next) = within.get(index + 1) {
                    next.fetch();
                }
                let block = block.within(first, end);
                match impact {
                    Impact::Computed(weight, norms) => block.each(|row, count, length| {
                        if let Some(score) = scores.get_mut(row.wrapping_sub(first) as usize) {
                            *score += part(*weight, count, norms[usize::from(length)]);
                        }
                    }),
                    Impact::Tabled(table) => block.each(|row, count, length| {
                        if let Some(score) = scores.get_mut(row.wrapping_sub(first) as usize) {
                            *score += table[usize::from(count).min(MOST)][usize::from(length)];
                        }
                    }),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::block::{Posting, encode};

    proptest! {
        #[test]
        fn parts_of_the_rows_add_up_to_the_same(
            held in prop::collection::vec(prop::collection::btree_map(0u32..3000, (1u8..=255, any::<u8>()), 1..600), 1..4),
            middle in 1usize..3000, common in any::<bool>(),
        ) {
            let rows = if common { TABLED } else { 1 };
            let word = |_| Word { text: String::new(), weight: 0.7, rows };
            let norms = Box::new(std::array::from_fn(|code| 0.3 + code as f32));
            let words = Words { words: (0..held.len()).map(word).collect(), total: 1.0, norms };
            let files: Vec<Vec<(u32, Vec<u8>)>> = held.iter().map(|rows| {
                let all: Vec<Posting> = rows.iter().map(|(&row, &(count, length))| Posting { row, count, length }).collect();
                all.chunks(200).map(|part| (part[0].row, encode(part))).collect()
            }).collect();
            let blocks: Vec<Vec<Block<'_>>> = files.iter().map(|files| {
                files.iter().map(|(first, value)| Block::read(*first, value).unwrap()).collect()
            }).collect();
            let mut wanted = vec![0.0f32; 3000];
            for rows in &held {
                for (&row, &(count, length)) in rows {
                    wanted[row as usize] += part(0.7, count, words.norms[usize::from(length)]);
                }
            }
            let impacts = words.words.iter().map(|word| Impact::of(word, &words.norms));
            let known = QueryPostings { words: impacts.zip(blocks).collect() };
            let mut halves = vec![0.0f32; 3000];
            let (left, right) = halves.split_at_mut(middle);
            known.add(0, left);
            known.add(middle as u32, right);
            prop_assert_eq!(halves, wanted);
        }
    }
}
