//! A network's weights on a device, and an adapter's share of them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use moevolve_kernels::Precision;
use moevolve_kernels::rope::Rotary;
use moevolve_kernels_cuda::norm::Angles;
use moevolve_kernels_cuda::products::{Format, Matrices, Operand, Products, Rows, round};
use moevolve_kernels_cuda::{Address, Device, Memory, Plain, Result};

use crate::adapter::Adapter;
use crate::layout::{Layout, Matrix, TensorLayout};

/// Numbers in the layout's order.
pub(super) struct Numbers {
    values: Memory<f32>,
    /// Where parts of the layout begin among the values, unless all of it is there.
    parts: Option<Arc<BTreeMap<usize, usize>>>,
    /// All numbers in bf16, where the operands of products are.
    pub rounded: Option<Memory<u16>>,
}

impl Numbers {
    fn whole(values: Memory<f32>) -> Self {
        Self {
            values,
            parts: None,
            rounded: None,
        }
    }

    /// Where what begins at `start` in the layout lies in f32.
    pub fn at(&self, start: usize) -> Address {
        let offset = match &self.parts {
            None => start,
            Some(parts) => parts[&start],
        };
        self.values.at(offset)
    }

    fn copy(&self, device: &Arc<dyn Device>) -> Result<Self> {
        let rounded = match &self.rounded {
            Some(rounded) => Some(same(device, rounded)?),
            None => None,
        };
        Ok(Self {
            values: same(device, &self.values)?,
            parts: self.parts.clone(),
            rounded,
        })
    }

    /// Makes the bf16 copy anew, or none.
    fn round(&mut self, device: &Arc<dyn Device>, rounded: bool) -> Result<()> {
        let count = self.values.len();
        let room = match self.rounded.take() {
            Some(room) if rounded => Some(room),
            None if rounded => Some(Memory::new(device, count)?),
            _ => None,
        };
        if let Some(room) = &room {
            round(&**device, self.values.address(), room.address(), count)?;
        }
        self.rounded = room;
        Ok(())
    }
}

/// A copy on the device.
pub(super) fn same<T: Plain>(device: &Arc<dyn Device>, from: &Memory<T>) -> Result<Memory<T>> {
    let to = Memory::new(device, from.len())?;
    device.copy(from.address(), to.address(), size_of::<T>() * from.len())?;
    Ok(to)
}

/// An adapter on the device, and the weights without its share.
struct Beside {
    base: Numbers,
    /// The adapter's values, B's times the scale.
    scaled: Memory<f32>,
}

/// A model's weights on a device.
pub struct CardWeights {
    device: Arc<dyn Device>,
    /// What passes read, an adapter's share included.
    numbers: Numbers,
    beside: Option<Beside>,
    /// Selection biases (layers, experts), or nothing.
    bias: Memory<f32>,
    /// (positions, pairs)
    cosines: Memory<f32>,
    sines: Memory<f32>,
    pairs: usize,
    positions: usize,
}

impl CardWeights {
    /// Copies numbers in the layout's order to a device, and selection biases; `pairs` are the rotated pairs of a head.
    pub fn new(
        device: &Arc<dyn Device>,
        values: &[f32],
        bias: &[f32],
        pairs: usize,
    ) -> Result<Self> {
        Ok(Self {
            device: device.clone(),
            numbers: Numbers::whole(Memory::from_slice(device, values)?),
            beside: None,
            bias: Memory::from_slice(device, bias)?,
            cosines: Memory::new(device, 0)?,
            sines: Memory::new(device, 0)?,
            pairs,
            positions: 0,
        })
    }

    /// Frozen numbers in bf16, a tensor at a time, which `tensor` gives padded; in f32 what products do not multiply by, the
    /// routers and the embedding's rows beside them.
    pub fn frozen(
        device: &Arc<dyn Device>,
        layout: &Layout,
        tensor: impl Fn(&TensorLayout) -> Vec<f32>,
        bias: &[f32],
        pairs: usize,
    ) -> Result<Self> {
        let (mut parts, mut count) = (BTreeMap::new(), 0);
        let exact = exact(layout);
        for range in &exact {
            parts.insert(range.start, count);
            count += range.len();
        }
        let values = Memory::<f32>::zeros(device, count)?;
        let rounded = Memory::<u16>::zeros(device, layout.total)?;
        for spec in &layout.tensors {
            let numbers = tensor(spec);
            let part = Memory::from_slice(device, &numbers)?;
            let to = rounded.at(spec.at);
            round(&**device, part.address(), to, numbers.len())?;
            for range in exact.iter().filter(|range| range.contains(&spec.at)) {
                let to = values.at(parts[&range.start] + spec.at - range.start);
                device.copy(part.address(), to, size_of::<f32>() * numbers.len())?;
            }
        }
        let whole = Self::new(device, &[], bias, pairs)?;
        Ok(Self {
            numbers: Numbers {
                values,
                parts: Some(Arc::new(parts)),
                rounded: Some(rounded),
            },
            ..whole
        })
    }

    /// The same on the same device.
    pub fn duplicate(&self) -> Result<Self> {
        let device = &self.device;
        let beside = match &self.beside {
            None => None,
            Some(beside) => Some(Beside {
                base: beside.base.copy(device)?,
                scaled: same(device, &beside.scaled)?,
            }),
        };
        Ok(Self {
            device: device.clone(),
            numbers: self.numbers.copy(device)?,
            beside,
            bias: same(device, &self.bias)?,
            cosines: same(device, &self.cosines)?,
            sines: same(device, &self.sines)?,
            ..*self
        })
    }

    pub fn device(&self) -> &Arc<dyn Device> {
        &self.device
    }

    pub(super) fn numbers(&self) -> &Numbers {
        &self.numbers
    }

    pub(super) fn base(&self) -> &Numbers {
        match &self.beside {
            Some(beside) => &beside.base,
            None => &self.numbers,
        }
    }

    pub(super) fn bias_of(&self, layer: usize, experts: usize) -> Option<Address> {
        (!self.bias.is_empty()).then(|| self.bias.at(layer * experts))
    }

    pub(super) fn angles(&self) -> Angles {
        Angles {
            cosines: self.cosines.address(),
            sines: self.sines.address(),
            pairs: self.pairs,
        }
    }

    /// What the operands of products are rounded to.
    pub fn precision(&self) -> Precision {
        if self.numbers.rounded.is_some() {
            Precision::Bf16
        } else {
            Precision::F32
        }
    }

    pub fn set_precision(&mut self, precision: Precision) -> Result<()> {
        self.numbers
            .round(&self.device, precision == Precision::Bf16)
    }

    /// Makes the rotations of positions below `positions` known to the device, which `rotary` knows.
    pub fn extend(&mut self, rotary: &Rotary, positions: usize) -> Result<()> {
        if positions > self.positions {
            let [cosines, sines] = rotary.table(positions);
            self.cosines = Memory::from_slice(&self.device, &cosines)?;
            self.sines = Memory::from_slice(&self.device, &sines)?;
            self.positions = positions;
        }
        Ok(())
    }

    /// Takes other numbers; there is no adapter.
    pub fn put(&mut self, values: &[f32], bias: &[f32]) -> Result<()> {
        self.beside = None;
        self.numbers.values.upload(values)?;
        self.put_bias(bias)?;
        self.numbers
            .round(&self.device, self.numbers.rounded.is_some())
    }

    pub fn put_bias(&self, bias: &[f32]) -> Result<()> {
        self.bias.upload(bias)
    }

    /// The numbers in the layout's order, without an adapter's share.
    pub fn download(&self) -> Result<Vec<f32>> {
        self.base().values.download()
    }

    /// Adds an adapter's share to what passes read, in the place of an earlier one's.
    pub fn put_adapter(&mut self, adapter: &Adapter) -> Result<()> {
        let device = self.device.clone();
        let scaled = adapter.scaled();
        match &self.beside {
            Some(beside) if beside.scaled.len() == scaled.len() => beside.scaled.upload(&scaled)?,
            _ => {
                let scaled = Memory::from_slice(&device, &scaled)?;
                let base = self.base().copy(&device)?;
                self.beside = Some(Beside { base, scaled });
            }
        }
        let Some(beside) = &self.beside else {
            return Ok(());
        };
        let (from, to) = (&beside.base.values, &self.numbers.values);
        device.copy(from.address(), to.address(), size_of::<f32>() * to.len())?;
        let products = Products {
            device: device.clone(),
        };
        for (start, a, b) in adapter.pairs() {
            let factor = Operand::plain(beside.scaled.at(b.range.start));
            let matrix = plain(&beside.scaled, a);
            let sum = self.numbers.at(start);
            products.input_gradient(Rows::Whole(b.out), factor, matrix, sum, true)?;
        }
        Ok(())
    }

    /// Takes an adapter's share away.
    pub fn forget_adapter(&mut self) {
        if let Some(beside) = self.beside.take() {
            self.numbers = beside.base;
        }
    }

    /// The gradient of an adapter's values from that of the weights that its share is added to: dA = s Bᵀ dW and
    /// dB = s dW Aᵀ, what does not train masked.
    pub(super) fn adapter_gradient(
        &self,
        adapter: &Adapter,
        gradient: &Memory<f32>,
    ) -> Result<Memory<f32>> {
        let device = &self.device;
        let Some(Beside { scaled, .. }) = &self.beside else {
            return Memory::zeros(device, adapter.values.len());
        };
        let products = Products {
            device: device.clone(),
        };
        let out = Memory::<f32>::zeros(device, adapter.values.len())?;
        for (start, a, b) in adapter.pairs() {
            let (rows, dw) = (Rows::Whole(b.out), Operand::plain(gradient.at(start)));
            let factor = Operand::plain(scaled.at(b.range.start));
            let (da, db) = (out.at(a.range.start), out.at(b.range.start));
            let shape = (a.out, a.inp);
            products.weight_gradient(Format::F32, rows, factor, dw, shape, da, 0)?;
            products.forward(rows, dw, plain(scaled, a), db, false)?;
        }
        let mut values = out.download()?;
        adapter.settle_gradient(&mut values);
        out.upload(&values)?;
        Ok(out)
    }
}

/// Parts of a layout that are read in f32 whatever the precision of products.
fn exact(layout: &Layout) -> Vec<Range<usize>> {
    let mut exact = vec![layout.embedding.range.clone()];
    for layer in &layout.layers {
        let attention = layer.attention();
        exact.extend([layer.input_norm.clone(), layer.middle_norm.clone()]);
        exact.extend(attention.qk_norms.iter().flatten().cloned());
        if let Some(biases) = &attention.biases {
            exact.extend([biases.query.clone(), biases.key_value.clone()]);
            exact.extend(biases.output.clone());
        }
        exact.push(layer.experts.router.clone());
    }
    exact.push(layout.final_norm.clone());
    exact
}

/// A matrix of an adapter, in f32.
fn plain(values: &Memory<f32>, matrix: &Matrix) -> Matrices {
    Matrices {
        format: Format::F32,
        at: values.at(matrix.range.start),
        apart: 0,
        scales: 0,
        scales_apart: 0,
        out: matrix.out,
        inp: matrix.inp,
    }
}
