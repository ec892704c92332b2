//! Ids of key-value blocks of sixteen positions: shared where samples begin alike, bounded. Their memory is the backend's.

use std::collections::{BTreeMap, HashMap};

use moevolve_kernels::LANES;

/// What a chain of blocks is called whose tokens are known; 0 is the empty one.
pub type Chain = u64;

/// Tokens of a block after those of a chain.
type Key = (Chain, [u32; LANES]);

/// Idle blocks that are kept for later requests: this part of the limit.
const KEPT: usize = 4;

/// Ids of one sequence's blocks, in order of positions.
pub type Table = Vec<u32>;

/// A block's standing.
#[derive(Debug, Default)]
struct Standing {
    /// Sequences that hold it.
    users: usize,
    /// Where it is known by its tokens: its name as a chain, and when it fell idle.
    known: Option<Known>,
}

#[derive(Debug)]
struct Known {
    key: Key,
    chain: Chain,
    idle_since: u64,
}

/// Every block there is, held by sequences, kept for those to come, or free.
///
/// A sequence is let in only if all blocks that it may ever need are promised to it, so none waits half-way.
#[derive(Debug)]
pub struct BlockPool {
    /// Most blocks.
    limit: usize,
    standing: Vec<Standing>,
    free: Vec<u32>,
    /// Blocks that sequences hold.
    live: usize,
    /// Blocks that sequences may still ask for.
    promised: usize,
    known: HashMap<Key, u32>,
    /// Known blocks that nobody holds, by the time when they fell idle: what comes after a block is always older.
    idle: BTreeMap<u64, u32>,
    clock: u64,
    chains: Chain,
}

impl BlockPool {
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            standing: Vec::new(),
            free: Vec::new(),
            live: 0,
            promised: 0,
            known: HashMap::new(),
            idle: BTreeMap::new(),
            clock: 0,
            chains: 0,
        }
    }

    /// Blocks that may be promised now: none while a sequence that is not let in yet holds idle blocks of what others were promised.
    pub fn available(&self) -> usize {
        self.limit.saturating_sub(self.reserved())
    }

    /// Blocks that have had an id: all ids are below.
    pub fn count(&self) -> usize {
        self.standing.len()
    }

    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Blocks that hold something: of sequences, and kept for later ones.
    pub fn used(&self) -> usize {
        self.live + self.idle.len()
    }

    /// Blocks of sequences, and those promised to them.
    pub fn reserved(&self) -> usize {
        self.live + self.promised
    }

    pub fn promise(&mut self, blocks: usize) {
        self.promised += blocks;
    }

    /// Gives promised blocks back that were not taken.
    pub fn forgo(&mut self, blocks: usize) {
        self.promised -= blocks;
    }

    /// Adds a promised block to a sequence.
    pub fn take(&mut self, table: &mut Table) {
        self.promised -= 1;
        self.live += 1;
        if self.free.is_empty() && self.standing.len() == self.limit {
            self.forget_oldest();
        }
        let id = self.free.pop().unwrap_or_else(|| {
            self.standing.push(Standing::default());
            self.standing.len() as u32 - 1
        });
        self.standing[id as usize].users = 1;
        table.push(id);
    }

    /// Whether one sequence alone holds a block that is not known by its tokens: it may write it.
    pub fn owns(&self, id: u32) -> bool {
        let standing = &self.standing[id as usize];
        standing.users == 1 && standing.known.is_none()
    }

    /// Adds a block that another sequence holds already.
    pub fn share(&mut self, from: &Table, at: usize, table: &mut Table) {
        let id = from[at];
        self.standing[id as usize].users += 1;
        table.push(id);
    }

    /// Adds the block with these tokens after a chain, if it is known; returns its chain.
    pub fn find(&mut self, after: Chain, tokens: &[u32], table: &mut Table) -> Option<Chain> {
        let id = *self.known.get(&(after, tokens.try_into().ok()?))?;
        let standing = &mut self.standing[id as usize];
        let known = standing.known.as_ref()?;
        if standing.users == 0 {
            self.idle.remove(&known.idle_since);
            self.live += 1;
        }
        standing.users += 1;
        table.push(id);
        Some(known.chain)
    }

    /// Makes a sequence's block known by its tokens, whole and never written again; returns its chain.
    pub fn make_known(&mut self, after: Chain, tokens: &[u32], table: &Table, at: usize) -> Chain {
        let Ok(tokens) = tokens.try_into() else {
            return after;
        };
        let key = (after, tokens);
        if let Some(id) = self.known.get(&key)
            && let Some(known) = &self.standing[*id as usize].known
        {
            return known.chain;
        }
        self.chains += 1;
        let id = table[at];
        self.known.insert(key, id);
        self.standing[id as usize].known = Some(Known {
            key,
            chain: self.chains,
            idle_since: 0,
        });
        self.chains
    }

    /// Takes a sequence's blocks back; known ones are kept while there is room.
    pub fn release(&mut self, table: Table) {
        for id in table.into_iter().rev() {
            let standing = &mut self.standing[id as usize];
            standing.users -= 1;
            if standing.users > 0 {
                continue;
            }
            self.live -= 1;
            if let Some(known) = &mut standing.known {
                self.clock += 1;
                known.idle_since = self.clock;
                self.idle.insert(self.clock, id);
            } else {
                self.free.push(id);
            }
        }
        while self.idle.len() > self.limit / KEPT {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, id)) = self.idle.pop_first()
            && let Some(known) = self.standing[id as usize].known.take()
        {
            self.known.remove(&known.key);
            self.free.push(id);
        }
    }

    /// Forgets all tokens: the weights that read them are others now.
    pub fn forget(&mut self) {
        while !self.idle.is_empty() {
            self.forget_oldest();
        }
        for (_, id) in self.known.drain() {
            self.standing[id as usize].known = None;
        }
    }

    /// Takes the ids from `blocks` on out of use, if nothing is held or kept.
    pub fn trim(&mut self, blocks: usize) {
        if self.used() == 0 && self.standing.len() > blocks {
            // Free ids in order, so that those left are the first.
            self.free.sort_unstable();
            self.free.truncate(blocks);
            self.standing.truncate(blocks);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A prompt that begins like an earlier one takes over idle blocks before it is known whether the rest fits.
    #[test]
    fn idle_blocks_that_are_held_again_leave_nothing_of_what_is_promised() {
        let mut pool = BlockPool::new(8);
        let tokens = [7; LANES];
        let mut table = Table::default();
        pool.promise(1);
        pool.take(&mut table);
        pool.make_known(0, &tokens, &table, 0);
        pool.release(table);
        pool.promise(8);
        assert_eq!((pool.available(), pool.used()), (0, 1));

        let mut newcomer = Table::default();
        assert!(pool.find(0, &tokens, &mut newcomer).is_some());
        assert_eq!(pool.available(), 0, "nine blocks are asked of eight");
        pool.release(newcomer);

        let mut promised = Table::default();
        (0..8).for_each(|_| pool.take(&mut promised));
        assert_eq!((pool.used(), pool.count()), (8, 8));
    }
}
