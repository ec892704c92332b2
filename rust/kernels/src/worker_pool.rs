//! A pool of threads that do the parts of one job together.
//!
//! Threads live as long as the pool. Between jobs they spin for some microseconds, because the products of one
//! token follow each other faster than a sleeping thread wakes, and then sleep. A thread that the system has put
//! aside joins late or not at all: nobody waits for it, only for those that have begun a part.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, TryLockError};
use std::thread::JoinHandle;

use crate::shared::Shared;

/// Turns of spinning before a thread sleeps: some tens of microseconds. Few under miri, where sleeping is what to look at.
const SPINS: usize = if cfg!(miri) { 3 } else { 2000 };

/// Low bits of the gate: threads inside the job.
const INSIDE: u64 = (1 << 31) - 1;
/// Whether more may come in.
const OPEN: u64 = 1 << 31;
/// One job; the bits above count them.
const JOB: u64 = 1 << 32;
/// Told to end.
const CLOSED_FOR_GOOD: u64 = u64::MAX;

type Part<'a> = dyn Fn(usize, usize) + Sync + 'a;

/// The caller's thread and `threads - 1` others.
pub struct WorkerPool {
    state: Arc<State>,
    workers: Vec<JoinHandle<()>>,
    /// Held by the caller whose job runs.
    busy: Mutex<()>,
    /// Where the threads live: a fork has none of them.
    process: u32,
}

struct State {
    /// Job number, [`OPEN`], and how many are inside.
    gate: AtomicU64,
    job: Mutex<Option<Job>>,
    /// The part that nobody has taken yet.
    next: AtomicUsize,
    parts: AtomicUsize,
    /// Guards falling asleep against being woken.
    door: Mutex<()>,
    asleep: AtomicUsize,
    wake: Condvar,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// A job's closure, its lifetime erased: used only by threads inside the gate, which the caller waits for.
#[derive(Clone, Copy)]
struct Job(*const Part<'static>);

// SAFETY: the closure is `Sync`, and its owner outlives every use (see `WorkerPool::run`).
unsafe impl Send for Job {}

impl WorkerPool {
    /// A pool of `threads` threads, at least one: the caller.
    pub fn new(threads: usize) -> Self {
        let state = Arc::new(State {
            gate: AtomicU64::new(0),
            job: Mutex::new(None),
            next: AtomicUsize::new(0),
            parts: AtomicUsize::new(0),
            door: Mutex::new(()),
            asleep: AtomicUsize::new(0),
            wake: Condvar::new(),
            panic: Mutex::new(None),
        });
        let workers = (1..threads.max(1))
            .map_while(|thread| {
                let state = Arc::clone(&state);
                let name = format!("moevolve-{thread}");
                // Where the system refuses another thread, the pool is smaller: results are the same.
                std::thread::Builder::new()
                    .name(name)
                    .spawn(move || state.serve(thread))
                    .ok()
            })
            .collect();
        Self {
            state,
            workers,
            busy: Mutex::new(()),
            process: std::process::id(),
        }
    }

    /// Threads, the caller's among them.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Whether a job would be shared out now: there are other threads, and none is in a job.
    pub fn is_free(&self) -> bool {
        !self.workers.is_empty() && !matches!(self.busy.try_lock(), Err(TryLockError::WouldBlock))
    }

    /// Calls `part(index, thread)` once for each index below `parts`, and returns when all are done.
    ///
    /// `thread` is below [`Self::threads`] and no two parts run at once with the same one: it may choose a scratch
    /// buffer, but must not change a result. A call from inside a part, or beside another caller's job, runs its
    /// parts on the calling thread. A panic of a part reaches the caller once all have stopped.
    pub fn run(&self, parts: usize, part: &(dyn Fn(usize, usize) + Sync)) {
        let free = if parts > 1 && !self.workers.is_empty() {
            match self.busy.try_lock() {
                Ok(guard) => Some(guard),
                Err(TryLockError::Poisoned(guard)) => Some(guard.into_inner()),
                Err(TryLockError::WouldBlock) => None,
            }
        } else {
            None
        };
        let Some(_busy) = free else {
            return (0..parts).for_each(|index| part(index, 0));
        };
        let state = &*self.state;
        // SAFETY: only the lifetime changes. Nobody uses the closure after the gate is shut and empty, which this
        // function waits for on every way out.
        let erased = unsafe { std::mem::transmute::<*const Part<'_>, *const Part<'static>>(part) };
        *lock(&state.job) = Some(Job(erased));
        state.next.store(0, Ordering::Relaxed);
        state.parts.store(parts, Ordering::Relaxed);
        let number = (state.gate.load(Ordering::Relaxed) & !INSIDE & !OPEN) + JOB;
        state.gate.store(number | OPEN, Ordering::SeqCst);
        if state.asleep.load(Ordering::SeqCst) > 0 {
            let _door = lock(&state.door);
            state.wake.notify_all();
        }
        let own = catch_unwind(AssertUnwindSafe(|| state.work(part, 0)));
        if own.is_err() {
            state.next.store(parts, Ordering::Relaxed);
        }
        state.gate.fetch_and(!OPEN, Ordering::SeqCst);
        let mut turns = 0;
        while state.gate.load(Ordering::Acquire) & INSIDE > 0 {
            turns += 1;
            if turns < SPINS {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
        let others = lock(&state.panic).take();
        if let Err(panic) = own {
            resume_unwind(panic);
        }
        if let Some(panic) = others {
            resume_unwind(panic);
        }
    }

    /// Calls `work(item, thread)` once for each item.
    pub fn each<T: Send>(&self, items: &mut [T], work: &(dyn Fn(&mut T, usize) + Sync)) {
        let count = items.len();
        let items = Shared::new(items);
        self.run(count, &|index, thread| {
            // SAFETY: each index comes once, so no item is borrowed twice.
            work(unsafe { &mut items.slice(index..index + 1)[0] }, thread);
        });
    }
}

impl std::fmt::Debug for WorkerPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerPool")
            .field("threads", &self.threads())
            .finish()
    }
}

impl Drop for WorkerPool {
    fn drop(&mut self) {
        if self.process != std::process::id() {
            // Nobody is to be waited for, and a thread that is not here may hold the door.
            self.workers.drain(..).for_each(std::mem::forget);
            return;
        }
        self.state.gate.store(CLOSED_FOR_GOOD, Ordering::SeqCst);
        {
            let _door = lock(&self.state.door);
            self.state.wake.notify_all();
        }
        for worker in self.workers.drain(..) {
            let _ = worker.join(); // Its panics were caught.
        }
    }
}

impl State {
    fn work(&self, part: &Part<'_>, thread: usize) {
        let parts = self.parts.load(Ordering::Relaxed);
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= parts {
                return;
            }
            part(index, thread);
        }
    }

    /// A thread's life: joins each open job once.
    fn serve(&self, thread: usize) {
        let mut done = 0;
        while let Some(number) = self.enter(done) {
            done = number;
            let job = *lock(&self.job);
            if let Some(Job(part)) = job {
                // SAFETY: inside the gate the closure is alive.
                let part = unsafe { &*part };
                let result = catch_unwind(AssertUnwindSafe(|| self.work(part, thread)));
                if let Err(panic) = result {
                    *lock(&self.panic) = Some(panic);
                    self.next
                        .store(self.parts.load(Ordering::Relaxed), Ordering::Relaxed);
                }
            }
            self.gate.fetch_sub(1, Ordering::Release);
        }
    }

    /// Waits for an open job other than number `done` and steps inside; None at the end.
    fn enter(&self, done: u64) -> Option<u64> {
        let mut turns = 0;
        loop {
            let gate = self.gate.load(Ordering::SeqCst);
            if gate == CLOSED_FOR_GOOD {
                return None;
            }
            let number = gate & !INSIDE & !OPEN;
            if gate & OPEN > 0 && number != done {
                let inside =
                    self.gate
                        .compare_exchange(gate, gate + 1, Ordering::SeqCst, Ordering::Relaxed);
                if inside.is_ok() {
                    return Some(number);
                }
                continue;
            }
            turns += 1;
            if turns < SPINS {
                std::hint::spin_loop();
                continue;
            }
            turns = 0;
            let door = lock(&self.door);
            self.asleep.fetch_add(1, Ordering::SeqCst);
            // Looked at again after saying so: a caller either sees a sleeper, or is seen here.
            let gate = self.gate.load(Ordering::SeqCst);
            let idle =
                gate != CLOSED_FOR_GOOD && (gate & OPEN == 0 || gate & !INSIDE & !OPEN == done);
            if idle {
                drop(self.wake.wait(door).unwrap_or_else(PoisonError::into_inner));
            }
            self.asleep.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// A lock whose holder panicked is as good as before: nothing here is left half-changed.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
