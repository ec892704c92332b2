//! A card that runs out of memory, or fails: what was promised holds, and what failed has changed nothing.
//!
//! One file above 400 lines: one metered device, and every promise that is kept on it.

mod common;

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use common::{adapted, batch, create, ids, odd, request, tensors, values, with};
use moevolve_generate::{EngineScheduler, Event, Finish, Scheduler};
use moevolve_kernels_cuda::twin::Twin;
use moevolve_kernels_cuda::{Address, Device, Error as DeviceError, Launch, Result};
use moevolve_model::backend::Backend;
use moevolve_model::backend::Device as Memories;
use moevolve_model::backend::cuda::CardMemory;
use moevolve_model::draw::{Choice, Draw, DrawnToken, Sampler};
use moevolve_model::{Engine, Optimizer};
use serde_json::json;

/// The twin with a meter, and with bounds that a test sets.
struct Metered {
    twin: Arc<dyn Device>,
    meter: Mutex<Meter>,
    /// Bytes that may be taken.
    room: AtomicUsize,
    /// Allocations that are granted before one fails; those after it are granted again.
    granted: AtomicUsize,
    stuck: Mutex<Stuck>,
    shared: usize,
}

/// What a device is called for from a launch of AdamW on, that being the first.
#[derive(Default)]
struct Stuck {
    begun: bool,
    /// Calls that are granted before one fails; those after it are granted again.
    granted: Option<usize>,
}

#[derive(Default)]
struct Meter {
    sizes: HashMap<Address, usize>,
    taken: usize,
    /// Bytes that were cleared as a whole after they were taken: keys and values, where nothing trains.
    cleared: HashMap<Address, usize>,
    most_cleared: usize,
    /// The most of all others.
    most_others: usize,
    allocations: usize,
}

impl Meter {
    fn cleared(&self) -> usize {
        self.cleared.values().sum()
    }

    fn note(&mut self) {
        let cleared = self.cleared();
        self.most_cleared = self.most_cleared.max(cleared);
        self.most_others = self.most_others.max(self.taken - cleared);
    }
}

impl Metered {
    fn new(shared: usize) -> Arc<Self> {
        Arc::new(Self {
            twin: Twin::device(5),
            meter: Mutex::default(),
            room: AtomicUsize::new(usize::MAX),
            granted: AtomicUsize::new(usize::MAX),
            stuck: Mutex::default(),
            shared,
        })
    }

    fn allocations(&self) -> usize {
        self.meter.lock().unwrap().allocations
    }

    /// The call that comes so many after the next launch of AdamW fails.
    fn fail_after_adamw(&self, granted: usize) {
        *self.stuck.lock().unwrap() = Stuck {
            begun: false,
            granted: Some(granted),
        };
    }

    fn called(&self, what: &str) -> Result<()> {
        let mut stuck = self.stuck.lock().unwrap();
        stuck.begun |= what == "adamw";
        match stuck.granted {
            Some(0) if stuck.begun => {
                stuck.granted = None;
                Err(DeviceError::Kernel {
                    kernel: what.to_owned(),
                    reason: "does not start".to_owned(),
                })
            }
            Some(left) if stuck.begun => {
                stuck.granted = Some(left - 1);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// From here on what is taken counts anew.
    fn begin(&self) {
        let mut meter = self.meter.lock().unwrap();
        meter.cleared.clear();
        (meter.most_cleared, meter.most_others) = (0, 0);
    }
}

impl Device for Metered {
    fn allocate(&self, bytes: usize) -> Result<Address> {
        let mut meter = self.meter.lock().unwrap();
        let fails = self.granted.fetch_sub(1, Relaxed) == 0;
        let free = self.room.load(Relaxed).saturating_sub(meter.taken);
        if fails || bytes > free {
            return Err(DeviceError::Memory { asked: bytes, free });
        }
        let address = self.twin.allocate(bytes)?;
        meter.sizes.insert(address, bytes);
        meter.taken += bytes;
        meter.allocations += 1;
        Ok(address)
    }

    fn free(&self, address: Address, bytes: usize) {
        let mut meter = self.meter.lock().unwrap();
        meter.sizes.remove(&address);
        meter.cleared.remove(&address);
        meter.taken -= bytes;
        self.twin.free(address, bytes);
    }

    fn memory(&self) -> Result<[usize; 2]> {
        self.twin.memory()
    }

    fn shared(&self) -> usize {
        self.shared
    }

    fn upload(&self, bytes: &[u8], to: Address) -> Result<()> {
        self.called("upload")?;
        self.twin.upload(bytes, to)
    }

    fn download(&self, from: Address, bytes: &mut [u8]) -> Result<()> {
        self.called("download")?;
        self.twin.download(from, bytes)
    }

    fn copy(&self, from: Address, to: Address, bytes: usize) -> Result<()> {
        self.called("copy")?;
        self.twin.copy(from, to, bytes)
    }

    fn clear(&self, at: Address, bytes: usize) -> Result<()> {
        let mut meter = self.meter.lock().unwrap();
        if meter.sizes.get(&at) == Some(&bytes) {
            meter.cleared.insert(at, bytes);
        }
        self.twin.clear(at, bytes)
    }

    unsafe fn launch(&self, launch: Launch, arguments: &mut [*mut c_void]) -> Result<()> {
        self.meter.lock().unwrap().note();
        self.called(launch.kernel)?;
        // SAFETY: the caller's promise.
        unsafe { self.twin.launch(launch, arguments) }
    }
}

fn metered(engine: Engine) -> (Engine, Arc<Metered>) {
    let (mut engine, device) = (engine, Metered::new(227 << 10));
    let on: Arc<dyn Device> = device.clone();
    engine.to_card("cuda:0", &on, None).expect("moved");
    (engine, device)
}

fn block_bytes(engine: &Engine) -> usize {
    let bytes = engine.with_card(|card| card.block_bytes());
    bytes.expect("on a card").expect("a size")
}

/// Four samples of 80 positions in keys and values of so many bytes; by how each ended, with its tokens.
fn drawn(engine: &mut Engine, memory: usize) -> Vec<(Option<Finish>, Vec<u32>)> {
    let scheduler = EngineScheduler::of(engine, 4, memory).expect("a scheduler");
    for i in 0..4 {
        let mut asked = request(i, 20, &[i as u64], 61, 1.0);
        asked.sampling.ignore_eos = true;
        scheduler
            .add(&asked.prompt, &asked.keys, asked.sampling)
            .expect("a good request");
    }
    let mut samples = vec![(None, Vec::new()); 4];
    while scheduler.busy() + scheduler.waiting() > 0 {
        for event in scheduler.step(engine).expect("a step") {
            let (finish, tokens) = &mut samples[event.request as usize - 1];
            tokens.extend(event.drawn.tokens);
            *finish = event.finish;
        }
    }
    samples
}

#[test]
fn keys_and_values_take_what_was_promised_and_no_more() {
    let (mut card, device) = metered(create(&odd(), 1));
    let limit = 23 * block_bytes(&card);
    device.begin();
    let expected = drawn(&mut card, limit);
    assert!(
        expected
            .iter()
            .all(|(finish, tokens)| *finish == Some(Finish::Length) && tokens.len() == 61)
    );
    let (most, others) = {
        let meter = device.meter.lock().unwrap();
        (meter.most_cleared, meter.most_others)
    };
    assert!(most <= limit, "{most} bytes of {limit}");
    assert!(
        most >= 20 * block_bytes(&card),
        "{most} bytes are no four samples"
    );
    // As much as was promised, beside what a step needs, is enough.
    let (mut card, device) = metered(create(&odd(), 1));
    device.room.store(others + limit, Relaxed);
    assert_eq!(drawn(&mut card, limit), expected);
}

fn trains(engine: &mut Engine) {
    let optimizer = Optimizer::new(0.9, 0.95, 1e-3, 0.1, 1.0, 1e-3);
    engine.reset_optimizer(optimizer.expect("good settings"));
}

/// What a step gives and leaves.
fn step(engine: &mut Engine) -> (u64, Vec<Vec<f64>>, String, Vec<u32>) {
    let report = engine.train_step(&batch(), 1e-2, true).expect("a step");
    (
        report.loss.to_bits(),
        report.expert_load,
        engine.fingerprint(),
        numbers(engine),
    )
}

/// Every number of the weights, the selection biases among them.
fn numbers(engine: &Engine) -> Vec<u32> {
    let mut named: Vec<_> = tensors(engine).into_iter().collect();
    named.sort_by(|(a, _), (b, _)| a.cmp(b));
    let numbers = named.iter().flat_map(|(_, tensor)| values(tensor));
    numbers.map(f32::to_bits).collect()
}

/// What passes compute with, and what trains of it.
fn state(engine: &mut Engine) -> (String, Vec<u32>, Vec<u32>) {
    let logits = engine.logits(&[ids(3, 9)]).expect("logits").values;
    let logits = logits.iter().map(|x| x.to_bits()).collect();
    (engine.fingerprint(), numbers(engine), logits)
}

#[test]
fn a_step_that_fails_has_not_been() {
    for adapts in [false, true] {
        let engine = || {
            let engine = create(&odd(), 1);
            let (mut card, device) = metered(if adapts { adapted(engine, 2) } else { engine });
            trains(&mut card);
            (card, device)
        };
        let (mut clean, device) = engine();
        let before = device.allocations();
        let first = step(&mut clean);
        // The last allocations are those of the step, before them come norms; others fail while the batch is read.
        let allocations = device.allocations() - before;
        let expected = [first, step(&mut clean)];
        for failing in (allocations - 6..allocations).chain([3, allocations / 2]) {
            let (mut card, device) = engine();
            let untouched = state(&mut card);
            device.granted.store(failing, Relaxed);
            let error = card
                .train_step(&batch(), 1e-2, true)
                .expect_err("no memory");
            assert!(error.is_capacity(), "{error}");
            device.granted.store(usize::MAX, Relaxed);
            assert!(state(&mut card) == untouched, "allocation {failing}");
            assert!(
                [step(&mut card), step(&mut card)] == expected,
                "allocation {failing}"
            );
        }
        // Nor has one whose weights could not be changed: all at once, or as the calls make them that an adapter's step takes.
        let calls = (0..4).chain((4..).step_by(9));
        let most = if adapts { usize::MAX } else { 1 };
        let (mut card, device) = engine();
        assert!(step(&mut card) == expected[0]);
        let before = state(&mut card);
        let mut failed = 0;
        for granted in calls.take(most) {
            device.fail_after_adamw(granted);
            let Err(error) = card.train_step(&batch(), 1e-2, false) else {
                break;
            };
            assert!(error.to_string().contains("does not start"), "{error}");
            assert!(state(&mut card) == before, "call {granted}");
            failed += 1;
        }
        assert!(failed > if adapts { 3 } else { 0 });
        if !adapts {
            assert!(step(&mut card) == expected[1]);
        }
        // The step that was granted all its calls, or the one after those that were not.
        assert!(numbers(&card) == expected[1].3);
    }
}

#[test]
fn training_that_cannot_be_taken_up_leaves_the_engine_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut saved, _) = metered(create(&odd(), 1));
    trains(&mut saved);
    step(&mut saved);
    saved.save_training(folder.path(), "seven").expect("saved");
    let expected = {
        let (mut clean, _) = metered(create(&odd(), 1));
        trains(&mut clean);
        step(&mut clean)
    };
    let (mut card, device) = metered(create(&odd(), 1));
    trains(&mut card);
    let untouched = numbers(&card);
    // There is room for one of two moments.
    device.granted.store(1, Relaxed);
    let error = card.load_training(folder.path()).expect_err("no memory");
    assert!(error.is_capacity(), "{error}");
    device.granted.store(usize::MAX, Relaxed);
    assert!(numbers(&card) == untouched);
    assert!(step(&mut card) == expected);
    assert_eq!(card.load_training(folder.path()).expect("loaded"), "seven");
    assert!(step(&mut card) == step(&mut saved));
}

/// Counts the draws that are made for it.
struct Counting(usize);

impl Sampler for Counting {
    fn next(&mut self) -> Option<Draw> {
        (self.0 < 50).then_some(Draw {
            row: 0,
            choice: Choice::Greedy,
            bent: false,
            top: 0,
        })
    }

    fn bend(&mut self, _: &mut [f32]) -> bool {
        true
    }

    fn take(&mut self, _: DrawnToken) {
        self.0 += 1;
    }

    fn refuse(&mut self) {
        unreachable!("every logit is a number")
    }
}

#[test]
fn nothing_is_drawn_from_a_device_that_failed() {
    let (mut card, device) = metered(create(&odd(), 1));
    card.prepare(200);
    let ask = |scheduler: &Scheduler<CardMemory>| {
        for i in 0..3 {
            let mut asked = request(i, 9, &[i as u64, 7], 150, 1.0);
            asked.sampling.ignore_eos = true;
            scheduler
                .add(&asked.prompt, &asked.keys, asked.sampling)
                .expect("a good request");
        }
        scheduler.reach();
    };
    let made = |card: &Engine| {
        let made = card.with_card(|card| Scheduler::new(&card, 1, 8, 0));
        made.expect("on a card")
            .expect("whole")
            .expect("a scheduler")
    };
    for failing in [0, 30, 200, 1000] {
        let mut told: Vec<Event> = Vec::new();
        let scheduler = made(&card);
        ask(&scheduler);
        device.granted.store(failing, Relaxed);
        let ended = card.with_card(|card| told = scheduler.finish_on(&card, 1));
        device.granted.store(usize::MAX, Relaxed);
        assert!(ended.expect("on a card").is_err());
        assert!(told.is_empty(), "after allocation {failing}: {told:?}");
        // Step by step as well.
        let scheduler = made(&card);
        ask(&scheduler);
        device.granted.store(failing, Relaxed);
        let ended = card.with_card(|card| {
            while !card.failed() {
                told = scheduler.step_on(&card, 1);
            }
        });
        device.granted.store(usize::MAX, Relaxed);
        assert!(ended.expect("on a card").is_err());
        assert!(told.is_empty(), "after allocation {failing}: {told:?}");
    }
    let mut sampler = [Counting(0)];
    let drawn = card.with_card(|card| {
        device.granted.store(0, Relaxed);
        let cache = card.kv_cache();
        card.reserve_kv(&cache, 1);
        assert!(card.failed());
        let mut head = <CardMemory as Memories>::Head::default();
        card.sample(&mut head, &mut sampler);
    });
    assert!(drawn.expect("on a card").is_err());
    assert_eq!(sampler[0].0, 0);
    // And it goes on, when somebody has been told.
    device.granted.store(usize::MAX, Relaxed);
    assert!(card.logits(&[ids(3, 9)]).is_ok());
}

#[test]
fn routers_past_the_kernels_are_refused_before_anything_moves() {
    let sized = |experts: usize, chosen: usize| {
        let (experts, chosen) = (json!(experts), json!(chosen));
        create(
            &with(
                odd(),
                &[
                    ("num_local_experts", experts),
                    ("num_experts_per_tok", chosen),
                ],
            ),
            1,
        )
    };
    let so_many = "more than 512 experts (num_experts, num_local_experts)";
    let at_once = "more than 32 experts for a token (num_experts_per_tok)";
    let small = "the choice among so many experts (num_experts, num_local_experts) with the shared memory of this card";
    let large = 227 << 10;
    for (experts, chosen, shared, what) in [
        (513, 2, large, so_many),
        (40, 33, large, at_once),
        // As on cards of compute capability 8.6.
        (384, 2, 101_376, small),
    ] {
        let device = Metered::new(shared);
        let on: Arc<dyn Device> = device.clone();
        let mut engine = sized(experts, chosen);
        let error = engine.to_card("cuda:0", &on, None).expect_err(what);
        assert!(
            error.is_usage() && error.to_string().contains(what),
            "{error}"
        );
        assert_eq!((device.allocations(), engine.device()), (0, "cpu"));
    }
    let device: Arc<dyn Device> = Metered::new(101_376);
    let mut engine = sized(368, 2);
    engine.to_card("cuda:0", &device, None).expect("moved");
    assert!(engine.logits(&[ids(3, 9)]).is_ok());
}
