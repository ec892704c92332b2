//! What the twin finds wrong: each of these kernels, compiled for it alone, makes one mistake.

mod common;
mod library;

use std::ffi::c_void;

use library::Library;
use moevolve_kernels_cuda::{Error, Launch, Memory};

const KERNELS: &str = r#"
#include "device.cuh"

KERNEL(64) past_the_end(int *out) { out[threadIdx.x] = 1; }
EXPORT(past_the_end)

KERNEL(64) nobody_wrote(int *out) {
  Arena arena;
  auto shared = arena.take<int>(64);
  out[threadIdx.x % 8] = shared[threadIdx.x];
}
EXPORT(nobody_wrote)

KERNEL(64) no_barrier(int *out) {
  Arena arena;
  auto shared = arena.take<int>(64);
  shared[threadIdx.x] = threadIdx.x;
  out[threadIdx.x % 8] = shared[63 - threadIdx.x];
}
EXPORT(no_barrier)

KERNEL(64) no_warp_barrier(int *out) {
  Arena arena;
  auto shared = arena.take<int>(64);
  shared[threadIdx.x] = threadIdx.x;
  out[threadIdx.x % 8] = shared[threadIdx.x ^ 1];
}
EXPORT(no_warp_barrier)

KERNEL(64) overwritten_while_read(int *out) {
  Arena arena;
  auto shared = arena.take<int>(64);
  shared[threadIdx.x] = threadIdx.x;
  block_sync();
  int other = shared[63 - threadIdx.x];
  shared[threadIdx.x] = other;
  out[threadIdx.x % 8] = 0;
}
EXPORT(overwritten_while_read)

KERNEL(64) half_wait(int *out) {
  if (threadIdx.x < 32) block_sync();
  out[threadIdx.x % 8] = 0;
}
EXPORT(half_wait)

KERNEL(64) half_exchange(int *out) {
  if (threadIdx.x % 2) out[0] = shuffle(int(threadIdx.x), 0);
  else block_sync();
}
EXPORT(half_exchange)

KERNEL(64) not_waited_for(int *out) {
  Arena arena;
  auto shared = arena.take<int>(8);
  if (threadIdx.x == 0) {
    copy_async(shared.address(0), out, 16);
    commit_copies();
    out[5] = shared[1];
    wait_copies<0>();
  }
}
EXPORT(not_waited_for)

KERNEL(64) not_aligned(int *out) {
  Arena arena;
  auto shared = arena.take<int>(8);
  if (threadIdx.x == 0) copy_async(shared.address(0), out + 1, 16);
}
EXPORT(not_aligned)

KERNEL(64) past_a_shared_array(int *out) {
  Arena arena;
  auto first = arena.take<int>(60);
  auto second = arena.take<int>(60);
  first[threadIdx.x] = 1;
}
EXPORT(past_a_shared_array)

KERNEL(64) right(int *out) {
  Arena arena;
  auto shared = arena.take<int>(64);
  shared[threadIdx.x] = threadIdx.x;
  block_sync();
  int other = shared[63 - threadIdx.x];
  block_sync();
  shared[threadIdx.x] = other;
  warp_sync();
  if (threadIdx.x < 8) out[threadIdx.x] = shared[threadIdx.x ^ 1];
}
EXPORT(right)
"#;

#[test]
fn every_mistake_is_named() {
    let library = Library::of("mistakes.cu", KERNELS);
    let findings = [
        ("past_the_end", "touches memory that is not its own"),
        ("nobody_wrote", "which nobody wrote"),
        ("no_barrier", "reads shared memory at byte"),
        ("no_warp_barrier", "reads shared memory at byte"),
        ("overwritten_while_read", "with no barrier between"),
        ("half_wait", "barrier of line"),
        ("half_exchange", "for threads that wait elsewhere"),
        ("not_waited_for", "before the copy to it was waited for"),
        ("not_aligned", "not aligned"),
        ("past_a_shared_array", "of a shared array of 60"),
    ];
    for (kernel, finding) in findings {
        for seed in 0..4 {
            let error = run(&library, kernel, seed).unwrap_err();
            let Error::Kernel { reason, .. } = &error else {
                panic!("{error}");
            };
            assert!(reason.contains(finding), "{kernel}: {reason}");
            assert!(reason.contains("thread ("), "{reason}");
        }
    }
}

#[test]
fn a_kernel_without_mistakes_runs_after_those_that_fail() {
    let library = Library::of("right.cu", KERNELS);
    for seed in 0..8 {
        assert!(run(&library, "no_barrier", seed).is_err());
        assert_eq!(
            run(&library, "right", seed).unwrap(),
            [62, 63, 60, 61, 58, 59, 56, 57]
        );
    }
}

#[test]
fn an_unknown_kernel_and_a_block_that_no_card_runs_are_refused() {
    let library = Library::of("refused.cu", KERNELS);
    assert!(
        run(&library, "nothing", 0)
            .unwrap_err()
            .to_string()
            .contains("there is no kernel nothing")
    );
    let device = library.device(0);
    let launch = Launch {
        kernel: "right",
        blocks: [1, 1, 1],
        threads: 33,
        shared: 256,
    };
    // SAFETY: nothing is launched.
    let error = unsafe { device.launch(launch, &mut []) }.unwrap_err();
    assert!(error.to_string().contains("cannot be launched"), "{error}");
}

/// Launches a kernel of 64 threads on eight integers.
fn run(
    library: &Library,
    kernel: &'static str,
    seed: u64,
) -> moevolve_kernels_cuda::Result<Vec<i32>> {
    let device = library.device(seed);
    let out = Memory::<i32>::new(&device, 8)?;
    let mut address = out.address();
    let launch = Launch {
        kernel,
        blocks: [1, 1, 1],
        threads: 64,
        shared: 512,
    };
    let argument: *mut c_void = std::ptr::from_mut(&mut address).cast();
    // SAFETY: every kernel takes one pointer; its mistakes are what the twin stops.
    unsafe { device.launch(launch, &mut [argument])? };
    out.download()
}
