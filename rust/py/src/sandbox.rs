use pyo3::prelude::*;

/// Adds this room's classes to the module.
pub fn register(_module: &Bound<'_, PyModule>) -> PyResult<()> {
    Ok(())
}
