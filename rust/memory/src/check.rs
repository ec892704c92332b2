//! A proof that records, indices, columns and vectors agree.

use moevolve_store::Result;

use crate::bytes::{row_key, row_of};
use crate::codes::{Block as Codes, words_of};
use crate::lesson::Record;
use crate::postings::{Block, Posting, length_code};
use crate::store::{MemoryStore, torn};
use crate::words;

impl MemoryStore {
    /// Looks at every lesson and every index entry; returns the number of lessons.
    ///
    /// # Errors
    /// `Torn` with the database whose entry no lesson has, or that lacks a lesson's.
    pub fn check(&self) -> Result<u64> {
        self.read(|txn, path| {
            let totals = self.totals_of(txn, path)?;
            let (mut lessons, mut postings, mut all_words, mut vectors) = (0u64, 0u64, 0u64, 0u64);
            for item in self.records.iter(txn)? {
                let (key, value) = item?;
                let row = row_of(key)
                    .filter(|row| *row < totals.rows)
                    .ok_or_else(|| torn(path, "records"))?;
                let record = Record::decode(value).ok_or_else(|| torn(path, "records"))?;
                let columns = self.columns.get(txn, row)?;
                if columns.gone() {
                    return Err(torn(path, "columns").into());
                }
                if self.ids.get(txn, record.id.as_bytes())? != Some(&row_key(row)) {
                    return Err(torn(path, "ids").into());
                }
                if self.skills.get(txn, &record.skill_key())? != Some(&row_key(row)) {
                    return Err(torn(path, "skills").into());
                }
                let counted = words::counted(record.text);
                let length: u32 = counted.iter().map(|(_, count)| count).sum();
                for (word, count) in counted {
                    let expected = Posting {
                        row,
                        count: count.min(255) as u8,
                        length: length_code(length),
                    };
                    if self.postings.find(txn, &word, row)? != Some(expected) {
                        return Err(torn(path, "postings").into());
                    }
                    postings += 1;
                }
                if columns.has_vector() {
                    let vector = self.vectors.get(txn, totals.dimensions as usize, row)?;
                    let norm = vector.map(|vector| vector.iter().map(|x| x * x).sum::<f32>());
                    if norm.is_none_or(|norm| (norm - 1.0).abs() > 0.01) {
                        return Err(torn(path, "vectors").into());
                    }
                    vectors += 1;
                }
                lessons += 1;
                all_words += u64::from(length);
            }
            let mut listed = 0;
            for item in self.postings.blocks.iter(txn)? {
                let (key, value) = item?;
                let (word, first) = key
                    .split_last_chunk::<4>()
                    .ok_or_else(|| torn(path, "postings"))?;
                let block = Block::read(u32::from_be_bytes(*first), value);
                listed += block
                    .filter(|_| word.ends_with(b"\0"))
                    .ok_or_else(|| torn(path, "postings"))?
                    .len() as u64;
            }
            let mut of_terms = 0;
            for item in self.postings.terms.iter(txn)? {
                let word = String::from_utf8_lossy(item?.0).into_owned();
                let term = self
                    .postings
                    .term(txn, &word)?
                    .ok_or_else(|| torn(path, "terms"))?;
                of_terms += u64::from(term.rows);
            }
            if listed != postings || of_terms != postings {
                return Err(torn(path, "postings").into());
            }
            let indices = [
                self.ids.len(txn)?,
                self.skills.len(txn)?,
                u64::from(totals.kept),
            ];
            if indices != [lessons; 3]
                || totals.words != all_words
                || u64::from(totals.vectors) != vectors
            {
                return Err(torn(path, "totals").into());
            }
            for item in self.vectors.codes.iter(txn)? {
                if Codes::read(item?.1, words_of(totals.dimensions as usize)).is_none() {
                    return Err(torn(path, "codes").into());
                }
            }
            Ok(lessons)
        })
    }
}
