//! Ranking by vectors: exact where few rows are allowed; above that, estimates from codes choose what is computed exactly.

use heed::{AnyTls, RoTxn};

use crate::bytes::row_key;
use crate::codes::{self, Block, CodedQuery, words_of};
use crate::filter::Allowed;
use crate::query::Best;
use crate::simd;
use crate::vectors::{BLOCK, Vectors};

/// With so many allowed rows every product is computed.
const EXACT: usize = 4096;

/// Estimates from which the exact products are computed, for each row wanted, and at least.
const CANDIDATES: (usize, usize) = (8, 256);

/// Rows that are worth a second thread.
const SPLIT: usize = 1 << 18;

/// The best rows by cosine; None if a block is torn.
pub fn rank(
    txn: &RoTxn<'_, AnyTls>,
    vectors: Vectors,
    query: &[f32],
    centre: &[f32],
    allowed: &Allowed,
    limit: usize,
) -> heed::Result<Option<Vec<(f32, u32)>>> {
    if allowed.count <= EXACT {
        return exact(txn, vectors, query, allowed.rows(), limit);
    }
    let words = words_of(query.len());
    let coded = CodedQuery::of(query, centre);
    let mut blocks = Vec::new();
    for (number, bits) in allowed.bits.chunks(codes::BLOCK / 64).enumerate() {
        if bits.iter().all(|word| *word == 0) {
            continue;
        }
        let Some(value) = vectors.codes.get(txn, &row_key(number as u32))? else {
            continue;
        };
        let Some(block) = Block::read(value, words) else {
            return Ok(None);
        };
        blocks.push((number, bits, block));
    }
    let wanted = (limit * CANDIDATES.0).max(CANDIDATES.1);
    let scan = |part: &[(usize, &[u64], Block<'_>)]| {
        let mut best = Best::new(wanted);
        let mut estimates = [0.0; codes::BLOCK];
        for (number, bits, block) in part {
            simd::estimate(block, &coded, &mut estimates);
            for (index, (chunk, &bits)) in estimates.chunks_exact(64).zip(*bits).enumerate() {
                let floor = best.floor;
                if !chunk
                    .iter()
                    .fold(false, |any, value| any | (*value > floor))
                {
                    continue;
                }
                for (lane, &value) in chunk.iter().enumerate() {
                    if value > best.floor && bits >> lane & 1 == 1 {
                        best.push(value, (number * codes::BLOCK + index * 64 + lane) as u32);
                    }
                }
            }
        }
        best.sorted()
    };
    let mut chosen = if allowed.bits.len() * 64 >= SPLIT {
        let (left, right) = blocks.split_at(blocks.len() / 2);
        let (mut a, b) = std::thread::scope(|scope| {
            let other = scope.spawn(|| scan(right));
            let own = scan(left);
            (
                own,
                other
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            )
        });
        a.extend(b);
        a.sort_unstable_by(|x, y| y.0.total_cmp(&x.0).then(x.1.cmp(&y.1)));
        a.truncate(wanted);
        a
    } else {
        scan(&blocks)
    };
    chosen.sort_unstable_by_key(|(_, row)| *row);
    exact(
        txn,
        vectors,
        query,
        chosen.into_iter().map(|(_, row)| row),
        limit,
    )
}

fn exact(
    txn: &RoTxn<'_, AnyTls>,
    vectors: Vectors,
    query: &[f32],
    rows: impl Iterator<Item = u32>,
    limit: usize,
) -> heed::Result<Option<Vec<(f32, u32)>>> {
    let mut best = Best::new(limit);
    let bytes = 2 * query.len();
    let (mut number, mut block): (u32, &[u8]) = (u32::MAX, &[]);
    for row in rows {
        if row / BLOCK as u32 != number {
            number = row / BLOCK as u32;
            let value = vectors.vectors.get(txn, &row_key(number))?;
            block = value
                .filter(|value| value.len() == BLOCK * bytes)
                .unwrap_or(&[]);
        }
        let at = row as usize % BLOCK * bytes;
        if let Some(stored) = block.get(at..at + bytes) {
            let cosine = simd::product(query, stored);
            // A row without a vector is all zeros.
            if cosine != 0.0 {
                best.push(cosine, row);
            }
        }
    }
    Ok(Some(best.sorted()))
}
