//! Cosines of all allowed rows: exact where they are few; above that, estimates from codes.

use std::path::Path;

use heed::{AnyTls, RoTxn};

use crate::bytes::row_key;
use crate::codes::{self, Block, CodedQuery, words_of};
use crate::filter::Allowed;
use crate::simd;
use crate::store::{Work, torn};
use crate::vectors::{BLOCK, Vectors};

/// With so many allowed rows every product is computed.
const EXACT: usize = 4096;

/// Rows whose cosines are estimated: a query, and the blocks of codes that hold allowed rows, by their numbers.
pub struct Estimates<'t> {
    query: CodedQuery,
    blocks: Vec<(usize, Block<'t>)>,
}

impl Estimates<'_> {
    /// Writes the cosines of the rows from `first` on, the first of a block, as many as `out` has room for.
    pub fn write(&self, first: usize, out: &mut [f32]) {
        let (out, _) = out.as_chunks_mut();
        let first = first / codes::BLOCK;
        let begin = self.blocks.partition_point(|(number, _)| *number < first);
        for (number, block) in &self.blocks[begin..] {
            let Some(out) = out.get_mut(number - first) else {
                break;
            };
            simd::estimate(block, &self.query, out);
        }
    }
}

/// Writes the cosine of every allowed row, negative infinity where a row has no vector, or returns what estimates the rest
/// of them; other rows are left as they are or get a number too.
///
/// # Errors
/// `Torn` with the database whose block does not fit.
pub fn cosines<'t>(
    txn: &'t RoTxn<'_, AnyTls>,
    path: &Path,
    vectors: Vectors,
    query: &[f32],
    centre: &[f32],
    allowed: &Allowed,
    out: &mut [f32],
) -> Work<Option<Estimates<'t>>> {
    if allowed.count <= EXACT {
        exact(txn, path, vectors, query, allowed.rows(), |row, cosine| {
            out[row as usize] = cosine;
        })?;
        return Ok(None);
    }
    let words = words_of(query.len());
    let mut blocks = Vec::new();
    let (chunks, _) = out.as_chunks_mut::<{ codes::BLOCK }>();
    let wanted = allowed.bits.chunks(codes::BLOCK / 64).zip(chunks);
    for (number, (bits, out)) in wanted.enumerate() {
        if bits.iter().all(|word| *word == 0) {
            continue;
        }
        let Some(value) = vectors.codes.get(txn, &row_key(number as u32))? else {
            out.fill(f32::NEG_INFINITY);
            continue;
        };
        let block = Block::read(value, words).ok_or_else(|| torn(path, "codes"))?;
        blocks.push((number, block));
    }
    let query = CodedQuery::of(query, centre);
    Ok(Some(Estimates { query, blocks }))
}

/// Calls `each` with the exact cosine of ascending rows, negative infinity where a row has no vector; errors as of
/// `cosines`.
pub fn exact(
    txn: &RoTxn<'_, AnyTls>,
    path: &Path,
    vectors: Vectors,
    query: &[f32],
    rows: impl Iterator<Item = u32>,
    mut each: impl FnMut(u32, f32),
) -> Work<()> {
    let bytes = 2 * query.len();
    let (mut number, mut block): (u32, &[u8]) = (u32::MAX, &[]);
    for row in rows {
        if row / BLOCK as u32 != number {
            number = row / BLOCK as u32;
            block = vectors.vectors.get(txn, &row_key(number))?.unwrap_or(&[]);
            if !block.is_empty() && block.len() != BLOCK * bytes {
                return Err(torn(path, "vectors").into());
            }
        }
        let at = row as usize % BLOCK * bytes;
        // A row without a vector is all zeros.
        let stored = block.get(at..at + bytes);
        let stored = stored.filter(|stored| stored.iter().any(|byte| *byte != 0));
        let cosine = stored.map(|stored| simd::product(query, stored));
        each(row, cosine.unwrap_or(f32::NEG_INFINITY));
    }
    Ok(())
}
