//! A running child: framed messages under deadlines, its last words, and its end.

use std::fmt::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::error::{Error, Result};
use crate::frames::{Bounds, Scan};
use crate::layers::{Layers, probe};
use crate::leash::Leash;
use crate::listener::Listener;

/// Bytes of stderr that are kept, the newest.
const STDERR_KEPT: usize = 4096;
/// Bytes of a frame's length prefix, little-endian.
const PREFIX: usize = 4;
/// How long a child that has closed its pipe may take to exit by itself.
const EXIT: Duration = Duration::from_millis(500);

/// A sandboxed process. Dropping it kills the whole tree.
#[derive(Debug)]
pub struct Child {
    pub(crate) pid: libc::pid_t,
    pub(crate) status: Option<libc::c_int>,
    pub(crate) input: OwnedFd,
    pub(crate) output: OwnedFd,
    pub(crate) errors: OwnedFd,
    /// Calls that the host answers; `None` without the layer, or once all who could call are gone.
    pub(crate) listener: Option<Listener>,
    pub(crate) leash: Option<Leash>,
    /// Bytes of a frame that has not arrived completely.
    pub(crate) pending: Vec<u8>,
    pub(crate) scan: Scan,
    pub(crate) said: Vec<u8>,
    /// Its limit of processor time.
    pub(crate) cpu_seconds: u64,
    /// Processor time that it used; known once it is reaped.
    pub(crate) spent: Duration,
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
    /// [`Error::Ended`] if the child closed its end, [`Error::Spent`] if it used up its processor time.
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

    /// Reads one frame, a JSON message within `bounds`; `None` if it is not complete at `until` (call again to go on).
    ///
    /// # Errors
    /// [`Error::FrameTooLarge`] before any of its bytes is read, [`Error::FrameTooRich`] as soon as it is,
    /// [`Error::Ended`] if the child is gone, [`Error::Spent`] if it used up its processor time.
    pub fn receive(&mut self, bounds: &Bounds, until: Instant) -> Result<Option<Vec<u8>>> {
        let mut buffer = [0u8; 1 << 16];
        loop {
            let wanted = match self.pending.first_chunk::<PREFIX>() {
                None => PREFIX,
                Some(prefix) => {
                    let length = u32::from_le_bytes(*prefix) as usize;
                    if length > bounds.bytes {
                        let most = bounds.bytes;
                        return Err(Error::FrameTooLarge { length, most });
                    }
                    self.scan.look(&self.pending[PREFIX..], bounds)?;
                    if self.pending.len() == PREFIX + length {
                        self.scan = Scan::default();
                        let mut body = std::mem::take(&mut self.pending);
                        body.drain(..PREFIX);
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

    /// Waits until the child can take or has given bytes; drains stderr and answers calls meanwhile. False at `until`.
    fn wait(&mut self, writing: bool, until: Instant) -> Result<bool> {
        let mut stderr_open = true;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(
                left.as_millis().min(60_000) as i32 + i32::from(!left.is_zero()),
            )
            .unwrap_or(PollTimeout::MAX);
            let (stream, event) = if writing {
                (&self.input, PollFlags::POLLOUT)
            } else {
                (&self.output, PollFlags::POLLIN)
            };
            let mut polled = vec![PollFd::new(stream.as_fd(), event)];
            let others = [
                self.listener.as_ref().map(Listener::as_fd),
                stderr_open.then(|| self.errors.as_fd()),
            ];
            let read = |fd| PollFd::new(fd, PollFlags::POLLIN);
            polled.extend(others.iter().flatten().copied().map(read));
            match poll(&mut polled, timeout) {
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(error) => return Err(Error::Pipe(error.into())),
            }
            let mut events = polled
                .iter()
                .map(|fd| fd.revents().unwrap_or(PollFlags::empty()))
                .collect::<Vec<_>>()
                .into_iter();
            let ready = events.next().is_some_and(|events| !events.is_empty());
            if let Some(listener) = &mut self.listener {
                let events = events.next().unwrap_or(PollFlags::empty());
                if events.contains(PollFlags::POLLIN) {
                    listener.serve();
                } else if !events.is_empty() {
                    self.listener = None;
                }
            }
            if events.next().is_some_and(|events| !events.is_empty()) {
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
        let by_itself = self.exits();
        let how = self.end();
        if self.out_of_time() {
            return Error::Spent {
                seconds: self.cpu_seconds,
            };
        }
        let how = if by_itself {
            how
        } else {
            // Our own signal must not look like the machine's.
            "closed its pipe and went on".to_owned()
        };
        Error::Ended { how, stderr }
    }

    /// Whether it has exited, or does so in a moment.
    fn exits(&self) -> bool {
        let until = Instant::now() + EXIT;
        while self.status.is_none() && !self.exited() {
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }

    /// Whether it was ended for the processor time that it used: by SIGXCPU, or, where it can ignore that, by SIGKILL.
    fn out_of_time(&self) -> bool {
        self.status.is_some_and(|status| {
            let signal = libc::WTERMSIG(status);
            libc::WIFSIGNALED(status)
                && (signal == libc::SIGXCPU
                    || signal == libc::SIGKILL && self.spent.as_secs() >= self.cpu_seconds)
        })
    }

    /// Names of the layers in force around it.
    #[must_use]
    pub fn layers(&self) -> &'static Layers {
        probe()
    }

    /// Kills the child and everything it started, waits for it, and says how it ended.
    pub fn end(&mut self) -> String {
        let status = match self.status {
            Some(status) => status,
            None => self.kill_and_reap(),
        };
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

    fn kill_and_reap(&mut self) -> libc::c_int {
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
            let mut usage = std::mem::zeroed::<libc::rusage>();
            while libc::wait4(self.pid, &raw mut status, 0, &raw mut usage) < 0
                && *libc::__errno_location() == libc::EINTR
            {}
            self.spent = duration(usage.ru_utime) + duration(usage.ru_stime);
        }
        status
    }

    /// Whether the child has exited; leaves it to be reaped.
    fn exited(&self) -> bool {
        // SAFETY: siginfo_t is plain data that waitid fills; si_pid stays 0 if nothing has exited.
        unsafe {
            let mut exit = std::mem::zeroed::<libc::siginfo_t>();
            let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
            libc::waitid(libc::P_PID, self.id(), &raw mut exit, flags) == 0 && exit.si_pid() != 0
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

fn duration(time: libc::timeval) -> Duration {
    Duration::from_secs(time.tv_sec.unsigned_abs())
        + Duration::from_micros(time.tv_usec.unsigned_abs())
}

impl Drop for Child {
    fn drop(&mut self) {
        self.end();
    }
}
