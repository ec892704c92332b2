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

/// With so many allowed rows, cosines are first estimated by a part of the codes; tests write fewer.
const ROUGH: usize = if cfg!(test) { 1 << 13 } else { 1 << 18 };

/// Words of a code that such estimates read, at least: 256 bits.
const PART: usize = 4;

/// The cosines of allowed rows, or what estimates them.
pub enum Cosines<'t> {
    Exact(Vec<(u32, f32)>),
    Estimated(Estimates<'t>),
}

/// What estimates cosines: blocks of codes that hold allowed rows, by their numbers.
pub struct Estimates<'t> {
    blocks: Vec<(usize, Block<'t>)>,
    query: CodedQuery,
    /// The query by all words of codes, where `query` has a part.
    whole: Option<CodedQuery>,
}

impl<'t> Cosines<'t> {
    /// Of a query among the rows that are allowed.
    ///
    /// # Errors
    /// `Torn` with the database whose block does not fit.
    pub fn of(
        txn: &'t RoTxn<'_, AnyTls>,
        path: &Path,
        vectors: Vectors,
        query: &[f32],
        centre: &[f32],
        allowed: &Allowed,
    ) -> Work<Self> {
        if allowed.count <= EXACT {
            let mut cosines = Vec::with_capacity(allowed.count);
            exact(txn, path, vectors, query, allowed.rows(), |row, cosine| {
                cosines.push((row, cosine));
            })?;
            return Ok(Self::Exact(cosines));
        }
        let words = words_of(query.len());
        let mut blocks = Vec::new();
        // One walk over all blocks costs less than a search for each of many.
        let mut held = vectors.codes.iter(txn)?;
        let mut next = held.next().transpose()?;
        for (number, bits) in allowed.bits.chunks(codes::BLOCK / 64).enumerate() {
            if bits.iter().all(|word| *word == 0) {
                continue;
            }
            let key = row_key(number as u32);
            while next.is_some_and(|(other, _)| other < &key[..]) {
                next = held.next().transpose()?;
            }
            if let Some((_, value)) = next.filter(|(other, _)| *other == key) {
                let block = Block::read(value, words).ok_or_else(|| torn(path, "codes"))?;
                blocks.push((number, block));
            }
        }
        let part = if allowed.count < ROUGH {
            words
        } else {
            words.min(words.div_ceil(2).max(PART))
        };
        let coded = |words| CodedQuery::of(query, centre, words);
        Ok(Self::Estimated(Estimates {
            blocks,
            query: coded(part),
            whole: (part < words).then(|| coded(words)),
        }))
    }

    /// What estimates the cosines of ascending rows better than `write`, if anything does.
    pub fn closer(&self) -> Option<impl Fn(&[u32]) -> Vec<f32> + Sync> {
        let Self::Estimated(estimates) = self else {
            return None;
        };
        let whole = estimates.whole.as_ref()?;
        Some(move |rows: &[u32]| {
            let mut blocks = estimates.blocks.iter().peekable();
            let mut places = Vec::with_capacity(rows.len());
            for row in rows {
                let number = *row as usize / codes::BLOCK;
                while blocks.next_if(|(other, _)| *other < number).is_some() {}
                let block = blocks.peek().filter(|(other, _)| *other == number);
                places.push(block.map(|(_, block)| (block, *row as usize % codes::BLOCK)));
            }
            let mut cosines = Vec::with_capacity(rows.len());
            simd::estimate_rows(&places, whole, &mut cosines);
            cosines
        })
    }

    /// Writes the cosines of the allowed rows from `first` on, the first of a block, as many as `out` has room for: negative
    /// infinity where a row has no vector.
    pub fn write(&self, first: usize, out: &mut [f32]) {
        match self {
            Self::Exact(cosines) => {
                let begin = cosines.partition_point(|(row, _)| (*row as usize) < first);
                for (row, cosine) in &cosines[begin..] {
                    let Some(out) = out.get_mut(*row as usize - first) else {
                        break;
                    };
                    *out = *cosine;
                }
            }
            Self::Estimated(Estimates { blocks, query, .. }) => {
                let (out, _) = out.as_chunks_mut();
                let first = first / codes::BLOCK;
                let begin = blocks.partition_point(|(number, _)| *number < first);
                let mut blocks = blocks[begin..].iter().peekable();
                for (number, out) in out.iter_mut().enumerate() {
                    match blocks.next_if(|(other, _)| *other == first + number) {
                        Some((_, block)) => {
                            let next = blocks.peek().map_or(block, |(_, next)| next);
                            simd::estimate(block, next, query, out);
                        }
                        None => out.fill(f32::NEG_INFINITY),
                    }
                }
            }
        }
    }
}

/// Calls `each` with the exact cosine of ascending rows, negative infinity where a row has no vector; errors as of
/// `Cosines::of`.
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

#[cfg(test)]
mod tests {
    use moevolve_store::Options;
    use tempfile::tempdir;

    use super::ROUGH;
    use crate::{Lesson, MemoryStore, Query};

    /// Numbers between -1 and 1 that look random.
    fn direction(seed: u64) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        (0..384).map(|_| next()).collect()
    }

    #[test]
    fn what_a_part_of_the_codes_ranks_first_is_what_an_exact_scan_does() {
        let folder = tempdir().unwrap();
        let memory = MemoryStore::ensure(folder.path(), Options::new(4)).unwrap();
        let vector = |row: u64| -> Vec<f32> {
            let topic = direction(1_000_000 + row % 40);
            direction(row)
                .iter()
                .zip(topic)
                .map(|(x, t)| x + 0.7 * t)
                .collect()
        };
        let count = ROUGH as u64 + 700;
        for first in (0..count).step_by(1000) {
            let rows = first..count.min(first + 1000);
            let lessons: Vec<Lesson> = rows
                .map(|row| Lesson {
                    id: format!("{row:05}"),
                    skill: "s".to_owned(),
                    run: "r".to_owned(),
                    text: format!("number{} of many", row % 3000),
                    // One in eight has none.
                    vector: (row % 8 != 5).then(|| vector(row)),
                    ..Lesson::default()
                })
                .collect();
            memory.put(&lessons).unwrap();
        }
        let unit = |vector: Vec<f32>| {
            let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
            vector.into_iter().map(|x| x / norm).collect::<Vec<f32>>()
        };
        let all: Vec<(u64, Vec<f32>)> = (0..count)
            .filter(|row| row % 8 != 5)
            .map(|row| (row, unit(vector(row))))
            .collect();
        let mut shared = 0;
        for asked in 0..10 {
            let query = unit(vector(2_000_000 + asked));
            let mut exact: Vec<(f32, u64)> = all
                .iter()
                .map(|(row, v)| (v.iter().zip(&query).map(|(x, q)| x * q).sum(), *row))
                .collect();
            exact.sort_by(|a, b| b.0.total_cmp(&a.0));
            let query = Query {
                vector: Some(&query),
                k: 10,
                ..Query::default()
            };
            let hits = memory.search(&query).unwrap();
            let of = |row: &u64| hits.iter().any(|hit| hit.id == format!("{row:05}"));
            shared += exact[..10].iter().filter(|(_, row)| of(row)).count();
        }
        assert!(shared >= 98, "recall {shared} of 100");
        // In both rankings first, and found by either alone: its own vector, and words of three lessons.
        let own = vector(4001);
        for (text, vector) in [(None, Some(&own[..])), (Some("number1001"), Some(&own[..]))] {
            let hits = memory.search(&Query {
                text,
                vector,
                k: 3,
                ..Query::default()
            });
            assert_eq!(hits.unwrap()[0].id, "04001");
        }
    }
}
