//! What filters look at, column by column: small numbers of every row, in blocks of `BLOCK` rows.

use heed::types::Bytes;
use heed::{AnyTls, Database, RoTxn, RwTxn};

use crate::bytes::row_key;
use crate::lesson::Standing;

pub const BLOCK: usize = 1024;

/// No row, no end.
pub const NONE: u32 = u32::MAX;

const FORGOTTEN: u8 = 1;
const PINNED: u8 = 2;
const GONE: u8 = 4;
const VECTOR: u8 = 8;

/// The columns of one row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    pub flags: u8,
    pub kind: u8,
    pub skill: u32,
    pub run: u32,
    pub source: u32,
    pub cycle: u32,
    pub until: u32,
    /// The row that supersedes this one.
    pub successor: u32,
    pub trust: f32,
}

impl Row {
    /// A row that is not on file, any more or at all.
    pub const GONE: Self = Self {
        flags: GONE,
        kind: 0,
        skill: NONE,
        run: NONE,
        source: NONE,
        cycle: 0,
        until: NONE,
        successor: NONE,
        trust: 0.5,
    };

    pub fn gone(&self) -> bool {
        self.flags & GONE != 0
    }

    pub fn has_vector(&self) -> bool {
        self.flags & VECTOR != 0
    }

    pub fn set_vector(&mut self, has: bool) {
        self.flags = self.flags & !VECTOR | if has { VECTOR } else { 0 };
    }

    pub fn standing(&self) -> Standing {
        Standing {
            trust: self.trust,
            pinned: self.flags & PINNED != 0,
            forgotten: self.flags & FORGOTTEN != 0,
        }
    }

    pub fn set_standing(&mut self, standing: Standing) {
        self.trust = standing.trust;
        self.flags &= !(PINNED | FORGOTTEN);
        if standing.pinned {
            self.flags |= PINNED;
        }
        if standing.forgotten {
            self.flags |= FORGOTTEN;
        }
    }
}

/// Bytes of a row, all columns together.
const WIDTH: usize = 2 + 7 * 4;

/// One block as it lies on file: flags, kinds, then each wide column.
pub struct Block<'a>(&'a [u8; BLOCK * WIDTH]);

impl<'a> Block<'a> {
    pub fn read(value: &'a [u8]) -> Option<Self> {
        Some(Self(value.try_into().ok()?))
    }

    fn wide(&self, column: usize, index: usize) -> u32 {
        let at = BLOCK * (2 + 4 * column) + 4 * index;
        let bytes = self.0[at..at + 4].try_into();
        u32::from_le_bytes(bytes.unwrap_or([0; 4]))
    }

    /// Whether a row is on file, and forgotten or not as is wanted.
    pub fn stands(&self, index: usize, forgotten: bool) -> bool {
        self.0[index] & (GONE | FORGOTTEN) == if forgotten { FORGOTTEN } else { 0 }
    }

    pub fn skill(&self, index: usize) -> u32 {
        self.wide(0, index)
    }

    pub fn row(&self, index: usize) -> Row {
        Row {
            flags: self.0[index],
            kind: self.0[BLOCK + index],
            skill: self.wide(0, index),
            run: self.wide(1, index),
            source: self.wide(2, index),
            cycle: self.wide(3, index),
            until: self.wide(4, index),
            successor: self.wide(5, index),
            trust: f32::from_bits(self.wide(6, index)),
        }
    }
}

fn write(block: &mut [u8], index: usize, row: Row) {
    block[index] = row.flags;
    block[BLOCK + index] = row.kind;
    let wide = [
        row.skill,
        row.run,
        row.source,
        row.cycle,
        row.until,
        row.successor,
        row.trust.to_bits(),
    ];
    for (column, value) in wide.into_iter().enumerate() {
        let at = BLOCK * (2 + 4 * column) + 4 * index;
        block[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
}

/// The database of the columns.
#[derive(Clone, Copy)]
pub struct Columns(pub Database<'static, Bytes, Bytes>);

impl Columns {
    /// One row; `Row::GONE` where there is none.
    pub fn get(&self, txn: &RoTxn<'_, AnyTls>, row: u32) -> heed::Result<Row> {
        let (block, index) = (row / BLOCK as u32, row as usize % BLOCK);
        let value = self.0.get(txn, &row_key(block))?;
        Ok(value
            .and_then(Block::read)
            .map_or(Row::GONE, |block| block.row(index)))
    }

    /// The block with this number.
    pub fn block<'t>(
        &self,
        txn: &'t RoTxn<'_, AnyTls>,
        number: u32,
    ) -> heed::Result<Option<Block<'t>>> {
        Ok(self.0.get(txn, &row_key(number))?.and_then(Block::read))
    }

    /// Writes rows, each block once.
    pub fn put(&self, txn: &mut RwTxn<'_>, rows: &[(u32, Row)]) -> heed::Result<()> {
        let mut rows = rows;
        while let Some(&(first, _)) = rows.first() {
            let number = first / BLOCK as u32;
            let same = rows
                .iter()
                .take_while(|(row, _)| row / BLOCK as u32 == number)
                .count();
            let mut block = match self.0.get(txn, &row_key(number))? {
                Some(value) if value.len() == BLOCK * WIDTH => value.to_vec(),
                _ => {
                    let mut block = vec![0; BLOCK * WIDTH];
                    (0..BLOCK).for_each(|index| write(&mut block, index, Row::GONE));
                    block
                }
            };
            for &(row, columns) in &rows[..same] {
                write(&mut block, row as usize % BLOCK, columns);
            }
            self.0.put(txn, &row_key(number), &block)?;
            rows = &rows[same..];
        }
        Ok(())
    }
}
