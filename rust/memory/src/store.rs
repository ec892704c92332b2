//! The open memory: writes that keep records, columns, postings and vectors together, and the one query.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use heed::{AnyTls, RoTxn, RwTxn};
use moevolve_store::environment::{Env, Fault, Kind as Environment, Table};
use moevolve_store::{Error, Options, Result};

use crate::bm25::{Scratch, Words};
use crate::bytes::{row_key, row_of};
use crate::columns::{Columns, NONE, Row};
use crate::coverage::Asked;
use crate::filter::{Allowed, Filter};
use crate::lesson::{Lesson, Record, Standing, check_name, check_vector};
use crate::postings::{Posting, Postings, length_code};
use crate::query::{Hit, Query};
use crate::totals::{Totals, floats, read_floats};
use crate::vectors::{Vectors, unit};
use crate::{scan, simd, words};

const MEMORY: Environment = Environment {
    name: "memory",
    databases: &[
        "ids", "records", "skills", "terms", "postings", "columns", "vectors", "codes", "symbols",
        "totals",
    ],
};

const TOTALS: &[u8] = b"totals";
const SUM: &[u8] = b"sum of vectors";
const CENTRE: &[u8] = b"centre of codes";
const EMBEDDER: &[u8] = b"embedder";

/// Vectors at which the centre of the codes is fixed for the first time; then at every fourfold up to the last.
const FIRST_CENTRE: u32 = 256;
const LAST_CENTRE: u32 = 1 << 18;

/// Rows that each ranking hands to the fused one, for each lesson wanted, and at least.
const POOL: (usize, usize) = (4, 64);

/// An open memory.
pub struct MemoryStore {
    env: Env,
    pub(crate) ids: Table,
    pub(crate) records: Table,
    pub(crate) skills: Table,
    pub(crate) postings: Postings,
    pub(crate) columns: Columns,
    pub(crate) vectors: Vectors,
    symbols: Table,
    totals: Table,
    /// The rows that the last filter let pass, with the snapshot that it looked at.
    passed: Mutex<Option<(usize, Filter, Arc<Allowed>)>>,
    scratch: Mutex<Vec<Scratch>>,
}

/// Counts for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statistics {
    /// Lessons that a query may return.
    pub current: u64,
    pub superseded: u64,
    pub forgotten: u64,
    pub words: u64,
    pub vectors: u64,
    pub dimensions: u32,
    /// What made the vectors.
    pub embedder: Option<String>,
}

type Work<T> = Result<T, Fault>;

impl MemoryStore {
    /// Opens the memory in `folder`, or None if there is none yet.
    pub fn open(folder: &Path, options: Options) -> Result<Option<Self>> {
        match Env::open(folder, folder, MEMORY, options) {
            Ok(env) => Self::assemble(env).map(Some),
            Err(Error::Absent { .. }) => Ok(None),
            Err(error) => Err(earlier(error)),
        }
    }

    /// Opens the memory in `folder` and makes it if there is none.
    pub fn ensure(folder: &Path, options: Options) -> Result<Self> {
        fs::create_dir_all(folder).map_err(|source| Error::Io {
            path: folder.to_path_buf(),
            doing: "cannot create",
            source,
        })?;
        let env = match Env::create(folder, folder, MEMORY, options) {
            Err(Error::Exists { .. }) => {
                Env::open(folder, folder, MEMORY, options).map_err(earlier)?
            }
            other => other.map_err(earlier)?,
        };
        Self::assemble(env)
    }

    fn assemble(env: Env) -> Result<Self> {
        Ok(Self {
            ids: env.database("ids")?,
            records: env.database("records")?,
            skills: env.database("skills")?,
            postings: Postings {
                terms: env.database("terms")?,
                blocks: env.database("postings")?,
            },
            columns: Columns(env.database("columns")?),
            vectors: Vectors {
                vectors: env.database("vectors")?,
                codes: env.database("codes")?,
            },
            symbols: env.database("symbols")?,
            totals: env.database("totals")?,
            passed: Mutex::default(),
            scratch: Mutex::default(),
            env,
        })
    }

    pub(crate) fn read<T>(
        &self,
        work: impl FnOnce(&RoTxn<'_, AnyTls>, &Path) -> Work<T>,
    ) -> Result<T> {
        self.env.read("cannot read", work)
    }

    fn write<T>(&self, work: impl FnOnce(&mut RwTxn<'_>, &Path) -> Work<T>) -> Result<T> {
        self.env.write("cannot write to", work)
    }

    pub(crate) fn totals_of(&self, txn: &RoTxn<'_, AnyTls>, path: &Path) -> Work<Totals> {
        match self.totals.get(txn, TOTALS)? {
            Some(value) => Ok(Totals::decode(value).ok_or_else(|| torn(path, "totals"))?),
            None => Ok(Totals::default()),
        }
    }

    fn floats_of(&self, txn: &RoTxn<'_, AnyTls>, name: &[u8], dimensions: usize) -> Work<Vec<f32>> {
        let mut floats = self
            .totals
            .get(txn, name)?
            .map(read_floats)
            .unwrap_or_default();
        floats.resize(dimensions, 0.0);
        Ok(floats)
    }

    /// Writes lessons in one durable commit. A known id is replaced; of several with one id the last counts.
    ///
    /// # Errors
    /// `Name` for a name that does not fit, for a vector of other dimensions than the store's, and for a lesson that
    /// supersedes one that is not there or that something else has superseded.
    pub fn put(&self, lessons: &[Lesson]) -> Result<()> {
        lessons.iter().try_for_each(Lesson::check)?;
        let last: BTreeMap<&str, usize> = lessons
            .iter()
            .enumerate()
            .map(|(index, lesson)| (lesson.id.as_str(), index))
            .collect();
        let kept: Vec<&Lesson> = lessons
            .iter()
            .enumerate()
            .filter(|(index, lesson)| last[lesson.id.as_str()] == *index)
            .map(|(_, lesson)| lesson)
            .collect();
        if kept.is_empty() {
            return Ok(());
        }
        self.write(|txn, path| {
            for lesson in &kept {
                self.remove(txn, path, &lesson.id)?;
            }
            self.append(txn, path, &kept)
        })
    }

    fn append(&self, txn: &mut RwTxn<'_>, path: &Path, lessons: &[&Lesson]) -> Work<()> {
        let mut totals = self.totals_of(txn, path)?;
        let mut inverted: BTreeMap<String, Vec<Posting>> = BTreeMap::new();
        let mut rows = Vec::with_capacity(lessons.len());
        let mut vectors = Vec::new();
        let mut symbols: BTreeMap<&str, u32> = BTreeMap::new();
        for lesson in lessons {
            for name in [&lesson.skill, &lesson.run, &lesson.source] {
                if !symbols.contains_key(name.as_str()) {
                    symbols.insert(name, self.intern(txn, name)?);
                }
            }
        }
        for lesson in lessons {
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
            columns.flags = 0;
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
        for (word, postings) in inverted {
            if !self.postings.append(txn, &word, &postings)? {
                return Err(torn(path, "postings").into());
            }
        }
        self.columns.put(txn, &rows)?;
        for (lesson, (row, _)) in lessons.iter().zip(&rows) {
            if let Some(old) = &lesson.supersedes {
                self.supersede(txn, path, lesson, old, *row)?;
            }
        }
        self.put_vectors(txn, path, &mut totals, &vectors)?;
        self.totals.put(txn, TOTALS, &totals.encode())?;
        Ok(())
    }

    fn supersede(
        &self,
        txn: &mut RwTxn<'_>,
        path: &Path,
        lesson: &Lesson,
        old: &str,
        row: u32,
    ) -> Work<()> {
        let refuse = |why: &str| name_error("superseded lesson", old, why);
        let Some(before) = self.row(txn, path, old)? else {
            return Err(refuse("it is not in this memory").into());
        };
        if before == row {
            return Err(refuse("a lesson cannot supersede itself").into());
        }
        let mut columns = self.columns.get(txn, before)?;
        if columns.successor != NONE && !self.columns.get(txn, columns.successor)?.gone() {
            return Err(refuse("another lesson has superseded it: name that one").into());
        }
        let mut later = row;
        while later != NONE {
            if later == before {
                return Err(refuse(&format!("it comes after {:?} already", lesson.id)).into());
            }
            later = self.columns.get(txn, later)?.successor;
        }
        columns.successor = row;
        self.columns.put(txn, &[(before, columns)])?;
        Ok(())
    }

    /// Writes vectors of ascending rows, keeps their sum, and moves the centre of the codes when it is time.
    fn put_vectors(
        &self,
        txn: &mut RwTxn<'_>,
        path: &Path,
        totals: &mut Totals,
        added: &[(u32, Option<Vec<f32>>)],
    ) -> Work<()> {
        if added.is_empty() {
            return Ok(());
        }
        let size = totals.dimensions as usize;
        let mut sum = self.floats_of(txn, SUM, size)?;
        for (row, vector) in added {
            if let Some(old) = self.vectors.get(txn, size, *row)? {
                let held = old.iter().any(|x| *x != 0.0);
                sum.iter_mut().zip(&old).for_each(|(sum, x)| *sum -= x);
                totals.vectors -= u32::from(held);
            }
            if let Some(vector) = vector {
                sum.iter_mut().zip(vector).for_each(|(sum, x)| *sum += x);
                totals.vectors += 1;
            }
        }
        let centre = self.floats_of(txn, CENTRE, size)?;
        self.vectors.put(txn, size, &centre, added)?;
        let due = if totals.centred_at == 0 {
            FIRST_CENTRE
        } else {
            totals.centred_at.saturating_mul(4)
        };
        if totals.vectors >= due && totals.centred_at < LAST_CENTRE {
            let centre: Vec<f32> = sum.iter().map(|x| x / totals.vectors as f32).collect();
            self.totals.put(txn, CENTRE, &floats(&centre))?;
            totals.centred_at = totals.vectors;
            self.recode(txn, path, totals, &centre)?;
        }
        self.totals.put(txn, SUM, &floats(&sum))?;
        Ok(())
    }

    /// Makes all codes anew around another centre.
    fn recode(
        &self,
        txn: &mut RwTxn<'_>,
        path: &Path,
        totals: &Totals,
        centre: &[f32],
    ) -> Work<()> {
        let size = centre.len();
        for start in (0..totals.rows).step_by(4096) {
            let mut part = Vec::new();
            for row in start..totals.rows.min(start.saturating_add(4096)) {
                if self.columns.get(txn, row)?.has_vector() {
                    let vector = self
                        .vectors
                        .get(txn, size, row)?
                        .ok_or_else(|| torn(path, "vectors"))?;
                    part.push((row, Some(vector)));
                }
            }
            self.vectors.put(txn, size, centre, &part)?;
        }
        Ok(())
    }

    /// Gives lessons their vectors; ids that are not there are left out. Returns how many were.
    pub fn set_vectors(&self, vectors: &[(String, Vec<f32>)]) -> Result<usize> {
        for (id, vector) in vectors {
            check_name("lesson id", id)?;
            check_vector(vector).map_err(|why| name_error("the vector of lesson", id, why))?;
        }
        self.write(|txn, path| {
            let mut totals = self.totals_of(txn, path)?;
            let mut added = BTreeMap::new();
            for (id, vector) in vectors {
                let Some(row) = self.row(txn, path, id)? else {
                    continue;
                };
                if totals.dimensions == 0 {
                    totals.dimensions = vector.len() as u32;
                }
                if vector.len() != totals.dimensions as usize {
                    return Err(dimensions(id, vector.len(), totals.dimensions).into());
                }
                added.insert(row, Some(unit(vector)));
            }
            let mut columns = Vec::with_capacity(added.len());
            for row in added.keys() {
                let mut held = self.columns.get(txn, *row)?;
                held.set_vector(true);
                columns.push((*row, held));
            }
            self.columns.put(txn, &columns)?;
            let added: Vec<_> = added.into_iter().collect();
            self.put_vectors(txn, path, &mut totals, &added)?;
            self.totals.put(txn, TOTALS, &totals.encode())?;
            Ok(added.len())
        })
    }

    /// At most `limit` lessons without a vector whose row is `from` or later: (next row, ids and texts).
    pub fn without_vector(&self, from: u32, limit: usize) -> Result<(u32, Vec<(String, String)>)> {
        self.read(|txn, path| {
            let totals = self.totals_of(txn, path)?;
            let mut lacking = Vec::new();
            let mut row = from;
            while row < totals.rows && lacking.len() < limit {
                let columns = self.columns.get(txn, row)?;
                if !columns.gone() && !columns.has_vector() {
                    let value = self.records.get(txn, &row_key(row))?;
                    let record = value
                        .and_then(Record::decode)
                        .ok_or_else(|| torn(path, "records"))?;
                    lacking.push((record.id.to_owned(), record.text.to_owned()));
                }
                row += 1;
            }
            Ok((row, lacking))
        })
    }

    /// What made the vectors, by its name; None while nothing said so.
    pub fn embedder(&self) -> Result<Option<String>> {
        self.read(|txn, _| Ok(self.embedder_of(txn)?))
    }

    fn embedder_of(&self, txn: &RoTxn<'_, AnyTls>) -> heed::Result<Option<String>> {
        let name = self.totals.get(txn, EMBEDDER)?;
        Ok(name.map(|name| String::from_utf8_lossy(name).into_owned()))
    }

    /// Says what makes the vectors from now on. If that is another than before, all vectors are dropped.
    pub fn set_embedder(&self, name: &str) -> Result<()> {
        check_name("embedder", name)?;
        self.write(|txn, path| {
            if self.totals.get(txn, EMBEDDER)? == Some(name.as_bytes()) {
                return Ok(());
            }
            let mut totals = self.totals_of(txn, path)?;
            for start in (0..totals.rows).step_by(4096) {
                let mut part = Vec::new();
                for row in start..totals.rows.min(start.saturating_add(4096)) {
                    let mut columns = self.columns.get(txn, row)?;
                    if columns.has_vector() {
                        columns.set_vector(false);
                        part.push((row, columns));
                    }
                }
                self.columns.put(txn, &part)?;
            }
            self.vectors.vectors.clear(txn)?;
            self.vectors.codes.clear(txn)?;
            (totals.dimensions, totals.centred_at, totals.vectors) = (0, 0, 0);
            self.totals.delete(txn, SUM)?;
            self.totals.delete(txn, CENTRE)?;
            self.totals.put(txn, EMBEDDER, name.as_bytes())?;
            self.totals.put(txn, TOTALS, &totals.encode())?;
            Ok(())
        })
    }

    /// Changes what is kept beside lessons; ids that are not there are left out. Returns how many were.
    pub fn set_standings(&self, standings: &[(String, Standing)]) -> Result<usize> {
        for (id, standing) in standings {
            check_name("lesson id", id)?;
            if !(0.0..=1.0).contains(&standing.trust) {
                return Err(name_error(
                    "the trust of lesson",
                    id,
                    "it must lie between 0 and 1",
                ));
            }
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

    /// How a lesson stands; None if it is not there.
    pub fn standing(&self, id: &str) -> Result<Option<Standing>> {
        check_name("lesson id", id)?;
        self.read(|txn, path| match self.row(txn, path, id)? {
            Some(row) => Ok(Some(self.columns.get(txn, row)?.standing())),
            None => Ok(None),
        })
    }

    /// Takes a lesson out for good: its text, postings and vector; false if there was none of this id.
    pub fn purge(&self, id: &str) -> Result<bool> {
        check_name("lesson id", id)?;
        self.write(|txn, path| self.remove(txn, path, id))
    }

    fn remove(&self, txn: &mut RwTxn<'_>, path: &Path, id: &str) -> Work<bool> {
        let Some(row) = self.row(txn, path, id)? else {
            return Ok(false);
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
        Ok(true)
    }

    fn row(&self, txn: &RoTxn<'_, AnyTls>, path: &Path, id: &str) -> Work<Option<u32>> {
        match self.ids.get(txn, id.as_bytes())? {
            Some(value) => Ok(Some(row_of(value).ok_or_else(|| torn(path, "ids"))?)),
            None => Ok(None),
        }
    }

    /// The number of a name, made if it is new.
    fn intern(&self, txn: &mut RwTxn<'_>, name: &str) -> Work<u32> {
        let key = symbol_key(name);
        if let Some(number) = self.symbols.get(txn, &key)?.and_then(row_of) {
            return Ok(number);
        }
        let number = self.symbols.len(txn)? as u32;
        self.symbols.put(txn, &key, &row_key(number))?;
        Ok(number)
    }

    fn symbol(&self, txn: &RoTxn<'_, AnyTls>, name: &str) -> heed::Result<Option<u32>> {
        Ok(self.symbols.get(txn, &symbol_key(name))?.and_then(row_of))
    }

    /// Number of lessons on file, those superseded and forgotten among them.
    pub fn count(&self) -> Result<u64> {
        self.read(|txn, _| Ok(self.records.len(txn)?))
    }

    /// The body of a lesson; None if it is not there.
    pub fn get(&self, id: &str) -> Result<Option<Vec<u8>>> {
        check_name("lesson id", id)?;
        self.read(|txn, path| match self.row(txn, path, id)? {
            Some(row) => Ok(Some(self.body(txn, path, row)?)),
            None => Ok(None),
        })
    }

    fn body(&self, txn: &RoTxn<'_, AnyTls>, path: &Path, row: u32) -> Work<Vec<u8>> {
        let value = self.records.get(txn, &row_key(row))?;
        let record = value
            .and_then(Record::decode)
            .ok_or_else(|| torn(path, "records"))?;
        Ok(record.body.to_vec())
    }

    /// The bodies of at most `limit` lessons whose id comes after `after`, by id.
    pub fn all(&self, after: Option<&str>, limit: usize) -> Result<Vec<Vec<u8>>> {
        let from = after.map_or(Bound::Unbounded, |id| Bound::Excluded(id.as_bytes()));
        self.read(|txn, path| {
            let range: (Bound<&[u8]>, Bound<&[u8]>) = (from, Bound::Unbounded);
            let mut bodies = Vec::new();
            for item in self.ids.range(txn, &range)?.take(limit) {
                let row = row_of(item?.1).ok_or_else(|| torn(path, "ids"))?;
                bodies.push(self.body(txn, path, row)?);
            }
            Ok(bodies)
        })
    }

    /// The bodies of at most `limit` lessons of a skill: by run from the last name to the first, in a run from the
    /// newest cycle to the oldest. Forgotten ones are left out.
    pub fn by_skill(&self, skill: &str, run: Option<&str>, limit: usize) -> Result<Vec<Vec<u8>>> {
        let mut prefix = [skill.as_bytes(), b"\0"].concat();
        if let Some(run) = run {
            prefix.extend([run.as_bytes(), b"\0"].concat());
        }
        self.read(|txn, path| {
            let mut bodies = Vec::new();
            for item in self.skills.rev_prefix_iter(txn, &prefix)? {
                if bodies.len() == limit {
                    break;
                }
                let row = row_of(item?.1).ok_or_else(|| torn(path, "skills"))?;
                if !self.columns.get(txn, row)?.standing().forgotten {
                    bodies.push(self.body(txn, path, row)?);
                }
            }
            Ok(bodies)
        })
    }

    /// Counts for people.
    pub fn statistics(&self) -> Result<Statistics> {
        self.read(|txn, path| {
            let totals = self.totals_of(txn, path)?;
            let mut statistics = Statistics {
                current: 0,
                superseded: 0,
                forgotten: 0,
                words: self.postings.terms.len(txn)?,
                vectors: u64::from(totals.vectors),
                dimensions: totals.dimensions,
                embedder: self.embedder_of(txn)?,
            };
            let current = Filter::default().apply(txn, self.columns, totals.rows)?;
            for row in 0..totals.rows {
                let columns = self.columns.get(txn, row)?;
                if columns.gone() {
                } else if columns.standing().forgotten {
                    statistics.forgotten += 1;
                } else if current.has(row) {
                    statistics.current += 1;
                } else {
                    statistics.superseded += 1;
                }
            }
            Ok(statistics)
        })
    }

    /// The lessons that answer a query, best first; of equals the smaller id.
    ///
    /// A lesson that another supersedes is not among them, unless the other does not hold at the query's cycle.
    ///
    /// # Errors
    /// `Name` for a vector of other dimensions than the store's.
    pub fn search(&self, query: &Query<'_>) -> Result<Vec<Hit>> {
        if let Some(vector) = query.vector {
            check_vector(vector).map_err(|why| name_error("the vector of", "the query", why))?;
        }
        self.read(|txn, path| {
            let totals = self.totals_of(txn, path)?;
            let Some(filter) = self.filter(txn, query)? else {
                return Ok(Vec::new());
            };
            let allowed = self.allowed(txn, filter, totals.rows)?;
            if allowed.count == 0 || query.k == 0 {
                return Ok(Vec::new());
            }
            let pool = query
                .k
                .saturating_mul(POOL.0)
                .max(POOL.1)
                .min(allowed.count);
            let vector = query.vector.filter(|_| totals.vectors > 0).map(unit);
            let (mut mean, mut nearest) = (0.0, Vec::new());
            if let Some(vector) = &vector {
                if vector.len() != totals.dimensions as usize {
                    return Err(dimensions("of the query", vector.len(), totals.dimensions).into());
                }
                let sum = self.floats_of(txn, SUM, vector.len())?;
                mean =
                    sum.iter().zip(vector).map(|(s, q)| s * q).sum::<f32>() / totals.vectors as f32;
                let centre = self.floats_of(txn, CENTRE, vector.len())?;
                nearest = scan::rank(txn, self.vectors, vector, &centre, &allowed, pool)?
                    .ok_or_else(|| torn(path, "codes"))?;
            }
            let mut candidates: BTreeMap<u32, (Option<f32>, Option<f32>)> = BTreeMap::new();
            let mut asked = None;
            if let Some(text) = query.text {
                let words = Words::of(txn, self.postings, &totals, &words::counted(text))?;
                let others: Vec<u32> = nearest.iter().map(|(_, row)| *row).collect();
                let mut scratch = lock(&self.scratch).pop().unwrap_or_default();
                let ranked = words.rank(txn, self.postings, &allowed, pool, &others, &mut scratch);
                lock(&self.scratch).push(scratch);
                let ranked = ranked?.ok_or_else(|| torn(path, "postings"))?;
                asked = Some(Asked::of(text, |word| words.common(word, totals.kept)));
                for (score, row) in ranked.best.into_iter().chain(ranked.others) {
                    candidates.entry(row).or_default().0 = Some(score);
                }
            }
            for (cosine, row) in nearest {
                candidates.entry(row).or_default().1 = Some(cosine);
            }
            let unordered = query.text.is_none() && query.vector.is_none();
            if unordered {
                let rows: Vec<u32> = allowed.rows().collect();
                let newest = rows.into_iter().rev().take(query.k);
                candidates.extend(newest.map(|row| (row, (None, None))));
            }
            let mut scored = Vec::with_capacity(candidates.len());
            for (row, (by_words, cosine)) in candidates {
                let near = match (&vector, cosine) {
                    (None, _) => None,
                    (Some(_), Some(cosine)) => Some(nearness(cosine, mean)),
                    (Some(vector), None) => {
                        let stored = self.vectors.bytes(txn, vector.len(), row)?;
                        let cosine = stored.map_or(0.0, |stored| simd::product(vector, stored));
                        Some(nearness(cosine, mean))
                    }
                };
                let standing = self.columns.get(txn, row)?.standing();
                let score = fuse(query, by_words, near, standing.trust);
                scored.push((score, row, by_words, near, standing));
            }
            if unordered {
                scored.reverse();
            } else {
                scored.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            }
            let mut hits: Vec<Hit> = Vec::with_capacity(query.k);
            for (score, row, words, vector, standing) in scored {
                // Equal scores are ordered by id, so all that are equal to the last are read.
                if hits.len() >= query.k && score < hits[query.k - 1].score {
                    break;
                }
                let value = self.records.get(txn, &row_key(row))?;
                let record = value
                    .and_then(Record::decode)
                    .ok_or_else(|| torn(path, "records"))?;
                let confidence = match &asked {
                    Some(asked) => asked.covered(record.text),
                    None => vector.unwrap_or(1.0),
                };
                if confidence >= query.confidence {
                    hits.push(Hit {
                        id: record.id.to_owned(),
                        score,
                        words,
                        vector,
                        confidence,
                        standing,
                        body: record.body.to_vec(),
                    });
                }
            }
            if !unordered {
                hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
            }
            hits.truncate(query.k);
            Ok(hits)
        })
    }

    /// The query's filters with their names looked up; None if a name is not in the store, so that nothing passes.
    fn filter(&self, txn: &RoTxn<'_, AnyTls>, query: &Query<'_>) -> Work<Option<Filter>> {
        let mut filter = Filter {
            kind: query.kind.map(|kind| kind as u8),
            cycle: query
                .before_cycle
                .map(|cycle| u32::try_from(cycle).unwrap_or(NONE)),
            ..Filter::default()
        };
        if let Some(skill) = query.skill {
            let mut skills: BTreeSet<u32> = self.symbol(txn, skill)?.into_iter().collect();
            let below = [&symbol_key(skill)[..], b"/"].concat();
            for item in self.symbols.prefix_iter(txn, &below)? {
                skills.extend(row_of(item?.1));
            }
            if skills.is_empty() {
                return Ok(None);
            }
            filter.skills = Some(skills);
        }
        for (name, number) in [
            (query.run, &mut filter.run),
            (query.source, &mut filter.source),
        ] {
            if let Some(name) = name {
                *number = self.symbol(txn, name)?;
                if number.is_none() {
                    return Ok(None);
                }
            }
        }
        Ok(Some(filter))
    }

    fn allowed(&self, txn: &RoTxn<'_, AnyTls>, filter: Filter, rows: u32) -> Work<Arc<Allowed>> {
        let snapshot = txn.id();
        let mut passed = lock(&self.passed);
        if let Some((at, of, allowed)) = &*passed
            && *at == snapshot
            && *of == filter
        {
            return Ok(Arc::clone(allowed));
        }
        let allowed = Arc::new(filter.apply(txn, self.columns, rows)?);
        *passed = Some((snapshot, filter, Arc::clone(&allowed)));
        Ok(allowed)
    }
}

/// Whatever panicked while it was locked left a cache, which is whole or is made again.
fn lock<T>(cache: &Mutex<T>) -> MutexGuard<'_, T> {
    cache.lock().unwrap_or_else(PoisonError::into_inner)
}

/// 1 in the query's own direction, 0 where the mean lesson lies or farther.
fn nearness(cosine: f32, mean: f32) -> f32 {
    ((cosine - mean) / (1.0 - mean).max(1e-6)).clamp(0.0, 1.0)
}

fn fuse(query: &Query<'_>, words: Option<f32>, vector: Option<f32>, trust: f32) -> f32 {
    let weights = query.weights;
    let mut parts = (0.0, 0.0);
    for (score, weight) in [(words, weights.words), (vector, weights.vector)] {
        if let Some(score) = score {
            parts = (parts.0 + weight * score, parts.1 + weight);
        }
    }
    let mean = if parts.1 > 0.0 {
        parts.0 / parts.1
    } else {
        1.0
    };
    mean * (1.0 + weights.trust * (trust - 0.5))
}

/// Says what to do with a memory whose databases are those of the first form.
fn earlier(error: Error) -> Error {
    match error {
        Error::Alien { path, what, why } if why.starts_with("it has no database") => Error::Alien {
            path,
            what,
            why: format!(
                "{why}: an earlier version wrote it in another form. Move the folder away; a run that goes on writes \
                 its lessons anew, and that version still reads the old ones"
            ),
        },
        other => other,
    }
}

fn symbol_key(name: &str) -> Vec<u8> {
    // LMDB has no empty keys, and a lesson may have no source.
    [b"s", name.as_bytes()].concat()
}

fn name_error(what: &'static str, name: &str, why: &str) -> Error {
    Error::Name {
        what,
        name: name.to_owned(),
        why: why.to_owned(),
    }
}

fn dimensions(id: &str, given: usize, has: u32) -> Error {
    let why = format!("it has {given} dimensions, and this memory's vectors have {has}");
    name_error("the vector of lesson", id, &why)
}

pub(crate) fn torn(path: &Path, database: &str) -> Error {
    Error::Torn {
        path: path.to_path_buf(),
        why: format!("its database {database} has an entry that does not fit"),
    }
}
