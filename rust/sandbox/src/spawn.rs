//! The start of a child: everything that allocates, before the fork.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use crate::child::Child;
use crate::error::{Error, Result};
use crate::filesystem::{self, text_of};
use crate::frames::Scan;
use crate::image::{release, without_vdso};
use crate::launch::{Launch, Program, launch};
use crate::layers::probe;
use crate::leash::Leash;
use crate::listener::{self, Listener};
use crate::policy::{Forks, Policy};
use crate::start::{self, Start};
use crate::syscalls;
use crate::world::World;

/// Bytes of stack, the same everywhere: where the kernel puts everything else depends on it.
const STACK: u64 = 8 << 20;

/// Starts a child under every layer that works here.
///
/// The kernel kills the child when the thread that called this ends, so keep that thread while the child serves.
///
/// # Errors
/// [`Error::Incomplete`] if the policy is strict and a layer is missing, [`Error::Needs`] if it cannot do without one,
/// [`Error::Setup`] if a step fails.
pub fn spawn(policy: &Policy) -> Result<Child> {
    let layers = probe();
    let missing = layers.missing();
    if policy.strict && !missing.is_empty() {
        return Err(Error::Incomplete {
            missing: missing.join(", "),
        });
    }
    if policy.forks == Forks::First && !layers.virtual_clock {
        return Err(Error::Needs {
            what: "forks of a warm process",
            layer: "virtual clock",
        });
    }
    let (child_input, input) = pipe()?;
    let (output, child_output) = pipe()?;
    let (errors, child_errors) = pipe()?;
    for ours in [&input, &output, &errors] {
        non_blocking(ours)?;
    }
    fill(&input, &policy.input)?;
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
    let program = Program::new(
        text_of(&policy.program)?,
        arguments,
        environment,
        [child_input, child_output, child_errors],
    );
    let trusted_start = policy.trusted_start && layers.virtual_clock && start::available();
    let filters = if layers.seccomp {
        let answers = layers.virtual_clock;
        Some(syscalls::filters(
            policy.forks,
            answers,
            trusted_start,
            Some(program.path()),
        )?)
    } else {
        None
    };
    let (socket, child_socket) = if layers.virtual_clock && !trusted_start {
        let (ours, theirs) = listener::sockets().map_err(failed("virtual clock"))?;
        (Some(ours), Some(theirs))
    } else {
        (None, None)
    };
    let prepared = Launch {
        namespaces: layers.flags,
        root: if layers.private_root {
            Some(filesystem::root(policy, layers.landlock_abi > 0)?)
        } else {
            None
        },
        landlock: if layers.landlock_abi > 0 {
            filesystem::rules(policy)?
        } else {
            None
        },
        filters,
        socket: child_socket,
        limits: limits(policy),
        program: Some(program),
    };
    let pid = launch(&prepared)?;
    let mut child = Child {
        pid,
        status: None,
        input,
        output,
        errors,
        listener: None,
        leash: None,
        pending: Vec::new(),
        scan: Scan::default(),
        said: Vec::new(),
        cpu_seconds: policy.limits.cpu_seconds,
        spent: Duration::ZERO,
    };
    let step = failed("virtual clock");
    if let Some(socket) = socket {
        without_vdso(pid).map_err(&step)?;
        release(pid).map_err(&step)?;
        child.listener = Some(Listener::receive(&socket, pid, policy.forks).map_err(&step)?);
    } else if let Some(filters) = prepared.filters.as_ref().filter(|_| trusted_start) {
        let mut world = World::new(pid, policy.forks);
        without_vdso(pid).map_err(&step)?;
        match start::until_reseeding(pid, &mut world, &filters.guard).map_err(&step)? {
            Start::Over(descriptor) => child.listener = Some(Listener::new(descriptor, world)),
            Start::Ended(status) => child.status = Some(status),
        }
    }
    let alone = policy.forks == Forks::Nobody || layers.flags & libc::CLONE_NEWPID != 0;
    if !(alone && layers.seccomp) {
        child.leash = Some(Leash::new(pid).map_err(failed("leash"))?);
    }
    Ok(child)
}

fn limits(policy: &Policy) -> Vec<(libc::c_uint, u64)> {
    let limits = &policy.limits;
    let mut all = vec![
        (libc::RLIMIT_AS as _, limits.memory),
        (libc::RLIMIT_CPU as _, limits.cpu_seconds),
        (libc::RLIMIT_NOFILE as _, limits.open_files),
        (libc::RLIMIT_FSIZE as _, limits.file_size),
        (libc::RLIMIT_STACK as _, STACK),
        (libc::RLIMIT_CORE as _, 0),
        (libc::RLIMIT_MEMLOCK as _, 0),
        (libc::RLIMIT_MSGQUEUE as _, 0),
    ];
    match policy.forks {
        Forks::Nobody => all.push((libc::RLIMIT_NPROC as _, 1)),
        Forks::First => {} // The host decides about each.
        Forks::Everybody { processes } => all.push((libc::RLIMIT_NPROC as _, processes)),
    }
    all
}

fn failed(step: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Setup { step, source }
}

fn argument(text: String) -> Result<CString> {
    CString::new(text.as_str()).map_err(|_| Error::Argument(text))
}

/// A pipe whose ends are both above 2, so that putting one onto a standard stream never overwrites another.
fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let setup = failed("pipe");
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
        // SAFETY: the copy is new, and nobody else knows it.
        Ok(unsafe { OwnedFd::from_raw_fd(copy) })
    };
    Ok((raise(read)?, raise(write)?))
}

/// Puts bytes into an empty pipe that nobody reads yet.
fn fill(end: &OwnedFd, bytes: &[u8]) -> Result<()> {
    const USUAL: usize = 1 << 16;
    let setup = failed("pipe");
    if bytes.len() > USUAL {
        // SAFETY: changes a pipe that we own.
        let room = unsafe {
            libc::fcntl(
                end.as_raw_fd(),
                libc::F_SETPIPE_SZ,
                bytes.len() as libc::c_int,
            )
        };
        if room < 0 {
            return Err(setup(io::Error::last_os_error()));
        }
    }
    let mut left = bytes;
    while !left.is_empty() {
        let count = nix::unistd::write(end, left).map_err(|error| setup(error.into()))?;
        left = &left[count..];
    }
    Ok(())
}

fn non_blocking(end: &OwnedFd) -> Result<()> {
    // SAFETY: sets a flag of a descriptor that we own.
    if unsafe { libc::fcntl(end.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) } < 0 {
        return Err(failed("pipe")(io::Error::last_os_error()));
    }
    Ok(())
}
