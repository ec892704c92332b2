//! The engine: one model in memory, with its tokenizer, optimiser and buffers.
//!
//! One file above 400 lines: one `impl`, the engine's face to the other crates; what it does stands in the modules below it.

mod adapt;
mod answer;
mod card;
mod learn;
mod readback;
mod requests;
mod resume;
mod save;

use std::path::Path;
use std::sync::Arc;

use moevolve_checkpoint::Tokenizer;
use moevolve_kernels::arithmetic::OWN;
use moevolve_kernels::frequencies::Scaling;
use moevolve_kernels::rope::{Angles, Rotary};
use moevolve_kernels::stored::Format;
use moevolve_kernels::worker_pool::WorkerPool;
use moevolve_kernels::{Isa, Precision};
use serde_json::{Map, Value};

use crate::adapter::{Adapter, Lora};
use crate::backend::cpu::Cpu;
use crate::checkpoint::{self, Checkpoint, WeightsMode};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::linear::Weights;
use crate::network::Keep;
use crate::parameters::Parameters;
use crate::stored::{Ggml, Mapped};
use crate::train::{Optimizer, Trainer};

pub use requests::{Example, Logits};

/// Parameters of the largest model that is drawn at random: beyond, a size is a slip.
const LARGEST_CREATED: f64 = 1e10;

pub struct Engine {
    config: Config,
    layout: Layout,
    /// Trainable weights; empty while `stored` holds them.
    parameters: Parameters,
    stored: Option<Mapped>,
    /// Trains beside the weights, which do not where there is one.
    adapter: Option<Adapter>,
    /// What training keeps of a forward pass.
    keep: Keep,
    pool: WorkerPool,
    rotary: Rotary,
    /// What weights are saved as unless somebody says otherwise.
    dtype: Format,
    tokenizer: Option<Arc<Tokenizer>>,
    generation: Option<Map<String, Value>>,
    optimizer: Optimizer,
    trainer: Trainer,
    /// The network, where a card has it: the parameters above are then but selection biases.
    card: Option<Box<card::OnCard>>,
    /// Counts changes of the weights, so that no text read by earlier ones is taken for one read by these.
    weights_version: u64,
    isa: Isa,
}

impl Engine {
    /// Reads a checkpoint folder. `threads` 0 takes all available cores.
    pub fn load(folder: &Path, threads: usize) -> Result<Self> {
        Self::load_as(folder, threads, WeightsMode::Auto)
    }

    /// As [`Self::load`], with a say in what becomes of the weights.
    pub fn load_as(folder: &Path, threads: usize, mode: WeightsMode) -> Result<Self> {
        let pool = WorkerPool::new(if threads == 0 { available() } else { threads });
        Self::from_checkpoint(checkpoint::load(folder, mode, &pool)?, pool)
    }

    /// Random weights for a `config.json`, and a `tokenizer.json` if given.
    pub fn create(
        config_json: &str,
        tokenizer_json: Option<&str>,
        seed: u64,
        threads: usize,
    ) -> Result<Self> {
        let config = Config::parse(config_json, "config")?;
        if config.parameters() > LARGEST_CREATED {
            let reason = format!(
                "makes a model of {:.0} parameters; this engine draws up to 1e10",
                config.parameters()
            );
            let (file, key) = ("config".to_owned(), "hidden_size".to_owned());
            return Err(moevolve_checkpoint::Error::Config { file, key, reason }.into());
        }
        let layout = Layout::new(&config);
        let parameters = Parameters::random(&config, &layout, seed);
        let path = Path::new("tokenizer.json");
        let tokenizer = tokenizer_json
            .map(|json| Tokenizer::parse(json, None, config.vocabulary, path))
            .transpose()?;
        let generation = None;
        let pool = WorkerPool::new(if threads == 0 { available() } else { threads });
        Self::from_checkpoint(
            Checkpoint {
                config,
                layout,
                parameters,
                stored: None,
                dtype: Format::F32,
                tokenizer,
                generation,
            },
            pool,
        )
    }

    fn from_checkpoint(checkpoint: Checkpoint, pool: WorkerPool) -> Result<Self> {
        let Checkpoint {
            config,
            layout,
            parameters,
            stored,
            dtype,
            tokenizer,
            generation,
        } = checkpoint;
        let stored = stored.map(|stored| Mapped {
            weights: Arc::new(stored),
            precision: Precision::F32,
        });
        Ok(Self {
            rotary: rotary(&config, layout.widths.head, stored.as_ref()),
            config,
            layout,
            parameters,
            stored,
            adapter: None,
            keep: Keep::All,
            pool,
            dtype,
            tokenizer: tokenizer.map(Arc::new),
            generation,
            optimizer: Optimizer::default(),
            trainer: Trainer::default(),
            card: None,
            weights_version: 0,
            isa: chosen_isa()?,
        })
    }

    /// The same weights and adapter on the same device with a fresh optimiser and buffers; stored weights are shared.
    pub fn duplicate(&self) -> Result<Self> {
        let mut copy = Self {
            parameters: self.parameters.clone(),
            ..self.bare()
        };
        if let Some(card) = &self.card {
            copy.card = Some(Box::new(card.duplicate()?));
        }
        Ok(copy)
    }

    /// The same model on the processor without parameters of its own.
    fn bare(&self) -> Self {
        Self {
            config: self.config.clone(),
            layout: self.layout.clone(),
            parameters: Parameters::none(),
            stored: self.stored.clone(),
            adapter: self.adapter.clone(),
            keep: self.keep,
            pool: WorkerPool::new(self.pool.threads()),
            rotary: self.rotary.clone(),
            dtype: self.dtype,
            tokenizer: self.tokenizer.clone(),
            generation: self.generation.clone(),
            optimizer: Optimizer::default(),
            trainer: Trainer::default(),
            card: None,
            weights_version: 0,
            isa: self.isa,
        }
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Trained numbers; selection biases are not among them.
    pub fn parameters(&self) -> usize {
        self.layout
            .tensors
            .iter()
            .map(|spec| spec.shape().iter().product::<usize>())
            .sum()
    }

    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    pub fn pool(&self) -> &WorkerPool {
        &self.pool
    }

    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Runs on another instruction set: for tests of their equality.
    pub fn set_isa(&mut self, isa: Isa) {
        self.isa = isa;
    }

    /// What the operands of products are rounded to; of stored weights, in training alone.
    pub fn precision(&self) -> Precision {
        match (&self.card, &self.stored) {
            (Some(card), _) => card.weights.precision(),
            (None, Some(mapped)) => mapped.precision,
            (None, None) => self.parameters.precision(),
        }
    }

    /// Computes in another precision from now on; the weights themselves stay f32. Stored weights are multiplied in
    /// their own format whatever it is, and only the backward pass through them is rounded.
    pub fn set_precision(&mut self, precision: Precision) {
        if self.card.is_some() {
            if let Err(error) = self.set_card_precision(precision) {
                self.keep_failure(error);
            }
            return;
        }
        match &mut self.stored {
            Some(mapped) => mapped.precision = precision,
            None if precision != self.parameters.precision() => {
                self.weights_version += 1;
                self.parameters.set_precision(precision, &self.layout);
            }
            None => {}
        }
    }

    /// As [`Self::set_precision`], by name; `fastest` is what this processor does best.
    pub fn choose_precision(&mut self, name: &str) -> Result<()> {
        if self.card.is_some() {
            let precision = self.card_precision(name)?;
            return self.set_card_precision(precision);
        }
        let Some(precision) = Precision::chosen(name, Isa::best()) else {
            let known = "precision is f32, bf16 or fastest";
            return Err(Error::Request(format!("{known}, not {name:?}")));
        };
        self.set_precision(precision);
        Ok(())
    }

    /// Whether training keeps each layer's input alone and computes its activations again in the backward pass: a third more
    /// work for a fraction of the memory, and the same bits.
    pub fn checkpointing(&self) -> bool {
        self.keep == Keep::Inputs
    }

    pub fn set_checkpointing(&mut self, checkpointing: bool) {
        self.keep = if checkpointing {
            Keep::Inputs
        } else {
            Keep::All
        };
        // Buffers of the other way would stay as they are.
        self.trainer = Trainer::default();
        if let Some(card) = &mut self.card {
            card.trainer = Trainer::default();
        }
    }

    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.tokenizer.as_deref().ok_or(Error::NoTokenizer)
    }

    /// The tokenizer for those who read and write texts while the engine is at work.
    pub fn shared_tokenizer(&self) -> Option<Arc<Tokenizer>> {
        self.tokenizer.clone()
    }

    pub fn has_tokenizer(&self) -> bool {
        self.tokenizer.is_some()
    }

    /// The weights without an adapter.
    fn base(&self) -> &dyn Weights {
        match &self.stored {
            Some(mapped) => mapped,
            None => &self.parameters,
        }
    }

    /// The weights with the adapter, if there is one.
    fn lora(&self) -> Option<Lora<'_>> {
        let base = self.base();
        let adapter = self.adapter.as_ref()?;
        Some(Lora { base, adapter })
    }

    /// The network with these weights on the processor.
    fn cpu<'a>(&'a self, weights: &'a dyn Weights) -> Cpu<'a> {
        Cpu {
            config: &self.config,
            layout: &self.layout,
            weights,
            pool: &self.pool,
            rotary: &self.rotary,
            isa: self.isa,
        }
    }

    /// Makes the network ready for so many positions.
    pub fn prepare(&mut self, positions: usize) {
        self.rotary.extend(positions);
        if let Some(card) = &mut self.card {
            // Made again seldom: rather more of them at once.
            let most = positions.next_power_of_two().min(self.config.positions);
            let reach = most.max(positions);
            self.rotary.extend(reach);
            let (failure, weights) = (&card.failure, &mut card.weights);
            failure.attempt(|| weights.extend(&self.rotary, reach));
        }
    }

    /// Counts changes of what the network computes.
    pub fn weights_version(&self) -> u64 {
        self.weights_version
    }

    /// Calls `work` with the network on the processor, adapter included.
    pub fn with_cpu<T>(&self, work: impl FnOnce(Cpu<'_>) -> T) -> T {
        match self.lora() {
            Some(lora) => work(self.cpu(&lora)),
            None => work(self.cpu(self.base())),
        }
    }

    /// Workers that each take whole rows or samples: one where the pool splits every product.
    pub fn workers(&self) -> usize {
        if self.card.is_some() || self.base().splits_products() {
            1
        } else {
            self.pool.threads()
        }
    }

    fn check_ids(&self, ids: &[u32]) -> Result<()> {
        match ids
            .iter()
            .find(|&&id| id as usize >= self.config.vocabulary)
        {
            None => Ok(()),
            Some(id) => {
                let vocabulary = self.config.vocabulary;
                Err(Error::Request(format!(
                    "token {id} is outside the vocabulary of {vocabulary}"
                )))
            }
        }
    }

    fn check_length(&self, length: usize) -> Result<()> {
        if length > self.config.positions {
            let most = self.config.positions;
            return Err(Error::Request(format!(
                "{length} positions are more than max_position_embeddings {most}"
            )));
        }
        Ok(())
    }
}

/// The rotation of heads of this padded width.
fn rotary(config: &Config, head: usize, stored: Option<&Mapped>) -> Rotary {
    let (rotated, theta) = (config.rotated, config.theta as f32);
    let angles = match (
        config.scaling,
        stored.and_then(|mapped| mapped.weights.ggml()),
    ) {
        (Scaling::Plain | Scaling::Llama3 { .. }, Some(Ggml { divisors, .. })) => {
            Angles::chain(rotated, theta, 1.0, divisors.clone())
        }
        (Scaling::Linear { factor }, Some(_)) => {
            Angles::chain(rotated, theta, 1.0 / factor as f32, Vec::new())
        }
        (scaling, _) => Angles::Frequencies(scaling.frequencies(rotated, theta)),
    };
    let factor = config.scaling.attention();
    let arithmetic = stored.map_or(&OWN, Weights::arithmetic);
    Rotary::new(head, angles, factor, arithmetic.pairs)
}

fn available() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The best instruction set, or the one that `MOEVOLVE_ISA` names.
fn chosen_isa() -> Result<Isa> {
    match std::env::var("MOEVOLVE_ISA") {
        Err(_) => Ok(Isa::best()),
        Ok(name) => Isa::named(&name).ok_or_else(|| {
            let known: Vec<&str> = Isa::available().into_iter().map(Isa::name).collect();
            Error::Request(format!(
                "MOEVOLVE_ISA={name}: this processor has {}",
                known.join(", ")
            ))
        }),
    }
}
