//! A card through NVIDIA's driver, whose library is opened when it is first asked for: nothing links against it.

mod calls;

use std::collections::HashMap;
use std::ffi::{CString, c_int, c_uint, c_void};
use std::path::Path;
use std::ptr::null_mut;
use std::sync::{Arc, Mutex, PoisonError};

use crate::device::{Address, Device, Launch};
use crate::error::{Error, Result};
use calls::{Calls, Handle};

/// CUDA version that a driver must support: the one that the kernels are compiled by.
const LEAST_VERSION: c_int = 13_000;
/// Compute capability of the first cards with bf16.
const LEAST_MAJOR: c_int = 8;
/// Shared memory that a block gets without asking.
const SHARED_UNASKED: u32 = 48 << 10;

const MAJOR: c_int = 75;
const MAX_DYNAMIC_SHARED: c_int = 8;

/// The compiled kernels of a folder, as `compile.py` writes them.
pub fn images(folder: &Path) -> Result<Vec<Vec<u8>>> {
    let failed = |reason: String| Error::NoKernels {
        folder: folder.display().to_string(),
        reason,
    };
    let read = || -> std::io::Result<Vec<Vec<u8>>> {
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|end| end == "fatbin") {
                paths.push(path);
            }
        }
        paths.sort();
        paths.iter().map(std::fs::read).collect()
    };
    let images = read().map_err(|e| failed(e.to_string()))?;
    if images.is_empty() {
        return Err(failed("no file is one".to_owned()));
    }
    // Arguments of kernels are structs without names: those of other sources would be misread in silence.
    let digest = std::fs::read_to_string(folder.join("sources.txt")).unwrap_or_default();
    if digest.trim() != env!("KERNELS_DIGEST") {
        return Err(Error::OtherKernels {
            folder: folder.display().to_string(),
        });
    }
    Ok(images)
}

/// One stream of a card.
pub struct Driver {
    calls: Calls,
    context: Handle,
    stream: Handle,
    modules: Vec<Handle>,
    functions: Mutex<HashMap<&'static str, Handle>>,
}

// SAFETY: the driver's calls may come from any thread that has made the context its own, as every method here does; handles are
// never changed.
unsafe impl Send for Driver {}
// SAFETY: as above.
unsafe impl Sync for Driver {}

impl Driver {
    /// Opens the card with number `index` by the system's driver; `images` are the files that `compile.py` makes.
    pub fn open(index: usize, images: &[Vec<u8>]) -> Result<Arc<dyn Device>> {
        Self::open_by(Path::new("libcuda.so.1"), index, images)
    }

    /// As [`Self::open`] by another library.
    pub fn open_by(library: &Path, index: usize, images: &[Vec<u8>]) -> Result<Arc<dyn Device>> {
        let calls = Calls::open(library).ok_or(Error::NoDriver)?;
        let (mut version, mut count) = (0, 0);
        // SAFETY: the places are this frame's.
        unsafe {
            calls.check("cuDriverGetVersion", (calls.version)(&mut version))?;
            if version < LEAST_VERSION {
                return Err(Error::OldDriver { version });
            }
            calls.check("cuInit", (calls.init)(0))?;
            calls.check("cuDeviceGetCount", (calls.count)(&mut count))?;
        }
        if index >= count as usize {
            let count = count as usize;
            return Err(Error::NoCard { index, count });
        }
        let (mut card, mut major) = (0, 0);
        let (mut context, mut stream) = (null_mut(), null_mut());
        // SAFETY: as above; the context outlives the stream, and both this process's use of the driver.
        unsafe {
            calls.check("cuDeviceGet", (calls.device)(&mut card, index as c_int))?;
            let attribute = (calls.attribute)(&mut major, MAJOR, card);
            calls.check("cuDeviceGetAttribute", attribute)?;
            if major < LEAST_MAJOR {
                return Err(Error::NoBf16 { index });
            }
            let retained = (calls.retain)(&mut context, card);
            calls.check("cuDevicePrimaryCtxRetain", retained)?;
            calls.check("cuCtxSetCurrent", (calls.set_current)(context))?;
            // 1: does not wait for the default stream.
            calls.check("cuStreamCreate", (calls.create_stream)(&mut stream, 1))?;
        }
        let mut modules = Vec::new();
        for image in images {
            let mut module = null_mut();
            // SAFETY: the image is whole, as the compiler wrote it.
            let loaded = unsafe { (calls.load)(&mut module, image.as_ptr().cast()) };
            calls.check("cuModuleLoadData", loaded)?;
            modules.push(module);
        }
        Ok(Arc::new(Self {
            calls,
            context,
            stream,
            modules,
            functions: Mutex::default(),
        }))
    }

    /// Makes the context this thread's.
    fn enter(&self) -> Result<&Calls> {
        // SAFETY: the context is alive.
        let set = unsafe { (self.calls.set_current)(self.context) };
        self.calls.check("cuCtxSetCurrent", set)?;
        Ok(&self.calls)
    }

    /// A kernel by its name, which is looked up once.
    fn function(&self, kernel: &'static str) -> Result<Handle> {
        let mut known = self
            .functions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(&function) = known.get(kernel) {
            return Ok(function);
        }
        let name = CString::new(kernel).expect("names of kernels have no zero in them");
        for &module in &self.modules {
            let mut function = null_mut();
            // SAFETY: the module is loaded.
            let found = unsafe { (self.calls.function)(&mut function, module, name.as_ptr()) };
            if found == 0 {
                known.insert(kernel, function);
                return Ok(function);
            }
        }
        Err(Error::Kernel {
            kernel: kernel.to_owned(),
            reason: "is in none of the images".to_owned(),
        })
    }
}

impl Device for Driver {
    fn allocate(&self, bytes: usize) -> Result<Address> {
        let (calls, mut address) = (self.enter()?, 0);
        // SAFETY: the place is this frame's.
        let status = unsafe { (calls.allocate)(&mut address, bytes, self.stream) };
        if status == calls::OUT_OF_MEMORY {
            let [free, _] = self.memory()?;
            return Err(Error::Memory { asked: bytes, free });
        }
        calls.check("cuMemAllocAsync", status)?;
        Ok(address)
    }

    fn free(&self, address: Address, _: usize) {
        // A card that no longer answers has nothing to give back.
        if let Ok(calls) = self.enter() {
            // SAFETY: `allocate` gave this address, and what uses it was launched before.
            unsafe { (calls.free)(address, self.stream) };
        }
    }

    fn memory(&self) -> Result<[usize; 2]> {
        let (calls, mut free, mut total) = (self.enter()?, 0, 0);
        // SAFETY: the places are this frame's.
        let known = unsafe { (calls.memory)(&mut free, &mut total) };
        calls.check("cuMemGetInfo", known)?;
        Ok([free, total])
    }

    fn upload(&self, bytes: &[u8], to: Address) -> Result<()> {
        let calls = self.enter()?;
        let (from, count) = (bytes.as_ptr().cast(), bytes.len());
        // SAFETY: the caller has so much memory there; pageable memory is read before the call returns.
        let status = unsafe { (calls.upload)(to, from, count, self.stream) };
        calls.check("cuMemcpyHtoDAsync", status)
    }

    fn download(&self, from: Address, bytes: &mut [u8]) -> Result<()> {
        let calls = self.enter()?;
        let (to, count) = (bytes.as_mut_ptr().cast(), bytes.len());
        // SAFETY: as above; the stream is waited for while `bytes` is borrowed.
        unsafe {
            let copied = (calls.download)(to, from, count, self.stream);
            calls.check("cuMemcpyDtoHAsync", copied)?;
            calls.check("cuStreamSynchronize", (calls.synchronize)(self.stream))
        }
    }

    fn copy(&self, from: Address, to: Address, bytes: usize) -> Result<()> {
        let calls = self.enter()?;
        // SAFETY: the caller has so much memory at both.
        let status = unsafe { (calls.copy)(to, from, bytes, self.stream) };
        calls.check("cuMemcpyDtoDAsync", status)
    }

    fn clear(&self, at: Address, bytes: usize) -> Result<()> {
        let calls = self.enter()?;
        // SAFETY: as above.
        let status = unsafe { (calls.set)(at, 0, bytes, self.stream) };
        calls.check("cuMemsetD8Async", status)
    }

    unsafe fn launch(&self, launch: Launch, arguments: &mut [*mut c_void]) -> Result<()> {
        let Launch {
            kernel,
            blocks: [x, y, z],
            threads,
            shared,
        } = launch;
        if launch.blocks.contains(&0) {
            return Ok(());
        }
        let (calls, function) = (self.enter()?, self.function(kernel)?);
        let wrong = |status| {
            calls
                .check("cuLaunchKernel", status)
                .map_err(|error| Error::Kernel {
                    kernel: kernel.to_owned(),
                    reason: error.to_string(),
                })
        };
        // SAFETY: the caller's promise about the arguments.
        unsafe {
            if shared > SHARED_UNASKED {
                let bytes = shared as c_int;
                wrong((calls.set_attribute)(function, MAX_DYNAMIC_SHARED, bytes))?;
            }
            wrong((calls.launch)(
                function,
                x,
                y,
                z,
                threads as c_uint,
                1,
                1,
                shared,
                self.stream,
                arguments.as_mut_ptr(),
                null_mut(),
            ))
        }
    }
}
