//! Ragged sequences packed row after row without padding.

use std::ops::Range;

use moevolve_kernels::BatchClass;

/// Rotary positions of a sequence.
#[derive(Clone, Debug)]
pub enum Positions {
    /// Consecutive, from this one on.
    From(usize),
    /// One a token, increasing.
    Each(Vec<u32>),
}

impl Positions {
    /// Position of the token at `index`.
    pub fn at(&self, index: usize) -> usize {
        match self {
            Self::From(first) => first + index,
            Self::Each(positions) => positions[index] as usize,
        }
    }

    /// Positions that a sequence of `tokens` reaches, or None unless there is an increasing one for each token.
    pub fn reach(&self, tokens: usize) -> Option<usize> {
        match self {
            Self::From(first) => first.checked_add(tokens),
            Self::Each(positions) => {
                let increasing = positions.windows(2).all(|pair| pair[0] < pair[1]);
                let last = positions.last().map_or(0, |&last| last as usize + 1);
                (positions.len() == tokens && increasing).then_some(last)
            }
        }
    }
}

/// Rows of a packed batch that a layer computes: all of them, or those whose output is used.
#[derive(Clone, Debug, Default)]
pub struct QueryRows {
    /// Packed row of each.
    pub rows: Vec<u32>,
    /// Its index in its own sequence, the last key it may see.
    pub last: Vec<u32>,
    /// Its rotary position.
    pub positions: Vec<u32>,
    /// Its batch class in llama.cpp.
    pub classes: Vec<BatchClass>,
    /// Part of each sequence in the lists above.
    pub spans: Vec<Range<usize>>,
    /// Whether these are all rows, in order.
    pub whole: bool,
}

impl QueryRows {
    fn open(&mut self) {
        self.spans.push(self.rows.len()..self.rows.len());
    }

    /// Adds a row that is token `index` of a sequence with so long a prompt.
    pub fn push(&mut self, row: usize, index: usize, position: usize, prompt: usize) {
        self.rows.push(row as u32);
        self.last.push(index as u32);
        self.positions.push(position as u32);
        self.classes.push(BatchClass::of(index, prompt));
        if let Some(span) = self.spans.last_mut() {
            span.end += 1;
        }
    }

    pub fn clear(&mut self) {
        self.rows.clear();
        self.last.clear();
        self.positions.clear();
        self.classes.clear();
        self.spans.clear();
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// Sequences of a chunk, one after another.
#[derive(Clone, Debug, Default)]
pub struct Packed {
    pub ids: Vec<u32>,
    /// Every row.
    pub all: QueryRows,
    /// Rows whose output is used: the last layer and the head compute no others.
    pub outputs: QueryRows,
    /// Length of the longest sequence.
    pub longest: usize,
}

impl Packed {
    pub fn clear(&mut self) {
        self.ids.clear();
        self.all.clear();
        self.outputs.clear();
        self.all.whole = true;
        self.longest = 0;
    }

    /// Adds a sequence of a prompt and more, with its rotary positions; its outputs at `outputs` are used.
    pub fn push(
        &mut self,
        ids: &[u32],
        prompt: usize,
        positions: &Positions,
        outputs: Range<usize>,
    ) {
        self.all.open();
        self.outputs.open();
        for (index, &id) in ids.iter().enumerate() {
            let row = self.ids.len();
            self.ids.push(id);
            self.all.push(row, index, positions.at(index), prompt);
            if outputs.contains(&index) {
                self.outputs.push(row, index, positions.at(index), prompt);
            }
        }
        self.longest = self.longest.max(ids.len());
        self.outputs.whole = self.outputs.len() == self.all.len();
    }

    pub fn len(&self) -> usize {
        self.ids.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

/// One sequence's rows of a batch whose keys and values lie in blocks of a cache.
#[derive(Clone, Copy, Debug)]
pub struct Paged<'a> {
    /// Ids of its blocks, in order of positions.
    pub blocks: &'a [u32],
    /// Position of its first row.
    pub first: usize,
    /// Its rows.
    pub tokens: usize,
    /// Those of them, the last ones, whose output is used.
    pub outputs: usize,
}
