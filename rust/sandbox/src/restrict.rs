//! The last steps before the execution: privileges are given up for good, limits set.
//!
//! Runs between `clone` and `execve`, so it makes system calls and nothing else (see `launch`).

use std::ffi::{c_int, c_long, c_ulong};
use std::os::fd::AsRawFd;
use std::ptr;

use seccompiler::BpfProgramRef;

use crate::launch::{Launch, Step, check};
use crate::listener;

/// `struct __user_cap_header_struct` and two `__user_cap_data_struct` of capset(2), version 3.
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: c_int,
}

/// Capabilities, Landlock, seccomp; the trace that takes the vDSO away comes before the last.
pub(crate) fn restrict(launch: &Launch) -> Step {
    const VERSION_3: u32 = 0x2008_0522;
    /// SECBIT_NOROOT and SECBIT_NO_SETUID_FIXUP with their locks.
    const SECURE_BITS: c_ulong = 0b1111;
    const ADDR_NO_RANDOMIZE: c_ulong = 0x004_0000;
    // SAFETY: structs and programs outlive the calls that read them.
    unsafe {
        // Object addresses leak into results (hash order of plain objects); the same program must see the same ones.
        libc::personality(ADDR_NO_RANDOMIZE);
        // Fails without privileges, where there is nothing to lock.
        libc::prctl(libc::PR_SET_SECUREBITS, SECURE_BITS, 0, 0, 0);
        let header = CapabilityHeader {
            version: VERSION_3,
            pid: 0,
        };
        let none = [0u32; 6];
        check(
            "capabilities",
            libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()),
        )?;
        check(
            "no new privileges",
            c_long::from(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)),
        )?;
        if let Some(rules) = &launch.landlock {
            check(
                "landlock",
                libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0),
            )?;
        }
        let Some(filters) = &launch.filters else {
            return limit(launch);
        };
        if let Some(execution) = &filters.execution {
            install(execution)?;
        }
        match (&filters.start, &launch.socket) {
            (Some(start), _) => {
                check("virtual clock", libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0))?;
                install(start)?;
            }
            (None, Some(socket)) if filters.answers => {
                check("virtual clock", libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0))?;
                listener::install(&program(&filters.guard), socket.as_raw_fd())?;
            }
            _ => install(&filters.guard)?,
        }
        // Not before the listener has its descriptor, which may be a high one.
        limit(launch)?;
        install(&filters.list)
    }
}

fn limit(launch: &Launch) -> Step {
    for &(resource, limit) in &launch.limits {
        // The soft limit of processor time comes first: the hard one ends by SIGKILL, as a machine does that lacks memory.
        let grace = u64::from(resource == libc::RLIMIT_CPU as _);
        let value = libc::rlimit {
            rlim_cur: limit,
            rlim_max: limit.saturating_add(grace),
        };
        // SAFETY: `value` lives through the call.
        check("limits", unsafe {
            c_long::from(libc::setrlimit(resource as _, &raw const value))
        })?;
    }
    Ok(())
}

fn program(filter: BpfProgramRef) -> libc::sock_fprog {
    libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_ptr().cast_mut().cast(),
    }
}

fn install(filter: BpfProgramRef) -> Step {
    let program = program(filter);
    // SAFETY: the program outlives the call.
    let result = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER as c_ulong,
            ptr::from_ref(&program),
            0,
            0,
        )
    };
    check("seccomp", c_long::from(result)).map(|_| ())
}
