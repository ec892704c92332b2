//! Tables: values by (table, key), beside the journal and outside its chain.
//!
//! All tables share one database; a key there is the table's name, a zero byte, and the key's UTF-8.

use heed::types::Bytes;
use heed::{AnyTls, Database, RoTxn, RwTxn};

use crate::error::{Error, Result};

/// LMDB's limit on a key, in bytes.
pub const MAX_KEY: usize = 511;

/// One change of a table: a new value, or None to delete the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    pub table: String,
    pub key: String,
    pub value: Option<Vec<u8>>,
}

/// Which rows a scan returns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scan<'a> {
    /// Only keys that start with this.
    pub prefix: &'a str,
    /// From the last key backwards.
    pub reverse: bool,
    /// At most so many rows.
    pub limit: Option<usize>,
}

/// The database that holds all tables.
#[derive(Clone, Copy)]
pub(crate) struct Tables {
    pub rows: Database<'static, Bytes, Bytes>,
}

impl Tables {
    pub fn get(&self, txn: &RoTxn<'_, AnyTls>, key: &[u8]) -> heed::Result<Option<Vec<u8>>> {
        Ok(self.rows.get(txn, key)?.map(<[u8]>::to_vec))
    }

    pub fn put(&self, txn: &mut RwTxn<'_>, key: &[u8], value: Option<&[u8]>) -> heed::Result<()> {
        match value {
            Some(value) => self.rows.put(txn, key, value),
            None => self.rows.delete(txn, key).map(drop),
        }
    }

    /// Rows whose encoded key starts with `prefix`; the first `skip` bytes of each key are the table's.
    pub fn scan(
        &self,
        txn: &RoTxn<'_, AnyTls>,
        prefix: &[u8],
        skip: usize,
        scan: Scan<'_>,
    ) -> heed::Result<Vec<(String, Vec<u8>)>> {
        let limit = scan.limit.unwrap_or(usize::MAX);
        let row = |item: heed::Result<(&[u8], &[u8])>| {
            let (key, value) = item?;
            // Keys are written from `str` only, and a prefix that is whole UTF-8 leaves the rest whole.
            let name = String::from_utf8_lossy(&key[skip..]).into_owned();
            Ok((name, value.to_vec()))
        };
        if scan.reverse {
            self.rows
                .rev_prefix_iter(txn, prefix)?
                .take(limit)
                .map(row)
                .collect()
        } else {
            self.rows
                .prefix_iter(txn, prefix)?
                .take(limit)
                .map(row)
                .collect()
        }
    }
}

/// The key of a row, after a check of both names.
pub(crate) fn row_key(table: &str, key: &str) -> Result<Vec<u8>> {
    let refuse = |what, name: &str, why: &str| {
        Err(Error::Name {
            what,
            name: name.to_owned(),
            why: why.to_owned(),
        })
    };
    if table.is_empty() || table.contains('\0') {
        return refuse("table name", table, "it is empty or holds a zero byte");
    }
    if table.len() + 1 + key.len() > MAX_KEY {
        return refuse(
            "table key",
            key,
            "with its table's name it is longer than 510 bytes",
        );
    }
    Ok([table.as_bytes(), b"\0", key.as_bytes()].concat())
}
