//! The driver's calls, through a driver's library that runs kernels on the twin.

mod common;
mod library;

use std::path::Path;
use std::sync::Arc;

use common::check::{Speed, distances};
use common::{Case, Sizes, apart};
use library::driver;
use moevolve_kernels_cuda::experts::{Combination, Experts};
use moevolve_kernels_cuda::products::Format;
use moevolve_kernels_cuda::{Device, Driver, Launch, Memory};

const SOURCES: [&str; 5] = [
    "route.cu",
    "product_f32.cu",
    "product_bf16.cu",
    "few.cu",
    "combine.cu",
];

#[test]
fn a_block_of_experts_runs_through_the_driver() {
    let (library, _folder) = driver(&SOURCES);
    let device = Driver::open_by(&library, 0, &[vec![1]]).unwrap();
    let case = Case::new(
        Sizes {
            rule: 0,
            hidden: 40,
            intermediate: 24,
            experts: 6,
            chosen: 2,
            tokens: 70,
        },
        true,
        4,
    );
    for (format, near) in [(Format::F32, 1e-5), (Format::Bf16, 1e-2)] {
        let on = case.on(&device, format);
        let (h, residual, out) = (on.h.address(), on.residual.address(), on.out.address());
        let (block, experts) = (on.block(&case), Experts::new(&device));
        experts
            .forward(&block, case.tokens, h, residual, out, Combination::Ordered)
            .unwrap();
        assert!(apart(&on.out.download().unwrap(), &case.forward_on_cpu().0) < near);
    }
    for distance in distances(&device, 40).unwrap() {
        assert!(
            distance.apart < distance.most,
            "{}: {}",
            distance.what,
            distance.apart
        );
    }
    let speed = Speed::new(&device, (6, 48, 32, 2), 20).unwrap();
    assert!(speed.few(3, 1).unwrap().0 > 0.0 && speed.many(20, 1).unwrap().both > 0.0);
    says_what_is_wrong(&device);
    refuses_what_cannot_be_used(&library);
}

/// What goes wrong on the card is told with the kernel, and with what was asked and is free.
fn says_what_is_wrong(device: &Arc<dyn Device>) {
    let error = Memory::<u8>::new(device, 2 << 30).err().unwrap();
    assert!(
        error
            .to_string()
            .starts_with("out of device memory: 2147483648 bytes were asked for, "),
        "{error}"
    );
    assert!(
        Memory::<u8>::new(device, 1 << 20).is_ok(),
        "nothing else is lost"
    );
    let launch = Launch {
        kernel: "no_such_kernel",
        blocks: [1, 1, 1],
        threads: 32,
        shared: 0,
    };
    // SAFETY: nothing is launched.
    let error = unsafe { device.launch(launch, &mut []) }.unwrap_err();
    assert_eq!(
        error.to_string(),
        "kernel no_such_kernel: is in none of the images"
    );
    let (mut from, mut to, mut count) = (0u64, 0u64, 256usize);
    let launch = Launch {
        kernel: "round_bf16",
        blocks: [1, 1, 1],
        threads: 256,
        shared: 0,
    };
    let arguments = [&raw mut from, &raw mut to]
        .map(|p| p.cast())
        .into_iter()
        .chain([(&raw mut count).cast()]);
    // SAFETY: the kernel's addresses are wrong; the twin stops it.
    let error = unsafe { device.launch(launch, &mut arguments.collect::<Vec<_>>()) }.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("touches memory that is not its own"),
        "{error}"
    );
}

fn refuses_what_cannot_be_used(library: &Path) {
    let none = Driver::open_by(Path::new("/nowhere/libcuda.so.1"), 0, &[])
        .err()
        .unwrap();
    assert_eq!(
        none.to_string(),
        "there is no NVIDIA driver (libcuda.so.1 is not found)"
    );
    let card = Driver::open_by(library, 3, &[]).err().unwrap();
    assert_eq!(card.to_string(), "there is no card 3: the driver has 1");
    // SAFETY: this file has one test, so no other thread reads the environment.
    let with = |name: &str, value: &str| unsafe { std::env::set_var(name, value) };
    with("TWIN_DRIVER_MAJOR", "7");
    let old = Driver::open_by(library, 0, &[]).err().unwrap();
    assert_eq!(
        old.to_string(),
        "card 0 does not multiply bf16: compute capability 8.0 is needed"
    );
    with("TWIN_DRIVER_VERSION", "12040");
    let old = Driver::open_by(library, 0, &[]).err().unwrap();
    assert_eq!(
        old.to_string(),
        "the NVIDIA driver supports CUDA 12.4, and 13.0 is needed"
    );
}
