//! Writing a GGUF file row by row.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use moevolve_kernels::worker_pool::WorkerPool;

use super::entry::{Entry, put_text};
use super::header::DEFAULT_ALIGNMENT;
use crate::error::{Error, Result};
use crate::files::stream_checked;
use crate::tensors::{Rows, TensorSpec, encode_tensor};

/// Writes a file of version 3 atomically, with the threads of `pool`: metadata and tensors in the order given. It takes its place if
/// `check` finds nothing wrong with it.
pub fn write(
    path: &Path,
    pool: &WorkerPool,
    metadata: &[(String, Entry)],
    specs: &[TensorSpec],
    rows: &mut Rows<'_>,
    check: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let mut header = header(metadata, specs)?;
    header.resize(header.len() + padding(header.len()), 0);
    let fill = |file: &mut File| {
        let failed = |e: io::Error| Error::file(path, e);
        file.write_all(&header).map_err(failed)?;
        for (index, spec) in specs.iter().enumerate() {
            encode_tensor(path, pool, specs, index, rows, file)?;
            let zeros = [0; DEFAULT_ALIGNMENT];
            file.write_all(&zeros[..padding(spec.size()?)])
                .map_err(failed)?;
        }
        Ok(())
    };
    stream_checked(path, fill, check)
}

/// Bytes that are missing to a whole multiple of the alignment.
fn padding(length: usize) -> usize {
    length.next_multiple_of(DEFAULT_ALIGNMENT) - length
}

fn header(metadata: &[(String, Entry)], specs: &[TensorSpec]) -> Result<Vec<u8>> {
    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend((specs.len() as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    for (key, entry) in metadata {
        put_text(key, &mut out);
        entry.put(&mut out);
    }
    let mut offset = 0usize;
    for spec in specs {
        put_text(&spec.name, &mut out);
        out.extend((spec.shape.len() as u32).to_le_bytes());
        for &dim in spec.shape.iter().rev() {
            out.extend((dim as u64).to_le_bytes());
        }
        let Some(kind) = spec.format.to_ggml() else {
            let (name, format) = (&spec.name, spec.format.name());
            return Err(Error::Request(format!(
                "{name}: GGUF files hold no {format}"
            )));
        };
        out.extend(kind.to_le_bytes());
        out.extend((offset as u64).to_le_bytes());
        offset = (offset + spec.size()?).next_multiple_of(DEFAULT_ALIGNMENT);
    }
    Ok(out)
}
