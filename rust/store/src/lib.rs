//! The store of a run: an append-only hash-chained journal, tables, and blobs by content hash, in LMDB.
//!
//! One process writes; any number of others read at the same time, come and go, and neither block nor break the writer.
//! What a commit has acknowledged survives `kill -9` and, the disk permitting, a power cut. Memory is a store of its
//! own, which several processes may write, in the crate `moevolve-memory`.

mod blobs;
mod databases;
mod env;
mod error;
mod journal;
mod lock;
mod pages;
mod run;
mod state;
mod tables;

pub use databases::Options;
pub use env::{MAP_SIZE, MAX_READERS};
pub use error::{Error, Limit, Result};
pub use journal::{Entry, GENESIS, Hash, NewEntry, link};
pub use run::{Batch, RunStore};
pub use state::MAX_STATE;
pub use tables::{MAX_KEY, Put, Scan};

/// LMDB environments for stores of other crates.
pub mod environment {
    pub use crate::databases::{Kind, Table};
    pub use crate::env::Env;
    pub use crate::error::Fault;
}
