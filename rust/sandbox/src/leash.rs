//! The leash of a tree of processes: a watcher that kills the tree when the host is gone, however it went.
//!
//! The parent-death signal holds a single process, which may not undo it (see `syscalls`); what it starts inherits none.
//! Where no PID namespace ends with the child, or no filter keeps the signal on, a shell outside the sandbox waits at a
//! pipe whose other end the host alone holds.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// A watcher; dropping it ends it, so let the tree be dead by then.
#[derive(Debug)]
pub(crate) struct Leash {
    watcher: Child,
}

impl Leash {
    /// Watches over process group `group`.
    pub(crate) fn new(group: libc::pid_t) -> io::Result<Self> {
        let watcher = Command::new("/bin/sh")
            .args(["-c", "read -r _; kill -9 \"-$0\"", &group.to_string()])
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Out of reach of what the terminal sends to the host's group.
            .process_group(0)
            .spawn()?;
        Ok(Self { watcher })
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        // It is our own child and not reaped yet; both calls fail only if it is gone.
        let _ = self.watcher.kill();
        let _ = self.watcher.wait();
    }
}
