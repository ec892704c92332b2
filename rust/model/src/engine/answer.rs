//! Logits and samples.

use std::slice::ChunksExact;

use moevolve_kernels::loss::log_sum_exp;

use super::{Engine, Example, Logits, Request, Sample};
use crate::backend::Backend;
use crate::backend::cpu::Cpu;
use crate::batch::{Packed, Positions};
use crate::error::Result;
use crate::network::{Keep, Pass};
use crate::schedule::{Event, Finish, Scheduler};

/// Tokens of a forward pass that go through the network together.
const CHUNK: usize = 640;

/// Samples that one thread decodes together.
const SLOTS: usize = 64;

impl Engine {
    /// Logits after every token of every row.
    pub fn logits(&mut self, rows: &[Vec<u32>]) -> Result<Logits> {
        for ids in rows {
            self.check_ids(ids)?;
            self.check_length(ids.len())?;
        }
        let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
        self.rotary.extend(longest);
        let vocabulary = self.config.vocabulary;
        let mut values = vec![f32::NAN; rows.len() * longest * vocabulary];
        let mut jobs: Vec<(&[u32], &mut [f32])> = Vec::new();
        let mut rest = &mut values[..];
        for ids in rows {
            let (row, after) = rest.split_at_mut(longest * vocabulary);
            rest = after;
            if !ids.is_empty() {
                jobs.push((ids, row));
            }
        }
        let share = jobs.len().div_ceil(self.workers()).max(1);
        let mut parts: Vec<_> = jobs.chunks_mut(share).collect();
        self.with_cpu(|cpu| {
            self.pool
                .each(&mut parts, &|part, _| read_logits(&cpu, part));
        });
        Ok(Logits {
            shape: [rows.len(), longest, vocabulary],
            values,
        })
    }

    /// Log-probability of every token of each example's answer, given what stands before it; of `base`, without the
    /// adapter. Weights of examples do not matter.
    pub fn logprobs(&mut self, batch: &[Example], base: bool) -> Result<Vec<Vec<f32>>> {
        for (i, example) in batch.iter().enumerate() {
            let (ids, start) = (&example.ids, example.answer_start);
            self.check_sequence(("example", i), ids, start, &example.positions)?;
        }
        let reach = |example: &Example| example.positions.reach(example.ids.len());
        self.rotary
            .extend(batch.iter().filter_map(reach).max().unwrap_or(0));
        let mut answers: Vec<(&Example, Vec<f32>)> =
            batch.iter().map(|example| (example, Vec::new())).collect();
        let share = answers.len().div_ceil(self.workers()).max(1);
        let mut parts: Vec<_> = answers.chunks_mut(share).collect();
        let mut read = |cpu: Cpu<'_>| {
            self.pool
                .each(&mut parts, &|part, _| read_logprobs(&cpu, part));
        };
        if base {
            read(self.cpu(self.base()));
        } else {
            self.with_cpu(read);
        }
        Ok(answers.into_iter().map(|(_, logprobs)| logprobs).collect())
    }

    /// Samples for each request, in the order of its keys.
    pub fn generate(&mut self, requests: &[Request]) -> Result<Vec<Vec<Sample>>> {
        let scheduler = match self.generator.take() {
            Some(scheduler) => scheduler,
            None => self.scheduler(SLOTS * self.workers(), 0)?,
        };
        for request in requests {
            // Those before a wrong one go with their scheduler.
            scheduler.add(&request.prompt, &request.keys, request.sampling.clone())?;
        }
        self.rotary.extend(scheduler.reach());
        let events = self.with_cpu(|cpu| scheduler.finish(&cpu, self.weights_version));
        let mut events = events.into_iter();
        self.generator = Some(scheduler);
        let sample = |event: Event| Sample {
            tokens: event.drawn.tokens,
            logprobs: event.drawn.logprobs,
            top: event.drawn.top,
            // Whatever ends is told why.
            finish: event.finish.unwrap_or(Finish::Length),
        };
        let samples = |request: &Request| {
            let events = events.by_ref().take(request.keys.len());
            events.map(sample).collect()
        };
        Ok(requests.iter().map(samples).collect())
    }

    /// A scheduler for requests as they come; only this engine may make its steps.
    ///
    /// `memory` bounds the bytes of keys and values; 0 takes what all slots need at the model's last position, but at
    /// most half of the free memory.
    pub fn scheduler(&self, slots: usize, memory: usize) -> Result<Scheduler> {
        // One sample alone has all threads for its products.
        let workers = self.workers().min(slots.max(1));
        self.with_cpu(|cpu| Scheduler::new(&cpu, workers, slots, memory))
    }

    /// One step of a scheduler that [`Self::scheduler`] made: what came of it, by request and sample.
    pub fn step(&mut self, scheduler: &Scheduler) -> Vec<Event> {
        self.rotary.extend(scheduler.reach());
        self.with_cpu(|cpu| scheduler.step(&cpu, self.weights_version))
    }
}

/// Reads sequences, as many together as a chunk holds: `push` adds one to a batch, `take` gets its rows of logits.
fn read<T>(
    cpu: &Cpu<'_>,
    mut rest: &mut [T],
    length: impl Fn(&T) -> usize,
    push: impl Fn(&T, &mut Packed),
    mut take: impl FnMut(&mut T, &mut ChunksExact<'_, f32>),
) {
    let mut pass = Pass::default();
    while !rest.is_empty() {
        let mut batch = Packed::default();
        batch.clear();
        let mut n = 0;
        while n < rest.len() && (n == 0 || batch.len() + length(&rest[n]) <= CHUNK) {
            push(&rest[n], &mut batch);
            n += 1;
        }
        pass.packed(cpu, &batch, Keep::Nothing, |_, _| {});
        let (now, later) = rest.split_at_mut(n);
        let logits = cpu.logits_of(&pass.head);
        let mut rows = logits.chunks_exact(cpu.layout.widths.vocabulary);
        now.iter_mut().for_each(|one| take(one, &mut rows));
        rest = later;
    }
}

/// Fills the logits of some rows.
fn read_logits(cpu: &Cpu<'_>, jobs: &mut [(&[u32], &mut [f32])]) {
    let vocabulary = cpu.config.vocabulary;
    read(
        cpu,
        jobs,
        |(ids, _)| ids.len(),
        |(ids, _), batch| batch.push(ids, ids.len(), &Positions::From(0), 0..ids.len()),
        |(ids, out), rows| {
            for (to, from) in out.chunks_exact_mut(vocabulary).take(ids.len()).zip(rows) {
                to.copy_from_slice(&from[..vocabulary]);
            }
        },
    );
}

/// Fills the log-probabilities of some answers.
fn read_logprobs(cpu: &Cpu<'_>, jobs: &mut [(&Example, Vec<f32>)]) {
    read(
        cpu,
        jobs,
        |(example, _)| example.ids.len(),
        |(example, _), batch| {
            let (start, read) = (example.answer_start, example.ids.len() - 1);
            let ids = &example.ids[..read];
            batch.push(ids, start, &example.positions, start - 1..read);
        },
        |(example, out), rows| {
            for (&id, row) in example.ids[example.answer_start..].iter().zip(rows) {
                out.push(row[id as usize] - log_sum_exp(cpu.isa, cpu.config.vocabulary, row));
            }
        },
    );
}
