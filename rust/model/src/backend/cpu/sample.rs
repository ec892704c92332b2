//! Tokens drawn from logits.

use std::sync::{Mutex, PoisonError};

use moevolve_kernels::loss::log_sum_exp;
use moevolve_kernels::sample::{draw, greedy, largest};

use super::{Cpu, Head};
use crate::draw::{Choice, DrawnToken, Sampler};

/// One thread's memory for draws.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    bent: Vec<f32>,
    weights: Vec<(f64, usize)>,
}

impl Cpu<'_> {
    /// Draws for all samplers, each on one thread.
    pub(super) fn draw(&self, head: &mut Head, samplers: &mut [impl Sampler]) {
        let (vocabulary, width) = (self.config.vocabulary, self.layout.widths.vocabulary);
        let threads = self.pool.threads().max(head.scratch.len());
        head.scratch.resize_with(threads, Mutex::default);
        let Head {
            logits, scratch, ..
        } = head;
        self.pool.each(samplers, &|sampler, thread| {
            let mut scratch = scratch[thread]
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let Scratch { bent, weights } = &mut *scratch;
            while let Some(next) = sampler.next() {
                let row = &logits[next.row * width..][..width];
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
                    Choice::Random { cuts, uniform } => draw(from, cuts, uniform, weights),
                };
                let mass = log_sum_exp(self.isa, vocabulary, row);
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
}
