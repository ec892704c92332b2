//! The kernels on the processor: a fiber for every thread of a block, one block after another, in an order that changes.
//!
//! A launch fails where a kernel touches memory past an allocation, reads shared memory that nobody wrote or that another thread
//! writes with no barrier between, reads what `cp.async` has not delivered, or waits for a thread that never comes. Fresh memory
//! holds NaNs.

use std::ffi::{CString, c_char, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::device::{Address, Device, Launch};
use crate::error::{Error, Result};

/// Launches a kernel by name on blocks and threads with arguments, in an order that the seed decides; the message says why not.
pub type LaunchCall = unsafe extern "C" fn(
    *const c_char,
    *const u32,
    *const u32,
    u32,
    *mut *mut c_void,
    u64,
    *mut c_char,
    usize,
) -> bool;

/// The functions of `host/launch.cc`, of this library or of one that was loaded.
#[derive(Clone, Copy)]
pub struct Calls {
    pub allocate: unsafe extern "C" fn(usize) -> *mut c_void,
    pub free: unsafe extern "C" fn(*mut c_void, usize) -> bool,
    pub launch: LaunchCall,
}

unsafe extern "C" {
    fn twin_allocate(bytes: usize) -> *mut c_void;
    fn twin_free(pointer: *mut c_void, bytes: usize) -> bool;
    fn twin_launch(
        name: *const c_char,
        blocks: *const u32,
        threads: *const u32,
        shared: u32,
        arguments: *mut *mut c_void,
        seed: u64,
        message: *mut c_char,
        room: usize,
    ) -> bool;
}

/// A device whose memory is the processor's.
pub struct Twin {
    calls: Calls,
    /// Changes the order of threads and blocks from launch to launch.
    seed: AtomicU64,
}

impl Twin {
    pub fn device(seed: u64) -> Arc<dyn Device> {
        let calls = Calls {
            allocate: twin_allocate,
            free: twin_free,
            launch: twin_launch,
        };
        Self::device_with(calls, seed)
    }

    /// A device of other kernels than this library's.
    pub fn device_with(calls: Calls, seed: u64) -> Arc<dyn Device> {
        Arc::new(Self {
            calls,
            seed: AtomicU64::new(seed),
        })
    }
}

impl Device for Twin {
    fn allocate(&self, bytes: usize) -> Result<Address> {
        // SAFETY: any size may be asked for.
        let pointer = unsafe { (self.calls.allocate)(bytes) };
        if pointer.is_null() {
            return Err(Error::Memory {
                asked: bytes,
                free: 0,
            });
        }
        Ok(pointer as Address)
    }

    fn free(&self, address: Address, bytes: usize) {
        // SAFETY: `allocate` gave this address for so many bytes.
        let clean = unsafe { (self.calls.free)(address as *mut c_void, bytes) };
        assert!(
            clean || std::thread::panicking(),
            "a kernel wrote beside an allocation of {bytes} bytes"
        );
    }

    /// A gibibyte, however much is taken.
    fn memory(&self) -> Result<[usize; 2]> {
        Ok([1 << 30; 2])
    }

    /// As on cards of compute capability 9.0.
    fn shared(&self) -> usize {
        227 << 10
    }

    fn upload(&self, bytes: &[u8], to: Address) -> Result<()> {
        // SAFETY: the caller has so much memory there, and nothing runs meanwhile.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to as *mut u8, bytes.len()) };
        Ok(())
    }

    fn download(&self, from: Address, bytes: &mut [u8]) -> Result<()> {
        // SAFETY: as above.
        unsafe {
            std::ptr::copy_nonoverlapping(from as *const u8, bytes.as_mut_ptr(), bytes.len())
        };
        Ok(())
    }

    fn copy(&self, from: Address, to: Address, bytes: usize) -> Result<()> {
        // SAFETY: as above.
        unsafe { std::ptr::copy(from as *const u8, to as *mut u8, bytes) };
        Ok(())
    }

    fn clear(&self, at: Address, bytes: usize) -> Result<()> {
        // SAFETY: as above.
        unsafe { std::ptr::write_bytes(at as *mut u8, 0, bytes) };
        Ok(())
    }

    unsafe fn launch(&self, launch: Launch, arguments: &mut [*mut c_void]) -> Result<()> {
        let Launch {
            kernel,
            blocks,
            threads,
            shared,
        } = launch;
        if blocks.contains(&0) {
            return Ok(());
        }
        let name = CString::new(kernel).expect("names of kernels have no zero in them");
        let mut message = [0u8; 512];
        // SAFETY: the caller's promise about the arguments; the message has the room that is said.
        let whole = unsafe {
            (self.calls.launch)(
                name.as_ptr(),
                blocks.as_ptr(),
                [threads, 1, 1].as_ptr(),
                shared,
                arguments.as_mut_ptr(),
                self.seed.fetch_add(1, Ordering::Relaxed),
                message.as_mut_ptr().cast(),
                message.len(),
            )
        };
        if whole {
            return Ok(());
        }
        let end = message.iter().position(|&b| b == 0).unwrap_or(0);
        Err(Error::Kernel {
            kernel: kernel.to_owned(),
            reason: String::from_utf8_lossy(&message[..end]).into_owned(),
        })
    }
}
