//! The seccomp filters: a deny list that answers `EPERM`, and a guard against ways around it.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};

use crate::error::{Error, Result};

/// Bit that marks system calls of the x32 ABI, which a deny list by number would miss.
const X32_BIT: u32 = 0x4000_0000;

/// Denied whatever the arguments are.
///
/// Landlock does not cover changes of metadata (mode, owner, times, attributes), UDP and raw sockets, or locks on
/// readable files, so those are denied here.
const DENIED: &[i64] = &[
    // Network and other ways to talk to processes outside.
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_shmget,
    libc::SYS_semget,
    libc::SYS_msgget,
    libc::SYS_mq_open,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_flock,
    // Other processes' memory, and this one's privileges.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_personality,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_setsid,
    libc::SYS_setpgid,
    // Kernel surface that a program never needs.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_fanotify_init,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    // File systems.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_mknodat,
    libc::SYS_memfd_create,
    libc::SYS_execveat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    SYS_FCHMODAT2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    libc::SYS_utimensat,
];

/// The same number on every architecture; older libc headers lack its name.
const SYS_FCHMODAT2: i64 = 452;

/// Calls that exist on x86-64 only, older twins of those above.
#[cfg(target_arch = "x86_64")]
const DENIED_HERE: &[i64] = &[
    libc::SYS_mknod,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
    libc::SYS_kexec_file_load,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
];
#[cfg(not(target_arch = "x86_64"))]
const DENIED_HERE: &[i64] = &[];

#[cfg(target_arch = "x86_64")]
const FORKS: &[i64] = &[libc::SYS_fork, libc::SYS_vfork];
#[cfg(not(target_arch = "x86_64"))]
const FORKS: &[i64] = &[];

/// Flags of `clone` that open a namespace.
const NAMESPACES: &[libc::c_int] = &[
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
];

/// The filters in the order of installation; `forks` lets the child start processes (never namespaces).
pub(crate) fn filters(forks: bool) -> Result<Vec<BpfProgram>> {
    Ok(vec![deny_list(forks)?, guard()])
}

fn deny_list(forks: bool) -> Result<BpfProgram> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = DENIED
        .iter()
        .chain(DENIED_HERE)
        .map(|&number| (number, Vec::new()))
        .collect();
    if forks {
        let opens = NAMESPACES
            .iter()
            .map(|&flag| {
                argument(
                    0,
                    SeccompCmpArgLen::Dword,
                    SeccompCmpOp::MaskedEq(flag as u64),
                    flag as u64,
                )
            })
            .collect::<Result<Vec<_>>>()?;
        rules.insert(libc::SYS_clone, opens);
    } else {
        rules.insert(libc::SYS_clone, Vec::new());
        rules.extend(FORKS.iter().map(|&number| (number, Vec::new())));
    }
    // Reading limits is fine (libc does); setting them, of another process too, is not.
    rules.insert(
        libc::SYS_prlimit64,
        vec![argument(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0)?],
    );
    // Pushing characters into the input of a terminal that was inherited.
    rules.insert(
        libc::SYS_ioctl,
        vec![argument(
            1,
            SeccompCmpArgLen::Dword,
            SeccompCmpOp::Eq,
            libc::TIOCSTI,
        )?],
    );
    let architecture = TargetArch::try_from(std::env::consts::ARCH).map_err(refused)?;
    SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM as u32),
        architecture,
    )
    .and_then(BpfProgram::try_from)
    .map_err(refused)
}

fn argument(
    index: u8,
    width: SeccompCmpArgLen,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompRule> {
    SeccompCondition::new(index, width, operator, value)
        .and_then(|condition| SeccompRule::new(vec![condition]))
        .map_err(refused)
}

fn refused(error: impl std::error::Error) -> Error {
    Error::Setup {
        step: "seccomp program",
        source: std::io::Error::other(error.to_string()),
    }
}

/// Answers `ENOSYS` to `clone3`, whose flags lie behind a pointer that a filter cannot read (glibc then falls back to
/// `clone`), and to every x32 call.
fn guard() -> BpfProgram {
    let load_number = instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0);
    let is_clone3 = instruction(
        libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
        1,
        0,
        libc::SYS_clone3 as u32,
    );
    let is_x32 = instruction(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, X32_BIT);
    let missing = instruction(
        libc::BPF_RET | libc::BPF_K,
        0,
        0,
        libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32,
    );
    let allow = instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW);
    vec![load_number, is_clone3, is_x32, missing, allow]
}

fn instruction(code: u32, jump_true: u8, jump_false: u8, value: u32) -> sock_filter {
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
        for forks in [false, true] {
            for program in filters(forks).unwrap() {
                assert!(!program.is_empty() && program.len() < 4096);
            }
        }
    }
}
