//! What training takes and tells, between Python and the model.

use moevolve_model::{Example, Positions, Rollout, StepReport as Report, Tensor as Values};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::tensor::Tensor;

/// An offset, or one position a token.
#[derive(FromPyObject)]
pub enum PositionArgument {
    Offset(usize),
    Each(Vec<u32>),
}

impl From<PositionArgument> for Positions {
    fn from(argument: PositionArgument) -> Self {
        match argument {
            PositionArgument::Offset(first) => Self::From(first),
            PositionArgument::Each(list) => Self::Each(list),
        }
    }
}

/// One for all tokens of an answer, or one a token.
#[derive(FromPyObject)]
pub enum AdvantageArgument {
    One(f32),
    Each(Vec<f32>),
}

/// Fields of `moevolve.protocol.training.Example` in tokens.
#[derive(FromPyObject)]
pub struct ExampleArgument {
    tokens: Vec<u32>,
    start: usize,
    positions: PositionArgument,
    weight: f32,
}

/// Fields that an example and a rollout share.
#[derive(FromPyObject)]
pub struct SequenceArgument {
    tokens: Vec<u32>,
    start: usize,
    positions: PositionArgument,
}

/// Fields of `moevolve.protocol.training.Rollout`.
#[derive(FromPyObject)]
pub struct RolloutArgument {
    tokens: Vec<u32>,
    start: usize,
    positions: PositionArgument,
    advantage: AdvantageArgument,
    logprobs: Vec<f32>,
    reference: Option<Vec<f32>>,
    age: u32,
}

impl From<ExampleArgument> for Example {
    fn from(argument: ExampleArgument) -> Self {
        Self {
            ids: argument.tokens,
            answer_start: argument.start,
            positions: argument.positions.into(),
            weight: argument.weight,
        }
    }
}

/// An example whose weight does not matter.
impl From<SequenceArgument> for Example {
    fn from(argument: SequenceArgument) -> Self {
        Self {
            ids: argument.tokens,
            answer_start: argument.start,
            positions: argument.positions.into(),
            weight: 1.0,
        }
    }
}

impl From<RolloutArgument> for Rollout {
    fn from(argument: RolloutArgument) -> Self {
        let tokens = argument.tokens.len().saturating_sub(argument.start);
        Self {
            ids: argument.tokens,
            answer_start: argument.start,
            positions: argument.positions.into(),
            advantages: match argument.advantage {
                AdvantageArgument::One(one) => vec![one; tokens],
                AdvantageArgument::Each(each) => each,
            },
            old: argument.logprobs,
            reference: argument.reference.unwrap_or_default(),
            age: argument.age,
        }
    }
}

pub fn examples(batch: Vec<ExampleArgument>) -> Vec<Example> {
    batch.into_iter().map(Example::from).collect()
}

pub fn rollouts(batch: Vec<RolloutArgument>) -> Vec<Rollout> {
    batch.into_iter().map(Rollout::from).collect()
}

/// What a step saw; see the stub.
#[pyclass(module = "moevolve._native", frozen, get_all)]
pub struct StepReport {
    loss: f64,
    tokens: usize,
    gradient_norm: f64,
    expert_load: Vec<Vec<f64>>,
    expert_gradient: Vec<Vec<f64>>,
    policy: Option<Py<PolicyReport>>,
}

/// What a policy's tokens were like; see the stub.
#[pyclass(module = "moevolve._native", frozen, get_all)]
pub struct PolicyReport {
    ratio: f64,
    max_ratio: f64,
    clip_fraction: f64,
    approx_kl: f64,
    abs_log_ratio: f64,
    reference_kl: f64,
    entropy: f64,
    age: f64,
    max_age: u32,
}

impl StepReport {
    pub fn new(py: Python<'_>, report: Report) -> PyResult<Self> {
        let policy = report.policy.map(|policy| {
            let policy = PolicyReport {
                ratio: policy.ratio,
                max_ratio: policy.largest_ratio,
                clip_fraction: policy.clipped,
                approx_kl: policy.drift,
                abs_log_ratio: policy.apart,
                reference_kl: policy.kl,
                entropy: policy.entropy,
                age: policy.age,
                max_age: policy.oldest,
            };
            Py::new(py, policy)
        });
        Ok(Self {
            loss: report.loss,
            tokens: report.tokens,
            gradient_norm: report.gradient_norm,
            expert_load: report.expert_load,
            expert_gradient: report.expert_gradient,
            policy: policy.transpose()?,
        })
    }
}

/// Gradients by name.
pub fn gradients<'py>(
    py: Python<'py>,
    tensors: Vec<(String, Values)>,
) -> PyResult<Bound<'py, PyDict>> {
    let told = PyDict::new(py);
    for (name, tensor) in tensors {
        let values = tensor.flatten_all().and_then(|flat| flat.to_vec1());
        let values = values.map_err(|e| PyValueError::new_err(e.to_string()))?;
        told.set_item(name, Tensor::new(values, tensor.dims().iter().copied()))?;
    }
    Ok(told)
}

/// Adds this room's classes to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PolicyReport>()?;
    module.add_class::<StepReport>()
}
