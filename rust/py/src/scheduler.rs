//! The generation service for Python: `Scheduler` over `moevolve_model::Scheduler`.

use moevolve_model::{Event, Finish, Sampling, Scheduler as Service};
use pyo3::prelude::*;
use pyo3::types::PyDict;

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
            top: told.top_logprobs,
            speculate: told.speculate,
        }
    }
}

type EventResult = (
    u64,
    usize,
    Vec<u32>,
    Vec<f32>,
    Vec<Vec<(u32, f32)>>,
    Option<&'static str>,
);

/// Requests under way on an engine; see the stub.
#[pyclass(module = "moevolve._native", frozen)]
struct Scheduler {
    engine: Py<Engine>,
    inner: Service,
}

#[pymethods]
impl Scheduler {
    #[new]
    #[pyo3(signature = (engine, slots=64, memory=0))]
    fn new(engine: Bound<'_, Engine>, slots: usize, memory: usize) -> PyResult<Self> {
        let made = |model: &mut moevolve_model::Engine| model.scheduler(slots, memory);
        let inner = engine.get().work(engine.py(), made)?;
        Ok(Self {
            engine: engine.unbind(),
            inner,
        })
    }

    fn add(
        &self,
        py: Python<'_>,
        ids: Vec<u32>,
        keys: Vec<u64>,
        sampling: SamplingArgument,
    ) -> PyResult<u64> {
        py.detach(|| self.inner.add(&ids, &keys, sampling.into()))
            .map_err(|error| raise(py, &error))
    }

    #[pyo3(signature = (request, sample=None))]
    fn cancel(&self, py: Python<'_>, request: u64, sample: Option<usize>) -> bool {
        py.detach(|| self.inner.cancel(request, sample))
    }

    fn step(&self, py: Python<'_>) -> PyResult<Vec<EventResult>> {
        let engine = self.engine.get();
        let events = engine.work(py, |model| Ok(model.step(&self.inner)))?;
        let told = |event: Event| {
            let drawn = event.drawn;
            (
                event.request,
                event.sample,
                drawn.tokens,
                drawn.logprobs,
                drawn.top,
                event.finish.map(Finish::name),
            )
        };
        Ok(events.into_iter().map(told).collect())
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

/// Adds this room's class to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Scheduler>()
}
