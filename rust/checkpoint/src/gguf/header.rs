//! The header: metadata by key and the directory of tensors, checked against the bytes that are there.

use std::collections::{BTreeMap, HashSet};
use std::ops::{Bound, Range};

use moevolve_kernels::stored::Format;

use super::cursor::{Cursor, Read};
use super::value::{Array, Value};
use crate::error::{Error, Result};

const MAGIC: [u8; 4] = *b"GGUF";
const ALIGNMENT: &str = "general.alignment";
/// Where the tensors begin, if the file does not say otherwise.
pub(super) const DEFAULT_ALIGNMENT: usize = 32;
const LARGEST_ALIGNMENT: i128 = 1 << 20;
/// Dimensions that a tensor may have.
const MOST_DIMENSIONS: u32 = 4;
/// Fewest bytes of a metadata entry: length of the key, type, value; and of a tensor's: length of the name, number of
/// dimensions, one dimension, type, offset.
const LEAST_ENTRY: usize = 8 + 4 + 1;
const LEAST_TENSOR: usize = 8 + 4 + 8 + 4 + 8;

/// A file's header over the file's bytes. Strings and arrays stay where they are.
#[derive(Debug)]
pub struct Gguf<'a> {
    /// The name of the file in errors; of several the first.
    pub file: String,
    /// Names and bytes of the file, or of all that were joined.
    pub parts: Vec<(String, &'a [u8])>,
    pub version: u32,
    pub metadata: BTreeMap<&'a str, Value<'a>>,
    /// In the file's order.
    pub tensors: Vec<TensorInfo<'a>>,
    /// Offset of the first tensor's bytes.
    pub data_start: usize,
}

/// A tensor and where it lies.
#[derive(Clone, Debug)]
pub struct TensorInfo<'a> {
    pub name: &'a str,
    /// Fastest first, as ggml counts: a matrix (out, inp) is `[inp, out]`.
    pub dims: Vec<usize>,
    pub format: Format,
    /// Which of the files has it.
    pub part: usize,
    /// Bytes of that file.
    pub range: Range<usize>,
}

impl TensorInfo<'_> {
    /// Slowest first, as everybody else counts.
    pub fn shape(&self) -> Vec<usize> {
        self.dims.iter().rev().copied().collect()
    }
}

/// A key or name as it may be shown: short, and on one line.
fn shown(name: &str) -> String {
    let mut text: String = name.chars().take(80).collect::<String>();
    if text.len() < name.len() {
        text.push('…');
    }
    text.escape_debug().to_string()
}

/// A value as it may be shown.
fn told(value: &Value<'_>) -> String {
    let whole = match value {
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => format!("{number:?}"),
        Value::Bool(flag) => flag.to_string(),
        Value::String(text) => format!("{text:?}"),
        Value::Array(array) => format!("{array:?}"),
    };
    whole.chars().take(80).collect()
}

impl<'a> Gguf<'a> {
    /// Reads the header of version 2 or 3; `file` names it in errors. Memory stays within a few times the header's size.
    pub fn parse(bytes: &'a [u8], file: &str) -> Result<Self> {
        let torn = |reason: String| Error::File {
            file: file.to_owned(),
            reason,
        };
        let mut cursor = Cursor::new(bytes, 0);
        if cursor.array().map_err(torn)? != MAGIC {
            return Err(torn("is not a GGUF file".to_owned()));
        }
        let version = cursor.u32().map_err(torn)?;
        if !matches!(version, 2 | 3) {
            let reason = if matches!(version.swap_bytes(), 2 | 3) {
                "is big-endian; only little-endian is supported".to_owned()
            } else {
                format!("has version {version}; 2 and 3 are supported")
            };
            return Err(torn(reason));
        }
        let tensor_count = cursor.count(LEAST_TENSOR, "tensors").map_err(torn)?;
        let entries = cursor
            .count(LEAST_ENTRY, "metadata entries")
            .map_err(torn)?;
        let mut metadata = BTreeMap::new();
        for index in 0..entries {
            let key = cursor
                .string()
                .map_err(|reason| torn(format!("metadata entry {index}: {reason}")))?;
            let wrong = |reason: String| Error::Config {
                file: file.to_owned(),
                key: shown(key),
                reason,
            };
            let value = Value::read(&mut cursor).map_err(wrong)?;
            if metadata.insert(key, value).is_some() {
                return Err(wrong("comes twice".to_owned()));
            }
        }
        let mut gguf = Self {
            file: file.to_owned(),
            parts: vec![(file.to_owned(), bytes)],
            version,
            metadata,
            tensors: Vec::new(),
            data_start: 0,
        };
        gguf.read_directory(bytes, cursor, tensor_count)?;
        Ok(gguf)
    }

    fn read_directory(
        &mut self,
        bytes: &'a [u8],
        mut cursor: Cursor<'a>,
        count: usize,
    ) -> Result<()> {
        let alignment = self.alignment()?;
        let mut names = HashSet::with_capacity(count);
        let mut tensors = Vec::with_capacity(count);
        for index in 0..count {
            let name = cursor.string().map_err(|reason| Error::File {
                file: self.file.clone(),
                reason: format!("tensor {index}: {reason}"),
            })?;
            let tensor = tensor(bytes, name, &mut cursor, alignment);
            tensors.push(tensor.map_err(|reason| self.torn(name, reason))?);
            if !names.insert(name) {
                return Err(self.torn(name, "comes twice".to_owned()));
            }
        }
        self.data_start = cursor.at().next_multiple_of(alignment);
        for tensor in &mut tensors {
            let (start, end) = (tensor.range.start, tensor.range.end);
            let end = end.checked_add(self.data_start);
            let Some(end) = end.filter(|&end| end <= bytes.len()) else {
                let there = bytes.len().saturating_sub(self.data_start);
                let reason = format!(
                    "lies at bytes {start} to {} of the data, of which {there} are there",
                    tensor.range.end
                );
                return Err(self.torn(tensor.name, reason));
            };
            tensor.range = start + self.data_start..end;
        }
        let mut order: Vec<&TensorInfo<'_>> = tensors.iter().collect();
        order.sort_by_key(|tensor| tensor.range.start);
        for pair in order.windows(2) {
            if pair[1].range.start < pair[0].range.end {
                let reason = format!("lies over the bytes of {}", shown(pair[0].name));
                return Err(self.torn(pair[1].name, reason));
            }
        }
        self.tensors = tensors;
        Ok(())
    }

    fn alignment(&self) -> Result<usize> {
        match self.metadata.get(ALIGNMENT) {
            None => Ok(DEFAULT_ALIGNMENT),
            Some(&Value::Integer(n @ 1..=LARGEST_ALIGNMENT)) if n & (n - 1) == 0 => Ok(n as usize),
            Some(other) => self.wrong(
                ALIGNMENT,
                format!(
                    "{} is not a power of two up to {LARGEST_ALIGNMENT}",
                    told(other)
                ),
            ),
        }
    }

    /// An error that names a metadata key.
    pub fn wrong<T>(&self, key: &str, reason: impl Into<String>) -> Result<T> {
        Err(Error::Config {
            file: self.file.clone(),
            key: shown(key),
            reason: reason.into(),
        })
    }

    /// The name of the file that has a tensor, or of the first.
    pub fn file_of(&self, name: &str) -> &str {
        let part = self.tensor_named(name).map_or(0, |tensor| tensor.part);
        self.parts.get(part).map_or(&self.file, |(file, _)| file)
    }

    /// The bytes of a tensor.
    pub fn bytes_of(&self, tensor: &TensorInfo<'_>) -> &'a [u8] {
        &self.parts[tensor.part].1[tensor.range.clone()]
    }

    /// An error that names a tensor.
    pub fn torn(&self, name: &str, reason: String) -> Error {
        Error::Tensor {
            file: self.file_of(name).to_owned(),
            name: shown(name),
            reason,
        }
    }

    pub fn tensor_named(&self, name: &str) -> Option<&TensorInfo<'a>> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// A whole number that fits 31 bits, if the key is there.
    pub fn size(&self, key: &str) -> Result<Option<usize>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(&Value::Integer(n @ 0..=0x7fff_ffff)) => Ok(Some(n as usize)),
            Some(other) => {
                let reason = format!("{} is not a whole number from 0 to 2147483647", told(other));
                self.wrong(key, reason)
            }
        }
    }

    /// A finite number, if the key is there.
    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(&Value::Float(x)) if x.is_finite() => Ok(Some(x)),
            Some(&Value::Integer(n)) => Ok(Some(n as f64)),
            Some(other) => self.wrong(key, format!("{} is not a number", told(other))),
        }
    }

    /// A string, if the key is there.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(&Value::String(text)) => Ok(Some(text)),
            Some(other) => self.wrong(key, format!("{} is not a string", told(other))),
        }
    }

    /// The strings of all keys that begin with `prefix`, by what follows it.
    pub fn texts_under(&self, prefix: &str) -> Result<BTreeMap<&'a str, &'a str>> {
        let mut found = BTreeMap::new();
        let from = (Bound::Included(prefix), Bound::Unbounded);
        for (&key, _) in self.metadata.range::<str, _>(from) {
            let Some(name) = key.strip_prefix(prefix) else {
                break;
            };
            found.extend(self.text(key)?.map(|text| (name, text)));
        }
        Ok(found)
    }

    /// False or true, if the key is there.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(&Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => self.wrong(key, format!("{} is neither true nor false", told(other))),
        }
    }

    /// An array, if the key is there.
    pub fn array(&self, key: &str) -> Result<Option<Array<'a>>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(&Value::Array(array)) => Ok(Some(array)),
            Some(other) => self.wrong(key, format!("{} is not an array", told(other))),
        }
    }
}

/// What follows a tensor's name; its range counts from the beginning of the data.
fn tensor<'a>(
    bytes: &[u8],
    name: &'a str,
    cursor: &mut Cursor<'a>,
    alignment: usize,
) -> Read<TensorInfo<'a>> {
    let rank = cursor.u32()?;
    if !(1..=MOST_DIMENSIONS).contains(&rank) {
        return Err(format!("has {rank} dimensions, not 1 to {MOST_DIMENSIONS}"));
    }
    let mut dims = Vec::with_capacity(rank as usize);
    let mut numbers = 1usize;
    for _ in 0..rank {
        let dim = cursor.u64()?;
        let product = usize::try_from(dim)
            .ok()
            .filter(|&dim| dim > 0)
            .and_then(|dim| numbers.checked_mul(dim));
        // At least two bits a number: more cannot lie in this file.
        let Some(product) = product.filter(|n| n / 4 <= bytes.len()) else {
            return Err(format!(
                "its dimension {dim} is more than the file holds, or 0"
            ));
        };
        numbers = product;
        dims.push(dim as usize);
    }
    let kind = cursor.u32()?;
    let Some(format) = Format::from_ggml(kind) else {
        return Err(format!(
            "has ggml type {}, which is not among {}",
            type_name(kind),
            known()
        ));
    };
    if !dims[0].is_multiple_of(format.block_len()) {
        return Err(format!(
            "its rows of {} are not whole blocks of {} ({})",
            dims[0],
            format.block_len(),
            format.name()
        ));
    }
    let offset = cursor.u64()?;
    let length = numbers / format.block_len() * format.block_bytes();
    let range = usize::try_from(offset)
        .ok()
        .and_then(|start| Some(start..start.checked_add(length)?));
    match range {
        Some(range) if range.start.is_multiple_of(alignment) => Ok(TensorInfo {
            name,
            dims,
            format,
            part: 0,
            range,
        }),
        Some(_) => Err(format!(
            "its offset {offset} is not a multiple of {alignment}"
        )),
        None => Err(format!("its offset {offset} is beyond the file")),
    }
}

/// The types that can be read, by name.
fn known() -> String {
    let names = Format::ALL
        .iter()
        .filter(|format| format.to_ggml().is_some());
    names
        .map(|format| format.name())
        .collect::<Vec<_>>()
        .join(", ")
}

/// ggml's name of a type that cannot be read, or its number where none is known.
fn type_name(kind: u32) -> String {
    let name = match kind {
        9 => "Q8_1",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        19 => "IQ1_S",
        22 => "IQ2_S",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        40 => "NVFP4",
        41 => "Q1_0",
        42 => "Q2_0",
        _ => return format!("{kind}"),
    };
    name.to_owned()
}
