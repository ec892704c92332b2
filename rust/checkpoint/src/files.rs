//! Whole files: mapped, read as JSON, replaced atomically.

use std::fs;
use std::io::{self, Write};
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// A memory-mapped file, and its name in errors.
#[derive(Debug)]
pub struct MappedFile {
    pub name: String,
    bytes: Mmap,
}

impl MappedFile {
    /// Maps a file. It must not change while it is mapped: replace a checkpoint's file, never write into it.
    pub fn open(path: &Path) -> Result<Arc<Self>> {
        let file = fs::File::open(path).map_err(|e| Error::file(path, e))?;
        // SAFETY: the bytes are only read, and any bytes are valid `u8`s; a file that shrinks under the map ends the
        // process, as with any reader of mapped weights, which is why files are replaced whole (`write_atomically`).
        let bytes = unsafe { Mmap::map(&file) }.map_err(|e| Error::file(path, e))?;
        let name = path.display().to_string();
        Ok(Arc::new(Self { name, bytes }))
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A text file.
pub fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|e| Error::file(path, e))
}

/// A JSON object, None where there is no such file.
pub fn read_object(path: &Path) -> Result<Option<Map<String, Value>>> {
    if !path.exists() {
        return Ok(None);
    }
    match serde_json::from_str(&read_text(path)?) {
        Ok(Value::Object(map)) => Ok(Some(map)),
        Ok(_) => Err(Error::file(path, "is not a JSON object")),
        Err(e) => Err(Error::file(path, format!("is not JSON: {e}"))),
    }
}

/// Writes a file whole or not at all: a temporary beside it, synced, then renamed over it.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    stream_atomically(path, |file| {
        file.write_all(bytes).map_err(|e| Error::file(path, e))
    })
}

/// [`write_atomically`] of what `fill` writes into the temporary; returns its result.
pub fn stream_atomically<T>(
    path: &Path,
    fill: impl FnOnce(&mut fs::File) -> Result<T>,
) -> Result<T> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    let partial = path.with_file_name(name);
    let failed = |e: io::Error| Error::file(path, e);
    let write = || {
        let mut file = fs::File::create(&partial).map_err(failed)?;
        let out = fill(&mut file)?;
        file.sync_all().map_err(failed)?;
        fs::rename(&partial, path).map_err(failed)?;
        // The rename itself is durable once the folder is.
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        fs::File::open(folder.unwrap_or(Path::new(".")))
            .and_then(|folder| folder.sync_all())
            .map_err(failed)?;
        Ok(out)
    };
    write().inspect_err(|_| drop(fs::remove_file(&partial)))
}
