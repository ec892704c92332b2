//! The journal: append-only entries, each bound to all before it by a hash chain.
//!
//! `hash(i) = blake3(hash(i-1) || i as u64 little-endian || body(i))`, with 32 zero bytes before the first entry.
//! What was measured by a clock is stored beside the body and is not hashed. An entry's value in the database is
//! `hash (32) || length of timing (u32 little-endian) || timing || body`, its key the sequence number, big-endian.

use std::ops::Range;
use std::path::Path;

use heed::byteorder::BigEndian;
use heed::types::{Bytes, U64};
use heed::{AnyTls, Database, PutFlags, RoTxn, RwTxn};

use crate::error::{Error, Fault, Result};

/// A link of the chain.
pub type Hash = blake3::Hash;

/// Head of an empty journal.
pub const GENESIS: Hash = Hash::from_bytes([0; 32]);

/// Entries whose hashes are checked within one read transaction.
pub(crate) const STRIDE: usize = 4096;

/// Entries read at once from which on their pages are let go of: who reads so many goes through the journal.
const LONG: usize = 1024;

/// What a writer appends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEntry {
    pub body: Vec<u8>,
    pub timing: Vec<u8>,
}

/// One entry as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub seq: u64,
    pub hash: Hash,
    pub body: Vec<u8>,
    pub timing: Vec<u8>,
}

/// The link that follows `before`.
pub fn link(before: &Hash, seq: u64, body: &[u8]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(before.as_bytes());
    hasher.update(&seq.to_le_bytes());
    hasher.update(body);
    hasher.finalize()
}

/// The journal's database.
#[derive(Clone, Copy)]
pub(crate) struct Journal {
    pub entries: Database<'static, U64<BigEndian>, Bytes>,
}

/// The parts of a stored value, or None if it is too short to have them.
struct Stored<'a> {
    hash: Hash,
    timing: &'a [u8],
    body: &'a [u8],
}

impl<'a> Stored<'a> {
    fn split(value: &'a [u8]) -> Option<Self> {
        let (hash, rest) = value.split_first_chunk::<32>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (timing, body) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        Some(Self {
            hash: Hash::from_bytes(*hash),
            timing,
            body,
        })
    }
}

impl Journal {
    /// Sequence number of the next entry, and the head that it follows.
    pub fn end(&self, txn: &RoTxn<'_, AnyTls>, path: &Path) -> Result<(u64, Hash), Fault> {
        match self.entries.last(txn)? {
            None => Ok((0, GENESIS)),
            Some((seq, value)) => match Stored::split(value) {
                Some(stored) => Ok((seq + 1, stored.hash)),
                None => Err(cut(path, seq).into()),
            },
        }
    }

    /// Appends entries; returns the new head.
    pub fn append(
        &self,
        txn: &mut RwTxn<'_>,
        path: &Path,
        fresh: &[NewEntry],
    ) -> Result<Hash, Fault> {
        let (mut seq, mut head) = self.end(txn, path)?;
        let mut value = Vec::new();
        for entry in fresh {
            head = link(&head, seq, &entry.body);
            value.clear();
            value.extend_from_slice(head.as_bytes());
            // A timing is a few dozen bytes; the writer's side bounds it.
            value.extend_from_slice(&(entry.timing.len() as u32).to_le_bytes());
            value.extend_from_slice(&entry.timing);
            value.extend_from_slice(&entry.body);
            self.entries
                .put_with_flags(txn, PutFlags::APPEND, &seq, &value)?;
            seq += 1;
        }
        Ok(head)
    }

    /// At most `limit` entries from `start` on.
    pub fn read(
        &self,
        txn: &RoTxn<'_, AnyTls>,
        path: &Path,
        start: u64,
        limit: usize,
    ) -> Result<Vec<Entry>, Fault> {
        let mut found = Vec::new();
        let mut read = std::ptr::null()..std::ptr::null();
        for item in self.entries.range(txn, &(start..))?.take(limit) {
            let (seq, value) = item?;
            let Some(stored) = Stored::split(value) else {
                return Err(cut(path, seq).into());
            };
            if found.is_empty() {
                read = value.as_ptr_range();
            }
            read.start = read.start.min(value.as_ptr());
            read.end = read.end.max(value.as_ptr_range().end);
            found.push(Entry {
                seq,
                hash: stored.hash,
                body: stored.body.to_vec(),
                timing: stored.timing.to_vec(),
            });
        }
        if found.len() >= LONG {
            release(read);
        }
        Ok(found)
    }

    /// Recomputes the chain over at most `STRIDE` entries; returns where to go on, or None at the end.
    pub fn check(
        &self,
        txn: &RoTxn<'_, AnyTls>,
        path: &Path,
        from: u64,
        before: Hash,
    ) -> Result<Checked, Fault> {
        let broken = |seq, why: String| {
            Err(Fault::Store(Error::Broken {
                path: path.to_path_buf(),
                seq,
                why,
            }))
        };
        let (mut next, mut head) = (from, before);
        for item in self.entries.range(txn, &(from..))?.take(STRIDE) {
            let (seq, value) = item?;
            if seq != next {
                return broken(next, "it is missing".to_owned());
            }
            let Some(stored) = Stored::split(value) else {
                return Err(cut(path, seq).into());
            };
            head = link(&head, seq, stored.body);
            if head != stored.hash {
                return broken(
                    seq,
                    format!(
                        "its hash is {} on file and {} recomputed",
                        stored.hash, head
                    ),
                );
            }
            next += 1;
        }
        Ok(Checked {
            next,
            head,
            more: next - from == STRIDE as u64,
        })
    }
}

/// Takes the pages between two places of the map out of this process's memory. They stay in the system's cache, and
/// a later read maps them again; so a reader's memory does not grow with the journal.
fn release(read: Range<*const u8>) {
    const PAGE: usize = 4096;
    let start = (read.start as usize).next_multiple_of(PAGE);
    let length = (read.end as usize).saturating_sub(start) / PAGE * PAGE;
    if length > 0 {
        // SAFETY: both ends lie in LMDB's map, which is shared, of a file and never written through: dropping its
        // pages changes no byte that anybody reads. Where it fails, nothing but memory is lost.
        let _ = unsafe { nix::libc::madvise(start as *mut _, length, nix::libc::MADV_DONTNEED) };
    }
}

/// How far a check of the chain has come.
pub(crate) struct Checked {
    pub next: u64,
    pub head: Hash,
    pub more: bool,
}

fn cut(path: &Path, seq: u64) -> Error {
    Error::Broken {
        path: path.to_path_buf(),
        seq,
        why: "its value is cut short".to_owned(),
    }
}
