//! Writing a GGUF file row by row.

use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::path::Path;

use moevolve_kernels::worker_pool::WorkerPool;

use super::entry::{Entry, put_text};
use super::header::DEFAULT_ALIGNMENT;
use super::split::{part_names, split_entries};
use crate::error::{Error, Result};
use crate::files::{stream_checked, sync_folder};
use crate::tensors::{Rows, TensorSpec, encode_tensor};

/// Writes a file of version 3 atomically, with the threads of `pool`: metadata and tensors in the order given. It takes its place if
/// `check` finds nothing wrong with it.
fn write(
    path: &Path,
    pool: &WorkerPool,
    metadata: &[(String, Entry)],
    specs: &[TensorSpec],
    rows: &mut Rows<'_>,
    check: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let fill = |file: &mut File| fill(path, file, pool, metadata, (specs, 0..specs.len()), rows);
    stream_checked(path, fill, check)
}

/// As [`write`], with at most `most` bytes of tensors in a file, or one tensor that has more: where that makes several,
/// `NAME.gguf` becomes `NAME-00001-of-0000N.gguf` and the others, all of them or none. `check` gets the first.
pub fn write_parts(
    path: &Path,
    pool: &WorkerPool,
    metadata: &[(String, Entry)],
    specs: &[TensorSpec],
    rows: &mut Rows<'_>,
    most: usize,
    check: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let groups = groups(specs, most)?;
    if groups.len() < 2 {
        return write(path, pool, metadata, specs, rows, check);
    }
    let names = part_names(path, groups.len())?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    let folder = path.with_file_name(name);
    let failed = |e: io::Error| Error::file(path, e);
    let mut all = || {
        fs::create_dir(&folder).map_err(failed)?;
        for (number, (group, name)) in groups.iter().zip(&names).enumerate() {
            let mut said = split_entries(number, groups.len(), specs.len())?;
            if number == 0 {
                said.splice(0..0, metadata.iter().cloned());
            }
            let part = folder.join(name);
            let mut file = File::create(&part).map_err(failed)?;
            fill(path, &mut file, pool, &said, (specs, group.clone()), rows)?;
            file.sync_all().map_err(failed)?;
        }
        Ok(())
    };
    let finish = || {
        check(&folder.join(&names[0]))?;
        // The first is the last to take its place: until then a reader misses it.
        for name in names.iter().rev() {
            fs::rename(folder.join(name), path.with_file_name(name)).map_err(failed)?;
        }
        sync_folder(path)
    };
    let out = all().and_then(|()| finish());
    // Nothing is left in it, or nothing that counts.
    drop(fs::remove_dir_all(&folder));
    out
}

/// Tensors that lie in a file together.
fn groups(specs: &[TensorSpec], most: usize) -> Result<Vec<Range<usize>>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    let mut size = 0usize;
    for (index, spec) in specs.iter().enumerate() {
        let more = spec.size()?.next_multiple_of(DEFAULT_ALIGNMENT);
        size = size.saturating_add(more);
        match groups.last_mut() {
            Some(group) if size <= most => group.end = index + 1,
            _ => {
                groups.push(index..index + 1);
                size = more;
            }
        }
    }
    Ok(groups)
}

/// Header and tensors of a file.
fn fill(
    path: &Path,
    file: &mut File,
    pool: &WorkerPool,
    metadata: &[(String, Entry)],
    (specs, range): (&[TensorSpec], Range<usize>),
    rows: &mut Rows<'_>,
) -> Result<()> {
    let failed = |e: io::Error| Error::file(path, e);
    let mut header = header(metadata, &specs[range.clone()])?;
    header.resize(header.len() + padding(header.len()), 0);
    file.write_all(&header).map_err(failed)?;
    for index in range {
        encode_tensor(path, pool, specs, index, rows, file)?;
        let zeros = [0; DEFAULT_ALIGNMENT];
        let size = specs[index].size()?;
        file.write_all(&zeros[..padding(size)]).map_err(failed)?;
    }
    Ok(())
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
