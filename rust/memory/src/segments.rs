//! Postings of the newest batches, each batch in one entry, until so many have come that merging them pays.
//!
//! A batch holds a few rows of many words. Adding these to the words' own blocks rewrites a block for each, wherever it lies;
//! 16 batches at once rewrite it once (a log-structured merge: O'Neil et al., Acta Informatica 1996).

use std::collections::BTreeMap;

use crate::block::{Block, Posting, encode};
use crate::bytes::row_key;

/// With so many batches apart, they are merged.
pub const APART: usize = 16;

/// Rows by word.
pub type Inverted = BTreeMap<String, Vec<Posting>>;

/// Begins the keys of batches among those of blocks: no word does.
const MARK: u8 = 0;

/// The key of a batch by its first row.
pub fn key(first: u32) -> Vec<u8> {
    [&[MARK][..], &row_key(first)].concat()
}

/// What all keys of batches begin with.
pub const PREFIX: &[u8] = &[MARK];

/// A batch on file: the number of words, where each word's entry begins; then the entries by word. An entry is the length of
/// the word, the word, the first row, and the rest of a block.
#[derive(Clone, Copy)]
pub struct Segment<'t> {
    starts: &'t [[u8; 4]],
    entries: &'t [u8],
}

impl<'t> Segment<'t> {
    /// None if it is torn; its entries are looked at when they are wanted.
    pub fn read(value: &'t [u8]) -> Option<Self> {
        let (words, rest) = value.split_first_chunk::<4>()?;
        let words = usize::try_from(u32::from_le_bytes(*words)).ok()?;
        let (starts, entries) = rest.split_at_checked(words.checked_mul(4)?)?;
        let (starts, _) = starts.as_chunks::<4>();
        Some(Self { starts, entries })
    }

    /// The number of words.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// An entry's word and block; None if it is torn.
    pub fn entry(&self, index: usize) -> Option<(&'t [u8], Block<'t>)> {
        let start = |index: usize| {
            self.starts
                .get(index)
                .map(|at| u32::from_le_bytes(*at) as usize)
        };
        let end = start(index + 1).unwrap_or(self.entries.len());
        let (length, rest) = self.entries.get(start(index)?..end)?.split_first()?;
        let (word, rest) = rest.split_at_checked(usize::from(*length))?;
        let (first, value) = rest.split_first_chunk::<4>()?;
        Some((word, Block::whole(u32::from_le_bytes(*first), value)?))
    }

    /// The block of a word, if the batch has the word; None if an entry is torn.
    pub fn find(&self, word: &str) -> Option<Option<Block<'t>>> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            let (other, block) = self.entry(middle)?;
            match other.cmp(word.as_bytes()) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(Some(block)),
            }
        }
        Some(None)
    }

    /// Every word with its block; None in the place of an entry that is torn.
    pub fn entries(&self) -> impl Iterator<Item = Option<(&'t [u8], Block<'t>)>> + '_ {
        (0..self.len()).map(|index| self.entry(index))
    }
}

/// The value of a batch; None if it is too large for one.
pub fn value(inverted: &Inverted) -> Option<Vec<u8>> {
    let mut entries = Vec::new();
    let mut out = u32::try_from(inverted.len()).ok()?.to_le_bytes().to_vec();
    for (word, postings) in inverted {
        out.extend_from_slice(&u32::try_from(entries.len()).ok()?.to_le_bytes());
        entries.push(u8::try_from(word.len()).ok()?);
        entries.extend_from_slice(word.as_bytes());
        entries.extend_from_slice(&postings[0].row.to_le_bytes());
        entries.extend_from_slice(&encode(postings));
    }
    out.extend_from_slice(&entries);
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_word_of_a_batch_has_its_rows_and_no_other_word_has_any(
            held in prop::collection::btree_map("[a-d]{1,3}", prop::collection::btree_set(0u32..100_000, 1..400), 0..20),
            other in "[a-e]{1,3}",
        ) {
            let inverted: Inverted = held.into_iter().map(|(word, rows)| {
                (word, rows.into_iter().map(|row| Posting { row, count: (row % 5) as u8, length: 7 }).collect())
            }).collect();
            let value = value(&inverted).expect("a batch of ordinary size");
            let segment = Segment::read(&value).expect("a whole batch");
            for (word, postings) in &inverted {
                let block = segment.find(word).expect("whole entries");
                prop_assert_eq!(&block.expect("a word of the batch").postings(), postings);
            }
            let has = segment.find(&other).expect("whole entries").is_some();
            prop_assert_eq!(has, inverted.contains_key(&other));
            let words: Option<Vec<_>> = segment.entries().map(|entry| entry.map(|(word, _)| word)).collect();
            prop_assert_eq!(words.expect("whole entries"), inverted.keys().map(String::as_bytes).collect::<Vec<_>>());
        }

        #[test]
        fn torn_batches_are_refused_or_read_within_bounds(
            mut value in prop::collection::vec(any::<u8>(), 0..80), few in any::<bool>(), word in "[a-c]{1,2}",
        ) {
            if few && value.len() >= 4 {
                value[..4].copy_from_slice(&3u32.to_le_bytes());
            }
            if let Some(segment) = Segment::read(&value) {
                let _ = segment.find(&word);
                prop_assert_eq!(segment.entries().count(), segment.len());
            }
        }
    }
}
