//! The inverted index: for every word, which rows hold it, how often, and how long these rows are.
//!
//! A word's rows lie in blocks of at most `BLOCK`, by (word, first row). In a block rows are kept as distances from the
//! first one, in as few bytes as the last needs; occurrences and lengths are a byte each.

use heed::types::Bytes;
use heed::{AnyTls, Database, RoTxn, RwTxn};

use crate::bytes::{row_key, row_of};

pub const BLOCK: usize = 256;

/// One row that holds a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Posting {
    pub row: u32,
    /// Occurrences, at most 255.
    pub count: u8,
    /// Length of the whole row, by `length_code`.
    pub length: u8,
}

/// A length in one byte: exact below 128, within 2.2 percent up to 31,000, and no more beyond.
pub fn length_code(words: u32) -> u8 {
    if words < 128 {
        return words as u8;
    }
    let steps = (f64::from(words) / 128.0).log2() * 16.0;
    128 + steps.round().min(127.0) as u8
}

/// The length that a byte stands for.
pub fn length_of(code: u8) -> f32 {
    if code < 128 {
        return f32::from(code);
    }
    128.0 * (f32::from(code - 128) / 16.0).exp2()
}

/// Rows of one word, as they lie on file.
pub struct Block<'a> {
    pub first: u32,
    width: usize,
    offsets: &'a [u8],
    pub counts: &'a [u8],
    pub lengths: &'a [u8],
}

impl<'a> Block<'a> {
    /// The block whose key ends with `first`; None if it is torn.
    pub fn read(first: u32, value: &'a [u8]) -> Option<Self> {
        let (&width, rest) = value.split_first()?;
        let width = usize::from(width);
        if !matches!(width, 1 | 2 | 4) || !rest.len().is_multiple_of(width + 2) {
            return None;
        }
        let count = rest.len() / (width + 2);
        if count == 0 || count > BLOCK {
            return None;
        }
        let (offsets, rest) = rest.split_at(count * width);
        let (counts, lengths) = rest.split_at(count);
        Some(Self {
            first,
            width,
            offsets,
            counts,
            lengths,
        })
    }

    pub fn len(&self) -> usize {
        self.counts.len()
    }

    pub fn row(&self, index: usize) -> u32 {
        let at = index * self.width;
        let offset = match self.width {
            1 => u32::from(self.offsets[at]),
            2 => u32::from(u16::from_le_bytes([self.offsets[at], self.offsets[at + 1]])),
            _ => u32::from_le_bytes([
                self.offsets[at],
                self.offsets[at + 1],
                self.offsets[at + 2],
                self.offsets[at + 3],
            ]),
        };
        self.first.wrapping_add(offset)
    }

    /// Calls `each` with (row, occurrences, length) of every row, ascending.
    pub fn each(&self, mut each: impl FnMut(u32, u8, u8)) {
        let entries = self.counts.iter().zip(self.lengths);
        match self.width {
            1 => {
                for (&offset, (&count, &length)) in self.offsets.iter().zip(entries) {
                    each(self.first.wrapping_add(u32::from(offset)), count, length);
                }
            }
            2 => {
                let (offsets, _) = self.offsets.as_chunks::<2>();
                for (offset, (&count, &length)) in offsets.iter().zip(entries) {
                    let offset = u32::from(u16::from_le_bytes(*offset));
                    each(self.first.wrapping_add(offset), count, length);
                }
            }
            _ => {
                let (offsets, _) = self.offsets.as_chunks::<4>();
                for (offset, (&count, &length)) in offsets.iter().zip(entries) {
                    let offset = u32::from_le_bytes(*offset);
                    each(self.first.wrapping_add(offset), count, length);
                }
            }
        }
    }

    /// The posting of one row.
    pub fn find(&self, row: u32) -> Option<Posting> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.row(middle).cmp(&row) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => {
                    return Some(Posting {
                        row,
                        count: self.counts[middle],
                        length: self.lengths[middle],
                    });
                }
            }
        }
        None
    }

    pub fn postings(&self) -> Vec<Posting> {
        let mut all = Vec::with_capacity(self.len());
        self.each(|row, count, length| all.push(Posting { row, count, length }));
        all
    }
}

/// The value of a block of ascending rows.
pub fn encode(postings: &[Posting]) -> Vec<u8> {
    let first = postings[0].row;
    let width = match postings[postings.len() - 1].row - first {
        0..=0xFF => 1,
        0x100..=0xFFFF => 2,
        _ => 4,
    };
    let mut out = Vec::with_capacity(1 + postings.len() * (width + 2));
    out.push(width as u8);
    for posting in postings {
        out.extend_from_slice(&(posting.row - first).to_le_bytes()[..width]);
    }
    out.extend(postings.iter().map(|posting| posting.count));
    out.extend(postings.iter().map(|posting| posting.length));
    out
}

/// The two databases of the index.
#[derive(Clone, Copy)]
pub struct Postings {
    /// word -> number of rows (u32), first row of the last block (u32)
    pub terms: Database<'static, Bytes, Bytes>,
    /// word, zero byte, first row -> block
    pub blocks: Database<'static, Bytes, Bytes>,
}

/// What is known of a word before its blocks are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    pub rows: u32,
    last: u32,
}

fn block_key(word: &str, first: u32) -> Vec<u8> {
    [word.as_bytes(), b"\0", &row_key(first)].concat()
}

impl Postings {
    pub fn term(&self, txn: &RoTxn<'_, AnyTls>, word: &str) -> heed::Result<Option<Term>> {
        let value = self.terms.get(txn, word.as_bytes())?;
        Ok(value.and_then(|value| {
            let (rows, last) = value.split_first_chunk::<4>()?;
            Some(Term {
                rows: u32::from_le_bytes(*rows),
                last: u32::from_le_bytes(last.try_into().ok()?),
            })
        }))
    }

    fn put_term(&self, txn: &mut RwTxn<'_>, word: &str, term: Term) -> heed::Result<()> {
        let value = [term.rows.to_le_bytes(), term.last.to_le_bytes()].concat();
        self.terms.put(txn, word.as_bytes(), &value)
    }

    /// Adds rows beyond all that the word has; false if a block is torn.
    pub fn append(&self, txn: &mut RwTxn<'_>, word: &str, added: &[Posting]) -> heed::Result<bool> {
        let before = self.term(txn, word)?;
        let mut all = Vec::new();
        if let Some(term) = before {
            let key = block_key(word, term.last);
            let Some(value) = self.blocks.get(txn, &key)? else {
                return Ok(false);
            };
            let Some(block) = Block::read(term.last, value) else {
                return Ok(false);
            };
            if block.len() < BLOCK {
                all = block.postings();
            }
        }
        all.extend_from_slice(added);
        let mut last = 0;
        for chunk in all.chunks(BLOCK) {
            last = chunk[0].row;
            self.blocks
                .put(txn, &block_key(word, last), &encode(chunk))?;
        }
        let rows = before.map_or(0, |term| term.rows) + added.len() as u32;
        self.put_term(txn, word, Term { rows, last })?;
        Ok(true)
    }

    /// Takes a row out of a word's blocks; false if it was not there.
    pub fn remove(&self, txn: &mut RwTxn<'_>, word: &str, row: u32) -> heed::Result<bool> {
        let Some(term) = self.term(txn, word)? else {
            return Ok(false);
        };
        let Some((first, mut postings)) = self.block_of(txn, word, row)? else {
            return Ok(false);
        };
        let before = postings.len();
        postings.retain(|posting| posting.row != row);
        if postings.len() == before {
            return Ok(false);
        }
        self.blocks.delete(txn, &block_key(word, first))?;
        if let Some(kept) = postings.first() {
            let key = block_key(word, kept.row);
            self.blocks.put(txn, &key, &encode(&postings))?;
        }
        let rows = term.rows - 1;
        if rows == 0 {
            self.terms.delete(txn, word.as_bytes())?;
            return Ok(true);
        }
        let last = match postings.first() {
            _ if first != term.last => term.last,
            Some(kept) => kept.row,
            None => self.last_block(txn, word)?.unwrap_or(0),
        };
        self.put_term(txn, word, Term { rows, last })?;
        Ok(true)
    }

    /// The block that would hold a row: its first row and all its rows.
    fn block_of(
        &self,
        txn: &RoTxn<'_, AnyTls>,
        word: &str,
        row: u32,
    ) -> heed::Result<Option<(u32, Vec<Posting>)>> {
        let key = block_key(word, row);
        let prefix = &key[..key.len() - 4];
        let Some((found, value)) = self.blocks.get_lower_than_or_equal_to(txn, &key)? else {
            return Ok(None);
        };
        let first = found.strip_prefix(prefix).and_then(row_of);
        Ok(first.and_then(|first| Some((first, Block::read(first, value)?.postings()))))
    }

    fn last_block(&self, txn: &RoTxn<'_, AnyTls>, word: &str) -> heed::Result<Option<u32>> {
        let prefix = [word.as_bytes(), b"\0"].concat();
        match self.blocks.rev_prefix_iter(txn, &prefix)?.next() {
            Some(item) => Ok(row_of(&item?.0[prefix.len()..])),
            None => Ok(None),
        }
    }

    /// The posting of a row, or None.
    pub fn find(
        &self,
        txn: &RoTxn<'_, AnyTls>,
        word: &str,
        row: u32,
    ) -> heed::Result<Option<Posting>> {
        let key = block_key(word, row);
        let prefix = &key[..key.len() - 4];
        let Some((found, value)) = self.blocks.get_lower_than_or_equal_to(txn, &key)? else {
            return Ok(None);
        };
        let first = found.strip_prefix(prefix).and_then(row_of);
        Ok(first.and_then(|first| Block::read(first, value)?.find(row)))
    }

    /// Every block of a word, in the order of its rows; None if one is torn.
    pub fn blocks<'t>(
        &self,
        txn: &'t RoTxn<'_, AnyTls>,
        word: &str,
    ) -> heed::Result<Option<Vec<Block<'t>>>> {
        let prefix = [word.as_bytes(), b"\0"].concat();
        let mut blocks = Vec::new();
        for item in self.blocks.prefix_iter(txn, &prefix)? {
            let (key, value) = item?;
            let block = row_of(&key[prefix.len()..]).and_then(|first| Block::read(first, value));
            let Some(block) = block else {
                return Ok(None);
            };
            blocks.push(block);
        }
        Ok(Some(blocks))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Block, Posting, encode, length_code, length_of};

    #[test]
    fn lengths_are_exact_when_short_and_close_when_long() {
        for words in 0..128 {
            assert_eq!(length_of(length_code(words)), words as f32);
        }
        for words in [128, 200, 1000, 9999, 30_000] {
            let error = (length_of(length_code(words)) / words as f32 - 1.0).abs();
            assert!(error < 0.022, "{words}: {error}");
        }
    }

    proptest! {
        #[test]
        fn a_block_comes_back_as_it_was(rows in prop::collection::btree_set(0u32..u32::MAX, 1..256), near in any::<bool>()) {
            let postings: Vec<Posting> = rows.iter().enumerate()
                .map(|(index, &row)| Posting { row: if near { index as u32 * 3 } else { row }, count: (row % 255) as u8, length: (row % 251) as u8 })
                .collect();
            let value = encode(&postings);
            let block = Block::read(postings[0].row, &value).expect("a whole block");
            prop_assert_eq!(block.postings(), postings.clone());
            for posting in &postings {
                prop_assert_eq!(block.find(posting.row), Some(*posting));
            }
        }

        #[test]
        fn torn_blocks_are_refused_or_read_within_bounds(value in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(block) = Block::read(7, &value) {
                prop_assert_eq!(block.postings().len(), block.len());
            }
        }
    }
}
