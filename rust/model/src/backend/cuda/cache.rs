//! Keys and values of sequences in blocks of sixteen positions on a device, by id.

use std::sync::{Arc, Mutex, PoisonError};

use moevolve_kernels_cuda::{Address, Device, Memory, Result};

/// Blocks of every layer's keys and values. Each has memory of its own and stays where it is: as much is taken as there are
/// blocks, also while they become more.
#[derive(Default)]
pub struct KvCache {
    blocks: Mutex<Vec<Memory<f32>>>,
}

impl KvCache {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Memory<f32>>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes blocks below `count` exist, with zeros; a block has `floats` of them.
    pub fn reserve(&self, device: &Arc<dyn Device>, floats: usize, count: usize) -> Result<()> {
        let mut blocks = self.lock();
        while blocks.len() < count {
            blocks.push(Memory::zeros(device, floats)?);
        }
        Ok(())
    }

    /// Gives the memory of blocks from `count` on back.
    pub fn trim(&self, count: usize) {
        self.lock().truncate(count);
    }

    /// Where blocks lie, which exist.
    pub fn addresses(&self, ids: impl IntoIterator<Item = u32>) -> Vec<Address> {
        let blocks = self.lock();
        let ids = ids.into_iter();
        ids.map(|id| blocks[id as usize].address()).collect()
    }

    /// Copies a block to another, which need not exist.
    pub fn copy(&self, device: &Arc<dyn Device>, floats: usize, from: u32, to: u32) -> Result<()> {
        self.reserve(device, floats, from.max(to) as usize + 1)?;
        let [from, to] = self.addresses([from, to])[..] else {
            unreachable!("two addresses of two blocks")
        };
        device.copy(from, to, size_of::<f32>() * floats)
    }
}
