//! Vectors on file: unit length, f16, in blocks; beside them their codes.

use half::f16;
use heed::types::Bytes;
use heed::{AnyTls, Database, RoTxn, RwTxn};

use crate::bytes::row_key;
use crate::codes::{self, Code};

/// Rows of a block of vectors.
pub const BLOCK: usize = 64;

/// The two databases of vectors, both by number of block.
#[derive(Clone, Copy)]
pub struct Vectors {
    pub vectors: Database<'static, Bytes, Bytes>,
    pub codes: Database<'static, Bytes, Bytes>,
}

/// A vector of length one.
pub fn unit(vector: &[f32]) -> Vec<f32> {
    let norm = vector
        .iter()
        .map(|x| f64::from(*x).powi(2))
        .sum::<f64>()
        .sqrt();
    vector
        .iter()
        .map(|x| (f64::from(*x) / norm) as f32)
        .collect()
}

impl Vectors {
    /// Writes unit vectors of ascending rows, each block once; None takes a row's vector away.
    pub fn put(
        &self,
        txn: &mut RwTxn<'_>,
        dimensions: usize,
        centre: &[f32],
        rows: &[(u32, Option<Vec<f32>>)],
    ) -> heed::Result<()> {
        let bytes = 2 * dimensions;
        for same in rows.chunk_by(|a, b| a.0 / BLOCK as u32 == b.0 / BLOCK as u32) {
            let key = row_key(same[0].0 / BLOCK as u32);
            let mut block = match self.vectors.get(txn, &key)? {
                Some(value) if value.len() == BLOCK * bytes => value.to_vec(),
                _ => vec![0; BLOCK * bytes],
            };
            for (row, vector) in same {
                let at = *row as usize % BLOCK * bytes;
                let slot = block[at..at + bytes].chunks_exact_mut(2);
                match vector {
                    Some(vector) => slot.zip(vector).for_each(|(slot, x)| {
                        slot.copy_from_slice(&f16::from_f32(*x).to_le_bytes());
                    }),
                    None => slot.for_each(|slot| slot.fill(0)),
                }
            }
            self.vectors.put(txn, &key, &block)?;
        }
        let words = codes::words_of(dimensions);
        for same in rows.chunk_by(|a, b| a.0 / codes::BLOCK as u32 == b.0 / codes::BLOCK as u32) {
            let key = row_key(same[0].0 / codes::BLOCK as u32);
            let mut block = match self.codes.get(txn, &key)? {
                Some(value) if value.len() == codes::block_bytes(words) => value.to_vec(),
                _ => codes::empty(words),
            };
            for (row, vector) in same {
                let code = match vector {
                    Some(vector) => Code::of(vector, centre),
                    None => Code::absent(dimensions),
                };
                codes::write(&mut block, words, *row as usize % codes::BLOCK, &code);
            }
            self.codes.put(txn, &key, &block)?;
        }
        Ok(())
    }

    /// The stored bytes of a row's vector; None if its block is not on file or does not fit.
    fn bytes<'t>(
        &self,
        txn: &'t RoTxn<'_, AnyTls>,
        dimensions: usize,
        row: u32,
    ) -> heed::Result<Option<&'t [u8]>> {
        let bytes = 2 * dimensions;
        let block = self.vectors.get(txn, &row_key(row / BLOCK as u32))?;
        let at = row as usize % BLOCK * bytes;
        Ok(block
            .filter(|block| block.len() == BLOCK * bytes)
            .map(|block| &block[at..at + bytes]))
    }

    /// A row's code, that of an absent vector where no block has the row; None if its block does not fit.
    pub fn code(
        &self,
        txn: &RoTxn<'_, AnyTls>,
        dimensions: usize,
        row: u32,
    ) -> heed::Result<Option<Code>> {
        let key = row_key(row / codes::BLOCK as u32);
        Ok(match self.codes.get(txn, &key)? {
            None => Some(Code::absent(dimensions)),
            Some(value) => codes::Block::read(value, codes::words_of(dimensions))
                .and_then(|block| block.code(row as usize % codes::BLOCK)),
        })
    }

    /// A row's vector as numbers.
    pub fn get(
        &self,
        txn: &RoTxn<'_, AnyTls>,
        dimensions: usize,
        row: u32,
    ) -> heed::Result<Option<Vec<f32>>> {
        let bytes = self.bytes(txn, dimensions, row)?;
        Ok(bytes.map(|bytes| {
            let (pairs, _) = bytes.as_chunks::<2>();
            pairs
                .iter()
                .map(|pair| f16::from_le_bytes(*pair).to_f32())
                .collect()
        }))
    }
}
