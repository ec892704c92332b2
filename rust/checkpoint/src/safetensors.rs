//! One safetensors file: mapped, or written row by row.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use moevolve_kernels::stored::Format;
use moevolve_kernels::worker_pool::WorkerPool;
use safetensors::tensor::{Metadata, SafeTensors, TensorInfo};
use safetensors::{Dtype, SafeTensorError};

use crate::error::{Error, Result};
use crate::files::{MappedFile, stream_atomically};
use crate::tensors::{Rows, TensorSpec, TensorView, encode_tensor};

/// Bytes that a header may have for any reader to take it.
const LARGEST_HEADER: usize = 100_000_000;

/// A tensor of bytes that are no numbers by themselves: parts of a block format.
#[derive(Clone, Debug)]
pub struct ByteTensor {
    file: Arc<MappedFile>,
    range: Range<usize>,
    pub shape: Vec<usize>,
}

impl ByteTensor {
    /// The name of the file it came from.
    pub fn file(&self) -> &str {
        &self.file.name
    }

    pub fn bytes(&self) -> &[u8] {
        &self.file[self.range.clone()]
    }
}

/// What a file holds, under its own names.
#[derive(Debug, Default)]
pub struct Contents {
    pub tensors: Vec<(String, TensorView)>,
    /// U8 tensors, those that the reader wants.
    pub bytes: Vec<(String, ByteTensor)>,
}

/// Every tensor of a file under the file's names, mapped; f64 becomes f32, which is a copy.
pub fn read(path: &Path) -> Result<Vec<(String, TensorView)>> {
    Ok(read_with_bytes(path, &|_| false)?.tensors)
}

/// As [`read`], with those tensors of bytes that are `wanted`; others are refused.
pub fn read_with_bytes(path: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<Contents> {
    let file = MappedFile::open(path)?;
    let torn =
        |e: SafeTensorError| Error::file(path, format!("is not a whole safetensors file: {e}"));
    let views = SafeTensors::deserialize(&file).map_err(torn)?;
    let start = file.as_ptr() as usize;
    let mut contents = Contents::default();
    for (name, view) in views.iter() {
        let wrong = |reason: String| Error::tensor(&file.name, name, reason);
        let shape = view.shape().to_vec();
        let at = view.data().as_ptr() as usize - start;
        let range = at..at + view.data().len();
        let format = match view.dtype() {
            Dtype::F32 => Some(Format::F32),
            Dtype::F16 => Some(Format::F16),
            Dtype::BF16 => Some(Format::Bf16),
            Dtype::F8_E4M3 => Some(Format::Fp8),
            Dtype::F64 => None,
            Dtype::U8 if wanted(name) => {
                let file = Arc::clone(&file);
                let bytes = ByteTensor { file, range, shape };
                contents.bytes.push((name.to_owned(), bytes));
                continue;
            }
            other => {
                let reason = format!(
                    "dtype {other:?} is not supported, only F32, BF16, F16, F64 and F8_E4M3"
                );
                return Err(wrong(reason));
            }
        };
        let tensor = match format {
            Some(format) => TensorView::mapped(&file, range, format, shape),
            None => TensorView::owned(&file.name, narrowed(view.data()), Format::F32, shape),
        };
        let tensor =
            tensor.ok_or_else(|| wrong("has a length that is not its shape's".to_owned()))?;
        contents.tensors.push((name.to_owned(), tensor));
    }
    Ok(contents)
}

/// Bytes of f64 as bytes of f32.
fn narrowed(bytes: &[u8]) -> Vec<u8> {
    let narrow = |bytes: &[u8]| {
        (f64::from_le_bytes(bytes.try_into().unwrap_or_default()) as f32).to_le_bytes()
    };
    bytes.chunks_exact(8).flat_map(narrow).collect()
}

/// Writes a file atomically, tensors by descending alignment and then by name as the format's own writer orders them;
/// returns the BLAKE3 hash of its bytes in hex. `metadata` is one entry of the header.
pub fn write(
    path: &Path,
    metadata: (&str, &str),
    specs: &[TensorSpec],
    rows: &mut Rows<'_>,
) -> Result<String> {
    let mut infos = Vec::with_capacity(specs.len());
    for (index, spec) in specs.iter().enumerate() {
        infos.push((dtype(spec)?, spec, index));
    }
    infos.sort_by(|(left, a, _), (right, b, _)| right.cmp(left).then(a.name.cmp(&b.name)));
    let (mut offset, mut entries) = (0, Vec::with_capacity(specs.len()));
    for &(dtype, spec, _) in &infos {
        let end = offset + spec.size()?;
        let info = TensorInfo {
            dtype,
            shape: spec.shape.clone(),
            data_offsets: (offset, end),
        };
        entries.push((spec.name.clone(), info));
        offset = end;
    }
    let (key, value) = metadata;
    let metadata = HashMap::from([(key.to_owned(), value.to_owned())]);
    let metadata = Metadata::new(Some(metadata), entries).map_err(|e| Error::file(path, e))?;
    let mut header = serde_json::to_vec(&metadata).map_err(|e| Error::file(path, e))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    if header.len() > LARGEST_HEADER {
        let reason = format!("would have a header of {} bytes", header.len());
        return Err(Error::file(path, reason));
    }
    let pool = WorkerPool::new(1);
    stream_atomically(path, |file| {
        let hasher = blake3::Hasher::new();
        let mut out = HashingWriter { file, hasher };
        let failed = |e: io::Error| Error::file(path, e);
        out.write_all(&(header.len() as u64).to_le_bytes())
            .map_err(failed)?;
        out.write_all(&header).map_err(failed)?;
        for &(_, _, index) in &infos {
            encode_tensor(path, &pool, specs, index, rows, &mut out)?;
        }
        Ok(out.hasher.finalize().to_hex().to_string())
    })
}

fn dtype(spec: &TensorSpec) -> Result<Dtype> {
    match spec.format {
        Format::F32 => Ok(Dtype::F32),
        Format::F16 => Ok(Dtype::F16),
        Format::Bf16 => Ok(Dtype::BF16),
        other => {
            let (name, other) = (&spec.name, other.name());
            let reason = format!("{name}: safetensors files hold no {other}");
            Err(Error::Request(reason))
        }
    }
}

/// A file, and the hash of all that was written to it.
struct HashingWriter<'a> {
    file: &'a mut File,
    hasher: blake3::Hasher,
}

impl Write for HashingWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
