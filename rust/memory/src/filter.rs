//! Which rows a query may return: filters come before ranking.

use std::collections::BTreeSet;

use heed::{AnyTls, RoTxn};

use crate::columns::{BLOCK, Columns, NONE};

/// Filters with their names looked up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// A bit for each kind that passes; 0 lets all pass.
    pub kinds: u32,
    /// Any of these skills.
    pub skills: Option<BTreeSet<u32>>,
    pub run: Option<u32>,
    pub source: Option<u32>,
    /// Only lessons of earlier cycles that hold in this one.
    pub cycle: Option<u32>,
    /// Those that are forgotten, instead of those that hold.
    pub forgotten: bool,
}

/// A set of rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Allowed {
    pub bits: Vec<u64>,
    pub count: usize,
    pub trust: Trust,
}

/// How far rows are trusted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Trust {
    /// Of all rows, while `each` is empty.
    pub same: f32,
    /// Of every row, 64 for each word of bits, where two that are allowed differ.
    pub each: Vec<f32>,
}

impl Trust {
    fn of(each: Vec<f32>, allowed: &[u64]) -> Self {
        let (rows, _) = each.as_chunks::<64>();
        let mut trusted = rows.iter().zip(allowed).flat_map(|(rows, &bits)| {
            (0..64)
                .filter(move |lane| bits >> lane & 1 == 1)
                .map(|lane| rows[lane])
        });
        let same = trusted.next().unwrap_or_default();
        if trusted.all(|trust| trust == same) {
            let each = Vec::new();
            return Self { same, each };
        }
        Self { same, each }
    }

    /// Of one row.
    pub fn get(&self, row: u32) -> f32 {
        self.each.get(row as usize).copied().unwrap_or(self.same)
    }
}

impl Allowed {
    pub fn has(&self, row: u32) -> bool {
        let word = self.bits.get(row as usize / 64);
        word.is_some_and(|word| word >> (row % 64) & 1 == 1)
    }

    /// The rows in ascending order.
    pub fn rows(&self) -> impl Iterator<Item = u32> + '_ {
        self.bits.iter().enumerate().flat_map(|(index, &word)| {
            let mut left = word;
            std::iter::from_fn(move || {
                let bit = left.trailing_zeros();
                left = left.checked_sub(1).map(|less| left & less)?;
                Some(index as u32 * 64 + bit)
            })
        })
    }
}

impl Filter {
    fn in_time(&self, cycle: u32, until: u32) -> bool {
        self.cycle.is_none_or(|now| cycle < now && now < until)
    }

    /// Collects the rows that pass; of a lesson and what supersedes it, at most the later one does.
    pub fn apply(
        &self,
        txn: &RoTxn<'_, AnyTls>,
        columns: Columns,
        rows: u32,
    ) -> heed::Result<Allowed> {
        let size = (rows as usize).next_multiple_of(BLOCK);
        let mut bits = vec![0u64; size / 64];
        let mut trust = vec![0.0; size];
        let mut superseded: Vec<(u32, u32)> = Vec::new();
        let blocks = bits
            .chunks_exact_mut(BLOCK / 64)
            .zip(trust.chunks_exact_mut(BLOCK));
        for (number, (words, trust)) in blocks.enumerate() {
            let Some(block) = columns.block(txn, number as u32)? else {
                continue;
            };
            for index in 0..BLOCK {
                if !block.stands(index, self.forgotten) {
                    continue;
                }
                if let Some(skills) = &self.skills
                    && !skills.contains(&block.skill(index))
                {
                    continue;
                }
                let row = block.row(index);
                let passes = (self.kinds == 0 || self.kinds >> row.kind & 1 == 1)
                    && self.run.is_none_or(|run| run == row.run)
                    && self.source.is_none_or(|source| source == row.source)
                    && self.in_time(row.cycle, row.until);
                if !passes {
                    continue;
                }
                words[index / 64] |= 1 << (index % 64);
                trust[index] = row.trust;
                if row.successor != NONE && !self.forgotten {
                    superseded.push(((number * BLOCK + index) as u32, row.successor));
                }
            }
        }
        for (row, mut successor) in superseded {
            // A successor that was itself forgotten or is of a later cycle leaves the lesson, unless its own counts.
            while successor != NONE {
                let next = columns.get(txn, successor)?;
                let standing = next.standing();
                if !next.gone() && !standing.forgotten && self.in_time(next.cycle, next.until) {
                    bits[row as usize / 64] &= !(1 << (row % 64));
                    break;
                }
                successor = next.successor;
            }
        }
        let count = bits.iter().map(|word| word.count_ones() as usize).sum();
        let trust = Trust::of(trust, &bits);
        Ok(Allowed { bits, count, trust })
    }
}
