//! A device's memory, in the forms that passes keep.

use std::sync::{Arc, Mutex};

use moevolve_kernels_cuda::experts::Saved;
use moevolve_kernels_cuda::{Address, Device, Memory, Result};

use super::cache::KvCache;
use crate::backend::cpu::DrawScratch;

/// A card's memory, or its twin's.
pub struct CardMemory;

impl crate::backend::Device for CardMemory {
    type Buffer = Buffer;
    type Activations = Activations;
    type Head = Head;
    type Workspace = Workspace;
    type ActivationGradients = ActivationGradients;
    type KvCache = KvCache;
}

/// Floats on a device: none until there is something to hold, then as many as ever were needed.
#[derive(Default)]
pub struct Buffer {
    floats: Option<Memory<f32>>,
}

impl Buffer {
    pub fn zeros(device: &Arc<dyn Device>, count: usize) -> Result<Self> {
        Memory::zeros(device, count).map(Self::from)
    }

    pub fn from_slice(device: &Arc<dyn Device>, values: &[f32]) -> Result<Self> {
        Memory::from_slice(device, values).map(Self::from)
    }

    /// Whether nothing was ever reserved.
    pub fn is_empty(&self) -> bool {
        self.floats.is_none()
    }

    pub fn memory(&self) -> Option<&Memory<f32>> {
        self.floats.as_ref()
    }

    /// Room for so many floats, whose values are arbitrary.
    pub fn reserve(&mut self, device: &Arc<dyn Device>, count: usize) -> Result<Address> {
        match &self.floats {
            Some(floats) if floats.len() >= count => Ok(floats.address()),
            _ => {
                // The old ones go first: both may not fit.
                self.floats = None;
                let floats = self.floats.insert(Memory::new(device, count)?);
                Ok(floats.address())
            }
        }
    }

    /// Where it lies; nothing is there unless it was reserved.
    pub fn at(&self, index: usize) -> Address {
        self.floats.as_ref().map_or(0, |floats| floats.at(index))
    }

    pub fn address(&self) -> Address {
        self.at(0)
    }

    /// Everything.
    pub fn read(&self) -> Result<Vec<f32>> {
        self.floats
            .as_ref()
            .map_or(Ok(Vec::new()), Memory::download)
    }

    /// The first of the floats, which were reserved.
    pub fn read_first(&self, count: usize) -> Result<Vec<f32>> {
        self.floats
            .as_ref()
            .map_or(Ok(Vec::new()), |floats| floats.download_first(count))
    }
}

impl From<Memory<f32>> for Buffer {
    fn from(floats: Memory<f32>) -> Self {
        Self {
            floats: Some(floats),
        }
    }
}

/// Activations of one layer, as the processor's backend has them.
#[derive(Default)]
pub struct Activations {
    pub input_inverse: Buffer,
    pub normal: Buffer,
    pub query_normal: Buffer,
    pub raw_queries: Buffer,
    pub key_values: Buffer,
    pub query_inverse: Buffer,
    pub key_inverse: Buffer,
    pub queries: Buffer,
    pub keys: Buffer,
    pub attended: Buffer,
    /// (rows, heads): ln Σ exp of each row's scores.
    pub logs: Buffer,
    pub middle: Buffer,
    pub middle_inverse: Buffer,
    pub middle_normal: Buffer,
    pub experts: Option<Saved>,
}

/// What all layers of a pass over blocks of keys and values read.
#[derive(Default)]
pub struct Workspace {
    /// Made by the first one.
    pub tables: Option<BlockTables>,
}

impl Workspace {
    /// Those of this pass.
    pub fn tables(&self) -> &BlockTables {
        self.tables
            .as_ref()
            .expect("the first layer made them, or failed and nothing follows")
    }
}

/// Where the blocks of a pass's sequences lie.
pub struct BlockTables {
    /// The block that each row's key and value go to, and its position.
    pub written: Memory<Address>,
    pub positions: Memory<u32>,
    /// Each sequence's blocks, one sequence after another.
    pub read: Memory<Address>,
}

/// Activations after the last layer.
#[derive(Default)]
pub struct Head {
    pub inverse: Buffer,
    pub normal: Buffer,
    pub logits: Buffer,
    pub rows: usize,
    /// Of draws on the processor, one a thread.
    pub scratch: Vec<Mutex<DrawScratch>>,
}

/// Gradients of activations, as the processor's backend has them.
#[derive(Default)]
pub struct ActivationGradients {
    pub output: Buffer,
    pub input: Buffer,
    pub normal: Buffer,
    pub query_normal: Buffer,
    pub attended: Buffer,
    pub along: Buffer,
    pub queries: Buffer,
    pub keys: Buffer,
    pub key_values: Buffer,
    pub raw_queries: Buffer,
}
