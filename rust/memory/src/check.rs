//! A proof that records, indices, columns and vectors agree.

use std::path::Path;

use heed::{AnyTls, RoTxn};
use moevolve_store::Result;

use crate::block::{Block, Posting, length_code};
use crate::bytes::{row_key, row_of};
use crate::chains::Chains;
use crate::codes::{Block as Codes, Code, words_of};
use crate::columns::{NONE, Row};
use crate::lesson::Record;
use crate::segments::{PREFIX, Segment};
use crate::store::{CENTRE, MemoryStore, Work, symbol_key, torn};
use crate::words;

impl MemoryStore {
    /// Looks at every lesson and every index entry; returns the number of lessons.
    ///
    /// # Errors
    /// `Torn` with the database whose entry no lesson has, or that lacks a lesson's.
    pub fn check(&self) -> Result<u64> {
        self.read(|txn, path| {
            let totals = self.totals_of(txn, path)?;
            let apart = self.postings.apart(txn)?;
            let apart = apart.ok_or_else(|| torn(path, "postings"))?;
            let chains = Chains::read(txn, path, self.columns, totals.rows)?;
            let (mut lessons, mut postings, mut all_words) = (0u64, 0u64, 0u64);
            for item in self.records.iter(txn)? {
                let (key, value) = item?;
                let row = row_of(key)
                    .filter(|row| *row < totals.rows)
                    .ok_or_else(|| torn(path, "records"))?;
                let record = Record::decode(value).ok_or_else(|| torn(path, "records"))?;
                if !self.columns_agree(txn, &record, self.columns.get(txn, row)?)? {
                    return Err(torn(path, "columns").into());
                }
                if let Some(facts) = &record.facts {
                    let old = facts.supersedes.map(|old| self.row(txn, path, old));
                    // What was written after it under the old one's id is another lesson.
                    let old = old.transpose()?.flatten().filter(|old| *old < row);
                    let linked = old.is_none_or(|old| chains.follows(row, old));
                    if !linked || (facts.supersedes.is_none() && chains.after_a_lesson(row)) {
                        return Err(torn(path, "columns").into());
                    }
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
                    if self.postings.find(txn, &apart, &word, row)? != Some(expected) {
                        return Err(torn(path, "postings").into());
                    }
                    postings += 1;
                }
                lessons += 1;
                all_words += u64::from(length);
            }
            let mut lying_apart = 0;
            for entry in apart.iter().flat_map(Segment::entries) {
                let (_, block) = entry.ok_or_else(|| torn(path, "postings"))?;
                lying_apart += block.len() as u64;
            }
            let mut listed = lying_apart;
            for item in self.postings.blocks.iter(txn)? {
                let (key, value) = item?;
                if key.starts_with(PREFIX) {
                    continue;
                }
                let (word, first) = key
                    .split_last_chunk::<4>()
                    .ok_or_else(|| torn(path, "postings"))?;
                let block = Block::read(u32::from_be_bytes(*first), value);
                listed += block
                    .filter(|_| word.ends_with(b"\0"))
                    .ok_or_else(|| torn(path, "postings"))?
                    .len() as u64;
            }
            let mut of_terms = lying_apart;
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
                chains.kept,
            ];
            let vectors = self.check_vectors(txn, path, totals.dimensions as usize, totals.rows)?;
            if indices != [lessons; 4]
                || totals.words != all_words
                || u64::from(totals.vectors) != vectors
            {
                return Err(torn(path, "totals").into());
            }
            Ok(lessons)
        })
    }

    /// Whether the columns of a row say what its record says.
    fn columns_agree(
        &self,
        txn: &RoTxn<'_, AnyTls>,
        record: &Record<'_>,
        columns: Row,
    ) -> heed::Result<bool> {
        let named = |name: &str, number: u32| -> heed::Result<bool> {
            Ok(self.symbols.get(txn, &symbol_key(name))? == Some(&row_key(number)))
        };
        if columns.gone()
            || u64::from(columns.cycle) != record.cycle
            || !(0.0..=1.0).contains(&columns.trust)
            || !named(record.skill, columns.skill)?
            || !named(record.run, columns.run)?
        {
            return Ok(false);
        }
        let Some(facts) = &record.facts else {
            return Ok(true);
        };
        let until = facts.until.and_then(|until| u32::try_from(until).ok());
        Ok(u32::from(columns.kind) == facts.kind
            && columns.until == until.unwrap_or(NONE)
            && named(facts.source, columns.source)?)
    }

    /// Looks at every row's vector and code; returns the number of vectors.
    fn check_vectors(
        &self,
        txn: &RoTxn<'_, AnyTls>,
        path: &Path,
        dimensions: usize,
        rows: u32,
    ) -> Work<u64> {
        for item in self.vectors.codes.iter(txn)? {
            if Codes::read(item?.1, words_of(dimensions)).is_none() {
                return Err(torn(path, "codes").into());
            }
        }
        let centre = self.floats_of(txn, CENTRE, dimensions)?;
        let mut vectors = 0;
        for row in 0..rows {
            let held = self.columns.get(txn, row)?.has_vector();
            let vector = self.vectors.get(txn, dimensions, row)?;
            let code = self.vectors.code(txn, dimensions, row)?;
            let code = code.ok_or_else(|| torn(path, "codes"))?;
            if !held {
                if vector.is_some_and(|vector| vector.iter().any(|x| *x != 0.0)) {
                    return Err(torn(path, "vectors").into());
                }
                if code != Code::absent(dimensions) {
                    return Err(torn(path, "codes").into());
                }
                continue;
            }
            let vector = vector.ok_or_else(|| torn(path, "vectors"))?;
            let norm = vector.iter().map(|x| x * x).sum::<f32>();
            if (norm - 1.0).abs() > 0.01 {
                return Err(torn(path, "vectors").into());
            }
            if !code.fits(&vector, &centre) {
                return Err(torn(path, "codes").into());
            }
            vectors += 1;
        }
        Ok(vectors)
    }
}

#[cfg(test)]
mod tests;
