//! The module `moevolve._native`: bindings only, one file a room. No logic lives here.

use pyo3::prelude::*;

mod constraint;
mod engine;
mod experts;
mod generation;
mod memory;
mod plan;
mod sandbox;
mod store;
mod tensor;
mod training;

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    engine::register(module)?;
    constraint::register(module)?;
    generation::register(module)?;
    experts::register(module)?;
    plan::register(module)?;
    training::register(module)?;
    store::register(module)?;
    memory::register(module)?;
    sandbox::register(module)?;
    Ok(())
}
