//! A text under way: its tokens, the blocks that hold what was read of it, and the samples that continue it.

use std::sync::Arc;

use moevolve_kernels::LANES;
use moevolve_model::batch::Paged;

use crate::draft;
use crate::kv::{BlockPool, Chain, Table};
use crate::sampling::{Draws, Sampling};
use crate::scheduler::Event;

/// One sample, or a prompt that is being read for several.
pub struct Sequence {
    pub request: u64,
    pub sampling: Arc<Sampling>,
    /// Prompt and drawn tokens.
    pub ids: Vec<u32>,
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Tokens whose keys and values are in the table.
    pub read: usize,
    pub table: Table,
    /// Blocks that it may still take, for its forks as well.
    pub promised: usize,
    /// Blocks that each sample may need beyond the whole ones of the prompt.
    pub each: usize,
    /// Whole blocks that are known by their tokens, and the name of their chain; None if they are not to be.
    pub known: Option<(usize, Chain)>,
    pub draws: Draws,
    /// Samples that begin when the prompt is read.
    pub forks: Vec<Draws>,
    /// Tokens that this step reads: of `ids`, then drafts.
    pub fed: usize,
    pub drafts: Vec<u32>,
    /// Rows of logits that it gets in this step: none, or one after its last token and after each draft.
    pub rows: usize,
    /// Whether the network keeps states of it beside keys and values: they go on token by token, so that nothing that others
    /// read is taken over, and nothing is guessed.
    pub recurrent: bool,
    /// Tokens that it pays to draft, by how well the last drafts did.
    reach: usize,
}

/// Blocks that so many positions take.
pub fn blocks(positions: usize) -> usize {
    positions.div_ceil(LANES)
}

impl Sequence {
    pub fn new(
        request: u64,
        sampling: Arc<Sampling>,
        prompt: &[u32],
        draws: Draws,
        forks: Vec<Draws>,
    ) -> Self {
        Self {
            request,
            ids: prompt.to_vec(),
            prompt: prompt.len(),
            read: 0,
            table: Table::default(),
            promised: 0,
            known: Some((0, 0)),
            draws,
            forks,
            fed: 0,
            drafts: Vec::new(),
            rows: 0,
            each: 0,
            recurrent: false,
            reach: sampling.speculate,
            sampling,
        }
    }

    /// Tokens that are not read yet.
    pub fn unread(&self) -> usize {
        self.ids.len() - self.read
    }

    /// What this step reads of it.
    pub fn paged(&self) -> Paged<'_> {
        Paged {
            blocks: &self.table,
            first: self.read,
            tokens: self.fed,
            outputs: self.rows,
        }
    }

    /// Whether its prompt is being read.
    pub fn reading(&self) -> bool {
        self.read < self.prompt
    }

    /// Guesses what comes after its last token, where it asks for that.
    pub fn draft(&mut self) {
        self.drafts.clear();
        if self.recurrent {
            return;
        }
        let most = self.reach.min(self.draws.left().saturating_sub(1));
        if most > 0 {
            self.drafts.extend(draft::continuation(&self.ids, most));
        }
    }

    /// Takes over blocks that others have read, as long as a token is left to read.
    pub fn adopt(&mut self, pool: &mut BlockPool) {
        let Some((mut count, mut chain)) = self.known.filter(|_| !self.recurrent) else {
            return;
        };
        while self.read == count * LANES && self.read + LANES < self.prompt {
            let tokens = &self.ids[self.read..self.read + LANES];
            let Some(next) = pool.find(chain, tokens, &mut self.table) else {
                break;
            };
            (count, chain) = (count + 1, next);
            self.read += LANES;
            if self.promised > 0 {
                // It was let in before: one block less to take.
                self.promised -= 1;
                pool.forgo(1);
            }
        }
        self.known = Some((count, chain));
    }

    /// Makes whole blocks of the first `tokens` tokens known.
    pub fn publish(&mut self, tokens: usize, pool: &mut BlockPool) {
        let Some((mut count, mut chain)) = self.known.filter(|_| !self.recurrent) else {
            return;
        };
        while (count + 1) * LANES <= self.read.min(tokens) {
            let tokens = &self.ids[count * LANES..][..LANES];
            chain = pool.make_known(chain, tokens, &self.table, count);
            count += 1;
        }
        self.known = Some((count, chain));
    }

    /// Whether both read the same block next.
    pub fn reads_like(&self, other: &Self) -> bool {
        let end = self.read + LANES;
        self.read.is_multiple_of(LANES)
            && !self.recurrent
            && end < self.prompt
            && end <= other.prompt
            && self.ids[..end] == other.ids[..end]
    }

    /// Counts this step's tokens as read, drafts as far as they were drawn.
    pub fn settle(&mut self) {
        let known = self.read + self.fed - self.drafts.len();
        let drawn = if self.rows > 0 {
            self.ids.len() - known
        } else {
            0
        };
        self.read = if drawn > 0 {
            // Whatever a draft's place holds, the last token is read in the next step.
            self.ids.len() - 1
        } else {
            known
        };
        let drafted = self.drafts.len();
        if drafted > 0 {
            self.reach = if drawn > drafted {
                (2 * self.reach).min(self.sampling.speculate)
            } else {
                drawn.max(1)
            };
        }
        self.fed = 0;
        self.rows = 0;
        self.drafts.clear();
    }

    /// A sample of its own that continues the prompt, which has been read; `promised` blocks go along.
    ///
    /// `copy` copies the block of an id to another's.
    pub fn fork(
        &mut self,
        draws: Draws,
        promised: usize,
        pool: &mut BlockPool,
        copy: impl Fn(u32, u32),
    ) -> Self {
        let mut one = Self::new(
            self.request,
            Arc::clone(&self.sampling),
            &self.ids[..self.prompt],
            draws,
            Vec::new(),
        );
        one.promised = promised;
        one.recurrent = self.recurrent;
        self.promised -= promised;
        one.each = self.each;
        if one.draws.finish.is_some() {
            return one;
        }
        let whole = self.prompt / LANES;
        for at in 0..whole {
            pool.share(&self.table, at, &mut one.table);
        }
        if whole < self.table.len() {
            pool.take(&mut one.table);
            one.promised -= 1;
            copy(self.table[whole], one.table[whole]);
        }
        one.read = self.prompt;
        one.known = self.known;
        one.ids.extend(&one.draws.news.tokens);
        one
    }

    /// What was drawn since the last event; None if that is to wait for the end.
    pub fn event(&mut self, whole: bool) -> Option<Event> {
        let told = !whole || self.draws.finish.is_some();
        told.then(|| Event {
            request: self.request,
            sample: self.draws.sample,
            drawn: std::mem::take(&mut self.draws.news),
            finish: self.draws.finish,
        })
    }

    /// The block of the last token that is read.
    pub fn last_block(&self) -> Option<u32> {
        let last = self.read.checked_sub(1)?;
        self.table.get(last / LANES).copied()
    }

    /// Blocks whose states nobody reads after this sequence.
    pub fn states<'a>(&'a self, pool: &'a BlockPool) -> impl Iterator<Item = u32> + 'a {
        let own = self.table.iter().filter(|&&id| pool.owns(id));
        own.copied().filter(|_| self.recurrent)
    }

    /// Gives everything back.
    pub fn release(self, pool: &mut BlockPool) {
        pool.forgo(self.promised);
        pool.release(self.table);
    }
}
