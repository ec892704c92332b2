//! Ragged sequences packed row after row without padding.

use std::ops::Range;

use moevolve_kernels::ggml::Company;

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

/// Rows of a packed batch that ask a question of a layer: all, or those whose answer is used.
#[derive(Clone, Debug, Default)]
pub struct Asking {
    /// Packed row of each.
    pub rows: Vec<u32>,
    /// Its index in its own sequence, the last key it may see.
    pub last: Vec<u32>,
    /// Its rotary position.
    pub positions: Vec<u32>,
    /// What llama.cpp would multiply it together with.
    pub company: Vec<Company>,
    /// Part of each sequence in the lists above.
    pub spans: Vec<Range<usize>>,
    /// Whether all rows ask, in order.
    pub whole: bool,
}

impl Asking {
    fn open(&mut self) {
        self.spans.push(self.rows.len()..self.rows.len());
    }

    /// Adds a row that is token `index` of a sequence with so long a prompt.
    pub fn push(&mut self, row: usize, index: usize, position: usize, prompt: usize) {
        self.rows.push(row as u32);
        self.last.push(index as u32);
        self.positions.push(position as u32);
        self.company.push(Company::of(index, prompt));
        if let Some(span) = self.spans.last_mut() {
            span.end += 1;
        }
    }

    pub fn clear(&mut self) {
        self.rows.clear();
        self.last.clear();
        self.positions.clear();
        self.company.clear();
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
    pub every: Asking,
    /// Rows whose output is used: the last layer and the head compute no others.
    pub asked: Asking,
    /// Length of the longest sequence.
    pub longest: usize,
}

impl Packed {
    pub fn clear(&mut self) {
        self.ids.clear();
        self.every.clear();
        self.asked.clear();
        self.every.whole = true;
        self.longest = 0;
    }

    /// Adds a sequence of a prompt and more, with its rotary positions; its outputs at `asked` are used.
    pub fn push(&mut self, ids: &[u32], prompt: usize, positions: &Positions, asked: Range<usize>) {
        self.every.open();
        self.asked.open();
        for (index, &id) in ids.iter().enumerate() {
            let row = self.ids.len();
            self.ids.push(id);
            self.every.push(row, index, positions.at(index), prompt);
            if asked.contains(&index) {
                self.asked.push(row, index, positions.at(index), prompt);
            }
        }
        self.longest = self.longest.max(ids.len());
        self.asked.whole = self.asked.len() == self.every.len();
    }

    pub fn len(&self) -> usize {
        self.ids.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}
