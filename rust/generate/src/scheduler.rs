//! The generation service: requests wait in order, are let in as slots and memory allow, and go through the network
//! together, a token a step each; who has finished leaves, and the next begins.
//!
//! What a sample draws depends on the weights, its prompt, its key and its settings alone. Everything else, such as
//! what else is in the batch, how prompts are cut into steps, and which blocks are shared, changes when it is drawn.
//!
//! One file above 400 lines: one state under one lock, and every way in and out of it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use moevolve_kernels::LANES;
use moevolve_model::backend::cpu::Memory as HostMemory;
use moevolve_model::backend::{Backend, Device};
use moevolve_model::{Engine, Error, Result};

use crate::kv::BlockPool;
use crate::sampling::{Drawn, Finish, Sampling};
use crate::sequence::{Sequence, blocks};
use crate::worker::WorkerBatch;

/// Memory that stays between calls that bring their own requests, in bytes.
const KEPT: usize = 64 << 20;

/// Progress of one sample in one step.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub request: u64,
    /// Its index among the request's keys.
    pub sample: usize,
    pub drawn: Drawn,
    pub finish: Option<Finish>,
}

impl Event {
    pub(crate) fn cancelled(request: u64, sample: usize) -> Self {
        Self {
            request,
            sample,
            drawn: Drawn::default(),
            finish: Some(Finish::Cancelled),
        }
    }
}

/// Bytes of keys and values, and of a network's states beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Never more than this.
    pub limit: usize,
    /// What samples hold, and what they may still need; states are among it from the first token on.
    pub reserved: usize,
    /// Keys and values that samples hold, and prefixes that are kept for later requests.
    pub used: usize,
}

/// Samples of a request that have not been let in.
pub(crate) struct Waiting {
    pub request: u64,
    pub prompt: Arc<[u32]>,
    pub sampling: Arc<Sampling>,
    /// Most tokens, as the model's positions allow.
    pub most: usize,
    /// Blocks whose memory stands for that of a sample's states.
    pub states: usize,
    pub samples: VecDeque<(usize, u64)>,
}

impl Waiting {
    /// Positions that it may reach.
    pub fn reach(&self) -> usize {
        self.prompt.len() + self.most
    }
}

/// What workers share, and other threads reach while a step is under way.
pub(crate) struct Shared {
    pub workers: usize,
    pub slots: usize,
    pub pool: BlockPool,
    pub waiting: VecDeque<Waiting>,
    pub waiting_samples: usize,
    /// Samples in the workers.
    pub busy: usize,
    /// Samples of each request that have not ended.
    open: HashMap<u64, usize>,
    cancelled: Vec<(u64, Option<usize>)>,
    /// Blocks whose states nobody reads any more, before they are somebody's again.
    pub stale: Vec<u32>,
    /// Ended without a step.
    events: Vec<Event>,
    requests: u64,
    /// Positions that the requests so far may reach.
    reach: usize,
    /// Those that the network was made ready for: what reaches further waits until it is.
    pub ready: usize,
    /// Whether a token computes otherwise in a prompt than behind one, so that what was drawn is no prompt's text.
    by_class: bool,
}

impl Shared {
    /// Counts a sample of a request as ended.
    pub fn ended(&mut self, request: u64) {
        self.busy -= 1;
        self.close(request);
    }

    fn close(&mut self, request: u64) {
        if let Some(left) = self.open.get_mut(&request) {
            *left -= 1;
            if *left == 0 {
                self.open.remove(&request);
            }
        }
    }

    /// Takes back what a finished sample holds; its text, as far as a prompt would read it to the same bits, is made known
    /// first if `publish`.
    pub fn leave(&mut self, mut done: Sequence, publish: bool) {
        self.ended(done.request);
        if publish {
            let alike = if self.by_class {
                done.prompt
            } else {
                done.read
            };
            done.publish(alike, &mut self.pool);
        }
        self.stale.extend(done.states(&self.pool));
        done.release(&mut self.pool);
    }

    /// Cancels samples that have not been let in.
    fn cancel_waiting(&mut self, request: u64, sample: Option<usize>) {
        let mut gone = Vec::new();
        for waiting in &mut self.waiting {
            if waiting.request == request {
                waiting.samples.retain(|&(at, _)| {
                    let meant = sample.is_none_or(|sample| sample == at);
                    if meant {
                        gone.push(at);
                    }
                    !meant
                });
            }
        }
        self.waiting.retain(|waiting| !waiting.samples.is_empty());
        self.waiting_samples -= gone.len();
        for at in gone {
            self.events.push(Event::cancelled(request, at));
            self.close(request);
        }
    }
}

/// Requests under way on one engine. Requests may be added and cancelled from any thread; one at a time makes steps.
pub struct Scheduler<D: Device = HostMemory> {
    shared: Mutex<Shared>,
    steps: Mutex<Steps<D>>,
    /// The memory behind the pool's ids.
    cache: D::KvCache,
    vocabulary: usize,
    positions: usize,
    block_bytes: usize,
    /// Blocks whose memory stands for that of a sequence's states.
    state_blocks: usize,
}

struct Steps<D: Device> {
    workers: Vec<WorkerBatch<D>>,
    /// The engine's weights when its blocks were read.
    version: u64,
}

impl<D: Device> Scheduler<D> {
    /// A scheduler for a network, in `workers` that each take a thread.
    ///
    /// `memory` bounds the bytes of keys, values and states; 0 takes what all slots need, but at most half of the free memory.
    pub fn new(
        backend: &impl Backend<Device = D>,
        workers: usize,
        slots: usize,
        memory: usize,
    ) -> Result<Self> {
        let config = backend.host().config;
        let (positions, block_bytes) = (config.positions, backend.block_bytes());
        let state_blocks = backend.state_bytes().div_ceil(block_bytes);
        let limit = if memory > 0 {
            memory / block_bytes
        } else {
            let each = blocks(positions) + 2 * state_blocks;
            let most = slots.saturating_mul(each);
            most.min((backend.free_memory() / 2 / block_bytes).max(1))
        };
        if slots == 0 {
            return Err(Error::Request("a scheduler needs a slot".to_owned()));
        }
        if limit == 0 {
            return Err(Error::Capacity(format!(
                "{memory} bytes of key-value memory hold nothing: {LANES} tokens of this model take {block_bytes}"
            )));
        }
        Ok(Self {
            shared: Mutex::new(Shared {
                workers,
                slots,
                pool: BlockPool::new(limit),
                waiting: VecDeque::new(),
                waiting_samples: 0,
                busy: 0,
                open: HashMap::new(),
                cancelled: Vec::new(),
                stale: Vec::new(),
                events: Vec::new(),
                requests: 0,
                reach: 0,
                ready: 0,
                by_class: backend.by_class(),
            }),
            steps: Mutex::new(Steps {
                workers: (0..workers).map(|_| WorkerBatch::default()).collect(),
                version: 0,
            }),
            cache: backend.kv_cache(),
            vocabulary: config.vocabulary,
            positions,
            block_bytes,
            state_blocks,
        })
    }

    /// Takes a request in: one sample a key. Returns its number.
    pub fn add(&self, prompt: &[u32], keys: &[u64], sampling: Sampling) -> Result<u64> {
        self.check(prompt, &sampling)?;
        let most = self.most(prompt.len(), &sampling);
        let mut shared = lock(&self.shared);
        let states = self.states(prompt.len(), keys.len());
        let needed = blocks(prompt.len() + most.saturating_sub(1)) + states;
        if needed > shared.pool.limit() {
            return Err(Error::Capacity(format!(
                "a prompt of {} tokens and {most} new ones need {} bytes of key-value memory, and there are {}: ask for \
                fewer tokens, or give the scheduler more memory",
                prompt.len(),
                needed * self.block_bytes,
                shared.pool.limit() * self.block_bytes,
            )));
        }
        shared.requests += 1;
        let request = shared.requests;
        if keys.is_empty() {
            return Ok(request);
        }
        if most == 0 {
            let ended = (0..keys.len()).map(|sample| Event {
                finish: Some(Finish::Length),
                ..Event::cancelled(request, sample)
            });
            shared.events.extend(ended);
            return Ok(request);
        }
        shared.open.insert(request, keys.len());
        shared.waiting_samples += keys.len();
        let waiting = Waiting {
            request,
            prompt: prompt.into(),
            sampling: Arc::new(sampling),
            most,
            states,
            samples: keys.iter().copied().enumerate().collect(),
        };
        shared.reach = shared.reach.max(waiting.reach());
        shared.waiting.push_back(waiting);
        Ok(request)
    }

    fn check(&self, prompt: &[u32], sampling: &Sampling) -> Result<()> {
        let wrong = |what: String| Err(Error::Request(what));
        if prompt.is_empty() {
            return wrong("a prompt has at least one token".to_owned());
        }
        if let Some(id) = prompt.iter().find(|&&id| id as usize >= self.vocabulary) {
            let vocabulary = self.vocabulary;
            return wrong(format!(
                "token {id} is outside the vocabulary of {vocabulary}"
            ));
        }
        if prompt.len() > self.positions {
            let (length, most) = (prompt.len(), self.positions);
            return wrong(format!(
                "{length} positions are more than max_position_embeddings {most}"
            ));
        }
        sampling.check(self.vocabulary)
    }

    /// Tokens that a sample may have: the last needs no position.
    fn most(&self, prompt: usize, sampling: &Sampling) -> usize {
        sampling.max_tokens.min(self.positions - prompt + 1)
    }

    /// Blocks whose memory stands for that of the states that each of so many samples of a prompt may hold: its own, and those
    /// at the prompt's end where that is the end of a block, which all of them share.
    fn states(&self, prompt: usize, samples: usize) -> usize {
        let shared = samples > 1 && prompt.is_multiple_of(LANES);
        self.state_blocks * (1 + usize::from(shared))
    }

    /// Ends a request, or one of its samples, in the next step; false if nothing of it is under way.
    pub fn cancel(&self, request: u64, sample: Option<usize>) -> bool {
        let mut shared = lock(&self.shared);
        let open = shared.open.contains_key(&request);
        if open {
            shared.cancelled.push((request, sample));
        }
        open
    }

    pub fn slots(&self) -> usize {
        lock(&self.shared).slots
    }

    /// Samples that have a slot.
    pub fn busy(&self) -> usize {
        lock(&self.shared).busy
    }

    /// Samples that wait for one.
    pub fn waiting(&self) -> usize {
        lock(&self.shared).waiting_samples
    }

    pub fn memory(&self) -> Memory {
        let shared = lock(&self.shared);
        Memory {
            limit: shared.pool.limit() * self.block_bytes,
            reserved: shared.pool.reserved() * self.block_bytes,
            used: shared.pool.used() * self.block_bytes,
        }
    }

    /// Positions that the network must be ready for before the next step. Requests that come after this, and reach further,
    /// are let in after the next.
    pub fn reach(&self) -> usize {
        let mut shared = lock(&self.shared);
        shared.ready = shared.reach;
        shared.ready
    }

    /// One step of every worker. `version` tells the weights apart: what others read is not shared.
    pub fn step_on(&self, backend: &impl Backend<Device = D>, version: u64) -> Vec<Event> {
        self.worked(backend, version, &|worker| {
            worker.step(backend, &self.cache, &self.shared, false);
        })
    }

    /// Steps until everything has ended: one event a sample, by request and sample.
    pub fn finish_on(&self, backend: &impl Backend<Device = D>, version: u64) -> Vec<Event> {
        let events = self.worked(backend, version, &|worker| {
            while worker.step(backend, &self.cache, &self.shared, true) {}
        });
        let mut shared = lock(&self.shared);
        shared.pool.forget();
        shared.pool.trim(KEPT / self.block_bytes);
        backend.trim_kv(&self.cache, shared.pool.count());
        events
    }

    /// What every worker tells after its work, by request and sample.
    fn worked<B: Backend<Device = D>>(
        &self,
        backend: &B,
        version: u64,
        work: &(impl Fn(&mut WorkerBatch<D>) + Sync),
    ) -> Vec<Event> {
        let mut steps = lock(&self.steps);
        let mut events = {
            let mut shared = lock(&self.shared);
            steps.settle(&mut shared, version);
            std::mem::take(&mut shared.events)
        };
        let each = |worker: &mut WorkerBatch<D>, _: usize| work(worker);
        backend.host().pool.each(&mut steps.workers, &each);
        for worker in &mut steps.workers {
            events.append(&mut worker.events);
        }
        events.sort_by_key(|event| (event.request, event.sample));
        events
    }
}

/// The same on an engine whose network is on the processor; only the one that a scheduler was made for may make its steps.
impl Scheduler {
    /// A scheduler for an engine's requests as they come.
    ///
    /// `memory` bounds the bytes of keys, values and states; 0 takes what all slots need at the model's last position, but at
    /// most half of the free memory.
    pub fn of(engine: &Engine, slots: usize, memory: usize) -> Result<Self> {
        // One sample alone has all threads for its products.
        let workers = engine.workers().min(slots.max(1));
        engine.with_cpu(|cpu| Self::new(&cpu, workers, slots, memory))
    }

    /// One step: what came of it, by request and sample.
    pub fn step(&self, engine: &mut Engine) -> Vec<Event> {
        engine.prepare(self.reach());
        engine.with_cpu(|cpu| self.step_on(&cpu, engine.weights_version()))
    }

    /// Steps until everything has ended: one event a sample, by request and sample.
    pub fn finish(&self, engine: &mut Engine) -> Vec<Event> {
        engine.prepare(self.reach());
        engine.with_cpu(|cpu| self.finish_on(&cpu, engine.weights_version()))
    }
}

impl<D: Device> Steps<D> {
    /// What must come before the workers begin: cancelled samples leave, and what other weights read is not known any more.
    fn settle(&mut self, shared: &mut Shared, version: u64) {
        for (request, sample) in std::mem::take(&mut shared.cancelled) {
            shared.cancel_waiting(request, sample);
            for worker in &mut self.workers {
                worker.cancel(request, sample, shared);
            }
        }
        if self.version != version {
            self.version = version;
            shared.pool.forget();
            for worker in &mut self.workers {
                for sequence in &mut worker.sequences {
                    sequence.known = None;
                }
            }
        }
    }
}

/// A lock whose holder panicked guards counts and lists that were whole between changes.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
