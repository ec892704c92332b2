//! Postings as they lie on file: rows of one word, with their occurrences and lengths.
//!
//! In a block rows are kept as distances from the first one, in as few bytes as the last needs; occurrences and lengths are a
//! byte each.

use crate::simd;

/// The most rows of a block: two pages.
pub const LARGE: usize = 2000;

/// Blocks of so many rows end where a distance would take more than two bytes.
pub const BLOCK: usize = 256;

/// One row that holds a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Posting {
    pub row: u32,
    /// Occurrences, at most 255.
    pub count: u8,
    /// Length of the whole row, by `length_code`.
    pub length: u8,
}

/// A length in one byte: exact below 128, within 2.2 percent up to 31,000, and no more beyond.
pub fn length_code(words: u32) -> u8 {
    if words < 128 {
        return words as u8;
    }
    let steps = (f64::from(words) / 128.0).log2() * 16.0;
    128 + steps.round().min(127.0) as u8
}

/// The length that a byte stands for.
pub fn length_of(code: u8) -> f32 {
    if code < 128 {
        return f32::from(code);
    }
    128.0 * (f32::from(code - 128) / 16.0).exp2()
}

/// Rows of one word, as they lie on file.
#[derive(Clone, Copy)]
pub struct Block<'a> {
    pub first: u32,
    width: usize,
    offsets: &'a [u8],
    pub counts: &'a [u8],
    pub lengths: &'a [u8],
}

impl<'a> Block<'a> {
    /// The block whose key ends with `first`; None if it is torn.
    pub fn read(first: u32, value: &'a [u8]) -> Option<Self> {
        Self::whole(first, value).filter(|block| block.len() <= LARGE)
    }

    /// A block of any number of rows; None if it is torn.
    pub fn whole(first: u32, value: &'a [u8]) -> Option<Self> {
        let (&width, rest) = value.split_first()?;
        let width = usize::from(width);
        if !matches!(width, 1 | 2 | 4) || !rest.len().is_multiple_of(width + 2) {
            return None;
        }
        let count = rest.len() / (width + 2);
        if count == 0 {
            return None;
        }
        let (offsets, rest) = rest.split_at(count * width);
        let (counts, lengths) = rest.split_at(count);
        Some(Self {
            first,
            width,
            offsets,
            counts,
            lengths,
        })
    }

    pub fn len(&self) -> usize {
        self.counts.len()
    }

    pub fn row(&self, index: usize) -> u32 {
        let at = index * self.width;
        let offset = match self.width {
            1 => u32::from(self.offsets[at]),
            2 => u32::from(u16::from_le_bytes([self.offsets[at], self.offsets[at + 1]])),
            _ => u32::from_le_bytes([
                self.offsets[at],
                self.offsets[at + 1],
                self.offsets[at + 2],
                self.offsets[at + 3],
            ]),
        };
        self.first.wrapping_add(offset)
    }

    /// Has the first bytes of each column fetched before they are wanted: blocks lie wherever the file had room.
    #[inline]
    pub fn fetch(&self) {
        simd::fetch(self.offsets);
        simd::fetch(self.counts);
        simd::fetch(self.lengths);
    }

    /// The rows from `first` on and before `end`.
    pub fn within(&self, first: u32, end: u64) -> Self {
        let begin = self.position(|row| row < first);
        let end = self.position(|row| u64::from(row) < end).max(begin);
        Self {
            first: self.first,
            width: self.width,
            offsets: &self.offsets[begin * self.width..end * self.width],
            counts: &self.counts[begin..end],
            lengths: &self.lengths[begin..end],
        }
    }

    /// How many of the rows, which ascend, come before the others.
    fn position(&self, before: impl Fn(u32) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            if before(self.row(middle)) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Calls `each` with (row, occurrences, length) of every row, ascending.
    pub fn each(&self, mut each: impl FnMut(u32, u8, u8)) {
        let entries = self.counts.iter().zip(self.lengths);
        match self.width {
            1 => {
                for (&offset, (&count, &length)) in self.offsets.iter().zip(entries) {
                    each(self.first.wrapping_add(u32::from(offset)), count, length);
                }
            }
            2 => {
                let (offsets, _) = self.offsets.as_chunks::<2>();
                for (offset, (&count, &length)) in offsets.iter().zip(entries) {
                    let offset = u32::from(u16::from_le_bytes(*offset));
                    each(self.first.wrapping_add(offset), count, length);
                }
            }
            _ => {
                let (offsets, _) = self.offsets.as_chunks::<4>();
                for (offset, (&count, &length)) in offsets.iter().zip(entries) {
                    let offset = u32::from_le_bytes(*offset);
                    each(self.first.wrapping_add(offset), count, length);
                }
            }
        }
    }

    /// The posting of one row.
    pub fn find(&self, row: u32) -> Option<Posting> {
        let index = self.position(|other| other < row);
        (index < self.len() && self.row(index) == row).then(|| Posting {
            row,
            count: self.counts[index],
            length: self.lengths[index],
        })
    }

    pub fn postings(&self) -> Vec<Posting> {
        let mut all = Vec::new();
        self.copy_to(&mut all);
        all
    }

    /// Adds all rows at the end of others.
    pub fn copy_to(&self, all: &mut Vec<Posting>) {
        all.reserve(self.len());
        self.each(|row, count, length| all.push(Posting { row, count, length }));
    }
}

/// The value of a block of ascending rows.
pub fn encode(postings: &[Posting]) -> Vec<u8> {
    let first = postings[0].row;
    let width = match postings[postings.len() - 1].row - first {
        0..=0xFF => 1,
        0x100..=0xFFFF => 2,
        _ => 4,
    };
    let mut out = Vec::with_capacity(1 + postings.len() * (width + 2));
    out.push(width as u8);
    for posting in postings {
        out.extend_from_slice(&(posting.row - first).to_le_bytes()[..width]);
    }
    out.extend(postings.iter().map(|posting| posting.count));
    out.extend(postings.iter().map(|posting| posting.length));
    out
}

/// Ascending rows cut into blocks of at most so many.
pub fn cut(postings: &[Posting], most: usize) -> impl Iterator<Item = &[Posting]> {
    let mut rest = postings;
    std::iter::from_fn(move || {
        let first = rest.first()?.row;
        let near = rest.partition_point(|posting| posting.row - first <= u32::from(u16::MAX));
        let count = near.max(BLOCK).min(most).min(rest.len());
        let (block, others) = rest.split_at(count);
        rest = others;
        Some(block)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{BLOCK, Block, LARGE, Posting, cut, encode, length_code, length_of};

    #[test]
    fn lengths_are_exact_when_short_and_close_when_long() {
        for words in 0..128 {
            assert_eq!(length_of(length_code(words)), words as f32);
        }
        for words in [128, 200, 1000, 9999, 30_000] {
            let error = (length_of(length_code(words)) / words as f32 - 1.0).abs();
            assert!(error < 0.022, "{words}: {error}");
        }
    }

    proptest! {
        #[test]
        fn a_block_comes_back_as_it_was(rows in prop::collection::btree_set(0u32..u32::MAX, 1..256), near in any::<bool>()) {
            let postings: Vec<Posting> = rows.iter().enumerate()
                .map(|(index, &row)| Posting { row: if near { index as u32 * 3 } else { row }, count: (row % 255) as u8, length: (row % 251) as u8 })
                .collect();
            let value = encode(&postings);
            let block = Block::read(postings[0].row, &value).expect("a whole block");
            prop_assert_eq!(block.postings(), postings.clone());
            for posting in &postings {
                prop_assert_eq!(block.find(posting.row), Some(*posting));
            }
        }

        #[test]
        fn a_part_of_a_block_has_the_rows_between(
            rows in prop::collection::btree_set(0u32..500_000, 1..300), at in 0u32..500_000, more in 0u64..500_000,
        ) {
            let postings: Vec<Posting> = rows.iter().map(|&row| Posting { row, count: (row % 7) as u8, length: 9 }).collect();
            let value = encode(&postings);
            let block = Block::whole(postings[0].row, &value).expect("a whole block");
            let end = u64::from(at) + more;
            let wanted: Vec<Posting> = postings.into_iter().filter(|posting| posting.row >= at && u64::from(posting.row) < end).collect();
            prop_assert_eq!(block.within(at, end).postings(), wanted);
        }

        #[test]
        fn rows_are_cut_into_blocks_that_can_be_read_and_are_narrow_where_they_can_be(
            steps in prop::collection::vec(prop::sample::select(vec![1u32, 2, 40, 300, 70_000]), 1..6000), most in prop::sample::select(vec![BLOCK, LARGE]),
        ) {
            let mut row = 0;
            let postings: Vec<Posting> = steps.iter().map(|step| { row += step; Posting { row, count: 1, length: 1 } }).collect();
            let mut joined = Vec::new();
            for block in cut(&postings, most) {
                prop_assert!(block.len() <= most);
                let value = encode(block);
                prop_assert!(block.len() <= BLOCK || value[0] <= 2);
                joined.extend(Block::read(block[0].row, &value).expect("a whole block").postings());
            }
            prop_assert_eq!(joined, postings);
        }

        #[test]
        fn torn_blocks_are_refused_or_read_within_bounds(value in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(block) = Block::read(7, &value) {
                prop_assert_eq!(block.postings().len(), block.len());
            }
        }
    }
}
