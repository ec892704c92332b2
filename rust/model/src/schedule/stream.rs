//! One sample, token by token as it is asked for.

use std::collections::VecDeque;

use super::{Finish, Sampling, Scheduler};
use crate::decoder::Network;
use crate::error::Result;

/// A scheduler for a single sample.
pub struct Stream {
    scheduler: Scheduler,
    ready: VecDeque<(u32, f32)>,
    finish: Option<Finish>,
}

impl Stream {
    pub(crate) fn new(
        network: Network<'_>,
        prompt: &[u32],
        key: u64,
        sampling: Sampling,
    ) -> Result<Self> {
        let scheduler = Scheduler::new(network, 1, 1, 0)?;
        scheduler.add(prompt, &[key], sampling)?;
        Ok(Self {
            scheduler,
            ready: VecDeque::new(),
            finish: None,
        })
    }

    pub(crate) fn reach(&self) -> usize {
        self.scheduler.reach()
    }

    /// The next token and its log-probability at temperature 1, or None at the end.
    pub(crate) fn next(&mut self, network: Network<'_>, edition: u64) -> Option<(u32, f32)> {
        while self.ready.is_empty() && self.finish.is_none() {
            for event in self.scheduler.step(network, edition) {
                let drawn = event.drawn;
                self.ready
                    .extend(drawn.tokens.into_iter().zip(drawn.logprobs));
                self.finish = event.finish;
            }
        }
        self.ready.pop_front()
    }

    /// Why it ended, once it has.
    pub fn finish(&self) -> Option<Finish> {
        self.finish
    }
}
