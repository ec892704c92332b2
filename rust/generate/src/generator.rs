//! Batches of requests, drawn to their ends.

use moevolve_model::{Engine, Result};

use crate::anywhere::EngineScheduler;
use crate::sampling::{Finish, Sampling, Top};
use crate::scheduler::Event;

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
    /// Of the tokens as a text by itself, without special ones; empty without a tokenizer.
    pub text: String,
}

impl From<Event> for Sample {
    /// A sample's last event, which has all of its tokens; the text is still empty.
    fn from(event: Event) -> Self {
        Self {
            tokens: event.drawn.tokens,
            logprobs: event.drawn.logprobs,
            top: event.drawn.top,
            // Whatever ends is told why.
            finish: event.finish.unwrap_or(Finish::Length),
            text: String::new(),
        }
    }
}

/// Draws batches of requests on one engine, by a scheduler that it keeps from call to call.
#[derive(Default)]
pub struct Generator {
    /// Made when first asked.
    scheduler: Option<EngineScheduler>,
}

impl Generator {
    /// Samples for each request, in the order of its keys; `engine` is the same one in every call.
    pub fn generate(
        &mut self,
        engine: &mut Engine,
        requests: &[Request],
    ) -> Result<Vec<Vec<Sample>>> {
        let scheduler = match self.scheduler.take() {
            Some(scheduler) if scheduler.serves(engine) => scheduler,
            _ => EngineScheduler::of(engine, SLOTS * engine.workers(), 0)?,
        };
        for request in requests {
            // Those before a wrong one go with their scheduler.
            scheduler.add(&request.prompt, &request.keys, request.sampling.clone())?;
        }
        let events = scheduler.finish(engine)?;
        self.scheduler = Some(scheduler);
        let mut samples: Vec<Sample> = events.into_iter().map(Sample::from).collect();
        write_texts(engine, &mut samples)?;
        let mut samples = samples.into_iter();
        let samples = |request: &Request| samples.by_ref().take(request.keys.len()).collect();
        Ok(requests.iter().map(samples).collect())
    }
}

/// Decodes what was drawn, all threads at once.
fn write_texts(engine: &Engine, samples: &mut [Sample]) -> Result<()> {
    let Some(tokenizer) = engine.shared_tokenizer() else {
        return Ok(());
    };
    let mut texts: Vec<_> = samples.iter_mut().map(|sample| (sample, Ok(()))).collect();
    engine
        .pool()
        .each(
            &mut texts,
            &|(sample, outcome), _| match tokenizer.decode(&sample.tokens, true) {
                Ok(text) => sample.text = text,
                Err(error) => *outcome = Err(error),
            },
        );
    for (_, outcome) in texts {
        outcome?;
    }
    Ok(())
}
