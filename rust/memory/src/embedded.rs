//! Vectors of a memory's lessons: who makes them, which lessons lack one, and the codes around their mean.

use std::collections::BTreeMap;
use std::path::Path;

use heed::RwTxn;
use moevolve_store::Result;

use crate::bytes::row_key;
use crate::lesson::{Record, check_name, check_vector};
use crate::store::{
    CENTRE, EMBEDDER, MemoryStore, SUM, TOTALS, Work, dimensions, name_error, torn,
};
use crate::totals::{Totals, floats};
use crate::vectors::unit;

/// Vectors at which the centre of the codes is fixed for the first time; then at every fourfold up to the last.
const FIRST_CENTRE: u32 = 256;
const LAST_CENTRE: u32 = 1 << 18;

impl MemoryStore {
    /// Writes vectors of ascending rows, keeps their sum, and moves the centre of the codes when it is time.
    pub(crate) fn put_vectors(
        &self,
        txn: &mut RwTxn<'_>,
        path: &Path,
        totals: &mut Totals,
        added: &[(u32, Option<Vec<f32>>)],
    ) -> Work<()> {
        if added.is_empty() {
            return Ok(());
        }
        let size = totals.dimensions as usize;
        let mut sum = self.floats_of(txn, SUM, size)?;
        for (row, vector) in added {
            if let Some(old) = self.vectors.get(txn, size, *row)? {
                let held = old.iter().any(|x| *x != 0.0);
                sum.iter_mut().zip(&old).for_each(|(sum, x)| *sum -= x);
                totals.vectors -= u32::from(held);
            }
            if let Some(vector) = vector {
                sum.iter_mut().zip(vector).for_each(|(sum, x)| *sum += x);
                totals.vectors += 1;
            }
        }
        let centre = self.floats_of(txn, CENTRE, size)?;
        self.vectors.put(txn, size, &centre, added)?;
        let due = if totals.centred_at == 0 {
            FIRST_CENTRE
        } else {
            totals.centred_at.saturating_mul(4)
        };
        if totals.vectors >= due && totals.centred_at < LAST_CENTRE {
            let centre: Vec<f32> = sum.iter().map(|x| x / totals.vectors as f32).collect();
            self.totals.put(txn, CENTRE, &floats(&centre))?;
            totals.centred_at = totals.vectors;
            self.recode(txn, path, totals, &centre)?;
        }
        self.totals.put(txn, SUM, &floats(&sum))?;
        Ok(())
    }

    /// Makes all codes anew around another centre.
    fn recode(
        &self,
        txn: &mut RwTxn<'_>,
        path: &Path,
        totals: &Totals,
        centre: &[f32],
    ) -> Work<()> {
        let size = centre.len();
        for start in (0..totals.rows).step_by(4096) {
            let mut part = Vec::new();
            for row in start..totals.rows.min(start.saturating_add(4096)) {
                if self.columns.get(txn, row)?.has_vector() {
                    let vector = self
                        .vectors
                        .get(txn, size, row)?
                        .ok_or_else(|| torn(path, "vectors"))?;
                    part.push((row, Some(vector)));
                }
            }
            self.vectors.put(txn, size, centre, &part)?;
        }
        Ok(())
    }

    /// Gives lessons their vectors; ids that are not there are left out. Returns how many were.
    pub fn set_vectors(&self, vectors: &[(String, Vec<f32>)]) -> Result<usize> {
        for (id, vector) in vectors {
            check_name("lesson id", id)?;
            check_vector(vector).map_err(|why| name_error("the vector of lesson", id, why))?;
        }
        self.write(|txn, path| {
            let mut totals = self.totals_of(txn, path)?;
            let mut added = BTreeMap::new();
            for (id, vector) in vectors {
                let Some(row) = self.row(txn, path, id)? else {
                    continue;
                };
                if totals.dimensions == 0 {
                    totals.dimensions = vector.len() as u32;
                }
                if vector.len() != totals.dimensions as usize {
                    return Err(dimensions(id, vector.len(), totals.dimensions).into());
                }
                added.insert(row, Some(unit(vector)));
            }
            let mut columns = Vec::with_capacity(added.len());
            for row in added.keys() {
                let mut held = self.columns.get(txn, *row)?;
                held.set_vector(true);
                columns.push((*row, held));
            }
            self.columns.put(txn, &columns)?;
            let added: Vec<_> = added.into_iter().collect();
            self.put_vectors(txn, path, &mut totals, &added)?;
            self.totals.put(txn, TOTALS, &totals.encode())?;
            Ok(added.len())
        })
    }

    /// At most `limit` lessons without a vector whose row is `from` or later: (next row, ids and texts).
    pub fn without_vector(&self, from: u32, limit: usize) -> Result<(u32, Vec<(String, String)>)> {
        self.read(|txn, path| {
            let totals = self.totals_of(txn, path)?;
            let mut lacking = Vec::new();
            let mut row = from;
            while row < totals.rows && lacking.len() < limit {
                let columns = self.columns.get(txn, row)?;
                if !columns.gone() && !columns.has_vector() {
                    let value = self.records.get(txn, &row_key(row))?;
                    let record = value
                        .and_then(Record::decode)
                        .ok_or_else(|| torn(path, "records"))?;
                    lacking.push((record.id.to_owned(), record.text.to_owned()));
                }
                row += 1;
            }
            Ok((row, lacking))
        })
    }

    /// Says what makes the vectors from now on. If that is another than before, all vectors are dropped.
    pub fn set_embedder(&self, name: &str) -> Result<()> {
        check_name("embedder", name)?;
        self.write(|txn, path| {
            if self.totals.get(txn, EMBEDDER)? == Some(name.as_bytes()) {
                return Ok(());
            }
            let mut totals = self.totals_of(txn, path)?;
            for start in (0..totals.rows).step_by(4096) {
                let mut part = Vec::new();
                for row in start..totals.rows.min(start.saturating_add(4096)) {
                    let mut columns = self.columns.get(txn, row)?;
                    if columns.has_vector() {
                        columns.set_vector(false);
                        part.push((row, columns));
                    }
                }
                self.columns.put(txn, &part)?;
            }
            self.vectors.vectors.clear(txn)?;
            self.vectors.codes.clear(txn)?;
            (totals.dimensions, totals.centred_at, totals.vectors) = (0, 0, 0);
            self.totals.delete(txn, SUM)?;
            self.totals.delete(txn, CENTRE)?;
            self.totals.put(txn, EMBEDDER, name.as_bytes())?;
            self.totals.put(txn, TOTALS, &totals.encode())?;
            Ok(())
        })
    }
}
