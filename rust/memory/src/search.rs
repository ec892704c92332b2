//! The one query: filters, both rankings, one order, confidence.

use std::collections::BTreeSet;
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
use crate::ranking::{Mix, Rows};
use crate::scan::{self, Cosines};
use crate::store::{CENTRE, MemoryStore, SUM, Work, dimensions, name_error, symbol_key, torn};
use crate::vectors::unit;
use crate::words;

/// Rows whose scores are computed exactly, for each lesson wanted, and at least.
const POOL: (usize, usize) = (8, 256);

/// Where cosines are first estimated by a part of the codes: as many times more of these rows, and for each of them so many in
/// either half of the store whose whole codes are looked at.
const ROUGH: (usize, usize) = (2, 2);

/// A score, its row, and what words and vector say of it.
type Scored = (f32, u32, Option<f32>, Option<f32>);

impl MemoryStore {
    /// The lessons that answer a query, best first; of equals the smaller id.
    ///
    /// A lesson that another supersedes is not among them, unless the other does not hold at the query's cycle.
    ///
    /// # Errors
    /// `Name` for a vector of other dimensions than the store's, and for weights or a confidence that mean nothing.
    pub fn search(&self, query: &Query<'_>) -> Result<Vec<Hit>> {
        if let Some(vector) = query.vector {
            check_vector(vector).map_err(|why| name_error("the vector of", "the query", why))?;
        }
        let weights = query.weights;
        let numbers = [
            weights.words,
            weights.vector,
            weights.trust,
            query.confidence,
        ];
        if numbers
            .iter()
            .any(|number| !number.is_finite() || *number < 0.0)
        {
            let why = "they, and its confidence, must be finite and not negative";
            return Err(name_error("the weights of", "the query", why));
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
            let vector = query.vector.filter(|_| totals.vectors > 0).map(unit);
            let unordered = query.text.is_none() && query.vector.is_none();
            let mut mean = None;
            let mut cosines = None;
            if let Some(vector) = &vector {
                if vector.len() != totals.dimensions as usize {
                    return Err(dimensions("of the query", vector.len(), totals.dimensions).into());
                }
                let sum = self.floats_of(txn, SUM, vector.len())?;
                let product = sum.iter().zip(vector).map(|(s, q)| s * q).sum::<f32>();
                mean = Some(product / totals.vectors as f32);
                let centre = self.floats_of(txn, CENTRE, vector.len())?;
                let vectors = self.vectors;
                cosines = Some(Cosines::of(txn, path, vectors, vector, &centre, &allowed)?);
            }
            let mut words = None;
            let mut asked = None;
            let mut apart = Vec::new();
            if let Some(text) = query.text {
                let lies = self.postings.apart(txn)?;
                apart = lies.ok_or_else(|| torn(path, "postings"))?;
                let counted = words::counted(text);
                let known = Words::of(txn, self.postings, &apart, &totals, &counted)?
                    .ok_or_else(|| torn(path, "postings"))?;
                asked = Some(Asked::of(text, |word| known.common(word, totals.kept)));
                words = Some(known);
            }
            let postings = match &words {
                Some(words) => Some(
                    words
                        .postings(txn, self.postings, &apart)?
                        .ok_or_else(|| torn(path, "postings"))?,
                ),
                None => None,
            };
            let mix = Mix::of(query.weights, words.is_some(), mean);
            let rows = if unordered {
                let rows: Vec<u32> = allowed.rows().collect();
                let newest = rows.into_iter().rev().take(query.k);
                newest.map(|row| (row, 0.0)).collect()
            } else {
                let closer = cosines.as_ref().and_then(Cosines::closer);
                let rough = if closer.is_some() { ROUGH } else { (1, 1) };
                let pool = query.k.saturating_mul(POOL.0).max(POOL.1);
                let pool = pool.saturating_mul(rough.0).min(allowed.count);
                let again = pool.saturating_mul(rough.1).min(allowed.count);
                let rows = Rows {
                    allowed: &allowed,
                    mix,
                    vector: mean.is_some(),
                    unit: words.as_ref().map_or(1.0, |words| 1.0 / words.total()),
                    limit: pool,
                };
                let fill = |first: usize, scores: &mut [f32], out: &mut [f32]| {
                    if let Some(cosines) = &cosines {
                        cosines.write(first, out);
                    }
                    if let Some(postings) = &postings {
                        postings.add(first as u32, scores);
                    }
                };
                let mut best = rows.top(fill, closer.map(|closer| (again, closer)));
                best.sort_unstable_by_key(|(row, _)| *row);
                best
            };
            let mut scored: Vec<Scored> = Vec::with_capacity(rows.len());
            let score = |(row, sum): (u32, f32), near: Option<f32>| {
                let words = words.as_ref().map(|words| sum / words.total());
                let trust = allowed.trust.get(row);
                let score = mix.score(words.unwrap_or(0.0), near.unwrap_or(0.0), trust);
                (score, row, words, near)
            };
            match &vector {
                None => scored.extend(rows.iter().map(|each| score(*each, None))),
                Some(vector) => {
                    let mut sums = rows.iter();
                    let rows = rows.iter().map(|(row, _)| *row);
                    scan::exact(txn, path, self.vectors, vector, rows, |row, cosine| {
                        let sum = sums.next().map_or(0.0, |(_, sum)| *sum);
                        scored.push(score((row, sum), Some(mix.nearness(cosine))));
                    })?;
                }
            }
            if !unordered {
                scored.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            }
            let mut hits: Vec<Hit> = Vec::with_capacity(query.k.min(scored.len()));
            for (score, row, words, vector) in scored {
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
                        standing: self.columns.get(txn, row)?.standing(),
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
