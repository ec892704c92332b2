//! The seccomp filters: a list of the system calls that a child may make, and a guard against ways around it.
//!
//! What is not listed answers `EPERM`. The guard comes first: it answers `ENOSYS` where the C library should fall back
//! (`clone3`, calls younger than this list), kills what speaks another ABI, and hands clocks, entropy and names
//! to the host (see `world`).

use std::collections::BTreeMap;
use std::ffi::CStr;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};

use crate::error::{Error, Result};
use crate::policy::Forks;

/// Bit that marks system calls of the x32 ABI.
const X32_BIT: u32 = 0x4000_0000;
/// The newest call that this list knows of; a younger one does not exist here.
const YOUNGEST: u32 = 460;

/// Allowed whatever the arguments are: files that Landlock and the private root leave, memory, waiting, ending.
const ALLOWED: &[i64] = &[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_chdir,
    libc::SYS_fadvise64,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_futex,
    libc::SYS_set_tid_address,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_umask,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Allowed ones that exist on x86-64 only, older twins of those above.
#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &[i64] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_pipe,
    libc::SYS_dup2,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_arch_prctl,
];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[i64] = &[];

/// What the host answers in the child's place where the virtual clock's layer is in force, and what is allowed as it
/// is where it is not: there `getrandom` stays refused.
const ANSWERED: &[i64] = &[
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
];
/// Answered by the host or refused.
const ANSWERED_ONLY: &[i64] = &[
    libc::SYS_clock_settime,
    libc::SYS_getrandom,
    libc::SYS_uname,
    // Where it is refused, the C library takes the refusal for a time, and what lay in memory for the rest.
    libc::SYS_times,
];
#[cfg(target_arch = "x86_64")]
const ANSWERED_HERE: &[i64] = &[libc::SYS_time];
#[cfg(not(target_arch = "x86_64"))]
const ANSWERED_HERE: &[i64] = &[];

/// What starts a process, and what waits for one.
#[cfg(target_arch = "x86_64")]
const FORKS: &[i64] = &[libc::SYS_clone, libc::SYS_fork, libc::SYS_vfork];
#[cfg(not(target_arch = "x86_64"))]
const FORKS: &[i64] = &[libc::SYS_clone];
const WAITS: &[i64] = &[libc::SYS_wait4, libc::SYS_waitid];

/// Flags of `clone` that open a namespace or start a thread.
const NO_PLAIN_FORK: libc::c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_THREAD;

/// Commands of `fcntl`: descriptors and their flags. No locks, leases, owners, notifications or pipe sizes.
const FCNTL: &[libc::c_int] = &[
    libc::F_DUPFD,
    libc::F_DUPFD_CLOEXEC,
    libc::F_GETFD,
    libc::F_SETFD,
    libc::F_GETFL,
    libc::F_SETFL,
];
/// Requests of `ioctl`: closing at execution, and whether a descriptor is a terminal.
const IOCTL: &[libc::Ioctl] = &[libc::FIOCLEX, libc::FIONCLEX, libc::TCGETS];

/// The filters of one launch, in the order of installation.
pub(crate) struct Filters {
    /// Allows one execution: the one whose path lies where the host put it.
    pub execution: Option<BpfProgram>,
    /// Installed with a listener where `answers` is set.
    pub guard: BpfProgram,
    /// Whether the host answers calls.
    pub answers: bool,
    /// In force instead of the guard until a trusted start is over (see `start`).
    pub start: Option<BpfProgram>,
    /// What may be called at all.
    pub list: BpfProgram,
}

/// The filters for a child; `answers` says whether the host answers calls, `trusted_start` whether it does so from the
/// start on or later, `path` is what the child is going to execute.
pub(crate) fn filters(
    forks: Forks,
    answers: bool,
    trusted_start: bool,
    path: Option<&CStr>,
) -> Result<Filters> {
    let execution = match (forks, path) {
        (Forks::Everybody { .. }, _) | (_, None) => None,
        (_, Some(path)) => Some(one_execution(path.as_ptr() as u64)),
    };
    Ok(Filters {
        execution,
        guard: guard(forks, answers),
        answers,
        start: trusted_start.then(start),
        list: allowed(forks, answers, trusted_start)?,
    })
}

fn allowed(forks: Forks, answers: bool, trusted_start: bool) -> Result<BpfProgram> {
    use SeccompCmpArgLen::{Dword, Qword};
    use SeccompCmpOp::{Eq, MaskedEq};
    let always = ALLOWED
        .iter()
        .chain(ALLOWED_HERE)
        .chain(ANSWERED)
        .chain(ANSWERED_HERE)
        .chain(if answers { ANSWERED_ONLY } else { &[] })
        .chain([&libc::SYS_execve]);
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        always.map(|&number| (number, Vec::new())).collect();
    let among = |values: Vec<u64>| {
        values
            .into_iter()
            .map(|value| rule(&[(1, Dword, Eq, value)]))
            .collect::<Result<Vec<_>>>()
    };
    rules.insert(
        libc::SYS_fcntl,
        among(FCNTL.iter().map(|&command| command as u64).collect())?,
    );
    rules.insert(libc::SYS_ioctl, among(IOCTL.to_vec())?);
    // Limits of the process itself, for reading: the C library does.
    rules.insert(
        libc::SYS_prlimit64,
        vec![rule(&[(0, Dword, Eq, 0), (2, Qword, Eq, 0)])?],
    );
    // Processor time of a step; real time would tell a program how fast it ran.
    rules.insert(
        libc::SYS_setitimer,
        vec![rule(&[(0, Dword, Eq, libc::ITIMER_PROF as u64)])?],
    );
    if trusted_start {
        // The guard itself, which refuses any other.
        let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
        let mode = u64::from(libc::SECCOMP_SET_MODE_FILTER);
        rules.insert(
            libc::SYS_seccomp,
            vec![rule(&[(0, Dword, Eq, mode), (1, Qword, Eq, flags)])?],
        );
    }
    if forks != Forks::Nobody {
        let plain = MaskedEq(NO_PLAIN_FORK as u64);
        rules.extend(FORKS.iter().map(|&number| (number, Vec::new())));
        rules.extend(WAITS.iter().map(|&number| (number, Vec::new())));
        rules.insert(libc::SYS_clone, vec![rule(&[(0, Dword, plain, 0)])?]);
    }
    let architecture = TargetArch::try_from(std::env::consts::ARCH).map_err(refused)?;
    SeccompFilter::new(
        rules,
        SeccompAction::Errno(libc::EPERM as u32),
        SeccompAction::Allow,
        architecture,
    )
    .and_then(BpfProgram::try_from)
    .map_err(refused)
}

fn rule(conditions: &[(u8, SeccompCmpArgLen, SeccompCmpOp, u64)]) -> Result<SeccompRule> {
    conditions
        .iter()
        .map(|(index, width, operator, value)| {
            SeccompCondition::new(*index, width.clone(), operator.clone(), *value)
        })
        .collect::<std::result::Result<Vec<_>, _>>()
        .and_then(SeccompRule::new)
        .map_err(refused)
}

fn refused(error: impl std::error::Error) -> Error {
    Error::Setup {
        step: "seccomp program",
        source: std::io::Error::other(error.to_string()),
    }
}

const ALLOW: sock_filter = answer(libc::SECCOMP_RET_ALLOW);
const MISSING: sock_filter = answer(libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32);

/// Clocks that are read and nothing else: the interpreter's own start does so more than a hundred times.
const READINGS: &[i64] = &[libc::SYS_clock_gettime, libc::SYS_gettimeofday];

/// The guard of a trusted start: clocks are this machine's, and whatever else the host answers stops the child.
fn start() -> BpfProgram {
    let mut program = entrance();
    let asked = ANSWERED.iter().chain(ANSWERED_ONLY).chain(ANSWERED_HERE);
    for &number in asked.filter(|number| !READINGS.contains(number)) {
        program.push(jump(libc::BPF_JEQ, number as u32, 0, 1));
        program.push(answer(libc::SECCOMP_RET_TRACE));
    }
    program.push(ALLOW);
    program
}

/// The guard.
fn guard(forks: Forks, answers: bool) -> BpfProgram {
    let mut program = entrance();
    program.push(jump(libc::BPF_JEQ, libc::SYS_seccomp as u32, 0, 1));
    program.push(answer(libc::SECCOMP_RET_ERRNO | libc::EPERM as u32));
    if answers {
        let forks = if forks == Forks::First { FORKS } else { &[] };
        let asked = ANSWERED
            .iter()
            .chain(ANSWERED_ONLY)
            .chain(ANSWERED_HERE)
            .chain(forks);
        for &number in asked {
            program.push(jump(libc::BPF_JEQ, number as u32, 0, 1));
            program.push(answer(libc::SECCOMP_RET_USER_NOTIF));
        }
    }
    program.push(ALLOW);
    program
}

/// What both guards begin with; a child of another ABI dies, since it knows what it does.
fn entrance() -> BpfProgram {
    vec![
        load(0),
        // Over the kill unless it is an x32 call.
        jump(libc::BPF_JGE, X32_BIT, 0, 1),
        answer(libc::SECCOMP_RET_KILL_PROCESS),
        jump(libc::BPF_JGT, YOUNGEST, 0, 1),
        MISSING,
        jump(libc::BPF_JEQ, libc::SYS_clone3 as u32, 0, 1),
        MISSING,
    ]
}

/// Refuses every execution but that of the path at `address`: a second image would have the clocks back that the first
/// one lost (see `image`).
fn one_execution(address: u64) -> BpfProgram {
    // Offsets in `struct seccomp_data`: the number, then architecture, instruction pointer, six arguments. Little-endian.
    let (low, high) = (16, 20);
    vec![
        load(0),
        jump(libc::BPF_JEQ, libc::SYS_execve as u32, 0, 4),
        load(low),
        jump(libc::BPF_JEQ, address as u32, 0, 3),
        load(high),
        jump(libc::BPF_JEQ, (address >> 32) as u32, 0, 1),
        ALLOW,
        answer(libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
    ]
}

const fn load(offset: u32) -> sock_filter {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset)
}

const fn jump(comparison: u32, value: u32, skip_true: u8, skip_false: u8) -> sock_filter {
    instruction(
        libc::BPF_JMP | comparison | libc::BPF_K,
        skip_true,
        skip_false,
        value,
    )
}

const fn answer(value: u32) -> sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, 0, 0, value)
}

const fn instruction(code: u32, jump_true: u8, jump_false: u8, value: u32) -> sock_filter {
    sock_filter {
        code: code as u16,
        jt: jump_true,
        jf: jump_false,
        k: value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_fit_the_kernel_limit() {
        for forks in [
            Forks::Nobody,
            Forks::First,
            Forks::Everybody { processes: 9 },
        ] {
            for answers in [false, true] {
                let made = filters(forks, answers, answers, Some(c"/program")).unwrap();
                for program in [&made.guard, &made.list].into_iter().chain(&made.start) {
                    assert!(!program.is_empty() && program.len() < 4096);
                }
                assert_eq!(
                    made.execution.is_none(),
                    matches!(forks, Forks::Everybody { .. })
                );
            }
        }
    }
}
