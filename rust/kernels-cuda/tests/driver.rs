//! The driver's calls, through a driver's library that runs kernels on the twin.

mod common;
mod library;

use std::ffi::{CString, c_void};
use std::path::Path;
use std::sync::Arc;

use common::check::{Speed, distances};
use common::{Case, Sizes, apart};
use library::driver;
use moevolve_kernels_cuda::experts::{Combination, Experts};
use moevolve_kernels_cuda::products::Format;
use moevolve_kernels_cuda::route::{Routing, Rule, select_bytes};
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
    drop((speed, device));
    gives_back_what_it_took(&library);
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

/// Contexts, streams and modules that are open, and contexts that this thread is in.
fn alive(library: &Path) -> [i32; 4] {
    let path = CString::new(library.to_str().unwrap()).unwrap();
    let mut alive = [-1; 4];
    // SAFETY: the library stays open, and the function's type is that of host/driver.cc.
    unsafe {
        let handle = libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
        let symbol = libc::dlsym(handle, c"twin_driver_alive".as_ptr());
        let call =
            std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut i32) -> i32>(symbol);
        call(alive.as_mut_ptr());
    }
    alive
}

/// A driver that is dropped leaves nothing open, one that fails half-way neither, and a thread is in no other context afterwards.
fn gives_back_what_it_took(library: &Path) {
    assert_eq!(alive(library), [0; 4]);
    for _ in 0..100 {
        let device = Driver::open_by(library, 0, &[vec![1], vec![2]]).unwrap();
        let memory = Memory::from_slice(&device, &[1.0_f32]).unwrap();
        drop(device);
        assert_eq!(
            memory.download().unwrap(),
            [1.0],
            "whoever has memory has the driver"
        );
        assert_eq!(alive(library), [1, 1, 2, 0]);
    }
    assert_eq!(alive(library), [0; 4]);
    assert!(Driver::open_by(library, 0, &[vec![1], vec![0]]).is_err());
    assert_eq!(
        alive(library),
        [0; 4],
        "a driver whose second image is none"
    );
    // Of nothing, the driver is not asked.
    let device = Driver::open_by(library, 0, &[vec![1]]).unwrap();
    let none = Memory::<f32>::zeros(&device, 0).unwrap();
    none.upload(&[]).unwrap();
    assert_eq!(none.download().unwrap(), []);
    device.copy(none.address(), none.address(), 0).unwrap();
    // Cards of capability 8.6 have less for a block than those of 9.0.
    assert_eq!(device.shared(), 227 << 10);
    // SAFETY: this file has one test, so no other thread reads the environment.
    unsafe { std::env::set_var("TWIN_DRIVER_SHARED", "101376") };
    let small = Driver::open_by(library, 0, &[vec![1]]).unwrap();
    assert_eq!(small.shared(), 101_376);
    let route = |experts| {
        let (h, router) = (vec![0.5_f32; 8], vec![0.5_f32; 8 * experts]);
        let (h, router) = (
            Memory::from_slice(&small, &h).unwrap(),
            Memory::from_slice(&small, &router).unwrap(),
        );
        let routing = Routing::new(&small, Rule::Softmax, 1, experts, 2, experts).unwrap();
        routing.select(h.address(), 8, router.address(), None)
    };
    assert!(select_bytes(368) <= small.shared() && small.shared() < select_bytes(384));
    route(368).unwrap();
    assert!(route(384).is_err());
    // SAFETY: as above.
    unsafe { std::env::remove_var("TWIN_DRIVER_SHARED") };
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
