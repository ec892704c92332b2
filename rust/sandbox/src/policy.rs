//! What a child may run, read, start and spend.

use std::path::PathBuf;

/// Resource limits of one child, applied as rlimits before it executes.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Address space in bytes (`RLIMIT_AS`).
    pub memory: u64,
    /// Processor time in seconds (`RLIMIT_CPU`); whom that does not end the kernel kills at one second more.
    pub cpu_seconds: u64,
    /// Open files (`RLIMIT_NOFILE`).
    pub open_files: u64,
    /// Size of a written file in bytes (`RLIMIT_FSIZE`); pipes are not files.
    pub file_size: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 512 << 20,
            cpu_seconds: 60,
            open_files: 32,
            file_size: 0,
        }
    }
}

/// Who may start processes. Namespaces and threads are refused to everybody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Forks {
    /// One process and no other.
    #[default]
    Nobody,
    /// The child itself, not what it started: a warm interpreter that forks attempts. The host decides about
    /// every fork, so this needs the virtual clock's layer.
    First,
    /// Every process; `RLIMIT_NPROC` bounds their number, from which the kernel exempts root.
    Everybody {
        /// Most processes of the user.
        processes: u64,
    },
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
    /// Files and folders below readable ones that stay closed. Without a private root their names still show.
    pub hidden: Vec<PathBuf>,
    /// Who may start processes.
    pub forks: Forks,
    /// What waits on its standard input when it starts: as much as a pipe takes.
    pub input: Vec<u8>,
    /// Resource limits.
    pub limits: Limits,
    /// The program runs what the host trusts until it sets the clock that reseeds its world (see `world`): until then it
    /// reads this machine's clocks, which costs no round through the host, and [`crate::spawn`] waits for that moment.
    pub trusted_start: bool,
    /// Refuse to start if a layer is missing.
    pub strict: bool,
}
