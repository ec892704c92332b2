//! Generation for Python: requests and their settings, what comes of them, and `Scheduler` over `moevolve_generate::Scheduler`.

use moevolve_generate::{EngineScheduler, Event, Finish, Request, Sampling};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::constraint::Constraint;
use crate::engine::{Engine, raise};

/// Fields of `moevolve.protocol.sampling.Sampling` that matter here.
#[derive(FromPyObject)]
struct SamplingArgument {
    max_tokens: usize,
    temperature: f32,
    top_p: f32,
    top_k: usize,
    min_p: f32,
    frequency_penalty: f32,
    presence_penalty: f32,
    repetition_penalty: f32,
    logit_bias: Vec<(u32, f32)>,
    stop_tokens: Vec<u32>,
    top_logprobs: usize,
    speculate: usize,
    ignore_eos: bool,
    min_tokens: usize,
    allowed_tokens: Vec<u32>,
}

impl From<SamplingArgument> for Sampling {
    fn from(told: SamplingArgument) -> Self {
        Self {
            max_tokens: told.max_tokens,
            temperature: told.temperature,
            top_k: told.top_k,
            top_p: told.top_p,
            min_p: told.min_p,
            frequency_penalty: told.frequency_penalty,
            presence_penalty: told.presence_penalty,
            repetition_penalty: told.repetition_penalty,
            bias: told.logit_bias,
            stop: told.stop_tokens,
            ignore_eos: told.ignore_eos,
            min_tokens: told.min_tokens,
            allowed: told.allowed_tokens,
            constraint: None,
            top: told.top_logprobs,
            speculate: told.speculate,
        }
    }
}

/// Fields of `moevolve.protocol.sampling.TokenRequest` that matter here.
#[derive(FromPyObject)]
pub struct RequestArgument<'py> {
    prompt: Vec<u32>,
    keys: Vec<u64>,
    sampling: Bound<'py, PyAny>,
    compiled: Option<Py<Constraint>>,
}

/// The requests of a call; settings that neighbours share, which never change, are read once.
pub fn requests(arguments: Vec<RequestArgument<'_>>) -> PyResult<Vec<Request>> {
    let mut requests = Vec::<Request>::with_capacity(arguments.len());
    let mut before: Option<Bound<'_, PyAny>> = None;
    for argument in arguments {
        let sampling: Sampling = match (&before, requests.last()) {
            (Some(before), Some(last)) if before.is(&argument.sampling) => last.sampling.clone(),
            _ => argument.sampling.extract::<SamplingArgument>()?.into(),
        };
        before = Some(argument.sampling);
        requests.push(Request {
            prompt: argument.prompt,
            keys: argument.keys,
            sampling: Sampling {
                constraint: argument.compiled.map(|compiled| compiled.get().0.clone()),
                ..sampling
            },
        });
    }
    Ok(requests)
}

/// One finished sample; see the stub.
#[pyclass(module = "moevolve._native", frozen, get_all)]
pub struct Sample {
    tokens: Vec<u32>,
    logprobs: Vec<f32>,
    top: Vec<Vec<(u32, f32)>>,
    finish: &'static str,
    text: String,
}

impl From<moevolve_generate::Sample> for Sample {
    fn from(sample: moevolve_generate::Sample) -> Self {
        Self {
            tokens: sample.tokens,
            logprobs: sample.logprobs,
            top: sample.top,
            finish: sample.finish.name(),
            text: sample.text,
        }
    }
}

/// What one round did to one sample; see the stub.
#[pyclass(module = "moevolve._native", frozen, get_all)]
pub struct Progress {
    request: u64,
    sample: usize,
    tokens: Vec<u32>,
    logprobs: Vec<f32>,
    top: Vec<Vec<(u32, f32)>>,
    finish: Option<&'static str>,
}

impl From<Event> for Progress {
    fn from(event: Event) -> Self {
        Self {
            request: event.request,
            sample: event.sample,
            tokens: event.drawn.tokens,
            logprobs: event.drawn.logprobs,
            top: event.drawn.top,
            finish: event.finish.map(Finish::name),
        }
    }
}

/// Requests under way on an engine; see the stub.
#[pyclass(module = "moevolve._native", frozen)]
pub struct Scheduler {
    engine: Py<Engine>,
    inner: EngineScheduler,
}

impl Scheduler {
    pub fn new(engine: Bound<'_, Engine>, slots: usize, memory: usize) -> PyResult<Self> {
        let inner = engine.get().work(engine.py(), |model| {
            EngineScheduler::of(model, slots, memory)
        })?;
        Ok(Self {
            engine: engine.unbind(),
            inner,
        })
    }
}

#[pymethods]
impl Scheduler {
    fn add(&self, py: Python<'_>, request: RequestArgument<'_>) -> PyResult<u64> {
        let settings: SamplingArgument = request.sampling.extract()?;
        let sampling = Sampling {
            constraint: request.compiled.map(|compiled| compiled.get().0.clone()),
            ..settings.into()
        };
        let (prompt, keys) = (request.prompt, request.keys);
        py.detach(|| self.inner.add(&prompt, &keys, sampling))
            .map_err(|error| raise(py, &error))
    }

    #[pyo3(signature = (request, sample=None))]
    fn cancel(&self, py: Python<'_>, request: u64, sample: Option<usize>) -> bool {
        py.detach(|| self.inner.cancel(request, sample))
    }

    fn step(&self, py: Python<'_>) -> PyResult<Vec<Progress>> {
        let engine = self.engine.get();
        let events = engine.work(py, |model| self.inner.step(model))?;
        Ok(events.into_iter().map(Progress::from).collect())
    }

    #[getter]
    fn slots(&self, py: Python<'_>) -> usize {
        py.detach(|| self.inner.slots())
    }

    #[getter]
    fn busy(&self, py: Python<'_>) -> usize {
        py.detach(|| self.inner.busy())
    }

    #[getter]
    fn waiting(&self, py: Python<'_>) -> usize {
        py.detach(|| self.inner.waiting())
    }

    #[getter]
    fn memory<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let memory = py.detach(|| self.inner.memory());
        let told = PyDict::new(py);
        told.set_item("limit", memory.limit)?;
        told.set_item("reserved", memory.reserved)?;
        told.set_item("used", memory.used)?;
        Ok(told)
    }
}

/// Adds this room's classes to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Sample>()?;
    module.add_class::<Progress>()?;
    module.add_class::<Scheduler>()
}
