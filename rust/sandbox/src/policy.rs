//! What a child may run, read and spend.

use std::path::PathBuf;

/// Resource limits of one child, applied as rlimits before it executes.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Address space in bytes (`RLIMIT_AS`).
    pub memory: u64,
    /// Processor time in seconds (`RLIMIT_CPU`); the kernel kills at one second more.
    pub cpu_seconds: u64,
    /// Open files (`RLIMIT_NOFILE`).
    pub open_files: u64,
    /// Processes and threads. 1 forbids starting any by seccomp, for every user; above that `RLIMIT_NPROC` counts,
    /// from which the kernel exempts root.
    pub processes: u64,
    /// Size of a written file in bytes (`RLIMIT_FSIZE`); pipes are not files.
    pub file_size: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 512 << 20,
            cpu_seconds: 60,
            open_files: 32,
            processes: 1,
            file_size: 0,
        }
    }
}

/// A child to start: everything it gets is named here.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Absolute path of the executable.
    pub program: PathBuf,
    /// Arguments after the program's name.
    pub arguments: Vec<String>,
    /// The whole environment; nothing is inherited.
    pub environment: Vec<(String, String)>,
    /// Files and folders (with all below) that may be read. Paths that do not exist are left out.
    pub readable: Vec<PathBuf>,
    /// Files and folders that may be read and executed, the dynamic loader included.
    pub executable: Vec<PathBuf>,
    /// Resource limits.
    pub limits: Limits,
    /// Refuse to start if a layer is missing.
    pub strict: bool,
}
