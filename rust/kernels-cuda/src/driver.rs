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
const SHARED_ASKED: c_int = 97;
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

/// One stream of a card, in the context that all users of the card in this process share; dropped, all of it is given back.
pub struct Driver {
    calls: Calls,
    card: c_int,
    context: Handle,
    /// Bytes of shared memory that a block may ask for.
    shared: usize,
    /// Null until there is one.
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
        let (mut card, mut major, mut shared, mut context) = (0, 0, 0, null_mut());
        // SAFETY: as above.
        unsafe {
            calls.check("cuDeviceGet", (calls.device)(&mut card, index as c_int))?;
            let attribute = (calls.attribute)(&mut major, MAJOR, card);
            calls.check("cuDeviceGetAttribute", attribute)?;
            if major < LEAST_MAJOR {
                return Err(Error::NoBf16 { index });
            }
            let attribute = (calls.attribute)(&mut shared, SHARED_ASKED, card);
            calls.check("cuDeviceGetAttribute", attribute)?;
            let retained = (calls.retain)(&mut context, card);
            calls.check("cuDevicePrimaryCtxRetain", retained)?;
        }
        // From here on what there is goes when it is dropped.
        let mut driver = Self {
            calls,
            card,
            context,
            shared: usize::try_from(shared).unwrap_or(0),
            stream: null_mut(),
            modules: Vec::new(),
            functions: Mutex::default(),
        };
        driver.load(images)?;
        Ok(Arc::new(driver))
    }

    /// Makes the stream, and takes the kernels in.
    fn load(&mut self, images: &[Vec<u8>]) -> Result<()> {
        let (mut stream, mut modules) = (null_mut(), Vec::new());
        let loaded = self.enter().and_then(|calls| {
            // SAFETY: the place is this frame's. 1: does not wait for the default stream.
            let created = unsafe { (calls.create_stream)(&mut stream, 1) };
            calls.check("cuStreamCreate", created)?;
            for image in images {
                let mut module = null_mut();
                // SAFETY: the image is whole, as the compiler wrote it.
                let loaded = unsafe { (calls.load)(&mut module, image.as_ptr().cast()) };
                calls.check("cuModuleLoadData", loaded)?;
                modules.push(module);
            }
            Ok(())
        });
        (self.stream, self.modules) = (stream, modules);
        loaded
    }

    /// Makes the context this thread's until what is returned is dropped; then it has the one that it had.
    fn enter(&self) -> Result<Entered<'_>> {
        // SAFETY: the context is alive.
        let pushed = unsafe { (self.calls.push)(self.context) };
        self.calls.check("cuCtxPushCurrent", pushed)?;
        Ok(Entered { calls: &self.calls })
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

/// A thread in a driver's context.
struct Entered<'a> {
    calls: &'a Calls,
}

impl std::ops::Deref for Entered<'_> {
    type Target = Calls;

    fn deref(&self) -> &Calls {
        self.calls
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut context = null_mut();
        // SAFETY: the place is this frame's. A context that cannot be left has failed, as the next call tells.
        unsafe { (self.calls.pop)(&mut context) };
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // All memory has gone before: whoever has some has the driver. A card that no longer answers has nothing to give back.
        if let Ok(calls) = self.enter() {
            // SAFETY: nobody uses the handles any more.
            unsafe {
                if !self.stream.is_null() {
                    (calls.synchronize)(self.stream);
                    (calls.destroy_stream)(self.stream);
                }
                for &module in &self.modules {
                    (calls.unload)(module);
                }
            }
        }
        // SAFETY: the context was retained once.
        unsafe { (self.calls.release)(self.card) };
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

    fn shared(&self) -> usize {
        self.shared
    }

    fn upload(&self, bytes: &[u8], to: Address) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
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
            if count > 0 {
                let copied = (calls.download)(to, from, count, self.stream);
                calls.check("cuMemcpyDtoHAsync", copied)?;
            }
            calls.check("cuStreamSynchronize", (calls.synchronize)(self.stream))
        }
    }

    fn copy(&self, from: Address, to: Address, bytes: usize) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let calls = self.enter()?;
        // SAFETY: the caller has so much memory at both.
        let status = unsafe { (calls.copy)(to, from, bytes, self.stream) };
        calls.check("cuMemcpyDtoDAsync", status)
    }

    fn clear(&self, at: Address, bytes: usize) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
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
