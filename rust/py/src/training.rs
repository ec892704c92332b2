//! What training takes and tells, between Python and the model.

use moevolve_model::{Example, PolicyReport, Positions, Rollout, StepReport, Tensor as Values};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::engine::Tensor;

/// (ids, answer_start, positions, weight).
pub type ExampleArguments = (Vec<u32>, usize, PositionArgument, f32);
/// (ids, answer_start, positions).
pub type SequenceArguments = (Vec<u32>, usize, PositionArgument);
/// (ids, answer_start, positions, advantage, old log-probabilities, reference's or None, age).
pub type RolloutArguments = (
    Vec<u32>,
    usize,
    PositionArgument,
    AdvantageArgument,
    Vec<f32>,
    Option<Vec<f32>>,
    u32,
);

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

pub fn examples(batch: Vec<ExampleArguments>) -> Vec<Example> {
    let example = |(ids, answer_start, positions, weight): ExampleArguments| Example {
        ids,
        answer_start,
        positions: positions.into(),
        weight,
    };
    batch.into_iter().map(example).collect()
}

/// Sequences whose weights do not matter.
pub fn sequences(batch: Vec<SequenceArguments>) -> Vec<Example> {
    let weigh = |(ids, start, positions): SequenceArguments| (ids, start, positions, 1.0);
    examples(batch.into_iter().map(weigh).collect())
}

pub fn rollouts(batch: Vec<RolloutArguments>) -> Vec<Rollout> {
    let rollout = |arguments: RolloutArguments| {
        let (ids, answer_start, positions, advantage, old, reference, age) = arguments;
        let tokens = ids.len().saturating_sub(answer_start);
        Rollout {
            ids,
            answer_start,
            positions: positions.into(),
            advantages: match advantage {
                AdvantageArgument::One(one) => vec![one; tokens],
                AdvantageArgument::Each(each) => each,
            },
            old,
            reference: reference.unwrap_or_default(),
            age,
        }
    };
    batch.into_iter().map(rollout).collect()
}

/// A step's report as the stub describes it.
pub fn step<'py>(py: Python<'py>, report: StepReport) -> PyResult<Bound<'py, PyDict>> {
    let told = PyDict::new(py);
    told.set_item("loss", report.loss)?;
    told.set_item("tokens", report.tokens)?;
    told.set_item("gradient_norm", report.gradient_norm)?;
    told.set_item("expert_load", report.expert_load)?;
    if !report.expert_gradient.is_empty() {
        told.set_item("expert_gradient", report.expert_gradient)?;
    }
    if let Some(policy) = report.policy {
        let PolicyReport {
            ratio,
            largest_ratio,
            clipped,
            drift,
            apart,
            kl,
            entropy,
            age,
            oldest,
        } = policy;
        told.set_item("ratio", ratio)?;
        told.set_item("largest_ratio", largest_ratio)?;
        told.set_item("clipped", clipped)?;
        told.set_item("drift", drift)?;
        told.set_item("apart", apart)?;
        told.set_item("kl", kl)?;
        told.set_item("entropy", entropy)?;
        told.set_item("age", age)?;
        told.set_item("oldest", oldest)?;
    }
    Ok(told)
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
