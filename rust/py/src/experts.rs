//! One Mixture-of-Experts block for Python: `MoeLayer` over `moevolve_kernels::layer`.

use std::sync::{Mutex, PoisonError};

use moevolve_kernels::experts::Shape;
use moevolve_kernels::layer::{Layer, Weights};
use moevolve_kernels::route::Rule;
use moevolve_kernels::team::Team;
use moevolve_kernels::{Isa, LANES, Precision};
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;

use crate::engine::usage;
use crate::tensor::Tensor;

/// A packed block; see the stub for the documentation.
#[pyclass(module = "moevolve._native", frozen)]
struct MoeLayer {
    inner: Mutex<Layer>,
    team: Team,
    isa: Isa,
    hidden: usize,
    precision: Precision,
}

/// The floats of a contiguous buffer.
fn floats<'a>(
    py: Python<'_>,
    buffer: &'a PyBuffer<f32>,
    name: &str,
    count: usize,
) -> PyResult<&'a [f32]> {
    if buffer.item_count() != count || !buffer.is_c_contiguous() {
        return Err(usage(py, &format!("{name} is {count} contiguous floats")));
    }
    if count == 0 {
        return Ok(&[]);
    }
    // SAFETY: the buffer holds so many floats while it is borrowed; the stub forbids writing to it during the call.
    Ok(unsafe { std::slice::from_raw_parts(buffer.buf_ptr().cast::<f32>(), count) })
}

#[pymethods]
impl MoeLayer {
    #[new]
    #[pyo3(signature = (router, bias, gate_up, down, *, hidden, intermediate, chosen, precision="fastest", threads=0))]
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a keyword on the Python side"
    )]
    fn new(
        py: Python<'_>,
        router: PyBuffer<f32>,
        bias: PyBuffer<f32>,
        gate_up: PyBuffer<f32>,
        down: PyBuffer<f32>,
        hidden: usize,
        intermediate: usize,
        chosen: usize,
        precision: &str,
        threads: usize,
    ) -> PyResult<Self> {
        let isa = Isa::best();
        let wrong = || {
            let known = "precision is f32, bf16 or fastest";
            usage(py, &format!("{known}, not {precision:?}"))
        };
        let precision = Precision::chosen(precision, isa).ok_or_else(wrong)?;
        let experts = bias.item_count();
        let wide = |n: usize| n > 0 && n.is_multiple_of(LANES);
        if !wide(hidden) || !wide(intermediate) || chosen == 0 || chosen > experts {
            let wrong = format!(
                "hidden and intermediate are multiples of {LANES}, chosen lies in [1, {experts}]"
            );
            return Err(usage(py, &wrong));
        }
        let size = experts
            .checked_mul(2 * hidden)
            .and_then(|n| n.checked_mul(intermediate))
            .ok_or_else(|| usage(py, "the sizes overflow"))?;
        let weights = Weights {
            router: floats(py, &router, "router", experts * hidden)?,
            bias: floats(py, &bias, "bias", experts)?,
            gate_up: floats(py, &gate_up, "gate_up", size)?,
            down: floats(py, &down, "down", size / 2)?,
        };
        let cores = || std::thread::available_parallelism().map_or(1, |n| n.get());
        let team = Team::new(if threads == 0 { cores() } else { threads });
        let shape = Shape {
            hidden,
            intermediate,
            experts,
            chosen,
            rule: Rule::Sigmoid,
        };
        let layer = py.detach(|| Layer::new(isa, &team, shape, precision, weights));
        Ok(Self {
            inner: Mutex::new(layer),
            team,
            isa,
            hidden,
            precision,
        })
    }

    fn forward(&self, py: Python<'_>, x: PyBuffer<f32>) -> PyResult<Tensor> {
        let tokens = x.item_count() / self.hidden;
        let x = floats(py, &x, "x", tokens * self.hidden)?;
        let out = py.detach(|| {
            let mut out = vec![0.0; x.len()];
            let mut layer = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            layer.forward(self.isa, &self.team, x, &mut out);
            out
        });
        Ok(Tensor::new(out, [tokens, self.hidden]))
    }

    #[getter]
    fn precision(&self) -> &'static str {
        self.precision.name()
    }

    #[getter]
    fn isa(&self) -> &'static str {
        self.isa.name()
    }
}

/// Adds this room's class to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<MoeLayer>()
}
