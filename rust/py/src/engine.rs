//! The engine for Python: `Engine` over `moevolve_model::Engine`.
//!
//! One file above 400 lines: a `#[pymethods]` block is one, and this class is the engine's whole face.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use moevolve_generate::Generator;
use moevolve_model::backend::cuda::{Driver, images};
use moevolve_model::{
    AdapterSettings, Engine as Model, Error, Objective, Optimizer, Tokenizer, WeightsMode,
};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::constraint::{Constraint, Tokens};
use crate::generation::{self, RequestArgument, Sample, Scheduler};
use crate::tensor::Tensor;
use crate::training::{self, ExampleArgument, RolloutArgument, SequenceArgument, StepReport};

/// A token's log-probability, and the likeliest tokens in its place with theirs.
type Score = (f32, Vec<(u32, f32)>);

/// A loaded model; see the stub for the documentation of its methods.
#[pyclass(module = "moevolve._native", frozen)]
pub struct Engine {
    inner: Mutex<Model>,
    /// Locked before the model.
    generator: Mutex<Generator>,
    // What never changes needs no lock: a server reads and writes texts while rounds are made.
    tokenizer: Option<Arc<Tokenizer>>,
    vocabulary: usize,
    tokens: Tokens,
    eos: Vec<u32>,
}

impl Engine {
    fn wrap(model: Model) -> Self {
        Self {
            tokenizer: model.shared_tokenizer(),
            vocabulary: model.config().vocabulary,
            tokens: Tokens::default(),
            eos: model.config().eos.clone(),
            inner: Mutex::new(model),
            generator: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Model> {
        lock(&self.inner)
    }

    /// Runs without the GIL and maps the error.
    pub fn work<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut Model) -> moevolve_model::Result<T> + Send,
    ) -> PyResult<T> {
        let work = || {
            let mut model = self.lock();
            let done = work(&mut model);
            // Of methods that give no error themselves.
            let whole = model.check_device();
            done.and_then(|done| whole.map(|()| done))
        };
        py.detach(work).map_err(|error| raise(py, &error))
    }

    /// Uses the tokenizer without the GIL, beside whatever the engine does.
    fn read<T: Send>(
        &self,
        py: Python<'_>,
        read: impl FnOnce(&Tokenizer) -> moevolve_model::Result<T> + Send,
    ) -> PyResult<T> {
        py.detach(|| read(self.tokenizer.as_deref().ok_or(Error::NoTokenizer)?))
            .map_err(|error| raise(py, &error))
    }
}

#[pymethods]
impl Engine {
    #[staticmethod]
    #[pyo3(signature = (path, threads=0, weights="auto"))]
    fn load(py: Python<'_>, path: PathBuf, threads: usize, weights: &str) -> PyResult<Self> {
        let model = py.detach(|| Model::load_as(&path, threads, WeightsMode::named(weights)?));
        model.map(Self::wrap).map_err(|error| raise(py, &error))
    }

    #[staticmethod]
    #[pyo3(signature = (config_json, tokenizer_json, seed, threads=0))]
    fn create(
        py: Python<'_>,
        config_json: &str,
        tokenizer_json: Option<&str>,
        seed: u64,
        threads: usize,
    ) -> PyResult<Self> {
        let model = py.detach(|| Model::create(config_json, tokenizer_json, seed, threads));
        model.map(Self::wrap).map_err(|error| raise(py, &error))
    }

    #[pyo3(signature = (path, dtype=None, max_shard_size=None))]
    fn save(
        &self,
        py: Python<'_>,
        path: PathBuf,
        dtype: Option<&str>,
        max_shard_size: Option<usize>,
    ) -> PyResult<()> {
        self.work(py, |model| model.save_parts(&path, dtype, max_shard_size))
    }

    fn write_weights(&self, py: Python<'_>, file: PathBuf) -> PyResult<String> {
        self.work(py, |model| model.write_weights(&file))
    }

    fn read_weights(&self, py: Python<'_>, file: PathBuf) -> PyResult<()> {
        self.work(py, |model| model.read_weights(&file))
    }

    fn fingerprint(&self, py: Python<'_>) -> PyResult<String> {
        self.work(py, |model| Ok(model.fingerprint()))
    }

    fn clone(&self, py: Python<'_>) -> PyResult<Self> {
        self.work(py, |model| model.duplicate().map(Self::wrap))
    }

    fn config(&self, py: Python<'_>) -> PyResult<String> {
        self.work(py, |model| Ok(model.config_json()))
    }

    #[getter]
    fn parameters(&self, py: Python<'_>) -> PyResult<usize> {
        self.work(py, |model| Ok(model.parameters()))
    }

    #[getter]
    fn threads(&self, py: Python<'_>) -> PyResult<usize> {
        self.work(py, |model| Ok(model.threads()))
    }

    #[getter]
    fn isa(&self, py: Python<'_>) -> PyResult<&'static str> {
        self.work(py, |model| Ok(model.isa().name()))
    }

    #[getter]
    fn precision(&self, py: Python<'_>) -> PyResult<&'static str> {
        self.work(py, |model| Ok(model.precision().name()))
    }

    #[setter]
    fn set_precision(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        self.work(py, |model| model.choose_precision(name))
    }

    #[pyo3(signature = (index, kernels, driver="libcuda.so.1", precision=None, stay=false))]
    fn to_card(
        &self,
        py: Python<'_>,
        index: usize,
        kernels: PathBuf,
        driver: &str,
        precision: Option<&str>,
        stay: bool,
    ) -> PyResult<()> {
        self.work(py, |model| {
            let device = Driver::open_by(Path::new(driver), index, &images(&kernels)?)?;
            match model.to_card(&format!("cuda:{index}"), &device, precision) {
                Err(Error::NotOnCards { .. }) if stay => Ok(()),
                moved => moved,
            }
        })
    }

    fn to_cpu(&self, py: Python<'_>) -> PyResult<()> {
        self.work(py, Model::to_cpu)
    }

    #[getter]
    fn device(&self, py: Python<'_>) -> PyResult<String> {
        self.work(py, |model| Ok(model.device().to_owned()))
    }

    #[getter]
    fn vocab_size(&self) -> usize {
        self.vocabulary
    }

    #[getter]
    fn eos(&self) -> Vec<u32> {
        self.eos.clone()
    }

    #[getter]
    fn has_tokenizer(&self) -> bool {
        self.tokenizer.is_some()
    }

    #[pyo3(signature = (text, add_special=false))]
    fn encode(&self, py: Python<'_>, text: &str, add_special: bool) -> PyResult<Vec<u32>> {
        self.read(py, |tokenizer| Ok(tokenizer.encode(text, add_special)?))
    }

    #[pyo3(signature = (ids, skip_special=true))]
    fn decode(&self, py: Python<'_>, ids: Vec<u32>, skip_special: bool) -> PyResult<String> {
        self.read(py, |tokenizer| Ok(tokenizer.decode(&ids, skip_special)?))
    }

    fn token_bytes(&self, py: Python<'_>, ids: Vec<u32>) -> PyResult<Vec<Vec<u8>>> {
        self.read(py, |tokenizer| {
            Ok(self.tokens.bytes(tokenizer, self.vocabulary, &ids))
        })
    }

    fn constraint(
        &self,
        py: Python<'_>,
        form: &str,
        source: &str,
        marks: Vec<String>,
    ) -> PyResult<Constraint> {
        self.read(py, |tokenizer| {
            let asked = (form, source);
            self.tokens
                .compile(tokenizer, self.vocabulary, &self.eos, &marks, asked)
        })
    }

    #[getter]
    fn chat_templates(&self) -> BTreeMap<String, String> {
        let tokenizer = self.tokenizer.as_deref();
        tokenizer.map(Tokenizer::chat_templates).unwrap_or_default()
    }

    #[getter]
    fn chat_template(&self) -> Option<String> {
        self.tokenizer.as_deref().and_then(Tokenizer::chat_template)
    }

    #[getter]
    fn special(&self) -> BTreeMap<String, String> {
        let tokenizer = self.tokenizer.as_deref();
        tokenizer.map(Tokenizer::special).unwrap_or_default()
    }

    #[getter]
    fn notes(&self) -> Vec<String> {
        let tokenizer = self.tokenizer.as_deref();
        tokenizer.map_or_else(Vec::new, |tokenizer| tokenizer.notes().to_vec())
    }

    fn score_part(
        &self,
        py: Python<'_>,
        ids: Vec<u32>,
        top: usize,
        read: usize,
    ) -> PyResult<(Vec<Score>, usize)> {
        self.work(py, |model| model.score_part(&ids, top, read))
    }

    fn embed_part(
        &self,
        py: Python<'_>,
        ids: Vec<u32>,
        read: usize,
        mut sums: Vec<f64>,
    ) -> PyResult<(usize, Vec<f64>, Option<Vec<f32>>)> {
        self.work(py, |model| {
            let (end, mean) = model.embed_part(&ids, read, &mut sums)?;
            Ok((end, sums, mean))
        })
    }

    fn logits(&self, py: Python<'_>, ids: Vec<Vec<u32>>) -> PyResult<Tensor> {
        let logits = self.work(py, |model| model.logits(&ids))?;
        Ok(Tensor::new(logits.values, logits.shape))
    }

    fn generate(
        &self,
        py: Python<'_>,
        requests: Vec<RequestArgument<'_>>,
    ) -> PyResult<Vec<Vec<Sample>>> {
        let requests = generation::requests(requests)?;
        let samples = py.detach(|| {
            let mut generator = lock(&self.generator);
            generator.generate(&mut self.lock(), &requests)
        });
        let samples = samples.map_err(|error| raise(py, &error))?;
        let one = |samples: Vec<_>| samples.into_iter().map(Sample::from).collect();
        Ok(samples.into_iter().map(one).collect())
    }

    #[pyo3(signature = (slots=64, memory=0))]
    fn scheduler(slf: Bound<'_, Self>, slots: usize, memory: usize) -> PyResult<Scheduler> {
        Scheduler::new(slf, slots, memory)
    }

    #[pyo3(signature = (beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.01, clip=1.0, bias_rate=0.0))]
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a keyword on the Python side"
    )]
    fn reset_optimizer(
        &self,
        py: Python<'_>,
        beta1: f32,
        beta2: f32,
        eps: f32,
        weight_decay: f32,
        clip: f32,
        bias_rate: f32,
    ) -> PyResult<()> {
        self.work(py, |model| {
            model.reset_optimizer(Optimizer::new(
                beta1,
                beta2,
                eps,
                weight_decay,
                clip,
                bias_rate,
            )?);
            Ok(())
        })
    }

    #[pyo3(signature = (batch, learning_rate, norms=false))]
    fn train_step(
        &self,
        py: Python<'_>,
        batch: Vec<ExampleArgument>,
        learning_rate: f32,
        norms: bool,
    ) -> PyResult<StepReport> {
        let batch = training::examples(batch);
        let report = self.work(py, |model| model.train_step(&batch, learning_rate, norms))?;
        StepReport::new(py, report)
    }

    fn gradients<'py>(
        &self,
        py: Python<'py>,
        batch: Vec<ExampleArgument>,
    ) -> PyResult<(f64, Bound<'py, PyDict>)> {
        let batch = training::examples(batch);
        let (loss, tensors) = self.work(py, |model| model.gradients(&batch))?;
        Ok((loss, training::gradients(py, tensors)?))
    }

    #[pyo3(signature = (batch, learning_rate, loss="cispo", clip_low=0.2, clip_high=0.28, kl=0.0, length=0, norms=false))]
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a keyword on the Python side"
    )]
    fn policy_step(
        &self,
        py: Python<'_>,
        batch: Vec<RolloutArgument>,
        learning_rate: f32,
        loss: &str,
        clip_low: f32,
        clip_high: f32,
        kl: f32,
        length: usize,
        norms: bool,
    ) -> PyResult<StepReport> {
        let batch = training::rollouts(batch);
        let report = self.work(py, |model| {
            let objective = Objective::new(loss, clip_low, clip_high, kl, length)?;
            model.policy_step(&batch, &objective, learning_rate, norms)
        })?;
        StepReport::new(py, report)
    }

    #[pyo3(signature = (batch, loss="cispo", clip_low=0.2, clip_high=0.28, kl=0.0, length=0))]
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a keyword on the Python side"
    )]
    fn policy_gradients<'py>(
        &self,
        py: Python<'py>,
        batch: Vec<RolloutArgument>,
        loss: &str,
        clip_low: f32,
        clip_high: f32,
        kl: f32,
        length: usize,
    ) -> PyResult<(f64, Bound<'py, PyDict>)> {
        let batch = training::rollouts(batch);
        let (loss, tensors) = self.work(py, |model| {
            let objective = Objective::new(loss, clip_low, clip_high, kl, length)?;
            model.policy_gradients(&batch, &objective)
        })?;
        Ok((loss, training::gradients(py, tensors)?))
    }

    #[pyo3(signature = (batch, base=false))]
    fn logprobs(
        &self,
        py: Python<'_>,
        batch: Vec<SequenceArgument>,
        base: bool,
    ) -> PyResult<Vec<Vec<f32>>> {
        let batch: Vec<_> = batch.into_iter().map(Into::into).collect();
        self.work(py, |model| model.logprobs(&batch, base))
    }

    #[pyo3(signature = (rank, alpha, targets, root=false, seed=0))]
    fn adapt(
        &self,
        py: Python<'_>,
        rank: usize,
        alpha: f32,
        targets: Vec<String>,
        root: bool,
        seed: u64,
    ) -> PyResult<()> {
        self.work(py, |model| {
            model.adapt(AdapterSettings::new(rank, alpha, targets, root)?, seed)
        })
    }

    #[getter]
    fn adapter<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let described = py.detach(|| {
            let model = self.lock();
            let adapter = model.adapter()?;
            Some((
                adapter.settings.clone(),
                adapter.modules(),
                adapter.parameters(),
            ))
        });
        let Some((settings, targets, parameters)) = described else {
            return Ok(None);
        };
        let told = PyDict::new(py);
        told.set_item("rank", settings.rank)?;
        told.set_item("alpha", settings.alpha)?;
        told.set_item("root", settings.root)?;
        told.set_item("targets", targets)?;
        told.set_item("parameters", parameters)?;
        Ok(Some(told))
    }

    fn merge(&self, py: Python<'_>) -> PyResult<()> {
        self.work(py, Model::merge)
    }

    fn save_adapter(&self, py: Python<'_>, folder: PathBuf, base: &str) -> PyResult<()> {
        self.work(py, |model| model.save_adapter(&folder, base))
    }

    fn load_adapter(&self, py: Python<'_>, folder: PathBuf) -> PyResult<()> {
        self.work(py, |model| model.load_adapter(&folder))
    }

    #[pyo3(signature = (folder, state=""))]
    fn save_training(&self, py: Python<'_>, folder: PathBuf, state: &str) -> PyResult<()> {
        self.work(py, |model| model.save_training(&folder, state))
    }

    fn load_training(&self, py: Python<'_>, folder: PathBuf) -> PyResult<String> {
        self.work(py, |model| model.load_training(&folder))
    }

    #[getter]
    fn checkpointing(&self, py: Python<'_>) -> bool {
        py.detach(|| self.lock().checkpointing())
    }

    #[setter]
    fn set_checkpointing(&self, py: Python<'_>, checkpointing: bool) {
        py.detach(|| self.lock().set_checkpointing(checkpointing));
    }
}

/// A panic in another call leaves buffers, never weights, half written: go on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A `UsageError`.
pub fn usage(py: Python<'_>, what: &str) -> PyErr {
    raise(py, &Error::Request(what.to_owned()))
}

/// Characters that an error may have, of which a file's own value may be the most.
const LONGEST_ERROR: usize = 1000;

/// An error's words on one line, the middle left out where they are many: names and values of strangers' files are in them.
fn line(said: &str) -> String {
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    let characters: Vec<char> = said.chars().map(shown).collect();
    if characters.len() <= LONGEST_ERROR {
        return characters.into_iter().collect();
    }
    let (head, tail) = (LONGEST_ERROR * 3 / 4, LONGEST_ERROR / 4);
    let head = characters[..head].iter();
    let tail = characters[characters.len() - tail..].iter();
    head.chain([' ', '.', '.', '.', ' '].iter())
        .chain(tail)
        .collect()
}

/// Onto the classes of `moevolve.errors`.
pub fn raise(py: Python<'_>, error: &Error) -> PyErr {
    let name = match error {
        e if e.is_checkpoint() => "CheckpointError",
        e if e.is_capacity() => "CapacityError",
        e if e.is_usage() => "UsageError",
        _ => "MoevolveError",
    };
    match py
        .import("moevolve.errors")
        .and_then(|errors| errors.getattr(name))
    {
        Ok(class) => match class.call1((line(&error.to_string()),)) {
            Ok(instance) => PyErr::from_value(instance),
            Err(failed) => failed,
        },
        Err(failed) => failed,
    }
}

/// Adds this room's classes to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Tensor>()?;
    module.add_class::<Engine>()
}
