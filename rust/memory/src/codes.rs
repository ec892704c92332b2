//! One bit for every dimension of a vector, and from these bits an unbiased estimate of its cosine.
//!
//! RaBitQ (Gao and Long, SIGMOD 2024): a vector less the centre is rotated at random and kept as the signs of its
//! coordinates, with two numbers that undo what the signs lost. The query is quantised to four bits, so that an
//! estimate is four AND-and-count passes over the code.

use crate::rotation::{padded, rotate};

/// Rows of one block.
pub const BLOCK: usize = 256;

/// Bits of a quantised query.
pub const PLANES: usize = 4;

/// Twice the length that a unit vector may lose when its numbers are rounded to f16.
const ROUNDED: f32 = 1e-3;

/// The code of one vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Code {
    pub bits: Vec<u64>,
    /// Squared norm over the sum of absolute values, of the rotated vector less the centre; 0 where there is no vector.
    pub factor: f32,
    /// Product of the vector with the centre; negative infinity where there is no vector.
    pub offset: f32,
}

/// The u64 of a code.
pub fn words_of(dimensions: usize) -> usize {
    padded(dimensions) / 64
}

impl Code {
    /// The code of a unit vector.
    pub fn of(vector: &[f32], centre: &[f32]) -> Self {
        let less: Vec<f32> = vector.iter().zip(centre).map(|(x, c)| x - c).collect();
        let rotated = rotate(&less);
        let (mut squares, mut absolute) = (0.0, 0.0);
        for x in &rotated {
            squares += x * x;
            absolute += x.abs();
        }
        let mut bits = vec![0; rotated.len() / 64];
        for (index, x) in rotated.iter().enumerate() {
            bits[index / 64] |= u64::from(*x > 0.0) << (index % 64);
        }
        Self {
            bits,
            factor: if absolute > 0.0 {
                squares / absolute
            } else {
                0.0
            },
            offset: dot(vector, centre),
        }
    }

    /// Whether this is the code of a vector that is known up to the rounding of f16: a bit may differ where a coordinate
    /// is about zero.
    pub fn fits(&self, vector: &[f32], centre: &[f32]) -> bool {
        let less: Vec<f32> = vector.iter().zip(centre).map(|(x, c)| x - c).collect();
        let wanted = Self::of(vector, centre);
        let sides = rotate(&less).iter().enumerate().all(|(index, x)| {
            let bit = self.bits[index / 64] >> (index % 64) & 1;
            x.abs() <= ROUNDED || (bit == 1) == (*x > 0.0)
        });
        sides
            && (self.offset - wanted.offset).abs() <= 2.0 * ROUNDED
            && (self.factor - wanted.factor).abs() <= 2.0 * ROUNDED + 0.02 * wanted.factor
    }

    /// Of a row without a vector: every estimate is negative infinity.
    pub fn absent(dimensions: usize) -> Self {
        Self {
            bits: vec![0; words_of(dimensions)],
            factor: 0.0,
            offset: f32::NEG_INFINITY,
        }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// Levels of a quantised query lie from minus this up to this, exclusively.
const LEVELS: i32 = 1 << (PLANES - 1);

/// What is added to the sum of four levels, so that it is no less than zero.
pub const LIFT: i32 = 4 * LEVELS;

/// A query, quantised to levels from -8 to 7.
pub struct CodedQuery {
    /// For every word of a code, its bits of each plane; the last plane counts against the others.
    pub planes: Vec<[u64; PLANES]>,
    /// For every four dimensions, `LIFT` more than the sum of their levels by which of them are set in a code.
    pub tables: Vec<[u8; 16]>,
    /// The estimate is factor * (step * weighted - total) + offset + bias.
    pub step: f32,
    pub total: f32,
    pub bias: f32,
}

impl CodedQuery {
    /// Of a unit vector, to be compared by the first words of codes, as many as are given or all.
    pub fn of(vector: &[f32], centre: &[f32], words: usize) -> Self {
        let less: Vec<f32> = vector.iter().zip(centre).map(|(x, c)| x - c).collect();
        let rotated = rotate(&less);
        let (whole, words) = (rotated.len(), words.min(rotated.len() / 64));
        let rotated = &rotated[..64 * words];
        let largest = rotated.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let step = (largest / (LEVELS as f32 - 0.5)).max(f32::MIN_POSITIVE);
        let mut planes = vec![[0; PLANES]; words];
        let mut tables = vec![[LIFT as u8; 16]; 16 * words];
        let mut total = 0;
        for (index, x) in rotated.iter().enumerate() {
            let level = (x / step)
                .round()
                .clamp(-(LEVELS as f32), LEVELS as f32 - 1.0) as i32;
            total += level;
            for (plane, bits) in planes[index / 64].iter_mut().enumerate() {
                *bits |= u64::from(level >> plane & 1 == 1) << (index % 64);
            }
            for (bits, sum) in tables[index / 4].iter_mut().enumerate() {
                if bits >> (index % 4) & 1 == 1 {
                    *sum = sum.wrapping_add_signed(level as i8);
                }
            }
        }
        // What the other coordinates say is taken to be what these say.
        let step = step * whole as f32 / (64 * words) as f32;
        Self {
            planes,
            tables,
            step: 2.0 * step,
            total: step * total as f32,
            bias: dot(vector, centre) - dot(centre, centre),
        }
    }
}

/// Bytes of a block of codes of so many words.
pub fn block_bytes(words: usize) -> usize {
    BLOCK * (8 * words + 12)
}

/// A block on file: word by word the bits of all rows; then their numbers of ones, factors and offsets.
pub struct Block<'a> {
    pub bits: &'a [u8],
    pub ones: &'a [u8],
    pub factors: &'a [u8],
    pub offsets: &'a [u8],
}

impl<'a> Block<'a> {
    pub fn read(value: &'a [u8], words: usize) -> Option<Self> {
        if value.len() != block_bytes(words) {
            return None;
        }
        let (bits, rest) = value.split_at(BLOCK * 8 * words);
        let (ones, rest) = rest.split_at(BLOCK * 4);
        let (factors, offsets) = rest.split_at(BLOCK * 4);
        Some(Self {
            bits,
            ones,
            factors,
            offsets,
        })
    }

    /// One row's code; None if its count of ones is not that of its bits.
    pub fn code(&self, index: usize) -> Option<Code> {
        let number = |column: &[u8]| {
            let (numbers, _) = column.as_chunks::<4>();
            f32::from_le_bytes(numbers[index])
        };
        let (words, _) = self.bits.as_chunks::<8>();
        let bits: Vec<u64> = words
            .iter()
            .skip(index)
            .step_by(BLOCK)
            .map(|word| u64::from_le_bytes(*word))
            .collect();
        let ones: u32 = bits.iter().map(|word| word.count_ones()).sum();
        (number(self.ones) == ones as f32).then(|| Code {
            bits,
            factor: number(self.factors),
            offset: number(self.offsets),
        })
    }
}

/// Writes one row's code into a block.
pub fn write(block: &mut [u8], words: usize, index: usize, code: &Code) {
    for (word, bits) in code.bits.iter().enumerate() {
        let at = 8 * (word * BLOCK + index);
        block[at..at + 8].copy_from_slice(&bits.to_le_bytes());
    }
    let ones: u32 = code.bits.iter().map(|bits| bits.count_ones()).sum();
    let numbers = [ones as f32, code.factor, code.offset];
    for (column, number) in numbers.into_iter().enumerate() {
        let at = BLOCK * (8 * words + 4 * column) + 4 * index;
        block[at..at + 4].copy_from_slice(&number.to_le_bytes());
    }
}

/// A block without vectors.
pub fn empty(words: usize) -> Vec<u8> {
    let mut block = vec![0; block_bytes(words)];
    let absent = Code {
        bits: vec![0; words],
        factor: 0.0,
        offset: f32::NEG_INFINITY,
    };
    (0..BLOCK).for_each(|index| write(&mut block, words, index, &absent));
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd;

    /// Numbers between -1 and 1 that look random.
    fn numbers(seed: u64, count: usize) -> Vec<f32> {
        let mut state = seed;
        (0..count)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
            })
            .collect()
    }

    fn unit(mut vector: Vec<f32>) -> Vec<f32> {
        let norm = dot(&vector, &vector).sqrt();
        vector.iter_mut().for_each(|x| *x /= norm);
        vector
    }

    #[test]
    fn estimates_are_close_and_unbiased() {
        let (dimensions, words) = (384, words_of(384));
        let shift: Vec<f32> = numbers(999, dimensions).iter().map(|x| 3.0 * x).collect();
        let vectors: Vec<Vec<f32>> = (0..BLOCK as u64)
            .map(|seed| {
                unit(
                    numbers(seed, dimensions)
                        .iter()
                        .zip(&shift)
                        .map(|(x, s)| x + s)
                        .collect(),
                )
            })
            .collect();
        let mut centre = vec![0.0; dimensions];
        for vector in &vectors {
            centre
                .iter_mut()
                .zip(vector)
                .for_each(|(c, x)| *c += x / BLOCK as f32);
        }
        let mut block = empty(words);
        for (index, vector) in vectors.iter().enumerate() {
            write(&mut block, words, index, &Code::of(vector, &centre));
        }
        let query = unit(
            numbers(5000, dimensions)
                .iter()
                .zip(&shift)
                .map(|(x, s)| 0.5 * x + s)
                .collect(),
        );
        let coded = CodedQuery::of(&query, &centre, words);
        let mut estimates = [0.0; BLOCK];
        let block = Block::read(&block, words).unwrap();
        simd::estimate(&block, &block, &coded, &mut estimates);
        let errors: Vec<f32> = vectors
            .iter()
            .zip(estimates)
            .map(|(v, e)| e - dot(v, &query))
            .collect();
        let mean = errors.iter().sum::<f32>() / BLOCK as f32;
        let worst = errors.iter().fold(0.0f32, |worst, e| worst.max(e.abs()));
        assert!(mean.abs() < 2e-3, "mean error {mean}");
        assert!(worst < 0.03, "worst error {worst}");
    }
}
