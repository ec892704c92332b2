//! A running child: framed messages under deadlines, its last words, and its end.

use std::ffi::CString;
use std::fmt::Write as _;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::error::{Error, Result};
use crate::filesystem::{self, Root, text_of};
use crate::launch::{Launch, Program, launch};
use crate::layers::probe;
use crate::policy::Policy;
use crate::syscalls;

/// Bytes of stderr that are kept, the newest.
const STDERR_KEPT: usize = 4096;
/// Bytes of a frame's length prefix, little-endian.
const PREFIX: usize = 4;

/// Starts a child under every layer that works here.
///
/// The kernel kills the child when the thread that called this ends, so keep that thread while the child serves.
///
/// # Errors
/// [`Error::Incomplete`] if the policy is strict and a layer is missing, [`Error::Setup`] if a step fails.
pub fn spawn(policy: &Policy) -> Result<Child> {
    let layers = probe();
    if policy.strict {
        let missing = layers.missing();
        if !missing.is_empty() {
            return Err(Error::Incomplete {
                missing: missing.join(", "),
            });
        }
    }
    let (child_input, input) = pipe()?;
    let (output, child_output) = pipe()?;
    let (errors, child_errors) = pipe()?;
    for ours in [&input, &output, &errors] {
        non_blocking(ours)?;
    }
    let arguments = policy
        .arguments
        .iter()
        .map(|text| argument(text.clone()))
        .collect::<Result<_>>()?;
    let environment = policy
        .environment
        .iter()
        .map(|(name, value)| argument(format!("{name}={value}")))
        .collect::<Result<_>>()?;
    let limits = &policy.limits;
    let prepared = Launch {
        namespaces: layers.flags,
        root: if layers.private_root {
            Some(Root::plan(policy)?)
        } else {
            None
        },
        landlock: if layers.landlock_abi > 0 {
            filesystem::rules(policy)?
        } else {
            None
        },
        filters: if layers.seccomp {
            syscalls::filters(limits.processes > 1)?
        } else {
            Vec::new()
        },
        limits: vec![
            (libc::RLIMIT_AS as _, limits.memory),
            (libc::RLIMIT_CPU as _, limits.cpu_seconds),
            (libc::RLIMIT_NOFILE as _, limits.open_files),
            (libc::RLIMIT_NPROC as _, limits.processes),
            (libc::RLIMIT_FSIZE as _, limits.file_size),
            (libc::RLIMIT_CORE as _, 0),
            (libc::RLIMIT_MEMLOCK as _, 0),
            (libc::RLIMIT_MSGQUEUE as _, 0),
        ],
        program: Some(Program::new(
            text_of(&policy.program)?,
            arguments,
            environment,
            [child_input, child_output, child_errors],
        )),
    };
    let pid = launch(&prepared)?;
    Ok(Child {
        pid,
        status: None,
        input,
        output,
        errors,
        pending: Vec::new(),
        said: Vec::new(),
    })
}

fn argument(text: String) -> Result<CString> {
    CString::new(text.as_str()).map_err(|_| Error::Argument(text))
}

/// A pipe whose ends are both above 2, so that putting one onto a standard stream never overwrites another.
fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let setup = |source| Error::Setup {
        step: "pipe",
        source,
    };
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for the two descriptors, which are then owned here alone.
    let ends = unsafe {
        if libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) < 0 {
            return Err(setup(io::Error::last_os_error()));
        }
        ends.map(|end| OwnedFd::from_raw_fd(end))
    };
    let [read, write] = ends;
    let raise = |end: OwnedFd| {
        if end.as_raw_fd() > 2 {
            return Ok(end);
        }
        // SAFETY: duplicates a descriptor that we own; the copy is owned by the result.
        let copy = unsafe { libc::fcntl(end.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3) };
        if copy < 0 {
            return Err(setup(io::Error::last_os_error()));
        }
        // SAFETY: the fresh descriptor is nobody else's.
        Ok(unsafe { OwnedFd::from_raw_fd(copy) })
    };
    Ok((raise(read)?, raise(write)?))
}

fn non_blocking(end: &OwnedFd) -> Result<()> {
    // SAFETY: sets a flag of a descriptor that we own.
    if unsafe { libc::fcntl(end.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) } < 0 {
        return Err(Error::Setup {
            step: "pipe",
            source: io::Error::last_os_error(),
        });
    }
    Ok(())
}

/// A sandboxed process. Dropping it kills the whole tree.
#[derive(Debug)]
pub struct Child {
    pid: libc::pid_t,
    status: Option<libc::c_int>,
    input: OwnedFd,
    output: OwnedFd,
    errors: OwnedFd,
    /// Bytes of a frame that has not arrived completely.
    pending: Vec<u8>,
    said: Vec<u8>,
}

impl Child {
    /// Process id in this process's namespace.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.pid.unsigned_abs()
    }

    /// Writes one frame: its length in four bytes, then `body`. Returns the bytes written so far of `4 + body.len()`;
    /// call again with the same `body` and that number until all are written.
    ///
    /// # Errors
    /// [`Error::Ended`] if the child closed its end.
    pub fn send(&mut self, body: &[u8], mut done: usize, until: Instant) -> Result<usize> {
        let prefix = u32::try_from(body.len())
            .map_err(|_| Error::FrameTooLarge {
                length: body.len(),
                most: u32::MAX as usize,
            })?
            .to_le_bytes();
        while done < PREFIX + body.len() {
            if !self.wait(true, until)? {
                break;
            }
            let rest = if done < PREFIX {
                &prefix[done..]
            } else {
                &body[done - PREFIX..]
            };
            match nix::unistd::write(&self.input, rest) {
                Ok(count) => done += count,
                Err(nix::Error::EAGAIN | nix::Error::EINTR) => {}
                Err(nix::Error::EPIPE) => return Err(self.ended()),
                Err(error) => return Err(Error::Pipe(error.into())),
            }
        }
        Ok(done)
    }

    /// Reads one frame of at most `most` bytes; `None` if it is not complete at `until` (call again to go on).
    ///
    /// # Errors
    /// [`Error::FrameTooLarge`] before any of its bytes is read, [`Error::Ended`] if the child is gone.
    pub fn receive(&mut self, most: usize, until: Instant) -> Result<Option<Vec<u8>>> {
        let mut buffer = [0u8; 1 << 16];
        loop {
            let wanted = match self.pending.first_chunk::<PREFIX>() {
                None => PREFIX,
                Some(prefix) => {
                    let length = u32::from_le_bytes(*prefix) as usize;
                    if length > most {
                        return Err(Error::FrameTooLarge { length, most });
                    }
                    if self.pending.len() == PREFIX + length {
                        let body = self.pending.split_off(PREFIX);
                        self.pending.clear();
                        return Ok(Some(body));
                    }
                    PREFIX + length
                }
            };
            if !self.wait(false, until)? {
                return Ok(None);
            }
            let room = (wanted - self.pending.len()).min(buffer.len());
            match nix::unistd::read(&self.output, &mut buffer[..room]) {
                Ok(0) => return Err(self.ended()),
                Ok(count) => self.pending.extend_from_slice(&buffer[..count]),
                Err(nix::Error::EAGAIN | nix::Error::EINTR) => {}
                Err(error) => return Err(Error::Pipe(error.into())),
            }
        }
    }

    /// Waits until the child can take or has given bytes; drains stderr meanwhile. False at `until`.
    fn wait(&mut self, writing: bool, until: Instant) -> Result<bool> {
        let mut stderr_open = true;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(
                left.as_millis().min(60_000) as i32 + i32::from(!left.is_zero()),
            )
            .unwrap_or(PollTimeout::MAX);
            let (ready, spoke) = {
                let (stream, event) = if writing {
                    (&self.input, PollFlags::POLLOUT)
                } else {
                    (&self.output, PollFlags::POLLIN)
                };
                let mut polled = [
                    PollFd::new(stream.as_fd(), event),
                    PollFd::new(self.errors.as_fd(), PollFlags::POLLIN),
                ];
                let watched = if stderr_open { 2 } else { 1 };
                match poll(&mut polled[..watched], timeout) {
                    Ok(_) | Err(nix::Error::EINTR) => {}
                    Err(error) => return Err(Error::Pipe(error.into())),
                }
                let any = |fd: &PollFd| fd.revents().is_some_and(|events| !events.is_empty());
                (any(&polled[0]), stderr_open && any(&polled[1]))
            };
            if spoke {
                stderr_open = self.listen();
            }
            if ready {
                return Ok(true);
            }
            if Instant::now() >= until {
                return Ok(false);
            }
        }
    }

    /// Takes what is on stderr, keeping the newest bytes; false once it is closed.
    fn listen(&mut self) -> bool {
        let mut buffer = [0u8; 4096];
        match nix::unistd::read(&self.errors, &mut buffer) {
            Ok(0) => false,
            Ok(count) => {
                self.said.extend_from_slice(&buffer[..count]);
                let surplus = self.said.len().saturating_sub(STDERR_KEPT);
                self.said.drain(..surplus);
                true
            }
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => true,
            Err(_) => false,
        }
    }

    /// The newest output on stderr, at most 4 KiB, with anything unprintable replaced.
    pub fn stderr(&mut self) -> String {
        // At most a pipe's capacity, so a child that keeps writing cannot hold us.
        for _ in 0..16 {
            let before = self.said.len();
            if !self.listen() || (self.said.len() == before && before < STDERR_KEPT) {
                break;
            }
        }
        String::from_utf8_lossy(&self.said)
            .chars()
            .map(|c| {
                if c.is_control() && c != '\n' {
                    '\u{fffd}'
                } else {
                    c
                }
            })
            .collect()
    }

    fn ended(&mut self) -> Error {
        let stderr = self.stderr();
        Error::Ended {
            how: self.end(),
            stderr,
        }
    }

    /// Kills the child and everything it started, waits for it, and says how it ended.
    pub fn end(&mut self) -> String {
        let status = self.status.unwrap_or_else(|| self.kill_and_reap());
        self.status = Some(status);
        let mut how = String::new();
        let _ = if libc::WIFSIGNALED(status) {
            match nix::sys::signal::Signal::try_from(libc::WTERMSIG(status)) {
                Ok(signal) => write!(how, "killed by {signal}"),
                Err(_) => write!(how, "killed by signal {}", libc::WTERMSIG(status)),
            }
        } else {
            write!(how, "exit status {}", libc::WEXITSTATUS(status))
        };
        how
    }

    fn kill_and_reap(&self) -> libc::c_int {
        // A child that closed its pipe is about to exit by itself: give its own status a moment to arrive.
        let moment = Instant::now() + Duration::from_millis(20);
        while self.output_closed() && !self.exited() && Instant::now() < moment {
            std::thread::yield_now();
        }
        let mut status = 0;
        // SAFETY: the child is not reaped yet, so neither its process id nor its group's can belong to another.
        unsafe {
            // The group as well: without a PID namespace it is what holds the tree together.
            libc::kill(-self.pid, libc::SIGKILL);
            libc::kill(self.pid, libc::SIGKILL);
            while libc::waitpid(self.pid, &raw mut status, 0) < 0
                && *libc::__errno_location() == libc::EINTR
            {}
        }
        status
    }

    /// Whether the child has exited; leaves it to be reaped.
    fn exited(&self) -> bool {
        // SAFETY: siginfo_t is plain data that waitid fills; si_pid stays 0 if nothing has exited.
        unsafe {
            let mut found = std::mem::zeroed::<libc::siginfo_t>();
            let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
            libc::waitid(libc::P_PID, self.id(), &raw mut found, flags) == 0 && found.si_pid() != 0
        }
    }

    fn output_closed(&self) -> bool {
        let mut polled = [PollFd::new(self.output.as_fd(), PollFlags::POLLIN)];
        poll(&mut polled, PollTimeout::ZERO).is_ok()
            && polled[0]
                .revents()
                .is_some_and(|events| events == PollFlags::POLLHUP)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.end();
    }
}
