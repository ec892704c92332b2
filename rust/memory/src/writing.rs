//! What changes a memory: lessons in and out, and how they stand.

use std::collections::BTreeMap;
use std::path::Path;

use heed::RwTxn;
use moevolve_store::Result;

use crate::block::{Posting, length_code};
use crate::bytes::{row_key, row_of};
use crate::columns::{NONE, Row};
use crate::lesson::{Lesson, Record, Standing, check_name};
use crate::segments::Inverted;
use crate::store::{MemoryStore, TOTALS, Work, dimensions, name_error, symbol_key, torn};
use crate::succession::Manner;
use crate::vectors::unit;
use crate::words;

impl MemoryStore {
    /// Writes lessons in one durable commit. A known id is replaced; of several with one id the last counts.
    ///
    /// # Errors
    /// `Name` for a name that does not fit, for a vector of other dimensions than the store's, and for a lesson that
    /// supersedes one that is not there or that something else has superseded which still holds.
    pub fn put(&self, lessons: &[Lesson]) -> Result<()> {
        let given: Vec<_> = lessons
            .iter()
            .map(|lesson| (lesson, Standing::default()))
            .collect();
        self.take(&given, Manner::Strict)
    }

    /// Writes lessons of another memory as they stood there, in one durable commit.
    ///
    /// One that supersedes what is not here stands without it. Of several that supersede one lesson each comes after
    /// those before it.
    ///
    /// # Errors
    /// `Name` as of `put`, but for these, for a trust that is no share, and for lessons that supersede each other in a
    /// circle.
    pub fn adopt(&self, lessons: &[(Lesson, Standing)]) -> Result<()> {
        let given: Vec<_> = lessons
            .iter()
            .map(|(lesson, standing)| (lesson, *standing))
            .collect();
        self.take(&given, Manner::Adopted)
    }

    fn take(&self, given: &[(&Lesson, Standing)], manner: Manner) -> Result<()> {
        for (lesson, standing) in given {
            lesson.check()?;
            standing.check(&lesson.id)?;
        }
        let last: BTreeMap<&str, usize> = given
            .iter()
            .enumerate()
            .map(|(index, (lesson, _))| (lesson.id.as_str(), index))
            .collect();
        let kept: Vec<_> = given
            .iter()
            .enumerate()
            .filter(|(index, (lesson, _))| last[lesson.id.as_str()] == *index)
            .map(|(_, each)| *each)
            .collect();
        if kept.is_empty() {
            return Ok(());
        }
        self.write(|txn, path| {
            let mut taken = Vec::with_capacity(kept.len());
            for (lesson, standing) in kept {
                let replaced = self.remove(txn, path, &lesson.id)?;
                taken.push((lesson, standing, replaced));
            }
            self.append(txn, path, &taken, manner)
        })
    }

    /// Writes lessons, each with how it stands and the row that it replaces.
    fn append(
        &self,
        txn: &mut RwTxn<'_>,
        path: &Path,
        lessons: &[(&Lesson, Standing, Option<u32>)],
        manner: Manner,
    ) -> Work<()> {
        let mut totals = self.totals_of(txn, path)?;
        let mut inverted = Inverted::new();
        let mut rows = Vec::with_capacity(lessons.len());
        let mut vectors = Vec::new();
        let mut symbols: BTreeMap<&str, u32> = BTreeMap::new();
        for (lesson, ..) in lessons {
            for name in [&lesson.skill, &lesson.run, &lesson.source] {
                if !symbols.contains_key(name.as_str()) {
                    symbols.insert(name, self.intern(txn, name)?);
                }
            }
        }
        for (lesson, standing, _) in lessons {
            let row = totals.rows;
            if row == NONE {
                return Err(name_error("memory", &lesson.id, "it is full: start another").into());
            }
            let record = Record::of(lesson);
            self.ids.put(txn, lesson.id.as_bytes(), &row_key(row))?;
            self.records.put(txn, &row_key(row), &record.encode())?;
            self.skills.put(txn, &record.skill_key(), &row_key(row))?;
            let counted = words::counted(&lesson.text);
            let length: u32 = counted.iter().map(|(_, count)| count).sum();
            for (word, count) in counted {
                inverted.entry(word).or_default().push(Posting {
                    row,
                    count: count.min(255) as u8,
                    length: length_code(length),
                });
            }
            let mut columns = Row {
                flags: 0,
                kind: lesson.kind as u8,
                skill: symbols[lesson.skill.as_str()],
                run: symbols[lesson.run.as_str()],
                source: symbols[lesson.source.as_str()],
                cycle: u32::try_from(lesson.cycle).unwrap_or(NONE - 1),
                until: lesson
                    .until
                    .map_or(NONE, |until| u32::try_from(until).unwrap_or(NONE)),
                ..Row::GONE
            };
            columns.set_standing(*standing);
            if let Some(vector) = &lesson.vector {
                if totals.dimensions == 0 {
                    totals.dimensions = vector.len() as u32;
                }
                if vector.len() != totals.dimensions as usize {
                    return Err(dimensions(&lesson.id, vector.len(), totals.dimensions).into());
                }
                columns.set_vector(true);
                vectors.push((row, Some(unit(vector))));
            }
            rows.push((row, columns));
            totals.rows += 1;
            totals.kept += 1;
            totals.words += u64::from(length);
        }
        if !self.postings.add(txn, &inverted)? {
            return Err(torn(path, "postings").into());
        }
        self.columns.put(txn, &rows)?;
        for ((lesson, _, replaced), (row, _)) in lessons.iter().zip(&rows) {
            self.supersede(txn, path, lesson, *row, *replaced, manner)?;
        }
        self.put_vectors(txn, path, &mut totals, &vectors)?;
        self.totals.put(txn, TOTALS, &totals.encode())?;
        Ok(())
    }

    /// Takes a lesson out for good: its text, postings and vector; false if there was none of this id.
    pub fn purge(&self, id: &str) -> Result<bool> {
        check_name("lesson id", id)?;
        self.write(|txn, path| Ok(self.remove(txn, path, id)?.is_some()))
    }

    /// Takes a lesson off the file; the row that it had, None if there was none of this id.
    fn remove(&self, txn: &mut RwTxn<'_>, path: &Path, id: &str) -> Work<Option<u32>> {
        let Some(row) = self.row(txn, path, id)? else {
            return Ok(None);
        };
        let value = self
            .records
            .get(txn, &row_key(row))?
            .ok_or_else(|| torn(path, "ids"))?
            .to_vec();
        let record = Record::decode(&value).ok_or_else(|| torn(path, "records"))?;
        self.ids.delete(txn, id.as_bytes())?;
        self.records.delete(txn, &row_key(row))?;
        self.skills.delete(txn, &record.skill_key())?;
        let mut totals = self.totals_of(txn, path)?;
        for (word, count) in words::counted(record.text) {
            totals.words = totals.words.saturating_sub(u64::from(count));
            if !self.postings.remove(txn, &word, row)? {
                return Err(torn(path, "postings").into());
            }
        }
        totals.kept = totals.kept.saturating_sub(1);
        let columns = self.columns.get(txn, row)?;
        if columns.has_vector() {
            self.put_vectors(txn, path, &mut totals, &[(row, None)])?;
        }
        // What it superseded is superseded by what supersedes it, or holds again.
        self.columns.put(
            txn,
            &[(
                row,
                Row {
                    successor: columns.successor,
                    ..Row::GONE
                },
            )],
        )?;
        self.totals.put(txn, TOTALS, &totals.encode())?;
        Ok(Some(row))
    }

    /// Changes what is kept beside lessons; ids that are not there are left out. Returns how many were.
    pub fn set_standings(&self, standings: &[(String, Standing)]) -> Result<usize> {
        for (id, standing) in standings {
            check_name("lesson id", id)?;
            standing.check(id)?;
        }
        self.write(|txn, path| {
            let mut rows = BTreeMap::new();
            for (id, standing) in standings {
                if let Some(row) = self.row(txn, path, id)? {
                    let mut columns = self.columns.get(txn, row)?;
                    columns.set_standing(*standing);
                    rows.insert(row, columns);
                }
            }
            let rows: Vec<_> = rows.into_iter().collect();
            self.columns.put(txn, &rows)?;
            Ok(rows.len())
        })
    }

    /// The number of a name, made if it is new.
    pub(crate) fn intern(&self, txn: &mut RwTxn<'_>, name: &str) -> Work<u32> {
        let key = symbol_key(name);
        if let Some(number) = self.symbols.get(txn, &key)?.and_then(row_of) {
            return Ok(number);
        }
        let number = self.symbols.len(txn)? as u32;
        self.symbols.put(txn, &key, &row_key(number))?;
        Ok(number)
    }
}
