//! Lessons, and one way to ask for them: by words (BM25), by vectors (cosine), by both in one ranking.
//!
//! A store of its own beside the journal, in LMDB: any number of processes read and write it, one write at a time. A
//! write is one transaction with its postings and vectors, so that the next query sees all of a lesson or nothing.

mod block;
mod bm25;
mod bytes;
mod chains;
mod check;
mod codes;
mod columns;
mod coverage;
mod embedded;
mod filter;
mod lesson;
mod postings;
mod query;
mod ranking;
mod rotation;
mod scan;
mod search;
mod segments;
mod simd;
mod store;
mod succession;
mod totals;
mod vectors;
mod words;
mod writing;

pub use lesson::{Kind, Lesson, MAX_NAME, Standing};
pub use moevolve_store::{Error, MAP_SIZE, Options, Result};
pub use query::{Hit, Query, Weights};
pub use store::{MemoryStore, Statistics};
