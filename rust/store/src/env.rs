//! One LMDB environment: how it is opened, shared within a process, and worked on in short transactions.
//!
//! LMDB allows one environment per file and process, so a registry hands the open one to whoever opens the same folder
//! again. Every read is a transaction of its own that ends before the caller sees the result; every write is one
//! transaction, synced to the disk before it is acknowledged. Nothing works in a fork of the process that opened it.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, Weak};

use heed::{AnyTls, EnvFlags, EnvOpenOptions, MdbError, RoTxn, RwTxn, WithoutTls};
use nix::errno::Errno;
use nix::fcntl::posix_fallocate;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statvfs::statvfs;

use crate::databases::{self, Databases, Kind, Options, Table, alien, exists};
use crate::error::{Error, Fault, Result};
use crate::pages::{self, Walk};

/// Address space that a map reserves. It is sparse: neither memory nor disk is used before something is written.
pub const MAP_SIZE: usize = 16 << 30;

/// Read transactions at the same moment, over all processes.
pub const MAX_READERS: u32 = 512;

/// LMDB's lock file: a header and one cache line for each reader.
const LOCK_BYTES: i64 = (MAX_READERS as i64 + 8) * 64;

/// A handle on an open environment; the last one of a process closes it.
pub struct Env {
    shared: Option<Arc<Shared>>,
}

struct Shared {
    env: heed::Env<WithoutTls>,
    path: PathBuf,
    databases: Databases,
    map_size: usize,
    opened_by: u32,
    /// Of the file, so that a folder that was removed and made again is not taken for the one before.
    identity: Option<(u64, u64)>,
    /// The most bytes that the file was seen to have.
    length: AtomicU64,
    /// LMDB's lock file, and its bytes once LMDB had mapped it; none where a reader may not open it.
    lock: Option<(File, u64)>,
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
            // A handle locks the registry when it drops, and this one may drop here.
            drop(registry);
            let env = Self {
                shared: Some(shared),
            };
            if identity(&data) != env.shared()?.identity {
                return Err(Error::Replaced {
                    path: path.to_path_buf(),
                });
            }
            return if create {
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
    pub fn database(&self, name: &'static str) -> Result<Table> {
        let shared = self.shared()?;
        shared
            .databases
            .tables
            .get(name)
            .copied()
            .ok_or_else(|| alien(&shared.path, "store", format!("it has no database {name}")))
    }

    /// The schema that the store was made with: at most the one that it was opened for.
    pub fn schema(&self) -> Result<u32> {
        Ok(self.shared()?.databases.schema)
    }

    /// Does one piece of reading in a transaction of its own.
    pub fn read<T>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&RoTxn<'_, AnyTls>, &Path) -> Result<T, Fault>,
    ) -> Result<T> {
        let shared = self.shared()?;
        shared.whole(doing)?;
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
        shared.whole(doing)?;
        let fail = |fault| shared.fault(doing, fault);
        let mut txn = shared.env.write_txn().map_err(|error| fail(error.into()))?;
        let done = work(&mut txn, &shared.path).map_err(fail)?;
        txn.commit().map_err(|error| fail(error.into()))?;
        Ok(done)
    }

    /// Looks over the file's pages once more, as it is done when a store is opened.
    pub fn check_pages(&self) -> Result<()> {
        let shared = self.shared()?;
        shared.whole("cannot read")?;
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
        let lock = reserve_lock_file(&folder.join("lock.mdb"))?;
        let mut choice = EnvOpenOptions::new().read_txn_without_tls();
        choice
            .map_size(options.map_size)
            .max_readers(MAX_READERS)
            .max_dbs(16);
        if !options.sync {
            // SAFETY: the caller has said that the store may be lost with the machine.
            unsafe { choice.flags(EnvFlags::NO_SYNC) };
        }
        // SAFETY: the folder is on a local disk and only LMDB changes its files; the registry opens it once.
        let env = match unsafe { choice.open(folder) } {
            // A run that someone else owns can still be read.
            // SAFETY: as above; reading changes nothing.
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
            databases::create(&env, path, kind, options)?
        } else {
            databases::open(&env, path, kind, options)?
        };
        let lock = lock.map(|file| {
            let length = file.metadata().map_or(0, |found| found.len());
            (file, length)
        });
        Ok(Self {
            env,
            path: path.to_path_buf(),
            databases,
            map_size: options.map_size,
            opened_by: process::id(),
            identity: identity(&data),
            length: AtomicU64::new(file_size(&data)),
            lock,
        })
    }

    /// Sees that nobody has cut the open files: a look at a page behind the end of one kills the process.
    fn whole(&self, doing: &'static str) -> Result<()> {
        // Read before the file is asked: what another thread sees after that may be more than this one is told.
        let least = self.length.load(Ordering::Acquire);
        let length = self
            .env
            .real_disk_size()
            .map_err(|error| self.fault(doing, error.into()))?;
        if length < least {
            return Err(Error::Torn {
                path: self.env.path().join("data.mdb"),
                why: format!("it was cut to {length} bytes while it was open"),
            });
        }
        self.length.fetch_max(length, Ordering::AcqRel);
        if let Some(length) = self.lock_cut_to() {
            return Err(Error::Torn {
                path: self.env.path().join("lock.mdb"),
                why: format!("it was cut to {length} bytes while it was open"),
            });
        }
        Ok(())
    }

    /// The bytes that are left of a lock file that somebody has cut.
    fn lock_cut_to(&self) -> Option<u64> {
        let (file, whole) = self.lock.as_ref()?;
        let length = file.metadata().ok()?.len();
        (length < *whole).then_some(length)
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

impl Drop for Shared {
    fn drop(&mut self) {
        // LMDB looks at its readers as it closes: what was cut off is put back, as no readers at all.
        if self.opened_by == process::id()
            && self.lock_cut_to().is_some()
            && let Some((file, whole)) = &self.lock
        {
            let _ = file.set_len(*whole);
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

/// Gives LMDB's lock file its disk space beforehand: written through a map on a full disk, it would kill the process.
/// Returns the file, of a run that someone else owns as far as it can be read.
fn reserve_lock_file(path: &Path) -> Result<Option<File>> {
    let fail = |error| Error::io(path, "cannot reserve", error);
    let file = match OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
    {
        Ok(file) => file,
        Err(error) if read_only(&error) => return Ok(File::open(path).ok()),
        Err(error) => return Err(fail(error)),
    };
    posix_fallocate(&file, 0, LOCK_BYTES).map_err(|error| fail(error.into()))?;
    Ok(Some(file))
}

fn file_size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |found| found.len())
}

/// Device and inode.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let found = fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

fn read_only(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
    )
}
