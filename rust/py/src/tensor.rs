//! `Tensor`, a float buffer that Python reads without a copy.

use std::ffi::{CStr, c_int, c_void};

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

const FLOAT: &CStr = c"f";

/// Float32 values in C order; see the stub for the documentation.
#[pyclass(module = "moevolve._native", frozen)]
pub struct Tensor {
    values: Vec<f32>,
    shape: Vec<isize>,
    /// Bytes from one element of each dimension to the next.
    strides: Vec<isize>,
}

impl Tensor {
    pub fn new(values: Vec<f32>, shape: impl IntoIterator<Item = usize>) -> Self {
        let shape: Vec<isize> = shape.into_iter().map(|n| n as isize).collect();
        let mut strides = vec![size_of::<f32>() as isize; shape.len()];
        for i in (1..shape.len()).rev() {
            strides[i - 1] = strides[i] * shape[i];
        }
        Self {
            values,
            shape,
            strides,
        }
    }

    fn nested<'py>(
        &self,
        py: Python<'py>,
        values: &[f32],
        shape: &[isize],
    ) -> PyResult<Bound<'py, PyList>> {
        match shape {
            [] | [_] => PyList::new(py, values),
            [rows, inner @ ..] => {
                let size = inner.iter().product::<isize>() as usize;
                let list = PyList::empty(py);
                for row in 0..*rows as usize {
                    list.append(self.nested(py, &values[row * size..][..size], inner)?)?;
                }
                Ok(list)
            }
        }
    }
}

#[pymethods]
impl Tensor {
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.shape)
    }

    fn tolist<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        self.nested(py, &self.values, &self.shape)
    }

    fn __len__(&self) -> usize {
        self.shape.first().map_or(0, |&n| n as usize)
    }

    fn __repr__(&self) -> String {
        format!("Tensor(shape={:?}, dtype=float32)", self.shape)
    }

    /// # Safety
    /// Called by the interpreter with a view to fill; the view keeps this frozen object alive.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("no view to fill"));
        }
        if flags & ffi::PyBUF_WRITABLE == ffi::PyBUF_WRITABLE {
            return Err(PyBufferError::new_err("a Tensor is read-only"));
        }
        let asks = |flag: c_int| flags & flag == flag;
        let this = slf.get();
        // SAFETY: the interpreter's view is not null, so it is a whole `Py_buffer` that is ours to fill.
        let view = unsafe { &mut *view };
        view.buf = this.values.as_ptr().cast_mut().cast::<c_void>();
        view.len = size_of_val(&this.values[..]) as isize;
        view.itemsize = size_of::<f32>() as isize;
        view.readonly = 1;
        view.format = if asks(ffi::PyBUF_FORMAT) {
            FLOAT.as_ptr().cast_mut()
        } else {
            std::ptr::null_mut()
        };
        view.ndim = this.shape.len() as c_int;
        let dimensions = |values: &[isize], wanted| {
            if wanted {
                values.as_ptr().cast_mut()
            } else {
                std::ptr::null_mut()
            }
        };
        view.shape = dimensions(&this.shape, asks(ffi::PyBUF_ND));
        view.strides = dimensions(&this.strides, asks(ffi::PyBUF_STRIDES));
        view.suboffsets = std::ptr::null_mut();
        view.internal = std::ptr::null_mut();
        view.obj = slf.into_any().into_ptr();
        Ok(())
    }
}
