//! What a model weighs, for Python.

use std::path::PathBuf;

use pyo3::prelude::*;

use crate::engine::raise;

#[pyfunction]
fn plan(py: Python<'_>, path: PathBuf) -> PyResult<String> {
    py.detach(|| moevolve_model::plan::of_path(&path))
        .map(|plan| plan.to_json())
        .map_err(|error| raise(py, &error.into()))
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(plan, module)?)
}
