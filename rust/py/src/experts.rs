//! One Mixture-of-Experts block for Python: `MoeLayer`, whose forward pass is the decoder's.

use std::sync::{Mutex, PoisonError};

use moevolve_kernels::activation::Activation;
use moevolve_kernels::arithmetic::OWN;
use moevolve_kernels::experts::{Block, ExpertRanges, PackedBlock, Saved, Scratch, Shape, forward};
use moevolve_kernels::panels::{Panels, PanelsMut, Side};
use moevolve_kernels::route::Rule;
use moevolve_kernels::worker_pool::WorkerPool;
use moevolve_kernels::{Isa, LANES, Precision, padded};
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;

use crate::engine::usage;
use crate::tensor::Tensor;

/// A packed block; see the stub for the documentation.
#[pyclass(module = "moevolve._native", frozen)]
struct MoeLayer {
    shape: Shape,
    ranges: ExpertRanges,
    panels: Panels,
    bias: Vec<f32>,
    buffers: Mutex<(Saved, Scratch)>,
    pool: WorkerPool,
    isa: Isa,
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
        let router = floats(py, &router, "router", experts * hidden)?;
        let bias = floats(py, &bias, "bias", experts)?;
        let gate_up = floats(py, &gate_up, "gate_up", size)?;
        let down = floats(py, &down, "down", size / 2)?;
        let cores = || std::thread::available_parallelism().map_or(1, |n| n.get());
        let pool = WorkerPool::new(if threads == 0 { cores() } else { threads });
        let shape = Shape {
            hidden,
            intermediate,
            experts,
            chosen,
            rule: Rule::Sigmoid,
            activation: Activation::Silu,
        };
        let ranges = ExpertRanges::packed(shape);
        let panels = py.detach(|| pack(isa, &pool, shape, precision, [router, gate_up, down]));
        Ok(Self {
            shape,
            ranges,
            panels,
            bias: bias.to_vec(),
            buffers: Mutex::default(),
            pool,
            isa,
        })
    }

    fn forward(&self, py: Python<'_>, x: PyBuffer<f32>) -> PyResult<Tensor> {
        let hidden = self.shape.hidden;
        let tokens = x.item_count() / hidden;
        let x = floats(py, &x, "x", tokens * hidden)?;
        let products = PackedBlock {
            isa: self.isa,
            pool: &self.pool,
            shape: self.shape,
            ranges: &self.ranges,
            panels: &self.panels,
            values: &[],
        };
        let block = Block {
            isa: self.isa,
            pool: &self.pool,
            arithmetic: &OWN,
            shape: self.shape,
            bias: &self.bias,
        };
        let out = py.detach(|| {
            let (mut out, residual) = (vec![0.0; x.len()], vec![0.0; x.len()]);
            let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
            let (saved, scratch) = &mut *buffers;
            let keep = false;
            forward(
                block, &products, tokens, x, &residual, &mut out, keep, saved, scratch,
            );
            out
        });
        Ok(Tensor::new(out, [tokens, hidden]))
    }

    #[getter]
    fn precision(&self) -> &'static str {
        self.panels.precision().name()
    }

    #[getter]
    fn isa(&self) -> &'static str {
        self.isa.name()
    }
}

/// Packs the router, and each expert's matrices by one thread of the pool.
fn pack(
    isa: Isa,
    pool: &WorkerPool,
    shape: Shape,
    precision: Precision,
    [router, gate_up, down]: [&[f32]; 3],
) -> Panels {
    let ExpertRanges {
        router: gates,
        gate_up: ups,
        ..
    } = ExpertRanges::packed(shape);
    let (hidden, inner) = (shape.hidden, shape.intermediate);
    let size = hidden * inner;
    let total = gates.len() + 3 * shape.experts * size;
    let mut panels = Panels::new(Side::Forward, precision, total, [gates.clone()]);
    let mut padded_router = router.to_vec();
    padded_router.resize(gates.len(), 0.0);
    let (mut first, mut rest) = panels.whole().split(gates.len());
    first.pack(isa, 0, padded(shape.experts), hidden, &padded_router);
    let mut parts: Vec<(usize, PanelsMut<'_>, &[f32], &[f32])> = Vec::new();
    let matrices = gate_up.chunks_exact(2 * size).zip(down.chunks_exact(size));
    for (range, (gate_up, down)) in ups.iter().zip(matrices) {
        let (part, after) = rest.split(3 * size);
        parts.push((range.start, part, gate_up, down));
        rest = after;
    }
    pool.each(&mut parts, &|(start, part, gate_up, down), _| {
        part.pack(isa, *start, 2 * inner, hidden, gate_up);
        part.pack(isa, *start + 2 * size, hidden, inner, down);
    });
    panels
}

/// Adds this room's class to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<MoeLayer>()
}
