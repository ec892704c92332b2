//! The vDSO, taken from an image before its first instruction.
//!
//! Through that page the C library reads clocks (and draws entropy, where it is new) without a system call that anybody
//! could answer. The kernel names the page in the auxiliary vector on the new stack; the child stops after it has
//! executed, traced by us, and that entry is struck out. The C library then calls the kernel.

use std::io;
use std::os::raw::c_void;

/// Words of the stack that are looked through at most.
const MOST: u64 = 1 << 16;
const WORD: u64 = 8;
const AT_IGNORE: i64 = 1;
const AT_SYSINFO_EHDR: u64 = 33;
const NT_PRSTATUS: usize = 1;
/// Index of the stack pointer among the registers that the kernel hands out.
#[cfg(target_arch = "x86_64")]
const STACK_POINTER: usize = 19;
#[cfg(target_arch = "aarch64")]
const STACK_POINTER: usize = 31;

/// Waits for the traced child's execution and strikes the vDSO out; the child stays stopped.
///
/// # Errors
/// The child died, or tracing is refused.
pub(crate) fn without_vdso(child: libc::pid_t) -> io::Result<()> {
    let mut status = 0;
    // SAFETY: waits for our own child.
    while unsafe { libc::waitpid(child, &raw mut status, 0) } < 0 {
        retry()?;
    }
    if !libc::WIFSTOPPED(status) {
        return Err(io::Error::other("it ended before it ran"));
    }
    let mut word = stack_pointer(child)?;
    let end = word + MOST * WORD;
    // The number of arguments, the arguments, null, the environment, null, then pairs of the auxiliary vector.
    word += WORD;
    for _ in 0..2 {
        while peek(child, word)? != 0 {
            word += WORD;
        }
        word += WORD;
    }
    while word < end {
        match peek(child, word)? as u64 {
            0 => break,
            AT_SYSINFO_EHDR => poke(child, word, AT_IGNORE)?,
            _ => {}
        }
        word += 2 * WORD;
    }
    Ok(())
}

/// Lets a stopped child run, untraced.
///
/// # Errors
/// It is gone.
pub(crate) fn release(child: libc::pid_t) -> io::Result<()> {
    // SAFETY: ends the tracing of our own child.
    if unsafe { libc::ptrace(libc::PTRACE_DETACH, child, 0, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn retry() -> io::Result<()> {
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        error => Err(error),
    }
}

fn stack_pointer(child: libc::pid_t) -> io::Result<u64> {
    let mut registers = [0u64; 64];
    let mut span = libc::iovec {
        iov_base: registers.as_mut_ptr().cast(),
        iov_len: size_of_val(&registers),
    };
    // SAFETY: the kernel writes at most the span's length into `registers`.
    let result = unsafe { libc::ptrace(libc::PTRACE_GETREGSET, child, NT_PRSTATUS, &raw mut span) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(registers[STACK_POINTER])
}

fn peek(child: libc::pid_t, address: u64) -> io::Result<i64> {
    // SAFETY: reads a word of a stopped child; -1 is a value as well, so errno decides.
    unsafe {
        *libc::__errno_location() = 0;
        let word = libc::ptrace(libc::PTRACE_PEEKDATA, child, address as *mut c_void, 0);
        if word == -1 && *libc::__errno_location() != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(word)
    }
}

fn poke(child: libc::pid_t, address: u64, value: i64) -> io::Result<()> {
    // SAFETY: writes a word of a stopped child.
    let result =
        unsafe { libc::ptrace(libc::PTRACE_POKEDATA, child, address as *mut c_void, value) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
