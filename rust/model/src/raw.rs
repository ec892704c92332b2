//! Tensors as they lie in a file: mapped, not copied, in the format that the file has.

use std::fs;
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;
use moevolve_kernels::stored::{Format, Matrix};
use safetensors::Dtype;

use crate::error::{Error, Result};

/// A mapped file, and its name in errors.
#[derive(Debug)]
pub struct File {
    pub place: String,
    bytes: Mmap,
}

impl File {
    /// Maps a file. It must not change while it is mapped: replace a checkpoint's file, never write into it.
    pub fn map(path: &Path) -> Result<Arc<Self>> {
        let file = fs::File::open(path).map_err(|e| Error::file(path, e))?;
        // SAFETY: the bytes are read only, as numbers; a file that shrinks under the map ends the process, as
        // with any reader of mapped weights, which is why checkpoints are replaced whole (`write_atomically`).
        let bytes = unsafe { Mmap::map(&file) }.map_err(|e| Error::file(path, e))?;
        Ok(Arc::new(Self {
            place: path.display().to_string(),
            bytes,
        }))
    }
}

impl Deref for File {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

#[derive(Clone, Debug)]
enum Bytes {
    Mapped(Arc<File>, Range<usize>),
    Owned(Arc<[u8]>),
}

/// One tensor: rows of the last dimension in a [`Format`], row after row.
#[derive(Clone, Debug)]
pub struct Raw {
    /// The file it came from.
    pub place: String,
    pub format: Format,
    pub shape: Vec<usize>,
    /// Of an FP8 matrix: (⌈out / 128⌉, ⌈inp / 128⌉), what each block is multiplied by; else empty.
    pub scales: Vec<f32>,
    bytes: Bytes,
}

impl Raw {
    /// A part of a mapped file, or None if its length is not that of the shape.
    pub fn mapped(
        file: &Arc<File>,
        range: Range<usize>,
        format: Format,
        shape: Vec<usize>,
    ) -> Option<Self> {
        (range.end <= file.len() && size(format, &shape)? == range.len()).then(|| Self {
            place: file.place.clone(),
            format,
            shape,
            scales: Vec::new(),
            bytes: Bytes::Mapped(Arc::clone(file), range),
        })
    }

    /// The same tensor with other bytes of the same length, such as permuted rows.
    pub fn with_bytes(&self, bytes: Vec<u8>) -> Self {
        debug_assert_eq!(bytes.len(), self.bytes().len());
        Self {
            bytes: Bytes::Owned(bytes.into()),
            ..self.clone()
        }
    }

    pub fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped(file, range) => &file[range.clone()],
            Bytes::Owned(bytes) => bytes,
        }
    }

    /// One row of the last dimension as f32.
    pub fn decode(&self, row: usize, out: &mut [f32]) {
        self.matrix().decode_row(row, out);
    }

    /// Every number as f32.
    pub fn values(&self) -> Vec<f32> {
        let matrix = self.matrix();
        let mut values = vec![0.0; matrix.out * matrix.inp];
        for (row, to) in values.chunks_exact_mut(matrix.inp.max(1)).enumerate() {
            matrix.decode_row(row, to);
        }
        values
    }

    /// The tensor as a matrix, its last dimension the columns.
    pub fn matrix(&self) -> Matrix<'_> {
        let inp = self.shape.last().copied().unwrap_or(1);
        let out = self.shape.iter().rev().skip(1).product();
        Matrix {
            format: self.format,
            bytes: self.bytes(),
            out,
            inp,
            scales: &self.scales,
        }
    }

    /// Rows from `range` of the first dimension, which the result loses if it had three.
    pub fn rows(&self, range: Range<usize>) -> Self {
        let row = self.bytes().len() / self.shape[0].max(1);
        let part = range.start * row..range.end * row;
        let bytes = match &self.bytes {
            Bytes::Mapped(file, whole) => Bytes::Mapped(
                Arc::clone(file),
                whole.start + part.start..whole.start + part.end,
            ),
            Bytes::Owned(bytes) => Bytes::Owned(bytes[part].into()),
        };
        let mut shape = self.shape.clone();
        if shape.len() == 3 && range.len() == 1 {
            shape.remove(0);
        } else {
            shape[0] = range.len();
        }
        Self {
            place: self.place.clone(),
            format: self.format,
            shape,
            scales: Vec::new(),
            bytes,
        }
    }
}

/// Bytes of a tensor, or None if its rows are no whole blocks or it is too large for any memory.
pub fn size(format: Format, shape: &[usize]) -> Option<usize> {
    let width = shape.last().copied().unwrap_or(1);
    if !width.is_multiple_of(format.block_len()) {
        return None;
    }
    let rows = shape[..shape.len().saturating_sub(1)]
        .iter()
        .try_fold(1_usize, |rows, &n| rows.checked_mul(n))?;
    rows.checked_mul(width / format.block_len())?
        .checked_mul(format.block_bytes())
}

/// Every tensor of a safetensors file under the file's names.
pub fn safetensors(path: &Path) -> Result<Vec<(String, Raw)>> {
    let file = File::map(path)?;
    let torn = |e: safetensors::SafeTensorError| {
        Error::file(path, format!("is not a whole safetensors file: {e}"))
    };
    let views = safetensors::SafeTensors::deserialize(&file).map_err(torn)?;
    let start = file.as_ptr() as usize;
    let mut raws = Vec::new();
    for (name, view) in views.iter() {
        let wrong = |reason: String| Error::Tensor {
            file: file.place.clone(),
            name: name.to_owned(),
            reason,
        };
        let format = match view.dtype() {
            Dtype::F32 => Format::F32,
            Dtype::F16 => Format::F16,
            Dtype::BF16 => Format::Bf16,
            Dtype::F8_E4M3 => Format::Fp8,
            Dtype::F64 => {
                raws.push((name.to_owned(), narrowed(&file, &view)));
                continue;
            }
            other => {
                let reason = format!(
                    "dtype {other:?} is not supported, only F32, BF16, F16, F64 and F8_E4M3"
                );
                return Err(wrong(reason));
            }
        };
        let at = view.data().as_ptr() as usize - start;
        let range = at..at + view.data().len();
        let raw = Raw::mapped(&file, range, format, view.shape().to_vec())
            .ok_or_else(|| wrong("has a length that is not its shape's".to_owned()))?;
        raws.push((name.to_owned(), raw));
    }
    Ok(raws)
}

/// A tensor of f64 as f32, which is a copy.
fn narrowed(file: &File, view: &safetensors::tensor::TensorView<'_>) -> Raw {
    let narrow = |bytes: &[u8]| {
        (f64::from_le_bytes(bytes.try_into().unwrap_or_default()) as f32).to_le_bytes()
    };
    let bytes: Vec<u8> = view.data().chunks_exact(8).flat_map(narrow).collect();
    Raw {
        place: file.place.clone(),
        format: Format::F32,
        shape: view.shape().to_vec(),
        scales: Vec::new(),
        bytes: Bytes::Owned(bytes.into()),
    }
}
