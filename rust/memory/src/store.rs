//! The open memory: its databases, and what is read without a ranking.

use std::fs;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex};

use heed::{AnyTls, RoTxn, RwTxn};
use moevolve_store::environment::{Env, Fault, Kind as Environment, Table};
use moevolve_store::{Error, Options, Result};

use crate::bytes::{row_key, row_of};
use crate::columns::Columns;
use crate::filter::{Allowed, Filter};
use crate::lesson::{Record, Standing, check_name};
use crate::postings::Postings;
use crate::totals::{Totals, read_floats};
use crate::vectors::Vectors;

const MEMORY: Environment = Environment {
    name: "memory",
    databases: &[
        "ids", "records", "skills", "terms", "postings", "columns", "vectors", "codes", "symbols",
        "totals",
    ],
};

/// The first schema whose newest postings lie apart; a memory of an earlier one stays as it is, and whoever wrote it reads it.
const BATCHES: u32 = 4;

pub(crate) const TOTALS: &[u8] = b"totals";
pub(crate) const SUM: &[u8] = b"sum of vectors";
pub(crate) const CENTRE: &[u8] = b"centre of codes";
pub(crate) const EMBEDDER: &[u8] = b"embedder";

/// An open memory.
pub struct MemoryStore {
    env: Env,
    pub(crate) ids: Table,
    pub(crate) records: Table,
    pub(crate) skills: Table,
    pub(crate) postings: Postings,
    pub(crate) columns: Columns,
    pub(crate) vectors: Vectors,
    pub(crate) symbols: Table,
    pub(crate) totals: Table,
    /// The rows that the last filter let pass, with the snapshot that it looked at.
    pub(crate) passed: Mutex<Option<(usize, Filter, Arc<Allowed>)>>,
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

pub(crate) type Work<T> = Result<T, Fault>;

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

    pub(crate) fn assemble(env: Env) -> Result<Self> {
        Ok(Self {
            ids: env.database("ids")?,
            records: env.database("records")?,
            skills: env.database("skills")?,
            postings: Postings {
                terms: env.database("terms")?,
                blocks: env.database("postings")?,
                batches: env.schema()? >= BATCHES,
            },
            columns: Columns(env.database("columns")?),
            vectors: Vectors {
                vectors: env.database("vectors")?,
                codes: env.database("codes")?,
            },
            symbols: env.database("symbols")?,
            totals: env.database("totals")?,
            passed: Mutex::default(),
            env,
        })
    }

    pub(crate) fn read<T>(
        &self,
        work: impl FnOnce(&RoTxn<'_, AnyTls>, &Path) -> Work<T>,
    ) -> Result<T> {
        self.env.read("cannot read", work)
    }

    pub(crate) fn write<T>(
        &self,
        work: impl FnOnce(&mut RwTxn<'_>, &Path) -> Work<T>,
    ) -> Result<T> {
        self.env.write("cannot write to", work)
    }

    pub(crate) fn totals_of(&self, txn: &RoTxn<'_, AnyTls>, path: &Path) -> Work<Totals> {
        match self.totals.get(txn, TOTALS)? {
            Some(value) => Ok(Totals::decode(value).ok_or_else(|| torn(path, "totals"))?),
            None => Ok(Totals::default()),
        }
    }

    pub(crate) fn floats_of(
        &self,
        txn: &RoTxn<'_, AnyTls>,
        name: &[u8],
        dimensions: usize,
    ) -> Work<Vec<f32>> {
        let mut floats = self
            .totals
            .get(txn, name)?
            .map(read_floats)
            .unwrap_or_default();
        floats.resize(dimensions, 0.0);
        Ok(floats)
    }

    /// What made the vectors, by its name; None while nothing said so.
    pub fn embedder(&self) -> Result<Option<String>> {
        self.read(|txn, _| Ok(self.embedder_of(txn)?))
    }

    pub(crate) fn embedder_of(&self, txn: &RoTxn<'_, AnyTls>) -> heed::Result<Option<String>> {
        let name = self.totals.get(txn, EMBEDDER)?;
        Ok(name.map(|name| String::from_utf8_lossy(name).into_owned()))
    }

    /// How a lesson stands; None if it is not there.
    pub fn standing(&self, id: &str) -> Result<Option<Standing>> {
        check_name("lesson id", id)?;
        self.read(|txn, path| match self.row(txn, path, id)? {
            Some(row) => Ok(Some(self.columns.get(txn, row)?.standing())),
            None => Ok(None),
        })
    }

    pub(crate) fn row(&self, txn: &RoTxn<'_, AnyTls>, path: &Path, id: &str) -> Work<Option<u32>> {
        match self.ids.get(txn, id.as_bytes())? {
            Some(value) => Ok(Some(row_of(value).ok_or_else(|| torn(path, "ids"))?)),
            None => Ok(None),
        }
    }

    pub(crate) fn symbol(&self, txn: &RoTxn<'_, AnyTls>, name: &str) -> heed::Result<Option<u32>> {
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

    pub(crate) fn body(&self, txn: &RoTxn<'_, AnyTls>, path: &Path, row: u32) -> Work<Vec<u8>> {
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
            let words = self.postings.words(txn)?;
            let mut statistics = Statistics {
                current: 0,
                superseded: 0,
                forgotten: 0,
                words: words.ok_or_else(|| torn(path, "postings"))?,
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
}

/// Says what to do with a memory whose databases are those of the first form.
pub(crate) fn earlier(error: Error) -> Error {
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

pub(crate) fn symbol_key(name: &str) -> Vec<u8> {
    // LMDB has no empty keys, and a lesson may have no source.
    [b"s", name.as_bytes()].concat()
}

pub(crate) fn name_error(what: &'static str, name: &str, why: &str) -> Error {
    Error::Name {
        what,
        name: name.to_owned(),
        why: why.to_owned(),
    }
}

pub(crate) fn dimensions(id: &str, given: usize, has: u32) -> Error {
    let why = format!("it has {given} dimensions, and this memory's vectors have {has}");
    name_error("the vector of lesson", id, &why)
}

pub(crate) fn torn(path: &Path, database: &str) -> Error {
    Error::Torn {
        path: path.to_path_buf(),
        why: format!("its database {database} has an entry that does not fit"),
    }
}
