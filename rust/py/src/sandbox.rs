//! The sandbox for Python: `spawn` gives a `SandboxedProcess`, `probe` tells which layers are in force.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use moevolve_sandbox::{Bounds, Child, Error, Forks, Limits, Policy, probe, spawn};
use pyo3::exceptions::{PyTimeoutError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

/// How long a wait keeps Python from seeing a signal such as Ctrl-C.
const SLICE: Duration = Duration::from_millis(200);

/// A running child; see the stub for the documentation of its methods.
#[pyclass(module = "moevolve._native")]
struct SandboxedProcess {
    child: Child,
}

#[pymethods]
impl SandboxedProcess {
    fn send(&mut self, py: Python<'_>, body: &[u8], seconds: f64) -> PyResult<()> {
        let deadline = deadline(seconds);
        let mut done = 0;
        loop {
            let until = deadline.min(Instant::now() + SLICE);
            done = py
                .detach(|| self.child.send(body, done, until))
                .map_err(|error| raise(py, &error))?;
            if done == body.len() + 4 {
                return Ok(());
            }
            pause(py, deadline)?;
        }
    }

    #[pyo3(signature = (most, seconds, *, values=1 << 19, depth=32))]
    fn receive<'py>(
        &mut self,
        py: Python<'py>,
        most: usize,
        seconds: f64,
        values: usize,
        depth: usize,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let deadline = deadline(seconds);
        let bounds = Bounds {
            bytes: most,
            values,
            depth,
        };
        loop {
            let until = deadline.min(Instant::now() + SLICE);
            let frame = py
                .detach(|| self.child.receive(&bounds, until))
                .map_err(|error| raise(py, &error))?;
            match frame {
                Some(body) => return Ok(PyBytes::new(py, &body)),
                None => pause(py, deadline)?,
            }
        }
    }

    fn stderr(&mut self) -> String {
        self.child.stderr()
    }

    fn close(&mut self, py: Python<'_>) -> String {
        py.detach(|| self.child.end())
    }

    #[getter]
    fn layers(&self) -> Vec<String> {
        self.child.layers().in_force()
    }

    #[getter]
    fn missing(&self) -> Vec<String> {
        self.child.layers().missing()
    }

    #[getter]
    fn pid(&self) -> u32 {
        self.child.id()
    }
}

fn deadline(seconds: f64) -> Instant {
    Instant::now() + Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_secs(86_400))
}

fn pause(py: Python<'_>, deadline: Instant) -> PyResult<()> {
    py.check_signals()?;
    if Instant::now() >= deadline {
        return Err(PyTimeoutError::new_err(
            "the sandboxed process did not answer in time",
        ));
    }
    Ok(())
}

/// A missing layer under `strict` is a refusal for safety, an oversized frame a bad value, processor time that is used up a time-out, all else a `SandboxError`.
fn raise(py: Python<'_>, error: &Error) -> PyErr {
    let name = match error {
        Error::FrameTooLarge { .. } | Error::FrameTooRich { .. } => {
            return PyValueError::new_err(error.to_string());
        }
        Error::Spent { .. } => return PyTimeoutError::new_err(error.to_string()),
        Error::Incomplete { .. } | Error::Needs { .. } => "SafetyError",
        _ => "SandboxError",
    };
    match py
        .import("moevolve.errors")
        .and_then(|errors| errors.getattr(name))
    {
        Ok(class) => match class.call1((error.to_string(),)) {
            Ok(instance) => PyErr::from_value(instance),
            Err(failed) => failed,
        },
        Err(failed) => failed,
    }
}

#[pyfunction]
#[pyo3(name = "spawn", signature = (program, arguments, environment, readable, executable, *, memory, cpu_seconds, hidden=Vec::new(), open_files=32, processes=1, warm=false, trusted_start=false, input=Vec::new(), strict=false))]
#[expect(
    clippy::too_many_arguments,
    reason = "each is a keyword on the Python side"
)]
fn spawn_process(
    py: Python<'_>,
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    readable: Vec<PathBuf>,
    executable: Vec<PathBuf>,
    memory: u64,
    cpu_seconds: u64,
    hidden: Vec<PathBuf>,
    open_files: u64,
    processes: u64,
    warm: bool,
    trusted_start: bool,
    input: Vec<u8>,
    strict: bool,
) -> PyResult<SandboxedProcess> {
    let limits = Limits {
        memory,
        cpu_seconds,
        open_files,
        file_size: 0,
    };
    let policy = Policy {
        program,
        arguments,
        environment,
        readable,
        executable,
        hidden,
        forks: match (warm, processes) {
            (true, _) => Forks::First,
            (false, 0 | 1) => Forks::Nobody,
            (false, processes) => Forks::Everybody { processes },
        },
        limits,
        trusted_start,
        input,
        strict,
    };
    // Without the GIL: the clone waits for the child's execution.
    let child = py
        .detach(|| spawn(&policy))
        .map_err(|error| raise(py, &error))?;
    Ok(SandboxedProcess { child })
}

#[pyfunction]
#[pyo3(name = "probe")]
fn probe_layers(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let layers = py.detach(probe);
    let told = PyDict::new(py);
    told.set_item("layers", layers.in_force())?;
    told.set_item("missing", layers.missing())?;
    Ok(told)
}

/// Adds this room's classes and functions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<SandboxedProcess>()?;
    module.add_function(wrap_pyfunction!(spawn_process, module)?)?;
    module.add_function(wrap_pyfunction!(probe_layers, module)?)
}
