//! Whole files: mapped, read as JSON, replaced atomically.

use std::fs;
use std::io::{self, Write};
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// Bytes of a text that is read: the largest tokenizers have about 40 million.
const LARGEST_TEXT: u64 = 256 << 20;
/// Bytes of a JSON object that is read.
const LARGEST_OBJECT: u64 = 32 << 20;
/// Values of such an object: each takes up to some hundred bytes of memory, and one of its own in the file.
const MOST_VALUES: usize = 1 << 21;

/// A memory-mapped file, and its name in errors.
#[derive(Debug)]
pub struct MappedFile {
    pub name: String,
    bytes: Mmap,
}

impl MappedFile {
    /// Maps a file. It must not change while it is mapped: replace a checkpoint's file, never write into it.
    pub fn open(path: &Path) -> Result<Arc<Self>> {
        plain(path)?;
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

/// Refuses what is there and no plain file, which might never end: a pipe or a device. Returns its size.
fn plain(path: &Path) -> Result<u64> {
    let found = fs::metadata(path).map_err(|e| Error::file(path, e))?;
    if found.is_file() {
        Ok(found.len())
    } else {
        Err(Error::file(path, "is not a plain file"))
    }
}

/// Whether a name is taken, be it by a link that leads nowhere.
pub fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// The bytes of a file that is read whole: one above `most` is refused.
pub fn read_bytes(path: &Path, most: u64) -> Result<Vec<u8>> {
    let size = plain(path)?;
    if size > most {
        let reason = format!("has {size} bytes, of which at most {most} are read");
        return Err(Error::file(path, reason));
    }
    fs::read(path).map_err(|e| Error::file(path, e))
}

/// A text file.
pub fn read_text(path: &Path) -> Result<String> {
    let bytes = read_bytes(path, LARGEST_TEXT)?;
    String::from_utf8(bytes).map_err(|e| Error::file(path, format!("is not UTF-8: {e}")))
}

/// Why JSON is not taken apart: it may hold more values than `most`, of which a comma comes before each but the first.
pub fn too_many_values(json: &[u8], most: usize) -> Option<String> {
    let commas = json.iter().filter(|&&byte| byte == b',').count();
    (commas > most).then(|| format!("holds more than {most} values"))
}

/// The text of a JSON object that may be taken apart.
pub fn read_json(path: &Path) -> Result<String> {
    let bytes = read_bytes(path, LARGEST_OBJECT)?;
    if let Some(reason) = too_many_values(&bytes, MOST_VALUES) {
        return Err(Error::file(path, reason));
    }
    String::from_utf8(bytes).map_err(|e| Error::file(path, format!("is not UTF-8: {e}")))
}

/// A JSON object, None where there is no such file.
pub fn read_object(path: &Path) -> Result<Option<Map<String, Value>>> {
    if !is_there(path) {
        return Ok(None);
    }
    match serde_json::from_str(&read_json(path)?) {
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
    stream_checked(path, fill, |_| Ok(()))
}

/// Makes the names in the folder of `path` durable, as a rename into it is only then.
pub(crate) fn sync_folder(path: &Path) -> Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    fs::File::open(folder.unwrap_or(Path::new(".")))
        .and_then(|folder| folder.sync_all())
        .map_err(|e| Error::file(path, e))
}

/// [`stream_atomically`] of a file that takes its place only if `check`, given where it lies for now, finds nothing wrong.
pub fn stream_checked<T>(
    path: &Path,
    fill: impl FnOnce(&mut fs::File) -> Result<T>,
    check: impl FnOnce(&Path) -> Result<()>,
) -> Result<T> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    let partial = path.with_file_name(name);
    let failed = |e: io::Error| Error::file(path, e);
    let write = || {
        let mut file = fs::File::create(&partial).map_err(failed)?;
        let out = fill(&mut file)?;
        file.sync_all().map_err(failed)?;
        check(&partial)?;
        fs::rename(&partial, path).map_err(failed)?;
        sync_folder(path)?;
        Ok(out)
    };
    write().inspect_err(|_| drop(fs::remove_file(&partial)))
}
