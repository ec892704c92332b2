//! A pool does every part once, whoever does it. `make miri` runs these under many schedules, fewer jobs each.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use moevolve_kernels::worker_pool::WorkerPool;

/// A number of jobs, cut down where each is interpreted.
const fn jobs(count: usize) -> usize {
    if cfg!(miri) { count / 50 } else { count }
}

#[test]
fn every_part_runs_once_in_every_of_many_jobs() {
    for threads in [1, 2, 5] {
        let pool = WorkerPool::new(threads);
        assert_eq!(pool.threads(), threads);
        for parts in (0..jobs(2000)).map(|job| job % 23) {
            let counts: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
            pool.run(parts, &|part, thread| {
                assert!(thread < threads);
                counts[part].fetch_add(1, Ordering::Relaxed);
            });
            assert!(
                counts
                    .iter()
                    .all(|count| count.load(Ordering::Relaxed) == 1)
            );
        }
    }
}

#[test]
fn a_job_inside_a_part_runs_where_it_is() {
    let pool = WorkerPool::new(3);
    let total = AtomicUsize::new(0);
    pool.run(7, &|_, _| {
        pool.run(5, &|_, _| {
            total.fetch_add(1, Ordering::Relaxed);
        });
    });
    assert_eq!(total.into_inner(), 35);
}

#[test]
fn callers_on_several_threads_share_a_pool() {
    let pool = WorkerPool::new(2);
    let total = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..jobs(200) {
                    pool.run(3, &|_, _| {
                        total.fetch_add(1, Ordering::Relaxed);
                    });
                }
            });
        }
    });
    assert_eq!(total.into_inner(), 12 * jobs(200));
}

#[test]
fn a_panic_of_any_part_reaches_the_caller_and_the_pool_goes_on() {
    let pool = WorkerPool::new(2);
    for bad in 0..8 {
        let run = || {
            pool.run(8, &|part, _| assert_ne!(part, bad, "a bad part"));
        };
        assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
        let done = AtomicUsize::new(0);
        pool.run(8, &|_, _| {
            done.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(done.into_inner(), 8);
    }
}

#[test]
fn each_item_is_changed_once() {
    let pool = WorkerPool::new(3);
    for n in 0..jobs(50) + 5 {
        let mut items: Vec<usize> = (0..n).collect();
        pool.each(&mut items, &|item, _| *item = *item * 2 + 1);
        assert_eq!(items, (0..n).map(|i| 2 * i + 1).collect::<Vec<_>>());
    }
}

#[test]
fn a_pool_is_free_where_others_would_help() {
    assert!(!WorkerPool::new(1).is_free(), "there is nobody else");
    let pool = WorkerPool::new(2);
    assert!(pool.is_free());
    let free = Mutex::new(Vec::new());
    pool.run(3, &|_, _| {
        free.lock().expect("no part panics").push(pool.is_free())
    });
    assert_eq!(
        free.into_inner().expect("no part panicked"),
        [false; 3],
        "each is in a part itself"
    );
    assert!(pool.is_free());
}

/// A child of a fork has the pool and none of its threads.
#[cfg(not(miri))]
#[test]
fn a_pool_ends_in_a_fork_without_its_threads() {
    let mut pool = Some(WorkerPool::new(3));
    // SAFETY: the child drops the pool and ends at once.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(pool.take())));
        // SAFETY: nothing of the parent's is undone on the way.
        unsafe { libc::_exit(i32::from(dropped.is_err())) };
    }
    let mut status = -1;
    // SAFETY: the status is this function's own.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0);
    let done = AtomicUsize::new(0);
    let pool = pool.as_ref().expect("the parent's own");
    pool.run(8, &|_, _| {
        done.fetch_add(1, Ordering::Relaxed);
    });
    assert_eq!(done.into_inner(), 8);
}
