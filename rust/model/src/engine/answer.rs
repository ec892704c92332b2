//! Logits and log-probabilities of texts.

use std::slice::ChunksExact;

use moevolve_kernels::loss::log_sum_exp;

use super::{Engine, Example, Logits};
use crate::backend::Backend;
use crate::backend::cpu::Cpu;
use crate::batch::{Packed, Positions};
use crate::error::Result;
use crate::network::{Keep, Pass};

/// Tokens of a forward pass that go through the network together.
const CHUNK: usize = 640;

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
