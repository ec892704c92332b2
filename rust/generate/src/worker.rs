//! One thread's samples, and their steps: let in, read and drawn together, told, let go.

use std::sync::{Arc, Mutex};

use moevolve_kernels::LANES;
use moevolve_model::backend::{Backend, Device};
use moevolve_model::batch::{Paged, QueryRows};
use moevolve_model::network::{Keep, KeyValues, Pass};

use crate::drawing::Drawing;
use crate::kv::BlockPool;
use crate::sampling::{Draws, Finish};
use crate::scheduler::{Event, Shared, lock};
use crate::sequence::{Sequence, blocks};

/// Samples that are read and drawn together.
pub struct WorkerBatch<D: Device> {
    pub sequences: Vec<Sequence>,
    pub events: Vec<Event>,
    pass: Pass<D>,
    ids: Vec<u32>,
    all: QueryRows,
    outputs: QueryRows,
}

impl<D: Device> Default for WorkerBatch<D> {
    fn default() -> Self {
        Self {
            sequences: Vec::new(),
            events: Vec::new(),
            pass: Pass::default(),
            ids: Vec::new(),
            all: QueryRows::default(),
            outputs: QueryRows::default(),
        }
    }
}

impl<D: Device> WorkerBatch<D> {
    /// Samples it has, those that begin when their prompt is read among them.
    pub fn samples(&self) -> usize {
        self.sequences.iter().map(|s| 1 + s.forks.len()).sum()
    }

    /// One step; false if there was nothing to do, or the device failed. `whole` keeps tokens back until their sample has ended.
    pub fn step<B: Backend<Device = D>>(
        &mut self,
        backend: &B,
        cache: &D::KvCache,
        shared: &Mutex<Shared>,
        whole: bool,
    ) -> bool {
        {
            let mut shared = lock(shared);
            let reads = backend.prefill();
            forget_stale(backend, cache, &mut shared);
            let recurrent = backend.host().config.linear.is_some();
            self.admit(&mut shared, reads, recurrent);
            self.plan(&mut shared.pool, reads);
            backend.reserve_kv(cache, shared.pool.count());
        }
        if self.ids.is_empty() {
            return false;
        }
        self.read(backend, cache);
        self.draw(backend);
        // What a device that failed has not computed is nobody's: the scheduler makes no further step.
        if backend.failed() {
            return false;
        }
        let mut shared = lock(shared);
        self.settle(backend, cache, &mut shared, whole);
        true
    }

    /// Lets waiting samples in, in order, while there are slots and memory, and not too much is unread; `recurrent`: of a
    /// network that keeps states beside keys and values.
    fn admit(&mut self, shared: &mut Shared, reads: [usize; 2], recurrent: bool) {
        let decoding = self.sequences.iter().any(|s| !s.reading());
        let budget = reads[usize::from(!decoding)];
        let mut unread: usize = self
            .sequences
            .iter()
            .filter(|s| s.reading())
            .map(Sequence::unread)
            .sum();
        let mut own = self.samples();
        while unread < budget
            && let Some(first) = shared.waiting.front_mut()
            && first.reach() <= shared.ready
        {
            let fair = (shared.busy + shared.waiting_samples).div_ceil(shared.workers);
            let most = first
                .samples
                .len()
                .min(shared.slots - shared.busy)
                .min(fair.saturating_sub(own))
                .min(shared.slots.div_ceil(shared.workers).saturating_sub(own));
            if most == 0 {
                break;
            }
            // The first prompt's blocks, and for each sample what comes after those that are whole, and its states.
            let whole = first.prompt.len() / LANES;
            let each = blocks(first.prompt.len() + first.most - 1) - whole + first.states;
            let mut draws = first.samples.iter().take(most).map(|&(sample, key)| {
                Draws::new(sample, key, first.most, &first.sampling, &first.prompt)
            });
            let Some(lead) = draws.next() else { break };
            let forks = draws.collect();
            let mut sequence = Sequence::new(
                first.request,
                Arc::clone(&first.sampling),
                &first.prompt,
                lead,
                forks,
            );
            sequence.recurrent = recurrent;
            sequence.adopt(&mut shared.pool);
            let prompt = whole - sequence.table.len();
            let fits = shared.pool.available().saturating_sub(prompt) / each.max(1);
            let count = if each == 0 { most } else { most.min(fits) };
            if count == 0 || shared.pool.available() < prompt {
                shared.pool.release(sequence.table);
                break;
            }
            sequence.forks.truncate(count - 1);
            sequence.each = each;
            sequence.promised = prompt + count * each;
            shared.pool.promise(sequence.promised);
            first.samples.drain(..count);
            if first.samples.is_empty() {
                shared.waiting.pop_front();
            }
            shared.busy += count;
            shared.waiting_samples -= count;
            own += count;
            unread += sequence.unread();
            self.sequences.push(sequence);
        }
    }

    /// Chooses what this step reads: a token of each sample and its drafts, then prompts in order, up to a bound.
    fn plan(&mut self, pool: &mut BlockPool, reads: [usize; 2]) {
        self.ids.clear();
        self.all.clear();
        self.outputs.clear();
        let decoding = self.sequences.iter().any(|s| !s.reading());
        let mut budget = reads[usize::from(!decoding)];
        for at in 0..self.sequences.len() {
            let (before, rest) = self.sequences.split_at_mut(at);
            let sequence = &mut rest[0];
            if !sequence.reading() {
                sequence.draft();
                sequence.fed = sequence.unread() + sequence.drafts.len();
            } else {
                sequence.adopt(pool);
                // What another one reads in this step need not be read twice: it is there in the next.
                let twice = before
                    .iter()
                    .any(|other| other.reading() && other.fed > 0 && sequence.reads_like(other));
                let unread = sequence.unread();
                sequence.fed = match (twice, unread <= budget) {
                    (true, _) => 0,
                    (false, true) => unread,
                    // Up to the end of a block.
                    (false, false) => {
                        ((sequence.read + budget) / LANES * LANES).saturating_sub(sequence.read)
                    }
                };
                budget -= sequence.fed;
            }
            sequence.rows = if sequence.fed == 0 || sequence.fed < sequence.unread() {
                0
            } else {
                1 + sequence.drafts.len()
            };
            let reach = blocks(sequence.read + sequence.fed);
            while sequence.table.len() < reach {
                pool.take(&mut sequence.table);
                sequence.promised -= 1;
            }
            let written = &sequence.table[sequence.read / LANES..reach];
            let own = sequence.fed == 0 || written.iter().all(|&id| pool.owns(id));
            assert!(own, "a block that is written is its sequence's own");
            self.push_rows(at);
        }
        self.all.whole = true;
        self.outputs.whole = self.outputs.len() == self.all.len();
    }

    /// Puts a sequence's rows into the batch.
    fn push_rows(&mut self, at: usize) {
        let sequence = &self.sequences[at];
        let (read, fed, rows) = (sequence.read, sequence.fed, sequence.rows);
        let known = &sequence.ids[read..][..fed - sequence.drafts.len()];
        for (index, &id) in known.iter().chain(&sequence.drafts).enumerate() {
            let (row, position) = (self.ids.len(), read + index);
            self.ids.push(id);
            let output = (index >= fed - rows).then_some(&mut self.outputs);
            for list in std::iter::once(&mut self.all).chain(output) {
                list.push(row, position, position, sequence.prompt);
            }
        }
    }

    /// The network over the batch: keys and values into the sequences' blocks, logits of the output rows.
    fn read<B: Backend<Device = D>>(&mut self, backend: &B, cache: &D::KvCache) {
        let sequences: Vec<Paged<'_>> = self.sequences.iter().map(Sequence::paged).collect();
        let attention = KeyValues::Paged {
            cache,
            sequences: &sequences,
        };
        let (ids, all, outputs) = (&self.ids, &self.all, &self.outputs);
        let keep = Keep::Nothing;
        self.pass
            .forward(backend, ids, all, outputs, &attention, keep, |_, _| {});
    }

    /// Draws for every sequence with logits.
    fn draw<B: Backend<Device = D>>(&mut self, backend: &B) {
        let eos = &backend.host().config.eos;
        let mut row = 0;
        let mut drawing = Vec::new();
        for sequence in &mut self.sequences {
            let rows = sequence.rows;
            if rows > 0 {
                drawing.push(Drawing::new(sequence, row, eos));
            }
            row += rows;
        }
        backend.sample(&mut self.pass.head, &mut drawing);
    }

    /// Tells what was drawn; finished samples leave, those that waited for their prompt begin.
    fn settle<B: Backend<Device = D>>(
        &mut self,
        backend: &B,
        cache: &D::KvCache,
        shared: &mut Shared,
        whole: bool,
    ) {
        let copy = |from, to| backend.copy_kv(cache, from, to);
        let mut begun = Vec::new();
        let mut at = 0;
        while at < self.sequences.len() {
            let sequence = &mut self.sequences[at];
            let drew = sequence.rows > 0;
            if sequence.fed > 0 {
                let before = sequence.last_block();
                sequence.settle();
                if let Some(id) = before.filter(|&id| sequence.last_block() != Some(id))
                    && sequence.recurrent
                    && shared.pool.owns(id)
                {
                    backend.forget_states(cache, id);
                }
                sequence.publish(sequence.prompt, &mut shared.pool);
            }
            if !drew {
                at += 1;
                continue;
            }
            let each = sequence.each;
            if !sequence.forks.is_empty() {
                // Who left in this step left blocks that forks take, and states under their ids.
                forget_stale(backend, cache, shared);
            }
            for draws in std::mem::take(&mut sequence.forks) {
                let mut one = sequence.fork(draws, each, &mut shared.pool, copy);
                if let Some(event) = one.event(whole) {
                    self.events.push(event);
                }
                if one.draws.finish.is_some() {
                    shared.leave(one, !whole);
                } else {
                    begun.push(one);
                }
            }
            if let Some(event) = sequence.event(whole) {
                self.events.push(event);
            }
            if sequence.draws.finish.is_some() {
                let done = self.sequences.swap_remove(at);
                shared.leave(done, !whole);
            } else {
                at += 1;
            }
        }
        self.sequences.append(&mut begun);
    }

    /// Ends samples of a request, all or one.
    pub fn cancel(&mut self, request: u64, sample: Option<usize>, shared: &mut Shared) {
        let meant = |draws: &Draws| sample.is_none_or(|sample| sample == draws.sample);
        let mut at = 0;
        while at < self.sequences.len() {
            let sequence = &mut self.sequences[at];
            if sequence.request != request {
                at += 1;
                continue;
            }
            let (gone, kept) = std::mem::take(&mut sequence.forks)
                .into_iter()
                .partition(|draws| meant(draws));
            sequence.forks = kept;
            let mut gone: Vec<Draws> = gone;
            let lead = meant(&sequence.draws);
            if lead && !sequence.forks.is_empty() {
                // Another one reads the prompt on.
                let next = sequence.forks.remove(0);
                gone.push(std::mem::replace(&mut sequence.draws, next));
            }
            let (each, ends) = (sequence.each, meant(&sequence.draws));
            sequence.promised -= gone.len() * each;
            shared.pool.forgo(gone.len() * each);
            for draws in gone {
                self.events.push(Event::cancelled(request, draws.sample));
                shared.ended(request);
            }
            if ends {
                let mut done = self.sequences.swap_remove(at);
                done.draws.finish = Some(Finish::Cancelled);
                self.events.extend(done.event(false));
                shared.leave(done, true);
            } else {
                at += 1;
            }
        }
    }
}

/// Gives back the memory of states that nobody reads any more, before their blocks are somebody's again.
fn forget_stale<B: Backend>(
    backend: &B,
    cache: &<B::Device as Device>::KvCache,
    shared: &mut Shared,
) {
    for id in std::mem::take(&mut shared.stale) {
        backend.forget_states(cache, id);
    }
}
