//! One thread's samples, and their rounds: let in, read and drawn together, told, let go.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use moevolve_kernels::attention::{attend_blocks, remember_in_block};
use moevolve_kernels::{LANES, reserve};

use super::pool::Pool;
use super::sampling::{Draws, Finish, Scratch};
use super::sequence::{Sequence, blocks};
use super::{Event, Shared, lock};
use crate::batch::Asking;
use crate::decoder::{Inference, Network};

/// Prompt tokens that a round reads: while samples wait for their next token, and while none does.
///
/// A stored network's products are split over the threads and its rounds take long: it reads less at a time.
const READ: [usize; 2] = [256, 1024];
const READ_STORED: [usize; 2] = [64, 256];

/// Query rows of one sequence that a thread attends from at a time.
const ATTENDED: usize = 32;

/// Samples that are read and drawn together.
#[derive(Default)]
pub struct Lane {
    pub sequences: Vec<Sequence>,
    pub events: Vec<Event>,
    pass: Inference,
    ids: Vec<u32>,
    every: Asking,
    asked: Asking,
    /// One a thread.
    scratch: Vec<Mutex<(Scratch, Vec<f32>)>>,
}

/// A sequence, which of the rows that ask are its, and where their results go.
type Part<'a> = (&'a Sequence, Range<usize>, &'a mut [f32]);

impl Lane {
    /// Samples it has, those that begin when their prompt is read among them.
    pub fn samples(&self) -> usize {
        self.sequences.iter().map(|s| 1 + s.forks.len()).sum()
    }

    /// One round; false if there was nothing to do. `whole` keeps tokens back until their sample has ended.
    pub fn round(&mut self, network: Network<'_>, shared: &Mutex<Shared>, whole: bool) -> bool {
        {
            let mut shared = lock(shared);
            let reads = if network.stored.is_some() {
                READ_STORED
            } else {
                READ
            };
            self.admit(&mut shared, reads);
            self.plan(&mut shared.pool, reads);
        }
        if self.ids.is_empty() {
            return false;
        }
        self.read(network);
        self.draw(network);
        self.settle(&mut lock(shared), whole);
        true
    }

    /// Lets waiting samples in, in order, while there are slots and memory, and not too much is unread.
    fn admit(&mut self, shared: &mut Shared, reads: [usize; 2]) {
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
        {
            let fair = (shared.busy + shared.waiting_samples).div_ceil(shared.lanes);
            let most = first
                .samples
                .len()
                .min(shared.slots - shared.busy)
                .min(fair.saturating_sub(own))
                .min(shared.slots.div_ceil(shared.lanes).saturating_sub(own));
            if most == 0 {
                break;
            }
            // The first prompt's blocks, and for each sample what comes after those that are whole.
            let whole = first.prompt.len() / LANES;
            let each = blocks(first.prompt.len() + first.most - 1) - whole;
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

    /// Chooses what this round reads: a token of each sample and its guesses, then prompts in order, up to a bound.
    fn plan(&mut self, pool: &mut Pool, reads: [usize; 2]) {
        self.ids.clear();
        self.every.clear();
        self.asked.clear();
        let decoding = self.sequences.iter().any(|s| !s.reading());
        let mut budget = reads[usize::from(!decoding)];
        for at in 0..self.sequences.len() {
            let (before, rest) = self.sequences.split_at_mut(at);
            let sequence = &mut rest[0];
            if !sequence.reading() {
                sequence.guess();
                sequence.fed = sequence.unread() + sequence.guesses.len();
            } else {
                sequence.adopt(pool);
                // What another one reads in this round need not be read twice: it is there in the next.
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
                1 + sequence.guesses.len()
            };
            let reach = blocks(sequence.read + sequence.fed);
            while sequence.table.len() < reach {
                pool.take(&mut sequence.table);
                sequence.promised -= 1;
            }
            self.place(at);
        }
        self.every.whole = true;
        self.asked.whole = self.asked.len() == self.every.len();
    }

    /// Puts a sequence's rows into the batch.
    fn place(&mut self, at: usize) {
        let sequence = &self.sequences[at];
        let (read, fed, rows) = (sequence.read, sequence.fed, sequence.rows);
        let known = &sequence.ids[read..][..fed - sequence.guesses.len()];
        for (index, &id) in known.iter().chain(&sequence.guesses).enumerate() {
            let (row, position) = (self.ids.len(), read + index);
            self.ids.push(id);
            let asked = (index >= fed - rows).then_some(&mut self.asked);
            for asking in std::iter::once(&mut self.every).chain(asked) {
                asking.push(row, position, position, sequence.prompt);
            }
        }
    }

    /// The network over the batch: keys and values into the sequences' blocks, logits of the asked rows.
    fn read(&mut self, network: Network<'_>) {
        let (heads, w) = (network.heads(), network.layout.widths);
        let threads = network.team.threads();
        self.scratch
            .resize_with(threads.max(self.scratch.len()), Mutex::default);
        let Inference {
            activations: a,
            buffers,
            output,
            last,
        } = &mut self.pass;
        network.embed(&self.ids, &mut a.input);
        let layers = &network.layout.layers;
        for (index, layer) in layers.iter().enumerate() {
            let end = index + 1 == layers.len();
            let asking = if end { &self.asked } else { &self.every };
            network.project(layer, &self.every, asking, a, buffers);
            let mut row = 0;
            for sequence in &mut self.sequences {
                for position in sequence.read..sequence.read + sequence.fed {
                    let block = &mut sequence.table.blocks[position / LANES];
                    let block = Arc::get_mut(block).expect("a block that is written is its own");
                    let key = &a.keys[row * w.keys..];
                    let value = &a.key_values[(2 * row + 1) * w.keys..];
                    let (place, order) = (position % LANES, network.ggml());
                    remember_in_block(heads, index, place, key, value, order, block);
                    row += 1;
                }
            }
            if asking.is_empty() {
                return;
            }
            reserve(&mut a.attended, asking.len() * w.queries);
            let mut parts: Vec<Part<'_>> = Vec::new();
            let (mut row, mut rest) = (0, &mut a.attended[..]);
            for sequence in &self.sequences {
                let mut left = if end { sequence.rows } else { sequence.fed };
                while left > 0 {
                    let count = left.min(ATTENDED);
                    let (now, later) = rest.split_at_mut(count * w.queries);
                    rest = later;
                    parts.push((sequence, row..row + count, now));
                    row += count;
                    left -= count;
                }
            }
            let (scratch, queries) = (&self.scratch, &a.queries);
            network
                .team
                .each(&mut parts, &|(sequence, rows, out), thread| {
                    let blocks = &sequence.table.blocks[..];
                    let mut scratch = lock(&scratch[thread]);
                    reserve(&mut scratch.1, heads.queries * blocks.len() * LANES);
                    let scratch = &mut scratch.1;
                    attend_blocks(
                        network.isa,
                        heads,
                        blocks,
                        index,
                        &asking.last[rows.clone()],
                        &queries[rows.start * w.queries..],
                        network.attends_as_ggml(&asking.company[rows.clone()]),
                        scratch,
                        out,
                    );
                });
            network.finish(index, asking, a, buffers, output);
            std::mem::swap(&mut a.input, output);
        }
        network.logits(self.asked.len(), &a.input, last);
    }

    /// Draws for every sequence with logits: tokens while they are those that were guessed, and one more.
    fn draw(&mut self, network: Network<'_>) {
        let width = network.layout.widths.vocabulary;
        let mut row = 0;
        let mut parts: Vec<(&mut Sequence, usize)> = Vec::new();
        for sequence in &mut self.sequences {
            let rows = sequence.rows;
            if rows > 0 {
                parts.push((sequence, row));
            }
            row += rows;
        }
        let (scratch, logits) = (&self.scratch, &self.pass.last.logits);
        network.team.each(&mut parts, &|(sequence, first), thread| {
            let mut scratch = lock(&scratch[thread]);
            let Sequence {
                sampling,
                ids,
                draws,
                forks,
                guesses,
                ..
            } = &mut **sequence;
            let mut row = logits[*first * width..].chunks_exact(width);
            for guess in guesses.iter().map(Some).chain([None]) {
                let Some(row) = row.next() else { break };
                for fork in &mut *forks {
                    fork.draw(network, sampling, row, &mut scratch.0);
                }
                let token = draws.draw(network, sampling, row, &mut scratch.0);
                ids.extend(token);
                if draws.finish.is_some() || token.as_ref() != guess {
                    break;
                }
            }
        });
    }

    /// Tells what was drawn; finished samples leave, those that waited for their prompt begin.
    fn settle(&mut self, shared: &mut Shared, whole: bool) {
        let mut begun = Vec::new();
        let mut at = 0;
        while at < self.sequences.len() {
            let sequence = &mut self.sequences[at];
            let drew = sequence.rows > 0;
            if sequence.fed > 0 {
                sequence.settle();
                sequence.publish(sequence.prompt, &mut shared.pool);
            }
            if !drew {
                at += 1;
                continue;
            }
            let each = sequence.each;
            for draws in std::mem::take(&mut sequence.forks) {
                let mut one = sequence.fork(draws, each, &mut shared.pool);
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
