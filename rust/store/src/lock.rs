//! The writer's lock: one process at a time writes a run, and whoever asks can tell whether it lives.
//!
//! An open-file-description lock: like `flock` it belongs to the open file and vanishes with the process, however that
//! ends; unlike `flock` it can be asked about without being taken, so a reader's question never turns a writer away.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::error::{Error, Result};

/// The lock, held as long as this lives.
#[derive(Debug)]
pub struct WriterLock {
    file: File,
    owner: u32,
}

impl WriterLock {
    /// Takes the lock on `path`, which is created if missing, and notes this process's id in it.
    ///
    /// # Errors
    /// `Busy` with the holder's id if another writer holds it.
    pub fn take(path: &Path, folder: &Path) -> Result<Self> {
        let fail = |source| Error::io(path, "cannot lock", source);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(fail)?;
        match fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&whole(libc::F_WRLCK))) {
            Ok(_) => {}
            Err(Errno::EAGAIN | Errno::EACCES) => {
                return Err(Error::Busy {
                    path: folder.to_path_buf(),
                    pid: holder(&mut file),
                });
            }
            Err(error) => return Err(fail(error.into())),
        }
        let owner = process::id();
        // The id only serves messages: a disk too full for it does not keep a run from being resumed.
        let noted = note(&mut file, owner).map_err(fail);
        if let Err(error @ Error::Io { .. }) = noted {
            return Err(error);
        }
        Ok(Self { file, owner })
    }
}

impl Drop for WriterLock {
    fn drop(&mut self) {
        // A fork shares the lock: only the process that took it may let it go before the file closes.
        if process::id() == self.owner {
            let _ = fcntl(
                self.file.as_fd(),
                FcntlArg::F_OFD_SETLK(&whole(libc::F_UNLCK)),
            );
        }
    }
}

/// Whether a process holds the lock on `path` now. A missing file is held by nobody.
pub fn is_held(path: &Path) -> Result<bool> {
    let fail = |source| Error::io(path, "cannot ask for the lock of", source);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(fail(error)),
    };
    let mut asked = whole(libc::F_WRLCK);
    fcntl(file.as_fd(), FcntlArg::F_OFD_GETLK(&mut asked)).map_err(|error| fail(error.into()))?;
    Ok(i32::from(asked.l_type) != libc::F_UNLCK)
}

fn note(file: &mut File, pid: u32) -> io::Result<()> {
    file.rewind()?;
    file.write_all(format!("{pid:<10}\n").as_bytes())
}

fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(11).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn whole(kind: libc::c_int) -> libc::flock {
    libc::flock {
        // F_RDLCK, F_WRLCK and F_UNLCK are 0, 1 and 2.
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}
