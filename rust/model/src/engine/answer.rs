//! Logits and log-probabilities of texts.

use std::ops::Range;
use std::slice::ChunksExact;

use moevolve_kernels::loss::log_sum_exp;
use moevolve_kernels::padded;
use moevolve_kernels::sample::largest;

use super::card::Reading;
use super::{Engine, Example, Logits};
use crate::backend::Backend;
use crate::batch::{Packed, Positions};
use crate::error::{Error, Result};
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
        self.prepare(longest);
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
        self.read(false, LogitsOf(&mut parts))?;
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
        self.prepare(batch.iter().filter_map(reach).max().unwrap_or(0));
        let mut answers: Vec<(&Example, Vec<f32>)> =
            batch.iter().map(|example| (example, Vec::new())).collect();
        let share = answers.len().div_ceil(self.workers()).max(1);
        let mut parts: Vec<_> = answers.chunks_mut(share).collect();
        self.read(base, LogprobsOf(&mut parts))?;
        Ok(answers.into_iter().map(|(_, logprobs)| logprobs).collect())
    }
}

/// Likeliest tokens with their log-probabilities.
pub type Likeliest = Vec<(u32, f32)>;

impl Engine {
    /// Log-probability of every token of a text but the first, given those before it, and the `top` likeliest tokens in its
    /// place. All of it is read as a prompt.
    pub fn score(&mut self, ids: &[u32], top: usize) -> Result<Vec<(f32, Likeliest)>> {
        let (mut scores, mut read) = (Vec::with_capacity(ids.len()), 0);
        loop {
            let (part, end) = self.score_part(ids, top, read)?;
            scores.extend(part);
            read = end;
            if read == ids.len() {
                return Ok(scores);
            }
        }
    }

    /// As [`Self::score`], of what follows so many tokens that are read already; and how many are read then.
    pub fn score_part(
        &mut self,
        ids: &[u32],
        top: usize,
        read: usize,
    ) -> Result<(Vec<(f32, Likeliest)>, usize)> {
        let vocabulary = self.config.vocabulary;
        let isa = self.isa;
        let mut scores = Vec::new();
        let end = self.read_part(ids, Outputs::Logits, read, |logits, rows| {
            let after = &ids[rows.start + 1..ids.len().min(rows.end + 1)];
            for (&id, row) in after.iter().zip(logits.chunks_exact(padded(vocabulary))) {
                let mass = log_sum_exp(isa, vocabulary, row);
                let best = largest(&row[..vocabulary], top).into_iter();
                let best = best.map(|(i, x)| (i as u32, x - mass)).collect();
                scores.push((row[id as usize] - mass, best));
            }
        })?;
        Ok((scores, end))
    }

    /// The mean over a text's tokens of the last hidden state, after the final norm.
    pub fn embed(&mut self, ids: &[u32]) -> Result<Vec<f32>> {
        let (mut sums, mut read) = (Vec::new(), 0);
        loop {
            let mean;
            (read, mean) = self.embed_part(ids, read, &mut sums)?;
            if let Some(mean) = mean {
                return Ok(mean);
            }
        }
    }

    /// As [`Self::embed`], a part after so many tokens that are read already, which `sums` goes on with: how many are read then,
    /// and the mean once all are.
    pub fn embed_part(
        &mut self,
        ids: &[u32],
        read: usize,
        sums: &mut Vec<f64>,
    ) -> Result<(usize, Option<Vec<f32>>)> {
        let hidden = self.config.hidden;
        sums.resize(hidden, 0.0);
        let end = self.read_part(ids, Outputs::Hidden, read, |states, rows| {
            let states = states.chunks_exact(padded(hidden));
            for state in states.take(rows.len()) {
                for (sum, &x) in sums.iter_mut().zip(state) {
                    *sum += f64::from(x);
                }
            }
        })?;
        let mean = |sum: &f64| (sum / ids.len() as f64) as f32;
        let whole = (end == ids.len()).then(|| sums.iter().map(mean).collect());
        Ok((end, whole))
    }

    /// Reads a text on from the first `read` tokens, a bounded number of outputs: `take` gets them for their range of tokens,
    /// whose end is returned.
    fn read_part(
        &mut self,
        ids: &[u32],
        outputs: Outputs,
        read: usize,
        take: impl FnOnce(&[f32], Range<usize>),
    ) -> Result<usize> {
        self.check_ids(ids)?;
        self.check_length(ids.len())?;
        if read >= ids.len() {
            let reason = "a text has at least one token, and one more than are read already";
            return Err(Error::Request(reason.to_owned()));
        }
        self.prepare(ids.len());
        let rows = read..ids.len().min(read + CHUNK);
        let end = rows.end;
        let part = PartOf {
            ids,
            rows,
            outputs,
            take,
        };
        self.read(false, part)?;
        Ok(end)
    }
}

/// What is wanted of a text's tokens.
#[derive(Clone, Copy)]
enum Outputs {
    /// (rows, padded vocabulary).
    Logits,
    /// Normalised: (rows, padded hidden).
    Hidden,
}

/// See [`Engine::read_part`].
struct PartOf<'a, F> {
    ids: &'a [u32],
    rows: Range<usize>,
    outputs: Outputs,
    take: F,
}

impl<F: FnOnce(&[f32], Range<usize>)> Reading for PartOf<'_, F> {
    type Output = ();

    fn of<B: Backend>(self, backend: &B) {
        let Self {
            ids,
            rows,
            outputs,
            take,
        } = self;
        let mut pass = Pass::<B::Device>::default();
        let mut batch = Packed::default();
        batch.clear();
        batch.push(
            &ids[..rows.end],
            ids.len(),
            &Positions::From(0),
            rows.clone(),
        );
        pass.packed(backend, &batch, Keep::Nothing, |_, _| {});
        if backend.failed() {
            return;
        }
        let states = match outputs {
            Outputs::Logits => backend.logits_of(&pass.head),
            Outputs::Hidden => backend.hidden_of(&pass.head),
        };
        take(&states, rows);
    }
}

/// Reads sequences, as many together as a chunk holds: `push` adds one to a batch, `take` gets its rows of logits.
fn read<T, B: Backend>(
    backend: &B,
    mut rest: &mut [T],
    length: impl Fn(&T) -> usize,
    push: impl Fn(&T, &mut Packed),
    mut take: impl FnMut(&mut T, &mut ChunksExact<'_, f32>),
) {
    let mut pass = Pass::<B::Device>::default();
    while !rest.is_empty() {
        let mut batch = Packed::default();
        batch.clear();
        let mut n = 0;
        while n < rest.len() && (n == 0 || batch.len() + length(&rest[n]) <= CHUNK) {
            push(&rest[n], &mut batch);
            n += 1;
        }
        pass.packed(backend, &batch, Keep::Nothing, |_, _| {});
        if backend.failed() {
            return;
        }
        let (now, later) = rest.split_at_mut(n);
        let logits = backend.logits_of(&pass.head);
        let mut rows = logits.chunks_exact(padded(backend.host().config.vocabulary));
        now.iter_mut().for_each(|one| take(one, &mut rows));
        rest = later;
    }
}

/// Rows of which a worker reads each part.
struct LogitsOf<'a, 'b, 'c>(&'a mut [&'b mut [LogitsJob<'c>]]);

/// A row, and where its logits go.
type LogitsJob<'a> = (&'a [u32], &'a mut [f32]);

impl Reading for LogitsOf<'_, '_, '_> {
    type Output = ();

    fn of<B: Backend>(self, backend: &B) {
        let each = |part: &mut &mut [LogitsJob<'_>], _: usize| read_logits(backend, part);
        backend.host().pool.each(self.0, &each);
    }
}

/// Answers of which a worker reads each part.
struct LogprobsOf<'a, 'b, 'c>(&'a mut [&'b mut [LogprobsJob<'c>]]);

/// An example, and where the log-probabilities of its answer go.
type LogprobsJob<'a> = (&'a Example, Vec<f32>);

impl Reading for LogprobsOf<'_, '_, '_> {
    type Output = ();

    fn of<B: Backend>(self, backend: &B) {
        let each = |part: &mut &mut [LogprobsJob<'_>], _: usize| read_logprobs(backend, part);
        backend.host().pool.each(self.0, &each);
    }
}

/// Fills the logits of some rows.
fn read_logits<B: Backend>(backend: &B, jobs: &mut [LogitsJob<'_>]) {
    let vocabulary = backend.host().config.vocabulary;
    read(
        backend,
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
fn read_logprobs<B: Backend>(backend: &B, jobs: &mut [LogprobsJob<'_>]) {
    let (isa, vocabulary) = (backend.host().isa, backend.host().config.vocabulary);
    read(
        backend,
        jobs,
        |(example, _)| example.ids.len(),
        |(example, _), batch| {
            let (start, read) = (example.answer_start, example.ids.len() - 1);
            let ids = &example.ids[..read];
            batch.push(ids, start, &example.positions, start - 1..read);
        },
        |(example, out), rows| {
            for (&id, row) in example.ids[example.answer_start..].iter().zip(rows) {
                out.push(row[id as usize] - log_sum_exp(isa, vocabulary, row));
            }
        },
    );
}
