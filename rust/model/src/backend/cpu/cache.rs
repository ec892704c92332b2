//! Keys and values of sequences in blocks of sixteen positions, by id.

use std::ops::Range;
use std::slice;
use std::sync::{Mutex, MutexGuard, PoisonError};

use moevolve_kernels::LANES;
use moevolve_kernels::attention::{Heads, Line, append_to_block, block};

use crate::batch::Paged;

/// Blocks of every layer's keys and values. A block is written by the one sequence that holds it alone, and read by those
/// that share it once nobody writes it: whoever hands out the ids sees to that.
#[derive(Debug)]
pub struct KvCache {
    /// Lines of a block.
    lines: usize,
    /// By id. A block's memory stays where it is as others are added.
    blocks: Mutex<Vec<Box<[Line]>>>,
}

impl KvCache {
    pub fn new(lines: usize) -> Self {
        let blocks = Mutex::default();
        Self { lines, blocks }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Box<[Line]>>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes blocks below `count` exist, with zeros.
    pub fn reserve(&self, count: usize) {
        let mut blocks = self.lock();
        while blocks.len() < count {
            blocks.push(block(self.lines));
        }
    }

    /// Gives the memory of blocks from `count` on back.
    pub fn trim(&self, count: usize) {
        self.lock().truncate(count);
    }

    /// Copies a block to another, which need not exist.
    pub fn copy(&self, from: u32, to: u32) {
        self.reserve(to as usize + 1);
        let mut blocks = self.lock();
        let [from, to] = blocks
            .get_disjoint_mut([from as usize, to as usize])
            .expect("a block is copied to another");
        to.copy_from_slice(from);
    }

    /// The blocks of all sequences, one sequence after another.
    ///
    /// # Safety
    /// Nobody writes them, or gives their memory back, as long as the result is used.
    pub unsafe fn blocks(&self, sequences: &[Paged<'_>]) -> Vec<&[Line]> {
        let blocks = self.lock();
        let ids = sequences.iter().flat_map(|sequence| sequence.blocks);
        let read = |&id: &u32| {
            let at = blocks[id as usize].as_ptr();
            // SAFETY: the caller's word; a block's memory stays where it is as others are added.
            unsafe { slice::from_raw_parts(at, self.lines) }
        };
        ids.map(read).collect()
    }

    /// Writes a layer's rows at the sequences' positions: `keys` (rows, width), `key_values` (rows, 2 × width) of which
    /// values are the second half; `order` as of [`moevolve_kernels::attention::Queries`].
    #[allow(clippy::too_many_arguments)]
    pub fn append(
        &self,
        heads: Heads,
        layer: usize,
        sequences: &[Paged<'_>],
        width: usize,
        keys: &[f32],
        key_values: &[f32],
        order: &[u32],
    ) {
        let mut blocks = self.lock();
        // Blocks that are written, and at which offsets.
        let mut spans: Vec<(*mut Line, Range<usize>)> = Vec::new();
        for sequence in sequences {
            let (mut position, end) = (sequence.first, sequence.first + sequence.tokens);
            while position < end {
                let id = sequence.blocks[position / LANES] as usize;
                let offset = position % LANES;
                let count = (end - position).min(LANES - offset);
                spans.push((blocks[id].as_mut_ptr(), offset..offset + count));
                position += count;
            }
        }
        drop(blocks);
        let mut row = 0;
        for (at, offsets) in spans {
            // SAFETY: a block that is written is one sequence's alone, and stays where it is.
            let block = unsafe { slice::from_raw_parts_mut(at, self.lines) };
            for offset in offsets {
                let (key, value) = (&keys[row * width..], &key_values[(2 * row + 1) * width..]);
                append_to_block(heads, layer, offset, key, value, order, block);
                row += 1;
            }
        }
    }
}
