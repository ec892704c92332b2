//! Which databases an environment has, and what it says of itself: its kind and the version of its schema.
//!
//! The database `meta` keeps both from the first commit on, so that every later version can tell what it has before it.

use std::collections::HashMap;
use std::path::Path;

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, DatabaseOpener, RoTxn, WithoutTls};

use crate::env::MAP_SIZE;
use crate::error::{Error, Result};

const META: &str = "meta";
const KIND: &[u8] = b"kind";
const SCHEMA: &[u8] = b"schema";

/// A database of plain bytes, usable in every transaction of its environment.
pub type Table = Database<'static, Bytes, Bytes>;

/// What a folder is expected to hold.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
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
    /// Whether a commit waits until it is on the disk. Without, a killed process loses nothing, but a machine that stops may
    /// leave a store that cannot be read.
    pub sync: bool,
}

impl Options {
    /// The usual map size; commits wait for the disk.
    #[must_use]
    pub fn new(schema: u32) -> Self {
        Self {
            schema,
            map_size: MAP_SIZE,
            sync: true,
        }
    }
}

/// The databases of an open environment.
pub(crate) struct Databases {
    pub tables: HashMap<&'static str, Table>,
    /// The schema that the store was made with.
    pub schema: u32,
}

impl Databases {
    fn of(kind: Kind, (tables, schema): (Vec<Table>, u32)) -> Self {
        let tables = kind.databases.iter().copied().zip(tables).collect();
        Self { tables, schema }
    }
}

/// Makes the databases and says what they are, in one transaction: a store exists whole or not at all.
pub(crate) fn create(
    env: &heed::Env<WithoutTls>,
    path: &Path,
    kind: Kind,
    options: Options,
) -> Result<Databases> {
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
            Ok(CommitOrAbort::Commit(Several(databases, options.schema)))
        })
        .map_err(fail)?;
    match made {
        CommitOrAbort::Commit(made) => Ok(Databases::of(kind, made)),
        CommitOrAbort::Abort(()) => Err(exists(path, kind)),
    }
}

/// Opens the databases after a look at what the store says it is.
pub(crate) fn open(
    env: &heed::Env<WithoutTls>,
    path: &Path,
    kind: Kind,
    options: Options,
) -> Result<Databases> {
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
            let schema = match recognise(
                meta.get(txn, KIND)?,
                meta.get(txn, SCHEMA)?,
                path,
                kind,
                options,
            ) {
                Ok(schema) => schema,
                Err(refused) => return Ok(CommitOrAbort::Abort(refused)),
            };
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
            Ok(CommitOrAbort::Commit(Several(databases, schema)))
        })
        .map_err(fail)?;
    match opened {
        CommitOrAbort::Commit(opened) => Ok(Databases::of(kind, opened)),
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
) -> Result<u32> {
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
    Ok(found)
}

/// Databases whose number is known at run time only, and the schema beside them.
struct Several<'e>(Vec<Database<'e, Bytes, Bytes>>, u32);

impl heed::OnCommit for Several<'_> {
    type Committed = (Vec<Table>, u32);

    fn on_commit(self, token: &heed::CommitToken) -> Self::Committed {
        let tables = self.0.into_iter();
        let tables = tables.map(|database| database.on_commit(token)).collect();
        (tables, self.1)
    }
}

pub(crate) fn exists(path: &Path, kind: Kind) -> Error {
    Error::Exists {
        path: path.to_path_buf(),
        what: kind.name,
    }
}

pub(crate) fn alien(path: &Path, what: &'static str, why: String) -> Error {
    Error::Alien {
        path: path.to_path_buf(),
        what,
        why,
    }
}
