//! A proof that records, indices, columns and vectors agree.

use std::path::Path;

use heed::{AnyTls, RoTxn};
use moevolve_store::Result;

use crate::bytes::{row_key, row_of};
use crate::chains::Chains;
use crate::codes::{Block as Codes, Code, words_of};
use crate::columns::{NONE, Row};
use crate::lesson::Record;
use crate::postings::{Block, Posting, length_code};
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
                    if self.postings.find(txn, &word, row)? != Some(expected) {
                        return Err(torn(path, "postings").into());
                    }
                    postings += 1;
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
mod tests {
    use crate::query::Query;
    use moevolve_store::{Error, Options};
    use tempfile::{TempDir, tempdir};

    use super::*;
    use crate::lesson::{Kind, Lesson};
    use crate::{codes, vectors};

    /// A memory whose lesson `new` supersedes `old`, both with vectors, beside one that was purged.
    fn memory() -> (TempDir, MemoryStore) {
        let folder = tempdir().unwrap();
        let memory = MemoryStore::ensure(folder.path(), Options::new(1)).unwrap();
        let lesson = |id: &str, at: u32| Lesson {
            id: id.to_owned(),
            skill: format!("skill/{id}"),
            run: "r".to_owned(),
            source: "writer".to_owned(),
            text: format!("words of {id}"),
            cycle: u64::from(at),
            vector: Some((0..40).map(|i| ((i * 7 + at) % 11) as f32 - 5.2).collect()),
            ..Lesson::default()
        };
        let mut new = lesson("new", 2);
        (new.supersedes, new.until) = (Some("old".to_owned()), Some(9));
        memory
            .put(&[lesson("old", 1), new, lesson("gone", 3)])
            .unwrap();
        assert!(memory.purge("gone").unwrap());
        assert_eq!(memory.check().unwrap(), 2);
        (folder, memory)
    }

    /// The database that `check` names after a change that no call makes.
    fn told(change: impl FnOnce(&MemoryStore, &mut heed::RwTxn<'_>) -> Work<()>) -> String {
        let (_folder, memory) = memory();
        memory.write(|txn, _| change(&memory, txn)).unwrap();
        match memory.check() {
            Err(Error::Torn { why, .. }) => why,
            other => panic!("{other:?}"),
        }
    }

    fn changed(row: u32, change: impl FnOnce(&mut Row)) -> String {
        told(|memory, txn| {
            let mut columns = memory.columns.get(txn, row)?;
            change(&mut columns);
            Ok(memory.columns.put(txn, &[(row, columns)])?)
        })
    }

    /// The database that a query names after a change that no call makes.
    fn searched(change: impl FnOnce(&MemoryStore, &mut heed::RwTxn<'_>) -> Work<()>) -> String {
        let (_folder, memory) = memory();
        memory.write(|txn, _| change(&memory, txn)).unwrap();
        let vector = [1.0; 40];
        match memory.search(&Query {
            text: Some("words of new"),
            vector: Some(&vector),
            k: 3,
            ..Query::default()
        }) {
            Err(Error::Torn { why, .. }) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_query_names_the_database_whose_block_is_torn() {
        let cut = |database: heed::Database<heed::types::Bytes, heed::types::Bytes>,
                   txn: &mut heed::RwTxn<'_>| {
            let (key, value) = database
                .first(txn)?
                .map(|(k, v)| (k.to_vec(), v.to_vec()))
                .unwrap();
            Ok(database.put(txn, &key, &value[..value.len() - 1])?)
        };
        assert!(
            searched(|memory, txn| cut(memory.vectors.vectors, txn)).contains("database vectors")
        );
        assert!(
            searched(|memory, txn| cut(memory.postings.blocks, txn)).contains("database postings")
        );
    }

    #[test]
    fn a_lost_supersession_is_found() {
        assert!(changed(0, |old| old.successor = NONE).contains("columns"));
    }

    #[test]
    fn a_supersession_that_no_lesson_asked_for_is_found() {
        let (folder, memory) = memory();
        let other = Lesson {
            id: "other".to_owned(),
            skill: "s".to_owned(),
            run: "r".to_owned(),
            ..Lesson::default()
        };
        memory.put(&[other]).unwrap();
        let link = memory.write(|txn, _| {
            let mut columns = memory.columns.get(txn, 1)?;
            columns.successor = 3;
            Ok(memory.columns.put(txn, &[(1, columns)])?)
        });
        link.unwrap();
        assert!(memory.check().is_err());
        drop(folder);
    }

    #[test]
    fn chains_that_end_nowhere_or_meet_are_found() {
        assert!(
            changed(1, |new| new.successor = 0).contains("columns"),
            "a circle"
        );
        assert!(
            changed(1, |new| new.successor = 77).contains("columns"),
            "no such row"
        );
        assert!(
            changed(2, |gone| gone.successor = 1).contains("columns"),
            "two before one"
        );
    }

    #[test]
    fn a_column_that_differs_from_its_record_is_found() {
        for (what, change) in [
            ("kind", (|row| row.kind = Kind::Tool as u8) as fn(&mut Row)),
            ("skill", |row| row.skill += 1),
            ("run", |row| row.run += 1),
            ("source", |row| row.source += 1),
            ("cycle", |row| row.cycle += 1),
            ("until", |row| row.until = NONE),
            ("trust", |row| row.trust = 2.0),
        ] {
            assert!(changed(1, change).contains("columns"), "{what}");
        }
        assert!(
            changed(2, |gone| *gone = Row {
                successor: NONE,
                flags: 0,
                ..*gone
            })
            .contains("totals"),
            "a row without a lesson"
        );
    }

    #[test]
    fn a_code_that_is_not_its_vectors_is_found() {
        let flipped = |row: u32| {
            told(|memory, txn| {
                let (key, words) = (row_key(0), words_of(40));
                let mut block = memory.vectors.codes.get(txn, &key)?.unwrap().to_vec();
                let mut code = Codes::read(&block, words)
                    .unwrap()
                    .code(row as usize)
                    .unwrap();
                code.bits[0] ^= 0xFF << 8;
                codes::write(&mut block, words, row as usize, &code);
                Ok(memory.vectors.codes.put(txn, &key, &block)?)
            })
        };
        assert!(flipped(1).contains("codes"));
        assert!(flipped(2).contains("codes"), "of a lesson that was purged");
    }

    #[test]
    fn a_vector_without_its_lesson_or_another_one_is_found() {
        let with = |row: usize, fill: u8| {
            told(|memory, txn| {
                let key = row_key(0);
                let mut block = memory.vectors.vectors.get(txn, &key)?.unwrap().to_vec();
                assert_eq!(block.len(), vectors::BLOCK * 80);
                block[row * 80..(row + 1) * 80].fill(fill);
                Ok(memory.vectors.vectors.put(txn, &key, &block)?)
            })
        };
        assert!(
            with(2, 0x30).contains("vectors"),
            "of a lesson that was purged"
        );
        assert!(with(1, 0x30).contains("vectors"), "of another length");
    }
}
