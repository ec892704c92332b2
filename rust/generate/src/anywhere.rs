//! A scheduler of an engine's requests, whatever device its network is on.

use std::sync::atomic::{AtomicBool, Ordering};

use moevolve_model::backend::cuda::CardMemory;
use moevolve_model::{Engine, Error, Result};

use crate::sampling::Sampling;
use crate::scheduler::{Event, Memory, Scheduler};

/// A scheduler whose keys and values lie where the engine's network was when it was made.
pub struct EngineScheduler {
    inner: Inner,
    /// As [`Engine::device`] names it.
    device: String,
    /// Whether a device failed half-way through a step, so that nothing under way can be trusted.
    torn: AtomicBool,
}

enum Inner {
    Processor(Scheduler),
    Card(Scheduler<CardMemory>),
}

macro_rules! of_either {
    ($self:ident, $scheduler:ident => $work:expr) => {
        match &$self.inner {
            Inner::Processor($scheduler) => $work,
            Inner::Card($scheduler) => $work,
        }
    };
}

impl EngineScheduler {
    /// As [`Scheduler::of`].
    pub fn of(engine: &Engine, slots: usize, memory: usize) -> Result<Self> {
        let inner = match engine.with_card(|card| Scheduler::new(&card, 1, slots, memory)) {
            Some(made) => Inner::Card(made??),
            None => Inner::Processor(Scheduler::of(engine, slots, memory)?),
        };
        Ok(Self {
            inner,
            device: engine.device().to_owned(),
            torn: AtomicBool::new(false),
        })
    }

    /// Whether an engine is where it was, and every step so far was whole.
    pub fn serves(&self, engine: &Engine) -> bool {
        self.device == engine.device() && !self.torn.load(Ordering::Relaxed)
    }

    /// As [`Scheduler::add`].
    pub fn add(&self, prompt: &[u32], keys: &[u64], sampling: Sampling) -> Result<u64> {
        of_either!(self, scheduler => scheduler.add(prompt, keys, sampling))
    }

    /// As [`Scheduler::cancel`].
    pub fn cancel(&self, request: u64, sample: Option<usize>) -> bool {
        of_either!(self, scheduler => scheduler.cancel(request, sample))
    }

    pub fn slots(&self) -> usize {
        of_either!(self, scheduler => scheduler.slots())
    }

    /// Samples that have a slot.
    pub fn busy(&self) -> usize {
        of_either!(self, scheduler => scheduler.busy())
    }

    /// Samples that wait for one.
    pub fn waiting(&self) -> usize {
        of_either!(self, scheduler => scheduler.waiting())
    }

    pub fn memory(&self) -> Memory {
        of_either!(self, scheduler => scheduler.memory())
    }

    /// One step: what came of it, by request and sample. Where a device fails, nothing under way is told any more.
    pub fn step(&self, engine: &mut Engine) -> Result<Vec<Event>> {
        self.check(engine)?;
        match &self.inner {
            Inner::Processor(scheduler) => Ok(scheduler.step(engine)),
            Inner::Card(scheduler) => {
                engine.prepare(scheduler.reach());
                let version = engine.weights_version();
                self.on_card(engine.with_card(|card| scheduler.step_on(&card, version)))
            }
        }
    }

    /// Steps until everything has ended: one event a sample, by request and sample.
    pub fn finish(&self, engine: &mut Engine) -> Result<Vec<Event>> {
        self.check(engine)?;
        match &self.inner {
            Inner::Processor(scheduler) => Ok(scheduler.finish(engine)),
            Inner::Card(scheduler) => {
                engine.prepare(scheduler.reach());
                let version = engine.weights_version();
                self.on_card(engine.with_card(|card| scheduler.finish_on(&card, version)))
            }
        }
    }

    fn check(&self, engine: &Engine) -> Result<()> {
        if self.serves(engine) {
            return Ok(());
        }
        let (was, is) = (&self.device, engine.device());
        Err(Error::Request(if was == is {
            "the device failed during a step of this scheduler: make another one".to_owned()
        } else {
            format!(
                "this scheduler is for the engine on {was}, and it has moved to {is}: make another one"
            )
        }))
    }

    fn on_card(&self, events: Option<Result<Vec<Event>>>) -> Result<Vec<Event>> {
        // An engine that is named as a card is on one.
        let events = events.unwrap_or_else(|| Ok(Vec::new()));
        if events.is_err() {
            self.torn.store(true, Ordering::Relaxed);
        }
        events
    }
}
