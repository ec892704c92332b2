//! Batches of requests, drawn to their ends.

use moevolve_model::{Engine, Result};

use crate::sampling::{Finish, Sampling, Top};
use crate::scheduler::{Event, Scheduler};

/// Samples that one thread decodes together.
const SLOTS: usize = 64;

/// A prompt and how to continue it; one sample a key.
#[derive(Clone, Debug)]
pub struct Request {
    pub prompt: Vec<u32>,
    pub keys: Vec<u64>,
    pub sampling: Sampling,
}

/// A continuation.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Without the end token.
    pub tokens: Vec<u32>,
    /// At temperature 1, the end token's included.
    pub logprobs: Vec<f32>,
    /// The likeliest tokens beside each, if the request asks for them.
    pub top: Vec<Top>,
    pub finish: Finish,
}

impl From<Event> for Sample {
    /// A sample's last event, which has all of its tokens.
    fn from(event: Event) -> Self {
        Self {
            tokens: event.drawn.tokens,
            logprobs: event.drawn.logprobs,
            top: event.drawn.top,
            // Whatever ends is told why.
            finish: event.finish.unwrap_or(Finish::Length),
        }
    }
}

/// Draws batches of requests on one engine, by a scheduler that it keeps from call to call.
#[derive(Default)]
pub struct Generator {
    /// Made when first asked.
    scheduler: Option<Scheduler>,
}

impl Generator {
    /// Samples for each request, in the order of its keys; `engine` is the same one in every call.
    pub fn generate(
        &mut self,
        engine: &mut Engine,
        requests: &[Request],
    ) -> Result<Vec<Vec<Sample>>> {
        let scheduler = match self.scheduler.take() {
            Some(scheduler) => scheduler,
            None => Scheduler::of(engine, SLOTS * engine.workers(), 0)?,
        };
        for request in requests {
            // Those before a wrong one go with their scheduler.
            scheduler.add(&request.prompt, &request.keys, request.sampling.clone())?;
        }
        let mut events = scheduler.finish(engine).into_iter();
        self.scheduler = Some(scheduler);
        let samples = |request: &Request| {
            let events = events.by_ref().take(request.keys.len());
            events.map(Sample::from).collect()
        };
        Ok(requests.iter().map(samples).collect())
    }
}
