//! The engine for Python: `Engine` over `moevolve_model::Engine`, and `Tensor`, a float buffer.

use std::collections::BTreeMap;
use std::ffi::{CStr, c_int, c_void};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use moevolve_model::tokenizer::Tokenizer;
use moevolve_model::{
    AdapterSettings, Engine as Model, Error, Finish, Keep, Objective, Optimizer, Request,
    Stream as Sampling,
};
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use crate::training::{self, ExampleArguments, RolloutArguments, SequenceArguments};

const FLOAT: &CStr = c"f";

/// Float32 values in C order; see the stub for the documentation.
#[pyclass(module = "moevolve._native", frozen)]
pub struct Tensor {
    values: Vec<f32>,
    shape: Vec<isize>,
    /// Bytes from one element of each dimension to the next.
    strides: Vec<isize>,
}

impl Tensor {
    pub fn new(values: Vec<f32>, shape: impl IntoIterator<Item = usize>) -> Self {
        let shape: Vec<isize> = shape.into_iter().map(|n| n as isize).collect();
        let mut strides = vec![size_of::<f32>() as isize; shape.len()];
        for i in (1..shape.len()).rev() {
            strides[i - 1] = strides[i] * shape[i];
        }
        Self {
            values,
            shape,
            strides,
        }
    }

    fn nested<'py>(
        &self,
        py: Python<'py>,
        values: &[f32],
        shape: &[isize],
    ) -> PyResult<Bound<'py, PyList>> {
        match shape {
            [] | [_] => PyList::new(py, values),
            [rows, inner @ ..] => {
                let size = inner.iter().product::<isize>() as usize;
                let list = PyList::empty(py);
                for row in 0..*rows as usize {
                    list.append(self.nested(py, &values[row * size..][..size], inner)?)?;
                }
                Ok(list)
            }
        }
    }
}

#[pymethods]
impl Tensor {
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.shape)
    }

    fn tolist<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        self.nested(py, &self.values, &self.shape)
    }

    fn __len__(&self) -> usize {
        self.shape.first().map_or(0, |&n| n as usize)
    }

    fn __repr__(&self) -> String {
        format!("Tensor(shape={:?}, dtype=float32)", self.shape)
    }

    /// # Safety
    /// Called by the interpreter with a view to fill; the view keeps this frozen object alive.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("no view to fill"));
        }
        if flags & ffi::PyBUF_WRITABLE == ffi::PyBUF_WRITABLE {
            return Err(PyBufferError::new_err("a Tensor is read-only"));
        }
        let asks = |flag: c_int| flags & flag == flag;
        let this = slf.get();
        (*view).buf = this.values.as_ptr().cast_mut().cast::<c_void>();
        (*view).len = size_of_val(&this.values[..]) as isize;
        (*view).itemsize = size_of::<f32>() as isize;
        (*view).readonly = 1;
        (*view).format = if asks(ffi::PyBUF_FORMAT) {
            FLOAT.as_ptr().cast_mut()
        } else {
            std::ptr::null_mut()
        };
        (*view).ndim = this.shape.len() as c_int;
        let dimensions = |values: &[isize], wanted| {
            if wanted {
                values.as_ptr().cast_mut()
            } else {
                std::ptr::null_mut()
            }
        };
        (*view).shape = dimensions(&this.shape, asks(ffi::PyBUF_ND));
        (*view).strides = dimensions(&this.strides, asks(ffi::PyBUF_STRIDES));
        (*view).suboffsets = std::ptr::null_mut();
        (*view).internal = std::ptr::null_mut();
        (*view).obj = slf.into_any().into_ptr();
        Ok(())
    }
}

type RequestArguments = (Vec<u32>, Vec<u64>, usize, f32, f32);
type SampleResult = (Vec<u32>, Vec<f32>, &'static str);

/// A loaded model; see the stub for the documentation of its methods.
#[pyclass(module = "moevolve._native", frozen)]
pub struct Engine {
    inner: Mutex<Model>,
    // What never changes needs no lock: a server reads and writes texts while rounds are made.
    tokenizer: Option<Arc<Tokenizer>>,
    vocabulary: usize,
    eos: Vec<u32>,
}

impl Engine {
    fn wrap(model: Model) -> Self {
        Self {
            tokenizer: model.shared_tokenizer(),
            vocabulary: model.config().vocabulary,
            eos: model.config().eos.clone(),
            inner: Mutex::new(model),
        }
    }

    /// A panic in another call leaves buffers, never weights, half written: go on.
    fn lock(&self) -> MutexGuard<'_, Model> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs without the GIL and maps the error.
    pub fn work<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut Model) -> moevolve_model::Result<T> + Send,
    ) -> PyResult<T> {
        py.detach(|| work(&mut self.lock()))
            .map_err(|error| raise(py, &error))
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

/// One sample as an iterator; see the stub.
#[pyclass(module = "moevolve._native", frozen)]
struct Stream {
    engine: Py<Engine>,
    /// The sample, and whether its end was told.
    state: Mutex<(Sampling, bool)>,
}

#[pymethods]
impl Stream {
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<(u32, f32)>> {
        let engine = self.engine.get();
        engine.work(py, |model| {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let next = model.advance(&mut state.0);
            state.1 |= next.is_none();
            Ok(next)
        })
    }

    #[getter]
    fn finish(&self, py: Python<'_>) -> Option<&'static str> {
        py.detach(|| {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.0.finish().filter(|_| state.1).map(Finish::name)
        })
    }
}

#[pymethods]
impl Engine {
    #[staticmethod]
    #[pyo3(signature = (path, threads=0, weights="auto"))]
    fn load(py: Python<'_>, path: PathBuf, threads: usize, weights: &str) -> PyResult<Self> {
        let model = py.detach(|| Model::load_as(&path, threads, Keep::named(weights)?));
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

    #[pyo3(signature = (path, dtype=None))]
    fn save(&self, py: Python<'_>, path: PathBuf, dtype: Option<&str>) -> PyResult<()> {
        self.work(py, |model| model.save(&path, dtype))
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
        self.work(py, |model| Ok(Self::wrap(model.duplicate())))
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
        self.read(py, |tokenizer| tokenizer.encode(text, add_special))
    }

    #[pyo3(signature = (ids, skip_special=true))]
    fn decode(&self, py: Python<'_>, ids: Vec<u32>, skip_special: bool) -> PyResult<String> {
        self.read(py, |tokenizer| tokenizer.decode(&ids, skip_special))
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

    fn logits(&self, py: Python<'_>, ids: Vec<Vec<u32>>) -> PyResult<Tensor> {
        let logits = self.work(py, |model| model.logits(&ids))?;
        Ok(Tensor::new(logits.values, logits.shape))
    }

    fn generate(
        &self,
        py: Python<'_>,
        requests: Vec<RequestArguments>,
    ) -> PyResult<Vec<Vec<SampleResult>>> {
        let request = |(prompt, keys, max_tokens, temperature, top_p)| Request {
            prompt,
            keys,
            max_tokens,
            temperature,
            top_p,
        };
        let requests: Vec<Request> = requests.into_iter().map(request).collect();
        let samples = self.work(py, |model| model.generate(&requests))?;
        let finish = |stopped| if stopped { "stop" } else { "length" };
        let one = |samples: Vec<moevolve_model::Sample>| {
            samples
                .into_iter()
                .map(|s| (s.tokens, s.logprobs, finish(s.stopped)))
                .collect()
        };
        Ok(samples.into_iter().map(one).collect())
    }

    fn stream(
        slf: Bound<'_, Self>,
        ids: Vec<u32>,
        key: u64,
        max_tokens: usize,
        temperature: f32,
        top_p: f32,
    ) -> PyResult<Stream> {
        let request = Request {
            prompt: ids,
            keys: vec![key],
            max_tokens,
            temperature,
            top_p,
        };
        let sampling = slf.get().work(slf.py(), |model| model.stream(&request))?;
        Ok(Stream {
            engine: slf.unbind(),
            state: Mutex::new((sampling, false)),
        })
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
    fn train_step<'py>(
        &self,
        py: Python<'py>,
        batch: Vec<ExampleArguments>,
        learning_rate: f32,
        norms: bool,
    ) -> PyResult<Bound<'py, PyDict>> {
        let batch = training::examples(batch);
        let report = self.work(py, |model| model.train_step(&batch, learning_rate, norms))?;
        training::step(py, report)
    }

    fn gradients<'py>(
        &self,
        py: Python<'py>,
        batch: Vec<ExampleArguments>,
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
    fn policy_step<'py>(
        &self,
        py: Python<'py>,
        batch: Vec<RolloutArguments>,
        learning_rate: f32,
        loss: &str,
        clip_low: f32,
        clip_high: f32,
        kl: f32,
        length: usize,
        norms: bool,
    ) -> PyResult<Bound<'py, PyDict>> {
        let batch = training::rollouts(batch);
        let report = self.work(py, |model| {
            let objective = Objective::new(loss, clip_low, clip_high, kl, length)?;
            model.policy_step(&batch, &objective, learning_rate, norms)
        })?;
        training::step(py, report)
    }

    #[pyo3(signature = (batch, loss="cispo", clip_low=0.2, clip_high=0.28, kl=0.0, length=0))]
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a keyword on the Python side"
    )]
    fn policy_gradients<'py>(
        &self,
        py: Python<'py>,
        batch: Vec<RolloutArguments>,
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
        batch: Vec<SequenceArguments>,
        base: bool,
    ) -> PyResult<Vec<Vec<f32>>> {
        let batch = training::sequences(batch);
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

/// A `UsageError`.
pub fn usage(py: Python<'_>, what: &str) -> PyErr {
    raise(py, &Error::Request(what.to_owned()))
}

/// Onto the classes of `moevolve.errors`.
pub fn raise(py: Python<'_>, error: &Error) -> PyErr {
    let name = match error {
        e if e.is_checkpoint() => "CheckpointError",
        Error::Capacity(_) => "CapacityError",
        e if e.is_usage() => "UsageError",
        _ => "MoevolveError",
    };
    match py
        .import("moevolve.errors")
        .and_then(|errors| errors.getattr(name))
    {
        Ok(class) => match class.call1((error.to_string(),)) {
            Ok(instance) => PyErr::from_value(instance),
            Err(failed) => failed,
        },
        Err(failed) => failed,
    }
}

/// Adds this room's classes to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Tensor>()?;
    module.add_class::<Engine>()?;
    module.add_class::<Stream>()
}
