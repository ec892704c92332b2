//! Keys and values of sequences in blocks of sixteen positions on a device, by id.

use std::sync::{Arc, Mutex, PoisonError};

use moevolve_kernels_cuda::{Address, Device, Memory, Result};

/// Blocks of every layer's keys and values, one after another in one array, which grows by copying.
#[derive(Default)]
pub struct KvCache {
    blocks: Mutex<Option<Memory<f32>>>,
}

impl KvCache {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Memory<f32>>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes blocks below `count` exist, with zeros; a block has `floats` of them. Returns where block 0 lies.
    pub fn reserve(
        &self,
        device: &Arc<dyn Device>,
        floats: usize,
        count: usize,
    ) -> Result<Address> {
        let mut blocks = self.lock();
        let there = blocks.as_ref().map_or(0, Memory::len);
        if there >= count * floats
            && let Some(blocks) = &*blocks
        {
            return Ok(blocks.address());
        }
        // Half as many again, so that growing block by block copies each a few times only.
        let room = (count * floats).max(there + there / 2 / floats * floats);
        let larger = Memory::zeros(device, room)?;
        if let Some(old) = &*blocks {
            device.copy(old.address(), larger.address(), 4 * there)?;
        }
        Ok(blocks.insert(larger).address())
    }

    /// Gives the memory of blocks from `count` on back.
    pub fn trim(&self, device: &Arc<dyn Device>, floats: usize, count: usize) -> Result<()> {
        let mut blocks = self.lock();
        let Some(old) = &*blocks else { return Ok(()) };
        if old.len() <= count * floats {
            return Ok(());
        }
        let fewer = Memory::new(device, count * floats)?;
        device.copy(old.address(), fewer.address(), 4 * count * floats)?;
        *blocks = Some(fewer);
        Ok(())
    }

    /// Where block 0 lies.
    pub fn address(&self) -> Address {
        self.lock().as_ref().map_or(0, Memory::address)
    }

    /// Copies a block to another, which need not exist.
    pub fn copy(&self, device: &Arc<dyn Device>, floats: usize, from: u32, to: u32) -> Result<()> {
        let at = self.reserve(device, floats, from.max(to) as usize + 1)?;
        let block = |id: u32| at + 4 * (id as usize * floats) as Address;
        device.copy(block(from), block(to), 4 * floats)
    }
}
