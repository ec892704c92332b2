//! Tokens drawn from logits.

use std::sync::{Mutex, PoisonError};

use moevolve_kernels::Isa;
use moevolve_kernels::loss::log_sum_exp;
use moevolve_kernels::sample::{draw as draw_one, greedy, largest};
use moevolve_kernels::worker_pool::WorkerPool;

use crate::draw::{Choice, DrawnToken, Sampler};

/// One thread's memory for draws.
#[derive(Debug, Default)]
pub struct DrawScratch {
    bent: Vec<f32>,
    weights: Vec<(f64, usize)>,
}

/// Logits (rows, width) in this process's memory, of which the first `vocabulary` of each row count.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub isa: Isa,
    pub vocabulary: usize,
    pub width: usize,
    pub logits: &'a [f32],
}

/// Draws for all samplers, each on one thread.
pub(crate) fn draw(
    pool: &WorkerPool,
    rows: Rows<'_>,
    scratch: &mut Vec<Mutex<DrawScratch>>,
    samplers: &mut [impl Sampler],
) {
    let Rows {
        isa,
        vocabulary,
        width,
        logits,
    } = rows;
    let threads = pool.threads().max(scratch.len());
    scratch.resize_with(threads, Mutex::default);
    pool.each(samplers, &|sampler, thread| {
        let mut scratch = scratch[thread]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let DrawScratch { bent, weights } = &mut *scratch;
        while let Some(next) = sampler.next() {
            let row = &logits[next.row * width..][..width];
            let mass = log_sum_exp(isa, vocabulary, row);
            if !mass.is_finite() {
                sampler.refuse();
                continue;
            }
            let mut from = &row[..vocabulary];
            if next.bent {
                bent.clear();
                bent.extend_from_slice(from);
                if !sampler.bend(bent) {
                    continue;
                }
                from = bent;
            }
            let token = match next.choice {
                Choice::Greedy => greedy(from),
                Choice::Random { cuts, uniform } => draw_one(from, cuts, uniform, weights),
            };
            let Some(token) = token else {
                sampler.refuse();
                continue;
            };
            let likeliest = if next.top > 0 {
                largest(&row[..vocabulary], next.top)
            } else {
                Vec::new()
            };
            sampler.take(DrawnToken {
                token: token as u32,
                logprob: row[token] - mass,
                top: likeliest
                    .into_iter()
                    .map(|(i, x)| (i as u32, x - mass))
                    .collect(),
            });
        }
    });
}
