//! Tensors as they lie in a file: views of mapped bytes, and specifications of what is to be written.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use moevolve_kernels::Isa;
use moevolve_kernels::stored::{Format, Matrix, encode_into};
use moevolve_kernels::worker_pool::WorkerPool;

use crate::error::{Error, Result};
use crate::files::MappedFile;

/// Numbers that are encoded at a time: a mebibyte of f32.
const CHUNK: usize = 1 << 18;

#[derive(Clone, Debug)]
enum Bytes {
    Mapped(Arc<MappedFile>, Range<usize>),
    Owned(Arc<[u8]>),
}

/// A tensor of a file: rows of the last dimension in a [`Format`], row after row.
#[derive(Clone, Debug)]
pub struct TensorView {
    /// The name of the file it came from.
    pub file: String,
    pub format: Format,
    pub shape: Vec<usize>,
    /// Of an FP8 matrix: (⌈out / 128⌉, ⌈inp / 128⌉), what each block is multiplied by; else empty.
    pub scales: Vec<f32>,
    bytes: Bytes,
}

impl TensorView {
    /// A part of a mapped file, or None if its length is not that of the shape.
    pub fn mapped(
        file: &Arc<MappedFile>,
        range: Range<usize>,
        format: Format,
        shape: Vec<usize>,
    ) -> Option<Self> {
        (range.end <= file.len() && size(format, &shape)? == range.len()).then(|| Self {
            file: file.name.clone(),
            format,
            shape,
            scales: Vec::new(),
            bytes: Bytes::Mapped(Arc::clone(file), range),
        })
    }

    /// A tensor of `file` with bytes of its own, or None if their number is not that of the shape.
    pub fn owned(file: &str, bytes: Vec<u8>, format: Format, shape: Vec<usize>) -> Option<Self> {
        (size(format, &shape)? == bytes.len()).then(|| Self {
            file: file.to_owned(),
            format,
            shape,
            scales: Vec::new(),
            bytes: Bytes::Owned(bytes.into()),
        })
    }

    pub fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped(file, range) => &file[range.clone()],
            Bytes::Owned(bytes) => bytes,
        }
    }

    /// Count of its numbers, as a float because a torn file can promise more than there are integers.
    pub fn numbers(&self) -> f64 {
        self.shape.iter().map(|&n| n as f64).product()
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

    /// Every number as f32, none of which may be infinite or NaN; `name` is the tensor's in errors.
    pub fn finite_values(&self, name: &str) -> Result<Vec<f32>> {
        let values = self.values();
        match values.iter().position(|x| !x.is_finite()) {
            None => Ok(values),
            Some(at) => Err(not_finite(&self.file, name, at, values[at])),
        }
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
            file: self.file.clone(),
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

/// The error for a number of a tensor that is infinite or NaN.
pub fn not_finite(file: &str, name: &str, index: usize, value: f32) -> Error {
    Error::tensor(file, name, format!("holds {value} at flat index {index}"))
}

/// The tensors of a checkpoint by name, to be taken out one by one.
#[derive(Debug)]
pub struct Tensors {
    /// What errors blame for a tensor that nothing places.
    file: String,
    by_name: BTreeMap<String, TensorView>,
    /// Files that tensors are said to lie in, whether they do or not.
    places: BTreeMap<String, String>,
}

impl Tensors {
    /// No tensors yet, of a checkpoint that errors call `file`.
    pub fn new(file: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            by_name: BTreeMap::new(),
            places: BTreeMap::new(),
        }
    }

    /// Says which file is to hold a tensor, so that it is blamed where it does not.
    pub fn place(&mut self, name: String, file: String) {
        self.places.insert(name, file);
    }

    /// The error of a tensor that is not there, with the name that it has instead where one looks like it.
    fn missing(&self, name: &str) -> Error {
        let file = self.places.get(name).unwrap_or(&self.file);
        let tail = name.strip_prefix("model.").unwrap_or(name);
        let alike = |found: &&String| {
            found
                .strip_suffix(tail)
                .is_some_and(|before| before.is_empty() || before.ends_with('.'))
        };
        let reason = match self.by_name.keys().find(alike) {
            None => "is missing".to_owned(),
            Some(found) => format!("is missing: there is {found}, {}", naming(found, tail)),
        };
        Error::tensor(file, name, reason)
    }

    pub fn file(&self) -> &str {
        &self.file
    }

    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    pub fn contains(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// Whether two tensors have the same shape and numbers; None where one is missing.
    pub fn same(&self, one: &str, other: &str) -> Option<bool> {
        let (one, other) = (self.by_name.get(one)?, self.by_name.get(other)?);
        if one.shape != other.shape {
            return Some(false);
        }
        if one.format == other.format && one.scales.is_empty() && other.scales.is_empty() {
            return Some(one.bytes() == other.bytes());
        }
        let (one, other) = (one.matrix(), other.matrix());
        let mut rows = [vec![0.0; one.inp], vec![0.0; one.inp]];
        let same = |row| {
            let [a, b] = &mut rows;
            one.decode_row(row, a);
            other.decode_row(row, b);
            a == b
        };
        Some((0..one.out).all(same))
    }

    pub fn get_mut(&mut self, name: &str) -> Option<&mut TensorView> {
        self.by_name.get_mut(name)
    }

    /// Names and tensors, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &TensorView)> {
        self.by_name.iter()
    }

    /// Adds a tensor, whose name must be new.
    pub fn insert(&mut self, name: String, tensor: TensorView) -> Result<()> {
        match self.by_name.entry(name) {
            Entry::Vacant(entry) => {
                entry.insert(tensor);
                Ok(())
            }
            Entry::Occupied(entry) => Err(Error::tensor(&tensor.file, entry.key(), "comes twice")),
        }
    }

    pub fn remove(&mut self, name: &str) -> Option<TensorView> {
        self.by_name.remove(name)
    }

    /// Takes a tensor of this shape out.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<TensorView> {
        let Some(tensor) = self.by_name.remove(name) else {
            return Err(self.missing(name));
        };
        if tensor.shape != shape {
            let reason = format!("has shape {:?}, expected {shape:?}", tensor.shape);
            return Err(Error::tensor(&tensor.file, name, reason));
        }
        Ok(tensor)
    }

    /// Refuses a tensor that is left, for this `reason`.
    pub fn finish(&self, reason: &str) -> Result<()> {
        match self.by_name.first_key_value() {
            None => Ok(()),
            Some((name, tensor)) => Err(Error::tensor(&tensor.file, name, reason)),
        }
    }
}

/// What a tensor's name says about where it was saved from, and what to do; `tail` is its end in the released layout.
fn naming(found: &str, tail: &str) -> &'static str {
    let before = found.strip_suffix(tail).unwrap_or_default();
    if before.is_empty() {
        "as a base model without its head is saved: save the whole model (AutoModelForCausalLM)"
    } else if before.contains("_orig_mod.") {
        "as a compiled model is saved: save the model that was compiled, or take _orig_mod. out of the names"
    } else if before.contains("language_model.") || before.contains("text_model.") {
        "as a model of texts and images is saved: save its language model alone"
    } else if before.contains("base_model.") {
        "as a model with an adapter is saved: merge the adapter, and save the model"
    } else {
        "whose beginning is another: save the language model alone"
    }
}

/// A tensor that is to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorSpec {
    pub name: String,
    pub shape: Vec<usize>,
    pub format: Format,
}

/// The source of what is written: appends numbers of rows of the last dimension of a tensor, given by its index among
/// the specifications, to a buffer. The rows of a vector are its numbers.
pub type Rows<'a> = dyn FnMut(usize, Range<usize>, &mut Vec<f32>) -> Result<()> + 'a;

impl TensorSpec {
    /// Bytes in the file.
    pub fn size(&self) -> Result<usize> {
        size(self.format, &self.shape).ok_or_else(|| {
            let reason = format!("of shape {:?} cannot be written as", self.shape);
            Error::Request(format!("{} {reason} {}", self.name, self.format.name()))
        })
    }
}

/// (rows, numbers of a row) of a shape, as [`Rows`] has them.
fn grid(shape: &[usize]) -> (usize, usize) {
    match *shape {
        [] => (1, 1),
        [length] => (length, 1),
        [.., width] => (shape.iter().rev().skip(1).product(), width),
    }
}

/// The rows of a tensor of this shape, cut into runs of about a mebibyte of f32.
pub fn chunks(shape: &[usize]) -> impl Iterator<Item = Range<usize>> + use<> {
    let (count, width) = grid(shape);
    let step = (CHUNK / width.max(1)).max(1);
    (0..count)
        .step_by(step)
        .map(move |start| start..count.min(start + step))
}

/// Encodes tensor `index` of `specs` chunk by chunk into `out`, each shared out over the threads of `pool`. `path` names the file in errors: a number that is not
/// finite, or that f16 cannot hold, is refused.
pub(crate) fn encode_tensor(
    path: &Path,
    pool: &WorkerPool,
    specs: &[TensorSpec],
    index: usize,
    rows: &mut Rows<'_>,
    out: &mut impl Write,
) -> Result<()> {
    let spec = &specs[index];
    let file = || path.display().to_string();
    let wrong = |reason: String| Error::tensor(&file(), &spec.name, reason);
    let (_, width) = grid(&spec.shape);
    let (mut values, mut bytes) = (Vec::new(), Vec::new());
    for range in chunks(&spec.shape) {
        let (start, expected) = (range.start, range.len() * width);
        values.clear();
        rows(index, range, &mut values)?;
        if values.len() != expected {
            let reason = format!("gives {} numbers, expected {expected}", values.len());
            return Err(wrong(reason));
        }
        if let Some(at) = values.iter().position(|x| !x.is_finite()) {
            return Err(not_finite(
                &file(),
                &spec.name,
                start * width + at,
                values[at],
            ));
        }
        let largest = 65_504.0; // Of f16.
        if spec.format == Format::F16
            && let Some(x) = values.iter().find(|x| x.abs() > largest)
        {
            let reason = format!("holds {x}, which f16 cannot: save as bf16 or f32");
            return Err(wrong(reason));
        }
        bytes.resize(spec.format.row_bytes(values.len()), 0);
        if !encode_into(Isa::best(), pool, spec.format, &values, &mut bytes) {
            return Err(wrong(format!(
                "cannot be written as {}",
                spec.format.name()
            )));
        }
        out.write_all(&bytes).map_err(|e| Error::file(path, e))?;
    }
    Ok(())
}
