//! Where every row stands in the chain of what superseded what, for the proof that no supersession is lost.

use std::path::Path;

use heed::{AnyTls, RoTxn};

use crate::bytes::row_of;
use crate::columns::{BLOCK, Block, Columns, NONE};
use crate::store::{Work, torn};

/// Every row's place.
pub struct Chains {
    /// Rows that are on file.
    pub kept: u64,
    /// The first row of a row's chain, and its place there.
    places: Vec<(u32, u32)>,
    /// Rows that come directly after one that is on file.
    after_a_lesson: Vec<bool>,
}

impl Chains {
    /// # Errors
    /// `Torn` where a row beyond the last is on file or in a chain, two rows have one successor, or a chain has no end.
    pub fn read(txn: &RoTxn<'_, AnyTls>, path: &Path, columns: Columns, rows: u32) -> Work<Self> {
        let refused = || torn(path, "columns");
        let count = rows as usize;
        let (mut successors, mut begins) = (vec![NONE; count], vec![true; count]);
        let mut after_a_lesson = vec![false; count];
        let mut kept = 0;
        for item in columns.0.iter(txn)? {
            let (key, value) = item?;
            let block = row_of(key).zip(Block::read(value));
            let (number, block) = block.ok_or_else(refused)?;
            for index in 0..BLOCK {
                let (row, of) = (number as usize * BLOCK + index, block.row(index));
                kept += u64::from(!of.gone());
                if of.gone() && of.successor == NONE {
                    continue;
                }
                if row >= count {
                    return Err(refused().into());
                }
                if of.successor == NONE {
                    continue;
                }
                let next = of.successor as usize;
                if next >= count || !std::mem::replace(&mut begins[next], false) {
                    return Err(refused().into());
                }
                successors[row] = of.successor;
                after_a_lesson[next] = !of.gone();
            }
        }
        let mut places = vec![(NONE, 0); count];
        let mut placed = 0;
        for first in (0..rows).filter(|row| begins[*row as usize]) {
            let (mut row, mut place) = (first, 0);
            while row != NONE {
                places[row as usize] = (first, place);
                (row, place) = (successors[row as usize], place + 1);
                placed += 1;
            }
        }
        if placed != count {
            return Err(refused().into());
        }
        Ok(Self {
            kept,
            places,
            after_a_lesson,
        })
    }

    /// Whether a row comes after another one.
    pub fn follows(&self, row: u32, before: u32) -> bool {
        let (first, place) = self.places[row as usize];
        let (of, earlier) = self.places[before as usize];
        first == of && earlier < place
    }

    /// Whether a row comes directly after one that is on file.
    pub fn after_a_lesson(&self, row: u32) -> bool {
        self.after_a_lesson[row as usize]
    }
}
