//! A device: memory, copies and launches, all in the order of one stream.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::argument::Plain;
use crate::error::{Error, Result};

/// Blocks that a launch may have along each side, on every card.
const MOST_BLOCKS: [usize; 3] = [i32::MAX as usize, 65_535, 65_535];

/// An address on a device.
pub type Address = u64;

/// How a kernel is launched.
#[derive(Clone, Copy, Debug)]
pub struct Launch {
    pub kernel: &'static str,
    pub blocks: [u32; 3],
    /// Threads of a block, a multiple of 32.
    pub threads: u32,
    /// Bytes of dynamic shared memory.
    pub shared: u32,
}

/// One stream of a device.
pub trait Device: Send + Sync {
    fn allocate(&self, bytes: usize) -> Result<Address>;

    fn free(&self, address: Address, bytes: usize);

    /// Bytes that are free, and all there are.
    fn memory(&self) -> Result<[usize; 2]>;

    /// Bytes of shared memory that a block may ask for.
    fn shared(&self) -> usize;

    fn upload(&self, bytes: &[u8], to: Address) -> Result<()>;

    /// Waits for everything launched before.
    fn download(&self, from: Address, bytes: &mut [u8]) -> Result<()>;

    fn copy(&self, from: Address, to: Address, bytes: usize) -> Result<()>;

    fn clear(&self, at: Address, bytes: usize) -> Result<()>;

    /// # Safety
    ///
    /// `arguments` point to what the kernel takes, in its order, and the addresses in them are this device's and large enough.
    unsafe fn launch(&self, launch: Launch, arguments: &mut [*mut c_void]) -> Result<()>;
}

/// An array on a device.
pub struct Memory<T: Plain> {
    device: Arc<dyn Device>,
    address: Address,
    length: usize,
    of: PhantomData<T>,
}

impl<T: Plain> Memory<T> {
    /// Room for so many numbers, whose values are arbitrary.
    pub fn new(device: &Arc<dyn Device>, length: usize) -> Result<Self> {
        let address = device.allocate((length * size_of::<T>()).max(1))?;
        Ok(Self {
            device: device.clone(),
            address,
            length,
            of: PhantomData,
        })
    }

    pub fn from_slice(device: &Arc<dyn Device>, values: &[T]) -> Result<Self> {
        let memory = Self::new(device, values.len())?;
        memory.upload(values)?;
        Ok(memory)
    }

    pub fn zeros(device: &Arc<dyn Device>, length: usize) -> Result<Self> {
        let memory = Self::new(device, length)?;
        device.clear(memory.address, length * size_of::<T>())?;
        Ok(memory)
    }

    pub fn address(&self) -> Address {
        self.address
    }

    /// The address of the number at `index`.
    pub fn at(&self, index: usize) -> Address {
        assert!(index <= self.length);
        self.address + (index * size_of::<T>()) as Address
    }

    pub fn len(&self) -> usize {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub fn upload(&self, values: &[T]) -> Result<()> {
        assert!(values.len() <= self.length);
        self.device.upload(T::bytes(values), self.address)
    }

    pub fn download(&self) -> Result<Vec<T>> {
        self.download_first(self.length)
    }

    pub fn download_first(&self, count: usize) -> Result<Vec<T>> {
        assert!(count <= self.length);
        let mut values = vec![T::default(); count];
        self.device
            .download(self.address, T::bytes_mut(&mut values))?;
        Ok(values)
    }
}

impl<T: Plain> Drop for Memory<T> {
    fn drop(&mut self) {
        let bytes = (self.length * size_of::<T>()).max(1);
        self.device.free(self.address, bytes);
    }
}

/// Launches a kernel of this crate; the callers' arguments are the kernel's, of the sizes that their shapes say.
pub(crate) fn launch(
    device: &dyn Device,
    kernel: &'static str,
    blocks: [usize; 3],
    threads: u32,
    shared: usize,
    arguments: &mut [*mut c_void],
) -> Result<()> {
    let sides = ["blocks along x", "blocks along y", "blocks along z"];
    for ((what, value), most) in sides.into_iter().zip(blocks).zip(MOST_BLOCKS) {
        if value > most {
            return Err(Error::TooLarge { what, value, most });
        }
    }
    let launch = Launch {
        kernel,
        blocks: blocks.map(|n| n as u32),
        threads,
        shared: size("shared memory", shared)?,
    };
    // SAFETY: the callers' word.
    unsafe { device.launch(launch, arguments) }
}

/// Launches a kernel that takes `count` numbers, a thread each; as many as weights, which may be more than 2³².
pub(crate) fn each(
    device: &dyn Device,
    kernel: &'static str,
    count: usize,
    arguments: &mut [*mut c_void],
) -> Result<()> {
    launch(
        device,
        kernel,
        [count.div_ceil(256), 1, 1],
        256,
        0,
        arguments,
    )
}

/// A size as kernels take it: those that may be larger are `size_t` there.
pub(crate) fn size(what: &'static str, value: usize) -> Result<u32> {
    u32::try_from(value).map_err(|_| Error::TooLarge {
        what,
        value,
        most: u32::MAX as usize,
    })
}

/// Blocks of four warps that take a pair of row and head each.
pub(crate) fn warps(pairs: usize) -> Result<[usize; 3]> {
    // Kernels count pairs, those of a last block's idle warps too.
    size("rows times heads", pairs.saturating_add(4))?;
    Ok([pairs.div_ceil(4), 1, 1])
}
