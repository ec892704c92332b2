//! One LMDB environment: how it is opened, shared within a process, and worked on in short transactions.
//!
//! LMDB allows one environment per file and process, so a registry hands the open one to whoever opens the same folder
//! again. Every read is a transaction of its own that ends before the caller sees the result; every write is one
//! transaction, synced to the disk before it is acknowledged. Nothing works in a fork of the process that opened it.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, Weak};

use heed::types::Bytes;
use heed::{
    AnyTls, CommitOrAbort, Database, DatabaseOpener, EnvFlags, EnvOpenOptions, MdbError, RoTxn,
    RwTxn, WithoutTls,
};
use nix::errno::Errno;
use nix::fcntl::posix_fallocate;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statvfs::statvfs;

use crate::error::{Error, Fault, Result};
use crate::pages::{self, Walk};

/// Address space that a map reserves. It is sparse: neither memory nor disk is used before something is written.
pub const MAP_SIZE: usize = 16 << 30;

/// Read transactions at the same moment, over all processes.
pub const MAX_READERS: u32 = 512;

/// LMDB's lock file: a header and one cache line for each reader.
const LOCK_BYTES: i64 = (MAX_READERS as i64 + 8) * 64;

const META: &str = "meta";
const KIND: &[u8] = b"kind";
const SCHEMA: &[u8] = b"schema";

type Bare = Database<'static, Bytes, Bytes>;

/// What a folder is expected to hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    /// In words, for messages; also written into the store.
    pub name: &'static str,
    /// Its databases, besides `meta`.
    pub databases: &'static [&'static str],
}

/// How to open a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Newest schema that the caller knows; a new store gets it.
    pub schema: u32,
    /// Address space to reserve, in bytes; a multiple of the page size.
    pub map_size: usize,
}

impl Options {
    /// The usual map size.
    #[must_use]
    pub fn new(schema: u32) -> Self {
        Self {
            schema,
            map_size: MAP_SIZE,
        }
    }
}

/// A handle on an open environment; the last one of a process closes it.
pub(crate) struct Env {
    shared: Option<Arc<Shared>>,
}

struct Shared {
    env: heed::Env<WithoutTls>,
    path: PathBuf,
    databases: HashMap<&'static str, Bare>,
    map_size: usize,
    opened_by: u32,
}

static OPEN: LazyLock<Mutex<HashMap<PathBuf, Weak<Shared>>>> = LazyLock::new(Mutex::default);

fn registry() -> MutexGuard<'static, HashMap<PathBuf, Weak<Shared>>> {
    // A panic while the map was locked leaves it whole: entries are inserted and upgraded in single steps.
    OPEN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Env {
    /// Makes a store of `kind` in `folder`, which exists. Messages call it `path`.
    ///
    /// # Errors
    /// `Exists` if it holds one already.
    pub fn create(folder: &Path, path: &Path, kind: Kind, options: Options) -> Result<Self> {
        Self::enter(folder, path, kind, options, true)
    }

    /// Opens the store of `kind` in `folder`. Messages call it `path`.
    pub fn open(folder: &Path, path: &Path, kind: Kind, options: Options) -> Result<Self> {
        Self::enter(folder, path, kind, options, false)
    }

    fn enter(
        folder: &Path,
        path: &Path,
        kind: Kind,
        options: Options,
        create: bool,
    ) -> Result<Self> {
        let data = folder.join("data.mdb");
        if file_size(&data) == 0 && !create {
            return Err(Error::Absent {
                path: path.to_path_buf(),
                what: kind.name,
                why: format!("{} is missing or empty", data.display()),
            });
        }
        let canonical = folder
            .canonicalize()
            .map_err(|error| Error::io(path, "cannot open", error))?;
        let mut registry = registry();
        if let Some(shared) = registry.get(&canonical).and_then(Weak::upgrade) {
            let env = Self {
                shared: Some(shared),
            };
            env.shared()?;
            return if create {
                drop(registry);
                Err(exists(path, kind))
            } else {
                Ok(env)
            };
        }
        let shared = Arc::new(Shared::new(folder, path, kind, options, create)?);
        registry.retain(|_, held| held.strong_count() > 0);
        registry.insert(canonical, Arc::downgrade(&shared));
        Ok(Self {
            shared: Some(shared),
        })
    }

    fn shared(&self) -> Result<&Shared> {
        // Only `drop` empties it.
        let Some(shared) = &self.shared else {
            unreachable!("an environment in use")
        };
        let now = process::id();
        if shared.opened_by != now {
            return Err(Error::Forked {
                path: shared.path.clone(),
                opened: shared.opened_by,
                now,
            });
        }
        Ok(shared)
    }

    /// One of the databases that this kind of store has.
    pub fn database(&self, name: &'static str) -> Result<Bare> {
        let shared = self.shared()?;
        shared
            .databases
            .get(name)
            .copied()
            .ok_or_else(|| alien(&shared.path, "store", format!("it has no database {name}")))
    }

    /// Does one piece of reading in a transaction of its own.
    pub fn read<T>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&RoTxn<'_, AnyTls>, &Path) -> Result<T, Fault>,
    ) -> Result<T> {
        let shared = self.shared()?;
        let txn = match shared.env.read_txn() {
            Err(heed::Error::Mdb(MdbError::ReadersFull)) => shared
                .env
                .clear_stale_readers()
                .and_then(|_| shared.env.read_txn()),
            other => other,
        };
        let txn = txn.map_err(|error| shared.fault(doing, error.into()))?;
        work(&txn, &shared.path).map_err(|fault| shared.fault(doing, fault))
    }

    /// Does one piece of writing in a transaction of its own: all of it is on the disk when this returns, or nothing.
    pub fn write<T>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&mut RwTxn<'_>, &Path) -> Result<T, Fault>,
    ) -> Result<T> {
        let shared = self.shared()?;
        let fail = |fault| shared.fault(doing, fault);
        let mut txn = shared.env.write_txn().map_err(|error| fail(error.into()))?;
        let done = work(&mut txn, &shared.path).map_err(fail)?;
        txn.commit().map_err(|error| fail(error.into()))?;
        Ok(done)
    }

    /// Looks over the file's pages once more, as it is done when a store is opened.
    pub fn check_pages(&self) -> Result<()> {
        let shared = self.shared()?;
        check_pages(&shared.env, &shared.env.path().join("data.mdb"))
            .map_err(|fault| shared.fault("cannot read", fault))
    }

    /// Frees the reader slots of processes that died.
    pub fn clear_stale_readers(&self) -> Result<usize> {
        let shared = self.shared()?;
        shared
            .env
            .clear_stale_readers()
            .map_err(|error| shared.fault("cannot clear the readers of", error.into()))
    }
}

impl Drop for Env {
    fn drop(&mut self) {
        // Under the lock: an environment that is closing must not be found half open by the next to open it.
        let _registry = registry();
        self.shared = None;
    }
}

impl Shared {
    fn new(folder: &Path, path: &Path, kind: Kind, options: Options, create: bool) -> Result<Self> {
        let fail = |error| Error::lmdb(path, "cannot open", options.map_size, error);
        let data = folder.join("data.mdb");
        if file_size(&data) > 0 {
            pages::recognise(&data)?;
        }
        reserve_lock_file(&folder.join("lock.mdb"))?;
        let mut choice = EnvOpenOptions::new().read_txn_without_tls();
        choice
            .map_size(options.map_size)
            .max_readers(MAX_READERS)
            .max_dbs(16);
        // SAFETY: the folder is on a local disk and only LMDB changes its files; the registry opens it once.
        let env = match unsafe { choice.open(folder) } {
            // A run that someone else owns can still be read.
            Err(heed::Error::Io(error)) if !create && read_only(&error) => unsafe {
                choice.flags(EnvFlags::READ_ONLY).open(folder)
            },
            other => other,
        }
        .map_err(fail)?;
        env.clear_stale_readers().map_err(fail)?;
        check_pages(&env, &data).map_err(|fault| match fault {
            Fault::Lmdb(error) => fail(error),
            Fault::Store(error) => error,
        })?;
        let databases = if create {
            create_databases(&env, path, kind, options)?
        } else {
            open_databases(&env, path, kind, options)?
        };
        Ok(Self {
            env,
            path: path.to_path_buf(),
            databases,
            map_size: options.map_size,
            opened_by: process::id(),
        })
    }

    /// Whether the disk, or the size this process may give a file, leaves no room for a commit.
    fn out_of_space(&self) -> bool {
        const ROOM: u64 = 1 << 20;
        let folder = self.env.path();
        let used = file_size(&folder.join("data.mdb"));
        let disk = statvfs(folder).map(|disk| disk.blocks_available() * disk.fragment_size());
        let allowed = getrlimit(Resource::RLIMIT_FSIZE).map(|(limit, _)| limit);
        disk.is_ok_and(|free| free < ROOM)
            || allowed.is_ok_and(|limit| limit < used.saturating_add(ROOM))
    }

    fn fault(&self, doing: &'static str, fault: Fault) -> Error {
        match fault {
            // LMDB calls a write that was cut short an input/output error, also where the disk was full.
            Fault::Lmdb(heed::Error::Io(error))
                if error.raw_os_error() == Some(nix::libc::EIO) && self.out_of_space() =>
            {
                Error::io(&self.path, doing, Errno::ENOSPC.into())
            }
            Fault::Lmdb(error) => Error::lmdb(&self.path, doing, self.map_size, error),
            Fault::Store(error) => error,
        }
    }
}

/// Walks the pages of the newest snapshot.
fn check_pages(env: &heed::Env<WithoutTls>, data: &Path) -> Result<(), Fault> {
    // A writer may commit twice between the transaction's begin and the look at its meta page, but not every time.
    for _ in 0..1000 {
        let txn = env.read_txn()?;
        if pages::check(data, txn.id() as u64)? == Walk::Sound {
            return Ok(());
        }
    }
    Err(Fault::Store(Error::Torn {
        path: data.to_path_buf(),
        why: "its two meta pages do not fit together".to_owned(),
    }))
}

/// Makes the databases and says what they are, in one transaction: a store exists whole or not at all.
fn create_databases(
    env: &heed::Env<WithoutTls>,
    path: &Path,
    kind: Kind,
    options: Options,
) -> Result<HashMap<&'static str, Bare>> {
    let fail = |error| Error::lmdb(path, "cannot create", options.map_size, error);
    let txn = env.write_txn().map_err(fail)?;
    let made = env
        .create_databases_and_commit(txn, |opener, txn| {
            let meta = opener.create_database::<Bytes, Bytes>(txn, Some(META))?;
            if meta.get(txn, SCHEMA)?.is_some() {
                return Ok(CommitOrAbort::Abort(()));
            }
            meta.put(txn, KIND, kind.name.as_bytes())?;
            meta.put(txn, SCHEMA, &options.schema.to_le_bytes())?;
            let databases = kind
                .databases
                .iter()
                .map(|name| opener.create_database::<Bytes, Bytes>(txn, Some(name)))
                .collect::<heed::Result<Vec<_>>>()?;
            Ok(CommitOrAbort::Commit(Several(databases)))
        })
        .map_err(fail)?;
    match made {
        CommitOrAbort::Commit(databases) => {
            Ok(kind.databases.iter().copied().zip(databases).collect())
        }
        CommitOrAbort::Abort(()) => Err(exists(path, kind)),
    }
}

/// Opens the databases after a look at what the store says it is.
fn open_databases(
    env: &heed::Env<WithoutTls>,
    path: &Path,
    kind: Kind,
    options: Options,
) -> Result<HashMap<&'static str, Bare>> {
    let fail = |error| Error::lmdb(path, "cannot open", options.map_size, error);
    let txn = env.read_txn().map_err(fail)?;
    let opened = env
        .open_databases_and_commit(txn, |opener, txn| {
            let Some(meta) = opener.open_database::<Bytes, Bytes>(txn, Some(META))? else {
                if env_is_empty(opener, txn)? {
                    return Ok(CommitOrAbort::Abort(Error::Absent {
                        path: path.to_path_buf(),
                        what: kind.name,
                        why: "it was begun and never finished; it can be begun again".to_owned(),
                    }));
                }
                return Ok(CommitOrAbort::Abort(alien(
                    path,
                    kind.name,
                    "it has no schema".to_owned(),
                )));
            };
            if let Err(refused) = recognise(
                meta.get(txn, KIND)?,
                meta.get(txn, SCHEMA)?,
                path,
                kind,
                options,
            ) {
                return Ok(CommitOrAbort::Abort(refused));
            }
            let mut databases = Vec::new();
            for name in kind.databases {
                match opener.open_database::<Bytes, Bytes>(txn, Some(name))? {
                    Some(database) => databases.push(database),
                    None => {
                        let why = format!("it has no database {name}");
                        return Ok(CommitOrAbort::Abort(alien(path, kind.name, why)));
                    }
                }
            }
            Ok(CommitOrAbort::Commit(Several(databases)))
        })
        .map_err(fail)?;
    match opened {
        CommitOrAbort::Commit(databases) => {
            Ok(kind.databases.iter().copied().zip(databases).collect())
        }
        CommitOrAbort::Abort(refused) => Err(refused),
    }
}

fn env_is_empty(
    opener: &DatabaseOpener<'_, WithoutTls>,
    txn: &RoTxn<'_, WithoutTls>,
) -> heed::Result<bool> {
    match opener.open_database::<Bytes, Bytes>(txn, None)? {
        Some(names) => names.is_empty(txn),
        None => Ok(true),
    }
}

fn recognise(
    found_kind: Option<&[u8]>,
    schema: Option<&[u8]>,
    path: &Path,
    kind: Kind,
    options: Options,
) -> Result<()> {
    let schema = schema
        .and_then(|bytes| bytes.try_into().ok())
        .map(u32::from_le_bytes);
    let Some(found) = schema else {
        return Err(alien(path, kind.name, "it has no schema".to_owned()));
    };
    if found > options.schema {
        return Err(Error::Schema {
            path: path.to_path_buf(),
            found,
            supported: options.schema,
        });
    }
    if found_kind != Some(kind.name.as_bytes()) {
        let found_kind = String::from_utf8_lossy(found_kind.unwrap_or(b"nothing")).into_owned();
        return Err(alien(
            path,
            kind.name,
            format!("it says it is a {found_kind}"),
        ));
    }
    Ok(())
}

/// Databases whose number is known at run time only.
struct Several<'e>(Vec<Database<'e, Bytes, Bytes>>);

impl heed::OnCommit for Several<'_> {
    type Committed = Vec<Bare>;

    fn on_commit(self, token: &heed::CommitToken) -> Vec<Bare> {
        self.0
            .into_iter()
            .map(|database| database.on_commit(token))
            .collect()
    }
}

/// Gives LMDB's lock file its disk space beforehand: written through a map on a full disk, it would kill the process.
fn reserve_lock_file(path: &Path) -> Result<()> {
    let fail = |error| Error::io(path, "cannot reserve", error);
    let file = match OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
    {
        Ok(file) => file,
        Err(error) if read_only(&error) => return Ok(()),
        Err(error) => return Err(fail(error)),
    };
    posix_fallocate(&file, 0, LOCK_BYTES).map_err(|error| fail(error.into()))
}

fn file_size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |found| found.len())
}

fn read_only(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
    )
}

fn exists(path: &Path, kind: Kind) -> Error {
    Error::Exists {
        path: path.to_path_buf(),
        what: kind.name,
    }
}

fn alien(path: &Path, what: &'static str, why: String) -> Error {
    Error::Alien {
        path: path.to_path_buf(),
        what,
        why,
    }
}
