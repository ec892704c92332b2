//! Blobs: bytes by their BLAKE3 hash. The same bytes are stored once, and what is read is checked against its name.

use std::path::Path;

use heed::types::Bytes;
use heed::{AnyTls, Database, PutFlags, RoTxn, RwTxn};

use crate::error::{Error, Fault, Result};
use crate::journal::Hash;

/// The blobs' database.
#[derive(Clone, Copy)]
pub(crate) struct Blobs {
    pub bytes: Database<'static, Bytes, Bytes>,
}

impl Blobs {
    /// Stores `data` under its hash, unless it is there already.
    pub fn put(&self, txn: &mut RwTxn<'_>, data: &[u8]) -> heed::Result<Hash> {
        let hash = blake3::hash(data);
        match self
            .bytes
            .put_with_flags(txn, PutFlags::NO_OVERWRITE, hash.as_bytes(), data)
        {
            Ok(()) | Err(heed::Error::Mdb(heed::MdbError::KeyExist)) => Ok(hash),
            Err(error) => Err(error),
        }
    }

    /// The bytes of `hash`.
    pub fn get(&self, txn: &RoTxn<'_, AnyTls>, path: &Path, hash: &Hash) -> Result<Vec<u8>, Fault> {
        let Some(found) = self.bytes.get(txn, hash.as_bytes())? else {
            return Err(Fault::Store(Error::NoBlob {
                path: path.to_path_buf(),
                hash: hash.to_string(),
            }));
        };
        if blake3::hash(found) != *hash {
            return Err(Fault::Store(Error::Torn {
                path: path.to_path_buf(),
                why: format!("the bytes of blob {hash} have another hash"),
            }));
        }
        Ok(found.to_vec())
    }
}

/// The hash that a text names.
pub(crate) fn parse(text: &str) -> Result<Hash> {
    Hash::from_hex(text).map_err(|why| Error::Name {
        what: "blob hash",
        name: text.to_owned(),
        why: why.to_string(),
    })
}
