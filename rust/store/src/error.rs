//! What can go wrong with a store, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

/// The result of a store's operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why no space is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// The disk, a quota, or the process's file-size limit.
    Disk,
    /// The size in bytes that the store's map was opened with.
    Map(usize),
}

/// Everything that a store refuses or fails at. Messages name the file and, where there is one, the way out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{} holds no {what}: {why}", path.display())]
    Absent {
        path: PathBuf,
        what: &'static str,
        why: String,
    },
    #[error("{} already holds a {what}: resume it, or choose another folder", path.display())]
    Exists { path: PathBuf, what: &'static str },
    #[error("{} is being written by {}: wait for it or stop it, then try again", path.display(), process(*pid))]
    Busy { path: PathBuf, pid: Option<u32> },
    #[error(
        "{} has schema {found}, and this version of Moevolve knows schemas up to {supported}: \
         open it with a newer Moevolve (pip install --upgrade moevolve); the folder was left as it is",
        path.display()
    )]
    Schema {
        path: PathBuf,
        found: u32,
        supported: u32,
    },
    #[error("{} is an LMDB file but no {what} of Moevolve: {why}", path.display())]
    Alien {
        path: PathBuf,
        what: &'static str,
        why: String,
    },
    #[error(
        "{} is damaged: {why}; restore the folder from a copy, or remove it and start again",
        path.display()
    )]
    Torn { path: PathBuf, why: String },
    #[error("the journal of {} is broken at entry {seq}: {why}", path.display())]
    Broken {
        path: PathBuf,
        seq: u64,
        why: String,
    },
    #[error("{}: {}; everything committed before is intact and readable", path.display(), advice(*limit))]
    Full { path: PathBuf, limit: Limit },
    #[error("{} is open for reading only: open it for writing first", path.display())]
    ReadOnly { path: PathBuf },
    #[error(
        "{} was opened in process {opened} and cannot be used in its fork {now}: open it anew in a spawned process",
        path.display()
    )]
    Forked {
        path: PathBuf,
        opened: u32,
        now: u32,
    },
    #[error(
        "{} was removed and made again while this process had it open: close what is open of it first",
        path.display()
    )]
    Replaced { path: PathBuf },
    #[error("no blob {hash} in {}", path.display())]
    NoBlob { path: PathBuf, hash: String },
    #[error("{what} {name:?} cannot be used: {why}")]
    Name {
        what: &'static str,
        name: String,
        why: String,
    },
    #[error(
        "{}: this process may not reserve {} MiB of address space (`ulimit -v`): raise the limit, or open it with a \
         smaller map size",
        path.display(),
        map_size >> 20
    )]
    AddressSpace { path: PathBuf, map_size: usize },
    #[error("{} has too many readers at once (512): close some, then try again", path.display())]
    Readers { path: PathBuf },
    #[error("{doing} {}: {source}", path.display())]
    Io {
        path: PathBuf,
        doing: &'static str,
        source: io::Error,
    },
    #[error("{doing} {}: {source}", path.display())]
    Lmdb {
        path: PathBuf,
        doing: &'static str,
        source: heed::Error,
    },
}

/// What a piece of work inside a transaction fails with, before the environment adds its path.
#[derive(Debug)]
pub enum Fault {
    Lmdb(heed::Error),
    Store(Error),
}

impl From<heed::Error> for Fault {
    fn from(error: heed::Error) -> Self {
        Self::Lmdb(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl Error {
    /// Sorts an error of the operating system: no space left is a kind of its own.
    pub(crate) fn io(path: &Path, doing: &'static str, source: io::Error) -> Self {
        let path = path.to_path_buf();
        // EFBIG is RLIMIT_FSIZE, where SIGXFSZ is ignored as in Python.
        let full = [nix::libc::ENOSPC, nix::libc::EDQUOT, nix::libc::EFBIG];
        if source
            .raw_os_error()
            .is_some_and(|code| full.contains(&code))
        {
            return Self::Full {
                path,
                limit: Limit::Disk,
            };
        }
        Self::Io {
            path,
            doing,
            source,
        }
    }

    /// Sorts an error of LMDB; `map_size` is what the environment was opened with.
    pub(crate) fn lmdb(
        path: &Path,
        doing: &'static str,
        map_size: usize,
        source: heed::Error,
    ) -> Self {
        use heed::MdbError as Mdb;
        let torn = |why: &str| Self::Torn {
            path: path.to_path_buf(),
            why: why.to_owned(),
        };
        match source {
            heed::Error::Io(source) if source.raw_os_error() == Some(nix::libc::ENOMEM) => {
                Self::AddressSpace {
                    path: path.to_path_buf(),
                    map_size,
                }
            }
            heed::Error::Io(source) => Self::io(path, doing, source),
            heed::Error::Mdb(Mdb::MapFull) => Self::Full {
                path: path.to_path_buf(),
                limit: Limit::Map(map_size),
            },
            heed::Error::Mdb(Mdb::ReadersFull) => Self::Readers {
                path: path.to_path_buf(),
            },
            heed::Error::Mdb(Mdb::Invalid) => torn("it is not an LMDB file"),
            heed::Error::Mdb(Mdb::VersionMismatch) => {
                torn("another version of LMDB wrote it or has it open")
            }
            heed::Error::Mdb(Mdb::Corrupted) => torn("a page is of the wrong kind"),
            heed::Error::Mdb(Mdb::PageNotFound) => torn("a page is missing"),
            source => Self::Lmdb {
                path: path.to_path_buf(),
                doing,
                source,
            },
        }
    }
}

fn process(pid: Option<u32>) -> String {
    pid.map_or_else(
        || "another process".to_owned(),
        |pid| format!("process {pid}"),
    )
}

fn advice(limit: Limit) -> String {
    match limit {
        Limit::Disk => "no space left on its disk (or quota): free some, then resume".to_owned(),
        Limit::Map(size) => format!(
            "the {} MiB it was opened with are used up: open it with a larger map size, then resume",
            size >> 20
        ),
    }
}
