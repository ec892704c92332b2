//! A run's store: journal, tables, blobs and state in one folder, with one writer and any number of readers.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::blobs::{self, Blobs};
use crate::databases::{Kind, Options};
use crate::env::Env;
use crate::error::{Error, Result};
use crate::journal::{Entry, GENESIS, Hash, Journal, NewEntry};
use crate::lock::{self, WriterLock};
use crate::state::{self, StateFile};
use crate::tables::{self, Put, Scan, Tables};

/// The folder of the journal inside a run's.
const JOURNAL: &str = "journal";

/// The writer's lock inside the journal's folder.
const LOCK: &str = "writer.lock";

/// Commits between two sweeps of the reader slots that dead processes left behind.
const SWEEP: u64 = 256;

const RUN: Kind = Kind {
    name: "run",
    databases: &["journal", "tables", "blobs"],
};

/// Everything of one durable commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    pub entries: Vec<NewEntry>,
    pub puts: Vec<Put>,
    pub blobs: Vec<Vec<u8>>,
}

/// An open run.
pub struct RunStore {
    // Dropped in this order: the environment closes before another process may write.
    env: Env,
    journal: Journal,
    tables: Tables,
    blobs: Blobs,
    folder: PathBuf,
    writer: Option<Writer>,
}

struct Writer {
    state: Mutex<StateFile>,
    commits: AtomicU64,
    _lock: WriterLock,
}

impl RunStore {
    /// Makes a new run in `folder` (created if missing) and opens it for writing.
    ///
    /// # Errors
    /// `Exists` if there is one, `Busy` if another process is making one.
    pub fn create(folder: &Path, options: Options) -> Result<Self> {
        let journal = folder.join(JOURNAL);
        fs::create_dir_all(&journal).map_err(|error| Error::io(folder, "cannot create", error))?;
        let writer = Writer::take(folder)?;
        let env = Env::create(&journal, folder, RUN, options)?;
        Self::assemble(env, folder, Some(writer))
    }

    /// Opens the run in `folder`.
    ///
    /// # Errors
    /// `Absent` if there is none, `Busy` if it is to be written and another process does so, `Schema` if a newer
    /// version wrote it, `Torn` if its file is damaged.
    pub fn open(folder: &Path, write: bool, options: Options) -> Result<Self> {
        if !Self::is_run(folder) {
            return Err(Error::Absent {
                path: folder.to_path_buf(),
                what: RUN.name,
                why: "it has no journal; `moevolve ls` lists the runs there are".to_owned(),
            });
        }
        let writer = if write {
            Some(Writer::take(folder)?)
        } else {
            None
        };
        let env = Env::open(&folder.join(JOURNAL), folder, RUN, options)?;
        Self::assemble(env, folder, writer)
    }

    /// Whether `folder` looks like a run: its journal has a file.
    pub fn is_run(folder: &Path) -> bool {
        folder.join(JOURNAL).join("data.mdb").is_file()
    }

    fn assemble(env: Env, folder: &Path, writer: Option<Writer>) -> Result<Self> {
        Ok(Self {
            journal: Journal {
                entries: env.database("journal")?.remap_key_type(),
            },
            tables: Tables {
                rows: env.database("tables")?,
            },
            blobs: Blobs {
                bytes: env.database("blobs")?,
            },
            env,
            folder: folder.to_path_buf(),
            writer,
        })
    }

    fn writer(&self) -> Result<&Writer> {
        self.writer.as_ref().ok_or_else(|| Error::ReadOnly {
            path: self.folder.clone(),
        })
    }

    /// Writes a batch in one durable commit; returns the journal's head after it.
    pub fn commit(&self, batch: &Batch) -> Result<Hash> {
        let keys = batch
            .puts
            .iter()
            .map(|put| tables::row_key(&put.table, &put.key))
            .collect::<Result<Vec<_>>>()?;
        let writer = self.writer()?;
        if writer.commits.fetch_add(1, Ordering::Relaxed) % SWEEP == SWEEP - 1 {
            self.env.clear_stale_readers()?;
        }
        self.env.write("cannot write to", |txn, path| {
            for data in &batch.blobs {
                self.blobs.put(txn, data)?;
            }
            for (key, put) in keys.iter().zip(&batch.puts) {
                self.tables.put(txn, key, put.value.as_deref())?;
            }
            self.journal.append(txn, path, &batch.entries)
        })
    }

    /// At most `limit` entries from `start` on.
    pub fn entries(&self, start: u64, limit: usize) -> Result<Vec<Entry>> {
        self.env.read("cannot read", |txn, path| {
            self.journal.read(txn, path, start, limit)
        })
    }

    /// Number of entries.
    pub fn len(&self) -> Result<u64> {
        self.env.read("cannot read", |txn, path| {
            Ok(self.journal.end(txn, path)?.0)
        })
    }

    /// Whether there is no entry yet.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// The newest link of the chain; `GENESIS` while there is no entry.
    pub fn head(&self) -> Result<Hash> {
        self.env.read("cannot read", |txn, path| {
            Ok(self.journal.end(txn, path)?.1)
        })
    }

    /// Recomputes the whole chain; returns the number of entries.
    ///
    /// # Errors
    /// `Torn` if the file is damaged, `Broken` with the first entry that does not follow from the ones before.
    pub fn verify(&self) -> Result<u64> {
        self.env.check_pages()?;
        let (mut next, mut head) = (0, GENESIS);
        loop {
            let checked = self.env.read("cannot read", |txn, path| {
                self.journal.check(txn, path, next, head)
            })?;
            (next, head) = (checked.next, checked.head);
            if !checked.more {
                return Ok(next);
            }
        }
    }

    /// Stores bytes; returns the hash that names them.
    pub fn put_blob(&self, data: &[u8]) -> Result<Hash> {
        self.writer()?;
        self.env
            .write("cannot write to", |txn, _| Ok(self.blobs.put(txn, data)?))
    }

    /// The bytes that a hash (64 hexadecimal digits) names.
    pub fn blob(&self, hash: &str) -> Result<Vec<u8>> {
        let hash = blobs::parse(hash)?;
        self.env
            .read("cannot read", |txn, path| self.blobs.get(txn, path, &hash))
    }

    /// A table's value, or None.
    pub fn get(&self, table: &str, key: &str) -> Result<Option<Vec<u8>>> {
        let key = tables::row_key(table, key)?;
        self.env
            .read("cannot read", |txn, _| Ok(self.tables.get(txn, &key)?))
    }

    /// A table's rows in the order of their keys.
    pub fn scan(&self, table: &str, scan: Scan<'_>) -> Result<Vec<(String, Vec<u8>)>> {
        let prefix = tables::row_key(table, scan.prefix)?;
        self.env.read("cannot read", |txn, _| {
            Ok(self.tables.scan(txn, &prefix, table.len() + 1, scan)?)
        })
    }

    /// Says what the writer is doing; not synced, and outside the chain.
    pub fn set_state(&self, state: &[u8]) -> Result<()> {
        let mut file = self
            .writer()?
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        file.write(state)
    }

    /// What the writer said last, or None.
    pub fn state(&self) -> Result<Option<Vec<u8>>> {
        state::read(&self.folder.join(JOURNAL).join("state"))
    }

    /// Whether a process has the run open for writing now.
    pub fn writer_alive(&self) -> Result<bool> {
        lock::is_held(&self.folder.join(JOURNAL).join(LOCK))
    }

    /// The folder as it was given.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Writer {
    fn take(folder: &Path) -> Result<Self> {
        let journal = folder.join(JOURNAL);
        let lock = WriterLock::take(&journal.join(LOCK), folder)?;
        let state = StateFile::open(journal.join("state"))?;
        Ok(Self {
            state: Mutex::new(state),
            commits: AtomicU64::new(0),
            _lock: lock,
        })
    }
}
