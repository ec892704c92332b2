//! The one query: filters, both rankings, one order, confidence.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use heed::{AnyTls, RoTxn};
use moevolve_store::Result;

use crate::bm25::Words;
use crate::bytes::{row_key, row_of};
use crate::columns::NONE;
use crate::coverage::Asked;
use crate::filter::{Allowed, Filter};
use crate::lesson::{Record, check_vector};
use crate::query::{Hit, Query};
use crate::store::{CENTRE, MemoryStore, SUM, Work, dimensions, name_error, symbol_key, torn};
use crate::vectors::unit;
use crate::{scan, simd, words};

/// Rows that each ranking hands to the fused one, for each lesson wanted, and at least.
const POOL: (usize, usize) = (8, 256);

impl MemoryStore {
    /// The lessons that answer a query, best first; of equals the smaller id.
    ///
    /// A lesson that another supersedes is not among them, unless the other does not hold at the query's cycle.
    ///
    /// # Errors
    /// `Name` for a vector of other dimensions than the store's.
    pub fn search(&self, query: &Query<'_>) -> Result<Vec<Hit>> {
        if let Some(vector) = query.vector {
            check_vector(vector).map_err(|why| name_error("the vector of", "the query", why))?;
        }
        self.read(|txn, path| {
            let totals = self.totals_of(txn, path)?;
            let Some(filter) = self.filter(txn, query)? else {
                return Ok(Vec::new());
            };
            let allowed = self.allowed(txn, filter, totals.rows)?;
            if allowed.count == 0 || query.k == 0 {
                return Ok(Vec::new());
            }
            let pool = query
                .k
                .saturating_mul(POOL.0)
                .max(POOL.1)
                .min(allowed.count);
            let vector = query.vector.filter(|_| totals.vectors > 0).map(unit);
            let (mut mean, mut nearest) = (0.0, Vec::new());
            if let Some(vector) = &vector {
                if vector.len() != totals.dimensions as usize {
                    return Err(dimensions("of the query", vector.len(), totals.dimensions).into());
                }
                let sum = self.floats_of(txn, SUM, vector.len())?;
                mean =
                    sum.iter().zip(vector).map(|(s, q)| s * q).sum::<f32>() / totals.vectors as f32;
                let centre = self.floats_of(txn, CENTRE, vector.len())?;
                nearest = scan::rank(txn, self.vectors, vector, &centre, &allowed, pool)?
                    .ok_or_else(|| torn(path, "codes"))?;
            }
            let mut candidates: BTreeMap<u32, (Option<f32>, Option<f32>)> = BTreeMap::new();
            let mut asked = None;
            if let Some(text) = query.text {
                let words = Words::of(txn, self.postings, &totals, &words::counted(text))?;
                let others: Vec<u32> = nearest.iter().map(|(_, row)| *row).collect();
                let mut scratch = lock(&self.scratch).pop().unwrap_or_default();
                let ranked = words.rank(txn, self.postings, &allowed, pool, &others, &mut scratch);
                lock(&self.scratch).push(scratch);
                let ranked = ranked?.ok_or_else(|| torn(path, "postings"))?;
                asked = Some(Asked::of(text, |word| words.common(word, totals.kept)));
                for (score, row) in ranked.best.into_iter().chain(ranked.others) {
                    candidates.entry(row).or_default().0 = Some(score);
                }
            }
            for (cosine, row) in nearest {
                candidates.entry(row).or_default().1 = Some(cosine);
            }
            let unordered = query.text.is_none() && query.vector.is_none();
            if unordered {
                let rows: Vec<u32> = allowed.rows().collect();
                let newest = rows.into_iter().rev().take(query.k);
                candidates.extend(newest.map(|row| (row, (None, None))));
            }
            let mut scored = Vec::with_capacity(candidates.len());
            for (row, (by_words, cosine)) in candidates {
                let near = match (&vector, cosine) {
                    (None, _) => None,
                    (Some(_), Some(cosine)) => Some(nearness(cosine, mean)),
                    (Some(vector), None) => {
                        let stored = self.vectors.bytes(txn, vector.len(), row)?;
                        let cosine = stored.map_or(0.0, |stored| simd::product(vector, stored));
                        Some(nearness(cosine, mean))
                    }
                };
                let standing = self.columns.get(txn, row)?.standing();
                let score = fuse(query, by_words, near, standing.trust);
                scored.push((score, row, by_words, near, standing));
            }
            if unordered {
                scored.reverse();
            } else {
                scored.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            }
            let mut hits: Vec<Hit> = Vec::with_capacity(query.k.min(scored.len()));
            for (score, row, words, vector, standing) in scored {
                // Equal scores are ordered by id, so all that are equal to the last are read.
                if hits.len() >= query.k && score < hits[query.k - 1].score {
                    break;
                }
                let value = self.records.get(txn, &row_key(row))?;
                let record = value
                    .and_then(Record::decode)
                    .ok_or_else(|| torn(path, "records"))?;
                let confidence = match &asked {
                    Some(asked) => asked.covered(record.text),
                    None => vector.unwrap_or(1.0),
                };
                if confidence >= query.confidence {
                    hits.push(Hit {
                        id: record.id.to_owned(),
                        score,
                        words,
                        vector,
                        confidence,
                        standing,
                        body: record.body.to_vec(),
                    });
                }
            }
            if !unordered {
                hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
            }
            hits.truncate(query.k);
            Ok(hits)
        })
    }

    /// The query's filters with their names looked up; None if a name is not in the store, so that nothing passes.
    fn filter(&self, txn: &RoTxn<'_, AnyTls>, query: &Query<'_>) -> Work<Option<Filter>> {
        let mut filter = Filter {
            kinds: query
                .kinds
                .iter()
                .fold(0, |bits, kind| bits | 1 << *kind as u8),
            cycle: query
                .before_cycle
                .map(|cycle| u32::try_from(cycle).unwrap_or(NONE)),
            forgotten: query.forgotten,
            ..Filter::default()
        };
        if let Some(skill) = query.skill {
            let mut skills: BTreeSet<u32> = self.symbol(txn, skill)?.into_iter().collect();
            let below = [&symbol_key(skill)[..], b"/"].concat();
            for item in self.symbols.prefix_iter(txn, &below)? {
                skills.extend(row_of(item?.1));
            }
            if let Some(other) = query.besides {
                skills.extend(self.symbol(txn, other)?);
            }
            if skills.is_empty() {
                return Ok(None);
            }
            filter.skills = Some(skills);
        }
        for (name, number) in [
            (query.run, &mut filter.run),
            (query.source, &mut filter.source),
        ] {
            if let Some(name) = name {
                *number = self.symbol(txn, name)?;
                if number.is_none() {
                    return Ok(None);
                }
            }
        }
        Ok(Some(filter))
    }

    fn allowed(&self, txn: &RoTxn<'_, AnyTls>, filter: Filter, rows: u32) -> Work<Arc<Allowed>> {
        let snapshot = txn.id();
        let mut passed = lock(&self.passed);
        if let Some((at, of, allowed)) = &*passed
            && *at == snapshot
            && *of == filter
        {
            return Ok(Arc::clone(allowed));
        }
        let allowed = Arc::new(filter.apply(txn, self.columns, rows)?);
        *passed = Some((snapshot, filter, Arc::clone(&allowed)));
        Ok(allowed)
    }
}

/// Whatever panicked while it was locked left a cache, which is whole or is made again.
fn lock<T>(cache: &Mutex<T>) -> MutexGuard<'_, T> {
    cache.lock().unwrap_or_else(PoisonError::into_inner)
}

/// 1 in the query's own direction, 0 where the mean lesson lies or farther.
fn nearness(cosine: f32, mean: f32) -> f32 {
    ((cosine - mean) / (1.0 - mean).max(1e-6)).clamp(0.0, 1.0)
}

fn fuse(query: &Query<'_>, words: Option<f32>, vector: Option<f32>, trust: f32) -> f32 {
    let weights = query.weights;
    let mut parts = (0.0, 0.0);
    for (score, weight) in [(words, weights.words), (vector, weights.vector)] {
        if let Some(score) = score {
            parts = (parts.0 + weight * score, parts.1 + weight);
        }
    }
    let mean = if parts.1 > 0.0 {
        parts.0 / parts.1
    } else {
        1.0
    };
    mean * (1.0 + weights.trust * (trust - 0.5))
}
