//! Keys and values of sequences in blocks of sixteen positions, by id.

use std::collections::HashMap;
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
    /// Floats of the states that layers of linear attention have after a position.
    floats: usize,
    /// Those after the last position that each block was written at; of few blocks, the last ones of sequences.
    states: Mutex<HashMap<u32, Vec<f32>>>,
}

impl KvCache {
    pub fn new(lines: usize, floats: usize) -> Self {
        Self {
            lines,
            blocks: Mutex::default(),
            floats,
            states: Mutex::default(),
        }
    }

    fn lock_states(&self) -> MutexGuard<'_, HashMap<u32, Vec<f32>>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes out the states of each sequence's last block after its rows; before any layer went on (`fresh`) they are those
    /// before its rows.
    pub fn take_states(&self, sequences: &[Paged<'_>], fresh: bool) -> Vec<Vec<f32>> {
        let mut states = self.lock_states();
        let take = |sequence: &Paged<'_>| {
            if sequence.tokens == 0 {
                return Vec::new();
            }
            let to = last(sequence);
            if !fresh {
                return states.remove(&to).expect("an earlier layer left them");
            }
            if sequence.first == 0 {
                return vec![0.0; self.floats];
            }
            let from = sequence.blocks[(sequence.first - 1) / LANES];
            if from == to {
                states.remove(&to).expect("the rows before left them")
            } else {
                states[&from].clone()
            }
        };
        sequences.iter().map(take).collect()
    }

    /// Puts them back.
    pub fn put_states(&self, sequences: &[Paged<'_>], given: Vec<Vec<f32>>) {
        let mut states = self.lock_states();
        for (sequence, given) in sequences.iter().zip(given) {
            if sequence.tokens > 0 {
                states.insert(last(sequence), given);
            }
        }
    }

    /// Gives the memory of a block's states back.
    pub fn forget_states(&self, block: u32) {
        self.lock_states().remove(&block);
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
        self.lock_states().retain(|&id, _| (id as usize) < count);
    }

    /// Copies a block to another, which need not exist.
    pub fn copy(&self, from: u32, to: u32) {
        self.reserve(to as usize + 1);
        {
            let mut states = self.lock_states();
            if let Some(copy) = states.get(&from).cloned() {
                states.insert(to, copy);
            }
        }
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
        let count = sequences.iter().map(|sequence| sequence.blocks.len()).sum();
        let mut read_blocks = Vec::with_capacity(count);
        read_blocks.extend(ids.map(read));
        read_blocks
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
        let mut spans: Vec<(*mut Line, Range<usize>)> = Vec::with_capacity(sequences.len());
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

/// The block of a sequence's last row.
fn last(sequence: &Paged<'_>) -> u32 {
    sequence.blocks[(sequence.first + sequence.tokens - 1) / LANES]
}
