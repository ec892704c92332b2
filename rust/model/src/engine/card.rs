//! An engine's network on a card: moved there and back, and what it has there.

use std::borrow::Cow;
use std::sync::Arc;

use moevolve_kernels::Precision;
use moevolve_kernels::worker_pool::WorkerPool;

use super::Engine;
use crate::backend::Backend;
use crate::backend::cuda::{self, Card, CardMemory, CardWeights, Failure};
use crate::error::{Error, Result};
use crate::layout::TensorLayout;
use crate::optimizer::Optimizer;
use crate::parameters::Parameters;
use crate::stored::Mapped;
use crate::train::Trainer;

/// Weights, optimiser and buffers on a device.
pub(super) struct OnCard {
    pub name: String,
    pub weights: CardWeights,
    pub optimizer: Optimizer<CardMemory>,
    pub trainer: Trainer<CardMemory>,
    pub failure: Failure,
    /// One thread: launches follow one another anyhow.
    pub pool: WorkerPool,
}

impl OnCard {
    /// The same weights with a fresh optimiser and buffers.
    pub fn duplicate(&self) -> Result<Self> {
        Ok(Self {
            name: self.name.clone(),
            weights: self.weights.duplicate()?,
            optimizer: Optimizer::default(),
            trainer: Trainer::default(),
            failure: Failure::default(),
            pool: WorkerPool::new(1),
        })
    }

    /// The optimiser with its moments in this process's memory.
    pub fn optimizer_on_host(&self) -> Result<Optimizer> {
        let mut host = self.optimizer.like();
        for (to, from) in host.moments.iter_mut().zip(&self.optimizer.moments) {
            *to = from.read()?;
        }
        Ok(host)
    }

    /// An optimiser with its moments on the device.
    pub fn optimizer_here(&self, optimizer: &Optimizer) -> Result<Optimizer<CardMemory>> {
        let mut card = optimizer.like::<CardMemory>();
        for (to, from) in card.moments.iter_mut().zip(&optimizer.moments) {
            if !from.is_empty() {
                *to = cuda::CardBuffer::from_slice(self.weights.device(), from)?;
            }
        }
        Ok(card)
    }
}

impl Engine {
    /// Moves the network to a device, named `name` where it is told, with what trains and its optimiser: from here the device computes,
    /// in a precision by its name or as before. On an error it stays where it was.
    pub fn to_card(
        &mut self,
        name: &str,
        device: &Arc<dyn cuda::Device>,
        precision: Option<&str>,
    ) -> Result<()> {
        if let Some(what) = cuda::obstacle_on(&**device, &self.config, &self.layout) {
            return Err(Error::NotOnCards {
                family: self.config.family.describe().model_type,
                what,
            });
        }
        let precision = match (precision, &self.card) {
            (Some(name), _) => self.card_precision(name)?,
            (None, None) if self.stored.is_some() => Precision::F32,
            (None, _) => self.precision(),
        };
        let weights = self.weights_on(device, precision)?;
        let moved = match &self.card {
            Some(card) => Some(card.optimizer_on_host()?),
            None => None,
        };
        let bias = self.parameters.bias.clone();
        let mut card = OnCard {
            name: name.to_owned(),
            weights,
            optimizer: Optimizer::default(),
            trainer: Trainer::default(),
            failure: Failure::default(),
            pool: WorkerPool::new(1),
        };
        card.optimizer = card.optimizer_here(moved.as_ref().unwrap_or(&self.optimizer))?;
        self.weights_version += 1;
        self.card = Some(Box::new(card));
        self.trainer = Trainer::default();
        self.optimizer = Optimizer::default();
        if self.stored.is_none() {
            self.parameters = Parameters {
                bias,
                ..Parameters::none()
            };
        }
        Ok(())
    }

    /// The weights on a device in a precision, the adapter's share included.
    fn weights_on(
        &self,
        device: &Arc<dyn cuda::Device>,
        precision: Precision,
    ) -> Result<CardWeights> {
        if self.adapter.is_some() && precision != Precision::F32 {
            return Err(adapter_precision());
        }
        let pairs = self.config.rotated / 2;
        let mut weights = match &self.stored {
            // A model that is read alone needs no f32 beside what products read.
            Some(Mapped { weights, .. }) if precision == Precision::Bf16 => {
                let tensor = |spec: &TensorLayout| weights.padded(spec);
                CardWeights::frozen(device, &self.layout, tensor, weights.biases(), pairs)?
            }
            Some(Mapped { weights, .. }) => {
                let values = weights.to_values(&self.layout);
                CardWeights::new(device, &values, weights.biases(), pairs)?
            }
            None => {
                let host = self.host_parameters()?;
                let mut weights = CardWeights::new(device, &host.values, &host.bias, pairs)?;
                weights.set_precision(precision)?;
                weights
            }
        };
        if let Some(adapter) = &self.adapter {
            weights.put_adapter(adapter)?;
        }
        Ok(weights)
    }

    /// A precision by its name, as a card has it: `fastest` is bf16 but beside an adapter.
    pub(super) fn card_precision(&self, name: &str) -> Result<Precision> {
        let precision = match name {
            "fastest" if self.adapter.is_some() => Some(Precision::F32),
            "fastest" => Some(Precision::Bf16),
            _ => Precision::chosen(name, self.isa),
        };
        let known = || Error::Request(format!("precision is f32, bf16 or fastest, not {name:?}"));
        let precision = precision.ok_or_else(known)?;
        if self.adapter.is_some() && precision != Precision::F32 {
            return Err(adapter_precision());
        }
        Ok(precision)
    }

    /// Computes in another precision on the card, whose rotations are then to be made known again.
    pub(super) fn set_card_precision(&mut self, precision: Precision) -> Result<()> {
        let Some(card) = &self.card else {
            return Ok(());
        };
        if card.weights.precision() == precision {
            return Ok(());
        }
        let fresh = match &self.stored {
            Some(_) => Some(self.weights_on(card.weights.device(), precision)?),
            None => None,
        };
        self.weights_version += 1;
        if let Some(card) = &mut self.card {
            match fresh {
                Some(fresh) => card.weights = fresh,
                None => card.weights.set_precision(precision)?,
            }
        }
        Ok(())
    }

    /// Moves the network back to the processor.
    pub fn to_cpu(&mut self) -> Result<()> {
        let Some(card) = &self.card else {
            return Ok(());
        };
        let (optimizer, precision) = (card.optimizer_on_host()?, self.precision());
        if self.stored.is_none() {
            self.parameters = self.host_parameters()?.into_owned();
        }
        self.optimizer = optimizer;
        self.card = None;
        self.weights_version += 1;
        if self.stored.is_none() {
            self.parameters.set_precision(precision, &self.layout);
        }
        Ok(())
    }

    /// Where the network is: `cpu`, or what a card was called.
    pub fn device(&self) -> &str {
        self.card.as_ref().map_or("cpu", |card| &card.name)
    }

    /// What failed on a device since somebody asked, in methods that give no error themselves.
    pub fn check_device(&self) -> Result<()> {
        match &self.card {
            Some(card) => Ok(card.failure.take()?),
            None => Ok(()),
        }
    }

    /// Keeps what failed on a device for [`Self::check_device`].
    pub(super) fn keep_failure(&self, error: Error) {
        if let (Some(card), Error::Device(error)) = (&self.card, error) {
            card.failure.attempt(|| Err::<(), _>(error));
        }
    }

    /// The parameters in this process's memory: on a card without panels, copied from there; without an adapter's share.
    pub(super) fn host_parameters(&self) -> Result<Cow<'_, Parameters>> {
        match &self.card {
            Some(card) if self.stored.is_none() => {
                let mut parameters = Parameters::none();
                parameters.values = card.weights.download()?;
                parameters.bias.clone_from(&self.parameters.bias);
                Ok(Cow::Owned(parameters))
            }
            _ => Ok(Cow::Borrowed(&self.parameters)),
        }
    }

    /// The same model on the processor, with a fresh optimiser.
    pub(super) fn on_host(&self) -> Result<Self> {
        let mut host = self.bare();
        host.parameters = self.host_parameters()?.into_owned();
        if self.card.is_some() && self.stored.is_none() {
            host.parameters.set_precision(Precision::F32, &self.layout);
        }
        Ok(host)
    }

    /// Calls `work` with the network on its card, adapter included; None if it is on the processor.
    pub fn with_card<T>(&self, work: impl FnOnce(Card<'_>) -> T) -> Option<Result<T>> {
        let card = self.card.as_deref()?;
        Some(self.on(card, work))
    }

    /// As [`Self::with_card`], of a card's parts that were taken out of the engine or are still in it.
    pub(super) fn on<T>(&self, card: &OnCard, work: impl FnOnce(Card<'_>) -> T) -> Result<T> {
        let adapter = self.adapter.as_ref();
        let OnCard {
            weights,
            failure,
            pool,
            ..
        } = card;
        let (config, layout) = (&self.config, &self.layout);
        let backend = Card::new(config, layout, weights, adapter, failure, pool, self.isa);
        let done = work(backend);
        failure.take()?;
        Ok(done)
    }

    /// Something to do with the network wherever it is; of `base`, without the adapter.
    pub(super) fn read<W: Reading>(&self, base: bool, work: W) -> Result<W::Output> {
        match &self.card {
            Some(card) => self.on(card, |card| {
                if base {
                    work.of(&card.base())
                } else {
                    work.of(&card)
                }
            }),
            None if base => Ok(work.of(&self.cpu(self.base()))),
            None => Ok(self.with_cpu(|cpu| work.of(&cpu))),
        }
    }
}

/// What reads a network, whatever its device is.
pub(super) trait Reading {
    type Output;

    fn of<B: Backend>(self, backend: &B) -> Self::Output;
}

/// Why bf16 and an adapter do not go together on a card.
pub(super) fn adapter_precision() -> Error {
    let reason = "an adapter on a card computes in f32: its share would be rounded away with the weights; set the precision to f32";
    Error::Request(reason.to_owned())
}
