//! The start of a program that the host trusts until it reseeds its world.
//!
//! An interpreter reads a clock at every lock, more than a hundred times before its first line, and a round through the host for
//! each is slow where other work waits for the processor. So a trusted start runs under a lighter guard, traced: clocks are
//! this machine's, and the few other calls that the host answers stop the child. When it sets the clock that reseeds, the
//! guard proper is installed in its name, the listener comes to us, and the call is made again under that guard. Whatever
//! the start has read is forgotten by then: the world begins anew from the seed.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;

use seccompiler::BpfProgramRef;

use crate::image::release;
use crate::memory::Process;
use crate::world::{Answer, Call, RESEED, World};

/// How a trusted start went.
pub(crate) enum Start {
    /// The guard is in force; this is its listener.
    Over(OwnedFd),
    /// The child ended before, with this status.
    Ended(libc::c_int),
}

/// Whether this machine lets a parent do that; otherwise the guard is in force from the beginning.
pub(crate) fn available() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        // SAFETY: cannot fail.
        let me = unsafe { libc::getpid() };
        cfg!(target_arch = "x86_64") && descriptor_of(me, 0).map_or_else(closed, |_| true)
    })
}

/// Whether the descriptor was closed, which says nothing against asking for it.
fn closed(error: io::Error) -> bool {
    error.raw_os_error() == Some(libc::EBADF)
}

/// Takes a copy of a descriptor of a process that we may trace.
fn descriptor_of(process: libc::pid_t, descriptor: i64) -> io::Result<OwnedFd> {
    // SAFETY: system calls on numbers; what they return is owned here alone.
    unsafe {
        let handle = libc::syscall(libc::SYS_pidfd_open, process, 0);
        if handle < 0 {
            return Err(io::Error::last_os_error());
        }
        let handle = OwnedFd::from_raw_fd(handle as libc::c_int);
        let copy = libc::syscall(libc::SYS_pidfd_getfd, handle.as_raw_fd(), descriptor, 0);
        if copy < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(copy as libc::c_int))
    }
}

/// Lets a stopped, traced child run until it sets the clock [`RESEED`]; then puts the guard around it and lets it go.
///
/// # Errors
/// Tracing is refused, or the guard cannot be installed.
pub(crate) fn until_reseeding(
    child: libc::pid_t,
    world: &mut World,
    guard: BpfProgramRef,
) -> io::Result<Start> {
    const OPTIONS: libc::c_int =
        libc::PTRACE_O_TRACESECCOMP | libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL;
    const ASKED: libc::c_int = libc::SIGTRAP | libc::PTRACE_EVENT_SECCOMP << 8;
    trace(libc::PTRACE_SETOPTIONS, child, OPTIONS)?;
    let process = Process::new(child);
    let mut signal = 0;
    loop {
        trace(libc::PTRACE_CONT, child, signal)?;
        let status = wait(child)?;
        if !libc::WIFSTOPPED(status) {
            return Ok(Start::Ended(status));
        }
        if status >> 8 != ASKED {
            signal = libc::WSTOPSIG(status);
            continue;
        }
        signal = 0;
        let mut registers = Registers::of(child)?;
        let call = registers.call();
        if call.number == libc::SYS_clock_settime && call.arguments[0] == RESEED {
            return install(child, &process, &registers, guard);
        }
        let value = match world.answer(&process, &call) {
            Answer::Value(value) => value,
            Answer::Error(number) => i64::from(-number),
            Answer::Proceed => continue,
        };
        registers.skip(value);
        registers.set(child)?;
    }
}

/// Makes the child, which stands before a call, install the guard; the call is made again when it runs on.
fn install(
    child: libc::pid_t,
    process: &Process,
    before: &Registers,
    guard: BpfProgramRef,
) -> io::Result<Start> {
    /// Below the stack pointer the C library keeps what it did not give back.
    const RED_ZONE: u64 = 128;
    const FILTER: u64 = libc::SECCOMP_SET_MODE_FILTER as u64;
    let mut bytes = vec![0; 16];
    for line in guard {
        bytes.extend_from_slice(&line.code.to_le_bytes());
        bytes.extend_from_slice(&[line.jt, line.jf]);
        bytes.extend_from_slice(&line.k.to_le_bytes());
    }
    let place = (before.stack() - RED_ZONE - bytes.len() as u64) & !15;
    // `struct sock_fprog`: the number of lines, and where they stand.
    bytes[..8].copy_from_slice(&(guard.len() as u64).to_le_bytes());
    bytes[8..16].copy_from_slice(&(place + 16).to_le_bytes());
    if let Answer::Error(number) = process.write(place, &bytes) {
        return Err(io::Error::from_raw_os_error(number));
    }
    let mut registers = *before;
    registers.replace(
        libc::SYS_seccomp,
        [FILTER, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER, place],
    );
    registers.set(child)?;
    let descriptor = result(child)?;
    let listener = descriptor_of(child, descriptor)?;
    let mut registers = *before;
    registers.again(libc::SYS_close, [descriptor as u64, 0, 0]);
    registers.set(child)?;
    // One stop before the call and one after it.
    trace(libc::PTRACE_SYSCALL, child, 0)?;
    wait(child)?;
    result(child)?;
    let mut registers = *before;
    let call = before.call();
    let [a, b, c, ..] = call.arguments;
    registers.again(call.number, [a, b, c]);
    registers.set(child)?;
    release(child)?;
    Ok(Start::Over(listener))
}

/// What the call that the child stands in returns.
fn result(child: libc::pid_t) -> io::Result<i64> {
    trace(libc::PTRACE_SYSCALL, child, 0)?;
    if !libc::WIFSTOPPED(wait(child)?) {
        return Err(io::Error::other("it ended while its guard was installed"));
    }
    let value = Registers::of(child)?.value();
    if value < 0 {
        return Err(io::Error::from_raw_os_error(-value as i32));
    }
    Ok(value)
}

fn trace(request: libc::c_uint, child: libc::pid_t, data: libc::c_int) -> io::Result<()> {
    // SAFETY: these requests read their last argument as a number.
    if unsafe { libc::ptrace(request, child, 0, libc::c_long::from(data)) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn wait(child: libc::pid_t) -> io::Result<libc::c_int> {
    let mut status = 0;
    // SAFETY: waits for our own child.
    while unsafe { libc::waitpid(child, &raw mut status, 0) } < 0 {
        match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => {}
            error => return Err(error),
        }
    }
    Ok(status)
}

/// Registers of a stopped child, as far as a system call needs them.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
struct Registers(libc::user_regs_struct);

#[cfg(target_arch = "x86_64")]
impl Registers {
    /// Bytes of the instruction that makes a call.
    const INSTRUCTION: u64 = 2;

    fn of(child: libc::pid_t) -> io::Result<Self> {
        // SAFETY: the struct is plain data that the kernel fills.
        unsafe {
            let mut all = std::mem::zeroed::<libc::user_regs_struct>();
            if libc::ptrace(libc::PTRACE_GETREGS, child, 0, &raw mut all) < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Self(all))
        }
    }

    fn set(&self, child: libc::pid_t) -> io::Result<()> {
        // SAFETY: the kernel reads the struct and checks it.
        if unsafe { libc::ptrace(libc::PTRACE_SETREGS, child, 0, &raw const self.0) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    fn call(&self) -> Call {
        let all = &self.0;
        Call {
            number: all.orig_rax as i64,
            arguments: [all.rdi, all.rsi, all.rdx, all.r10, all.r8, all.r9],
        }
    }

    fn stack(&self) -> u64 {
        self.0.rsp
    }

    fn value(&self) -> i64 {
        self.0.rax as i64
    }

    /// The call is not made, and returns `value`.
    fn skip(&mut self, value: i64) {
        self.0.orig_rax = u64::MAX;
        self.0.rax = value as u64;
    }

    /// Another call is made instead.
    fn replace(&mut self, number: i64, arguments: [u64; 3]) {
        self.0.orig_rax = number as u64;
        [self.0.rdi, self.0.rsi, self.0.rdx] = arguments;
    }

    /// The instruction runs once more, with this call.
    fn again(&mut self, number: i64, arguments: [u64; 3]) {
        self.skip(number);
        self.0.rip -= Self::INSTRUCTION;
        [self.0.rdi, self.0.rsi, self.0.rdx] = arguments;
    }
}

/// Registers of another architecture, where no start is trusted (see [`available`]).
#[cfg(not(target_arch = "x86_64"))]
#[derive(Clone, Copy)]
struct Registers;

#[cfg(not(target_arch = "x86_64"))]
impl Registers {
    fn of(_: libc::pid_t) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn set(&self, _: libc::pid_t) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn call(&self) -> Call {
        Call {
            number: -1,
            arguments: [0; 6],
        }
    }

    fn stack(&self) -> u64 {
        0
    }

    fn value(&self) -> i64 {
        0
    }

    fn skip(&mut self, _: i64) {}

    fn replace(&mut self, _: i64, _: [u64; 3]) {}

    fn again(&mut self, _: i64, _: [u64; 3]) {}
}
