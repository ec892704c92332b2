//! The inverted index: for every word, which rows hold it, how often, and how long these rows are.
//!
//! A word's rows lie in blocks, by (word, first row). Rows of the newest batches lie apart (`segments`).

use std::collections::BTreeSet;

use heed::types::Bytes;
use heed::{AnyTls, Database, RoTxn, RwTxn};

use crate::block::{BLOCK, Block, LARGE, Posting, cut, encode};
use crate::bytes::{row_key, row_of};
use crate::segments::{self, APART, Inverted, PREFIX, Segment};

/// So many postings at once are added to the words' blocks: one entry for them would want as many megabytes of pages in a row.
/// Tests write fewer.
const MANY: usize = if cfg!(test) { 1000 } else { 1 << 19 };

/// The two databases of the index.
#[derive(Clone, Copy)]
pub struct Postings {
    /// word -> number of rows (u32), first row of the last block (u32)
    pub terms: Database<'static, Bytes, Bytes>,
    /// word, zero byte, first row -> block; zero byte, first row -> batch
    pub blocks: Database<'static, Bytes, Bytes>,
    /// Whether batches may lie apart, and blocks be large.
    pub batches: bool,
}

/// What is known of a word before its blocks are read; of what lies apart nothing is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    pub rows: u32,
    last: u32,
}

fn block_key(word: &str, first: u32) -> Vec<u8> {
    [word.as_bytes(), b"\0", &row_key(first)].concat()
}

impl Postings {
    /// The batches that lie apart, in the order of their rows; None if one is torn.
    pub fn apart<'t>(&self, txn: &'t RoTxn<'_, AnyTls>) -> heed::Result<Option<Vec<Segment<'t>>>> {
        let mut apart = Vec::new();
        for item in self.blocks.prefix_iter(txn, PREFIX)? {
            let Some(segment) = Segment::read(item?.1) else {
                return Ok(None);
            };
            apart.push(segment);
        }
        Ok(Some(apart))
    }

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

    /// How many rows hold a word; None if a batch is torn.
    pub fn rows(
        &self,
        txn: &RoTxn<'_, AnyTls>,
        apart: &[Segment<'_>],
        word: &str,
    ) -> heed::Result<Option<u32>> {
        let mut rows = self.term(txn, word)?.map_or(0, |term| term.rows);
        for segment in apart {
            let Some(block) = segment.find(word) else {
                return Ok(None);
            };
            rows += block.map_or(0, |block| block.len() as u32);
        }
        Ok(Some(rows))
    }

    fn put_term(&self, txn: &mut RwTxn<'_>, word: &str, term: Term) -> heed::Result<()> {
        let value = [term.rows.to_le_bytes(), term.last.to_le_bytes()].concat();
        self.terms.put(txn, word.as_bytes(), &value)
    }

    /// Adds rows beyond all that there are; false if something on file is torn.
    pub fn add(&self, txn: &mut RwTxn<'_>, inverted: &Inverted) -> heed::Result<bool> {
        let Some(first) = inverted.values().map(|postings| postings[0].row).min() else {
            return Ok(true);
        };
        if self.batches
            && inverted.values().map(Vec::len).sum::<usize>() < MANY
            && let Some(value) = segments::value(inverted)
        {
            self.blocks.put(txn, &segments::key(first), &value)?;
            let apart = self.blocks.prefix_iter(txn, PREFIX)?.count();
            return if apart < APART {
                Ok(true)
            } else {
                self.merge(txn)
            };
        }
        Ok(self.merge(txn)? && self.append_all(txn, inverted)?)
    }

    /// Adds what lies apart to the words' blocks; false if something on file is torn.
    fn merge(&self, txn: &mut RwTxn<'_>) -> heed::Result<bool> {
        let mut inverted = Inverted::new();
        let mut keys = Vec::new();
        for item in self.blocks.prefix_iter(txn, PREFIX)? {
            let (key, value) = item?;
            let Some(segment) = Segment::read(value) else {
                return Ok(false);
            };
            for entry in segment.entries() {
                let word =
                    entry.and_then(|(word, block)| Some((str::from_utf8(word).ok()?, block)));
                let Some((word, block)) = word else {
                    return Ok(false);
                };
                match inverted.get_mut(word) {
                    Some(postings) => block.copy_to(postings),
                    None => {
                        inverted.insert(word.to_owned(), block.postings());
                    }
                }
            }
            keys.push(key.to_vec());
        }
        for key in keys {
            self.blocks.delete(txn, &key)?;
        }
        self.append_all(txn, &inverted)
    }

    fn append_all(&self, txn: &mut RwTxn<'_>, inverted: &Inverted) -> heed::Result<bool> {
        for (word, postings) in inverted {
            if !self.append(txn, word, postings)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Adds rows beyond all that the word's blocks have; false if a block is torn.
    fn append(&self, txn: &mut RwTxn<'_>, word: &str, added: &[Posting]) -> heed::Result<bool> {
        // Larger ones would be torn to those who wrote the memory.
        let most = if self.batches { LARGE } else { BLOCK };
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
            if block.len() < most {
                all = block.postings();
            }
        }
        all.extend_from_slice(added);
        let mut last = 0;
        for chunk in cut(&all, most) {
            last = chunk[0].row;
            self.blocks
                .put(txn, &block_key(word, last), &encode(chunk))?;
        }
        let rows = before.map_or(0, |term| term.rows) + added.len() as u32;
        self.put_term(txn, word, Term { rows, last })?;
        Ok(true)
    }

    /// Takes a row away from a word; false if it was not there.
    pub fn remove(&self, txn: &mut RwTxn<'_>, word: &str, row: u32) -> heed::Result<bool> {
        let oldest = self.blocks.prefix_iter(txn, PREFIX)?.next().transpose()?;
        if oldest.is_some_and(|(key, _)| key <= &segments::key(row)[..]) && !self.merge(txn)? {
            return Ok(false);
        }
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
        apart: &[Segment<'_>],
        word: &str,
        row: u32,
    ) -> heed::Result<Option<Posting>> {
        let held = apart
            .iter()
            .rev()
            .find_map(|segment| segment.find(word)??.find(row));
        if held.is_some() {
            return Ok(held);
        }
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
        apart: &[Segment<'t>],
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
        for segment in apart {
            let Some(block) = segment.find(word) else {
                return Ok(None);
            };
            blocks.extend(block);
        }
        Ok(Some(blocks))
    }

    /// How many words there are; None if a batch is torn.
    pub fn words(&self, txn: &RoTxn<'_, AnyTls>) -> heed::Result<Option<u64>> {
        let Some(apart) = self.apart(txn)? else {
            return Ok(None);
        };
        let mut new = BTreeSet::new();
        for entry in apart.iter().flat_map(Segment::entries) {
            let Some((word, _)) = entry else {
                return Ok(None);
            };
            if self.terms.get(txn, word)?.is_none() {
                new.insert(word);
            }
        }
        Ok(Some(self.terms.len(txn)? + new.len() as u64))
    }
}
