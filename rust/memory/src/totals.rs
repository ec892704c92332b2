//! Counts over the whole store, and the mean direction of its vectors.

use crate::bytes::Reader;

/// Kept in one record and changed with every write.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Totals {
    /// The next row's number; rows are never reused.
    pub rows: u32,
    /// Rows whose record is on file.
    pub kept: u32,
    /// Occurrences of words in them.
    pub words: u64,
    /// Dimensions of the vectors; 0 before the first.
    pub dimensions: u32,
    /// Vectors in the store when the centre of the codes was fixed last.
    pub centred_at: u32,
    /// Rows that have a vector.
    pub vectors: u32,
}

impl Totals {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(28);
        for number in [
            self.rows,
            self.kept,
            self.dimensions,
            self.centred_at,
            self.vectors,
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.words.to_le_bytes());
        out
    }

    pub fn decode(value: &[u8]) -> Option<Self> {
        let mut reader = Reader(value);
        Some(Self {
            rows: reader.u32()?,
            kept: reader.u32()?,
            dimensions: reader.u32()?,
            centred_at: reader.u32()?,
            vectors: reader.u32()?,
            words: reader.u64()?,
        })
    }

    /// Mean number of words of a lesson.
    pub fn mean_words(&self) -> f32 {
        (self.words as f64 / f64::from(self.kept.max(1))).max(1.0) as f32
    }
}

/// A vector of f32 as bytes.
pub fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// The f32 of bytes.
pub fn read_floats(bytes: &[u8]) -> Vec<f32> {
    let (chunks, _) = bytes.as_chunks::<4>();
    chunks
        .iter()
        .map(|chunk| f32::from_le_bytes(*chunk))
        .collect()
}
