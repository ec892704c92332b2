//! The engine: one model in memory, with its tokenizer, optimiser and buffers.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Tensor};
use moevolve_kernels::rope::Rotary;
use moevolve_kernels::team::Team;
use moevolve_kernels::{Isa, Precision};
use serde_json::{Map, Value};

use crate::batch::{Packed, Positions};
use crate::checkpoint::{self, Checkpoint, CheckpointRef, Keep};
use crate::config::Config;
use crate::decoder::{Inference, Network};
use crate::error::{Error, Result};
use crate::generate::{self, Stream, Worker};
use crate::gguf::{self, write::Target};
use crate::layout::{Layout, Named, bias_names};
use crate::parameters::Parameters;
use crate::stored::Stored;
use crate::tokenizer::Tokenizer;
use crate::train::{Optimizer, StepReport, Trainer, Update};
use crate::weights::{self, Raws};

/// Tokens of a forward pass that go through the network together.
const CHUNK: usize = 640;

/// Parameters of the largest model that is drawn at random: beyond, a size is a slip.
const LARGEST_CREATED: f64 = 1e10;

/// One training example: cross-entropy of `ids[answer_start..]`, each predicted from what stands before it.
#[derive(Clone, Debug)]
pub struct Example {
    pub ids: Vec<u32>,
    pub answer_start: usize,
    /// Rotary positions: consecutive from an offset, or with gaps.
    pub positions: Positions,
    pub weight: f32,
}

impl Example {
    pub fn answer_tokens(&self) -> usize {
        self.ids.len() - self.answer_start
    }
}

/// A prompt and how to continue it; one sample a key.
#[derive(Clone, Debug)]
pub struct Request {
    pub prompt: Vec<u32>,
    pub keys: Vec<u64>,
    pub max_tokens: usize,
    /// 0 is greedy.
    pub temperature: f32,
    pub top_p: f32,
}

/// A continuation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// Without the end token.
    pub tokens: Vec<u32>,
    /// At temperature 1, the end token's included.
    pub logprobs: Vec<f32>,
    /// Whether an end token came, rather than the limit.
    pub stopped: bool,
    pub(crate) finished: bool,
}

/// Logits of ragged rows: (rows, longest, vocabulary), NaN past each row's end.
pub struct Logits {
    pub shape: [usize; 3],
    pub values: Vec<f32>,
}

pub struct Engine {
    config: Config,
    layout: Layout,
    /// Trainable weights; empty while `stored` holds them.
    parameters: Parameters,
    stored: Option<Arc<Stored>>,
    team: Team,
    rotary: Rotary,
    dtype: DType,
    tokenizer: Option<Tokenizer>,
    generation: Option<Map<String, Value>>,
    optimizer: Optimizer,
    trainer: Trainer,
    workers: Vec<Worker>,
    threads: usize,
    isa: Isa,
}

impl Engine {
    /// Reads a checkpoint folder. `threads` 0 takes all available cores.
    pub fn load(folder: &Path, threads: usize) -> Result<Self> {
        Self::load_as(folder, threads, Keep::Auto)
    }

    /// As [`Self::load`], with a say in what becomes of the weights.
    pub fn load_as(folder: &Path, threads: usize, keep: Keep) -> Result<Self> {
        let team = Team::new(if threads == 0 { available() } else { threads });
        Self::from_checkpoint(checkpoint::load(folder, keep, &team)?, team)
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
            return Err(Error::Config {
                file: "config".to_owned(),
                key: "hidden_size".to_owned(),
                reason,
            });
        }
        let layout = Layout::new(&config);
        let parameters = Parameters::random(&config, &layout, seed);
        let path = Path::new("tokenizer.json");
        let tokenizer = tokenizer_json
            .map(|json| Tokenizer::parse(json, None, config.vocabulary, path))
            .transpose()?;
        let generation = None;
        let team = Team::new(if threads == 0 { available() } else { threads });
        Self::from_checkpoint(
            Checkpoint {
                config,
                layout,
                parameters,
                stored: None,
                dtype: DType::F32,
                tokenizer,
                generation,
            },
            team,
        )
    }

    fn from_checkpoint(checkpoint: Checkpoint, team: Team) -> Result<Self> {
        let Checkpoint {
            config,
            layout,
            parameters,
            stored,
            dtype,
            tokenizer,
            generation,
        } = checkpoint;
        let threads = team.threads();
        // A trained network gives each thread samples or sequences of its own.
        let team = if stored.is_some() { team } else { Team::new(1) };
        Ok(Self {
            rotary: Rotary::new(
                layout.widths.head,
                config
                    .scaling
                    .frequencies(config.rotated, config.theta as f32),
                config.scaling.attention(),
            ),
            config,
            layout,
            parameters,
            stored: stored.map(Arc::new),
            team,
            dtype,
            tokenizer,
            generation,
            optimizer: Optimizer::default(),
            trainer: Trainer::default(),
            workers: Vec::new(),
            threads,
            isa: chosen_isa()?,
        })
    }

    /// The same weights with a fresh optimiser and buffers.
    pub fn duplicate(&self) -> Self {
        Self {
            config: self.config.clone(),
            layout: self.layout.clone(),
            parameters: self.parameters.clone(),
            stored: self.stored.clone(),
            team: Team::new(self.team.threads()),
            rotary: self.rotary.clone(),
            dtype: self.dtype,
            tokenizer: self.tokenizer.clone(),
            generation: self.generation.clone(),
            optimizer: Optimizer::default(),
            trainer: Trainer::default(),
            workers: Vec::new(),
            threads: self.threads,
            isa: self.isa,
        }
    }

    /// The weights as f32, decoded if they are stored in another format.
    fn dense(&self) -> Cow<'_, Parameters> {
        match &self.stored {
            Some(stored) => Cow::Owned(stored.to_parameters(&self.layout)),
            None => Cow::Borrowed(&self.parameters),
        }
    }

    /// Refuses to change weights that are only read.
    fn check_trainable(&self) -> Result<()> {
        if self.stored.is_some() {
            return Err(Error::Frozen);
        }
        Ok(())
    }

    /// Writes a checkpoint folder, `dtype` being `f32`, `bf16`, `f16` or None for what was loaded; or, where the name ends
    /// in `.gguf`, such a file, with `f32`, `f16`, `q8_0`, `q4_0`, `q4_k`, or None for `f16`.
    pub fn save(&self, folder: &Path, dtype: Option<&str>) -> Result<()> {
        if folder
            .extension()
            .is_some_and(|extension| extension == "gguf")
        {
            return self.save_gguf(folder, Target::named(dtype.unwrap_or("f16"))?);
        }
        let dtype = match dtype {
            None => self.dtype,
            Some("f32") => DType::F32,
            Some("bf16") => DType::BF16,
            Some("f16") => DType::F16,
            Some(other) => {
                return Err(Error::Request(format!(
                    "dtype {other:?} is unknown: f32, bf16 or f16"
                )));
            }
        };
        let whole = CheckpointRef {
            config: &self.config,
            layout: &self.layout,
            parameters: &self.dense(),
            tokenizer: self.tokenizer.as_ref(),
            generation: self.generation.as_ref(),
        };
        checkpoint::save(folder, &whole, dtype)
    }

    fn save_gguf(&self, file: &Path, target: Target) -> Result<()> {
        let shapes = |named: &Named| (named.name.clone(), named.shape());
        let mut tensors: Vec<_> = self.layout.named.iter().map(shapes).collect();
        let biases = bias_names(&self.config);
        tensors.extend(
            biases
                .iter()
                .map(|name| (name.clone(), vec![self.config.experts])),
        );
        let texts = self
            .tokenizer
            .as_ref()
            .map(Tokenizer::texts)
            .unwrap_or_default();
        let place: HashMap<_, _> = self
            .layout
            .named
            .iter()
            .map(|n| (n.name.as_str(), n))
            .collect();
        gguf::write::write(file, &self.config, texts, target, &tensors, &mut |name| {
            if let Some(layer) = biases.iter().position(|bias| bias == name) {
                return Ok(match &self.stored {
                    Some(stored) => stored.bias(layer, self.config.experts),
                    None => self.parameters.bias(layer, self.config.experts),
                }
                .to_vec());
            }
            let named = place
                .get(name)
                .ok_or_else(|| Error::Request(format!("the model has no tensor {name}")))?;
            Ok(match &self.stored {
                Some(stored) => stored.numbers(named),
                None => named.extract(&self.parameters.values),
            })
        })
    }

    /// Writes the f32 weights into one file, atomically; returns the hash of its bytes.
    pub fn write_weights(&self, file: &Path) -> Result<String> {
        weights::write_file(file, &self.dense(), &self.config, &self.layout, DType::F32)
    }

    /// Takes the weights of a file of the same architecture; on an error the old ones stay.
    pub fn read_weights(&mut self, file: &Path) -> Result<()> {
        self.check_trainable()?;
        let mut raws = Raws::new();
        weights::read_file(file, &self.config, &mut raws)?;
        weights::join_scales(&mut raws)?;
        let place = file.display().to_string();
        let had_backward = !self.parameters.backward.is_empty();
        let precision = self.precision();
        self.parameters = weights::assemble(raws, &self.config, &self.layout, &place)?;
        self.set_precision(precision);
        if had_backward {
            self.parameters.prepare_backward(&self.layout);
        }
        Ok(())
    }

    pub fn fingerprint(&self) -> String {
        weights::fingerprint(&self.dense(), &self.config, &self.layout)
    }

    /// `config.json` as it would be saved.
    pub fn config_json(&self) -> String {
        self.config.to_json(checkpoint::dtype_name(self.dtype))
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Trained numbers; selection biases are not among them.
    pub fn parameters(&self) -> usize {
        self.layout
            .named
            .iter()
            .map(|named| named.shape().iter().product::<usize>())
            .sum()
    }

    pub fn threads(&self) -> usize {
        self.threads
    }

    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Runs on another instruction set: for tests of their equality.
    pub fn set_isa(&mut self, isa: Isa) {
        self.isa = isa;
    }

    /// What the operands of products are rounded to.
    pub fn precision(&self) -> Precision {
        self.parameters.precision()
    }

    /// Computes in another precision from now on; the weights themselves stay f32. Stored weights have no choice.
    pub fn set_precision(&mut self, precision: Precision) {
        if precision != self.precision() && self.stored.is_none() {
            self.parameters.set_precision(precision, &self.layout);
        }
    }

    /// As [`Self::set_precision`], by name; `fastest` is what this processor does best.
    pub fn choose_precision(&mut self, name: &str) -> Result<()> {
        let chosen = if name == "fastest" {
            Some(Precision::fastest(Isa::best()))
        } else {
            Precision::named(name)
        };
        let known = "precision is f32, bf16 or fastest";
        self.set_precision(chosen.ok_or_else(|| Error::Request(format!("{known}, not {name:?}")))?);
        Ok(())
    }

    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.tokenizer.as_ref().ok_or(Error::NoTokenizer)
    }

    pub fn has_tokenizer(&self) -> bool {
        self.tokenizer.is_some()
    }

    fn network(&self) -> Network<'_> {
        Network {
            config: &self.config,
            layout: &self.layout,
            parameters: &self.parameters,
            stored: self.stored.as_deref(),
            team: &self.team,
            rotary: &self.rotary,
            isa: self.isa,
        }
    }

    /// Threads that each take whole rows or samples: of a stored network one, whose products the team splits.
    fn hands(&self) -> usize {
        if self.stored.is_some() {
            1
        } else {
            self.threads
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

    /// Logits after every token of every row.
    pub fn logits(&mut self, rows: &[Vec<u32>]) -> Result<Logits> {
        for ids in rows {
            self.check_ids(ids)?;
            self.check_length(ids.len())?;
        }
        let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
        self.rotary.extend(longest);
        let vocabulary = self.config.vocabulary;
        let mut values = vec![f32::NAN; rows.len() * longest * vocabulary];
        let network = self.network();
        let mut jobs: Vec<(&[u32], &mut [f32])> = Vec::new();
        let mut rest = &mut values[..];
        for ids in rows {
            let (row, after) = rest.split_at_mut(longest * vocabulary);
            rest = after;
            if !ids.is_empty() {
                jobs.push((ids, row));
            }
        }
        let share = jobs.len().div_ceil(self.hands()).max(1);
        std::thread::scope(|scope| {
            let mut hands = jobs.chunks_mut(share);
            let own = hands.next();
            for hand in hands {
                scope.spawn(move || read_logits(network, hand));
            }
            own.into_iter().for_each(|hand| read_logits(network, hand));
        });
        Ok(Logits {
            shape: [rows.len(), longest, vocabulary],
            values,
        })
    }

    /// Refuses what cannot be sampled; returns how many positions the request may reach.
    fn check_request(&self, request: &Request) -> Result<usize> {
        let wrong = |what: &str| Err(Error::Request(what.to_owned()));
        self.check_ids(&request.prompt)?;
        self.check_length(request.prompt.len())?;
        if request.prompt.is_empty() {
            return wrong("a prompt has at least one token");
        }
        if !(request.temperature >= 0.0 && request.temperature.is_finite()) {
            return wrong("a temperature is finite and not negative");
        }
        if !(request.top_p > 0.0 && request.top_p <= 1.0) {
            return wrong("top_p lies in (0, 1]");
        }
        Ok(request.prompt.len() + request.max_tokens.min(self.config.positions))
    }

    /// Samples for each request, in the order of its keys.
    pub fn generate(&mut self, requests: &[Request]) -> Result<Vec<Vec<Sample>>> {
        let mut longest = 0;
        for request in requests {
            longest = longest.max(self.check_request(request)?);
        }
        self.rotary.extend(longest);
        let mut workers = std::mem::take(&mut self.workers);
        let samples = generate::generate(self.network(), requests, self.hands(), &mut workers);
        self.workers = workers;
        Ok(samples)
    }

    /// Begins one sample, of the request's first key, that is drawn token by token.
    pub fn stream(&mut self, request: &Request) -> Result<Stream> {
        let longest = self.check_request(request)?;
        if request.keys.is_empty() {
            return Err(Error::Request("a stream needs a key".to_owned()));
        }
        self.rotary.extend(longest);
        Ok(Stream::new(self.network(), request))
    }

    /// The next token of a stream that this engine began, with its log-probability, or None at the end.
    ///
    /// Weights that changed meanwhile count from here on; what was read before stays as it was.
    pub fn advance(&mut self, stream: &mut Stream) -> Option<(u32, f32)> {
        stream.next(self.network())
    }

    /// Begins training anew.
    pub fn reset_optimizer(&mut self, optimizer: Optimizer) {
        self.optimizer = optimizer;
    }

    fn check_batch(&self, batch: &[Example]) -> Result<()> {
        for (i, example) in batch.iter().enumerate() {
            let wrong = |what: String| Err(Error::Request(format!("example {i}: {what}")));
            self.check_ids(&example.ids)?;
            match example.positions.reach(example.ids.len()) {
                Some(reach) => self.check_length(reach)?,
                None => return wrong("it needs one increasing position a token".to_owned()),
            }
            if example.answer_start == 0 || example.answer_start >= example.ids.len() {
                let (start, n) = (example.answer_start, example.ids.len());
                return wrong(format!(
                    "an answer that starts at {start} of {n} tokens has nothing before or in it"
                ));
            }
            if !(example.weight.is_finite() && example.weight >= 0.0) {
                return wrong(format!(
                    "weight {} is not a finite number of at least 0",
                    example.weight
                ));
            }
        }
        if !batch.iter().any(|example| example.weight > 0.0) {
            return Err(Error::Request(
                "a batch needs an example with a weight above 0".to_owned(),
            ));
        }
        Ok(())
    }

    /// The loss of a batch and its gradient, accumulated in the trainer.
    fn accumulate(&mut self, batch: &[Example]) -> Result<f64> {
        self.check_trainable()?;
        self.check_batch(batch)?;
        let last = batch
            .iter()
            .filter_map(|example| example.positions.reach(example.ids.len()))
            .max();
        self.rotary.extend(last.unwrap_or(0));
        self.parameters.prepare_backward(&self.layout);
        let mut trainer = std::mem::take(&mut self.trainer);
        let loss = trainer.accumulate(self.network(), batch, self.threads);
        self.trainer = trainer;
        Ok(loss)
    }

    /// The loss and every tensor's gradient under released names.
    pub fn gradients(&mut self, batch: &[Example]) -> Result<(f64, Vec<(String, Tensor)>)> {
        let loss = self.accumulate(batch)?;
        let gradient = self.trainer.gradient();
        let tensors = weights::tensors(&gradient, None, &self.config, &self.layout);
        Ok((loss, tensors.map_err(|e| Error::Request(e.to_string()))?))
    }

    /// One step of AdamW on a batch.
    pub fn train_step(&mut self, batch: &[Example], learning_rate: f32) -> Result<StepReport> {
        if !(learning_rate.is_finite() && learning_rate >= 0.0) {
            return Err(Error::Request(format!(
                "learning rate {learning_rate} is not a finite number of at least 0"
            )));
        }
        let loss = self.accumulate(batch)?;
        let tokens = batch.iter().map(Example::answer_tokens).sum();
        let update = Update {
            layout: &self.layout,
            parameters: &mut self.parameters,
            optimizer: &mut self.optimizer,
            trainer: &mut self.trainer,
            isa: self.isa,
            threads: self.threads,
        };
        update.apply(
            loss,
            tokens,
            self.config.layers,
            self.config.experts,
            learning_rate,
        )
    }
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

/// Fills the logits of some rows, as many together as a chunk holds.
fn read_logits(network: Network<'_>, jobs: &mut [(&[u32], &mut [f32])]) {
    let mut pass = Inference::default();
    let (vocabulary, width) = (network.config.vocabulary, network.layout.widths.vocabulary);
    let mut rest = jobs;
    while !rest.is_empty() {
        let mut batch = Packed::default();
        batch.clear();
        let mut n = 0;
        while n < rest.len() && (n == 0 || batch.len() + rest[n].0.len() <= CHUNK) {
            batch.push(rest[n].0, &Positions::From(0), 0..rest[n].0.len());
            n += 1;
        }
        pass.run(network, &batch, |_, _| {});
        let (now, later) = rest.split_at_mut(n);
        let mut logits = pass.last.logits.chunks_exact(width);
        for (ids, out) in now {
            for (to, from) in out
                .chunks_exact_mut(vocabulary)
                .take(ids.len())
                .zip(&mut logits)
            {
                to.copy_from_slice(&from[..vocabulary]);
            }
        }
        rest = later;
    }
}
