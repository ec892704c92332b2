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

/// Rows that are worth a second thread.
const SPLIT: usize = 1 << 18;

/// The codes of as many rows as a block has, and where their estimates go.
type Part<'a, 'o> = (Block<'a>, &'o mut [f32; codes::BLOCK]);

/// Writes the cosine of every allowed row, negative infinity where a row has no vector; other rows are left as they are
/// or get a number too.
///
/// # Errors
/// `Torn` with the database whose block does not fit.
pub fn cosines(
    txn: &RoTxn<'_, AnyTls>,
    path: &Path,
    vectors: Vectors,
    query: &[f32],
    centre: &[f32],
    allowed: &Allowed,
    out: &mut [f32],
) -> Work<()> {
    if allowed.count <= EXACT {
        return exact(txn, path, vectors, query, allowed.rows(), |row, cosine| {
            out[row as usize] = cosine;
        });
    }
    let words = words_of(query.len());
    let coded = CodedQuery::of(query, centre);
    let mut parts: Vec<Part<'_, '_>> = Vec::new();
    let (chunks, _) = out.as_chunks_mut();
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
        parts.push((block, out));
    }
    let estimate = |parts: &mut [Part<'_, '_>]| {
        for (block, out) in parts {
            simd::estimate(block, &coded, out);
        }
    };
    if allowed.bits.len() * 64 >= SPLIT {
        let middle = parts.len() / 2;
        let (left, right) = parts.split_at_mut(middle);
        std::thread::scope(|scope| {
            scope.spawn(|| estimate(right));
            estimate(left);
        });
    } else {
        estimate(&mut parts);
    }
    Ok(())
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
