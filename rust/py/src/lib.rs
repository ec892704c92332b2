//! The module `moevolve._native`: bindings only, one file a room. No logic lives here.

use pyo3::prelude::*;

mod engine;
mod experts;
mod plan;
mod sandbox;
mod scheduler;
mod store;
mod training;

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    engine::register(module)?;
    experts::register(module)?;
    plan::register(module)?;
    scheduler::register(module)?;
    store::register(module)?;
    sandbox::register(module)?;
    Ok(())
}
