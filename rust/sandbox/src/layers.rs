//! Which layers are really in force: tried in throw-away children, not guessed from versions.

use std::ffi::c_int;
use std::sync::OnceLock;

use crate::error::Error;
use crate::filesystem::{self, Root};
use crate::launch::{Launch, launch};
use crate::policy::Policy;
use crate::syscalls;

/// Name and flag of every namespace, in the order of reports.
const NAMESPACES: [(&str, c_int); 6] = [
    ("user", libc::CLONE_NEWUSER),
    ("mount", libc::CLONE_NEWNS),
    ("pid", libc::CLONE_NEWPID),
    ("network", libc::CLONE_NEWNET),
    ("ipc", libc::CLONE_NEWIPC),
    ("uts", libc::CLONE_NEWUTS),
];

/// The layers that every child of this process gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layers {
    pub(crate) flags: c_int,
    /// Whether the child has a root of its own that holds the policy's paths only, read-only.
    pub private_root: bool,
    /// Landlock version of the kernel, 0 if it cannot be used.
    pub landlock_abi: i32,
    /// Whether the system-call filter can be installed.
    pub seccomp: bool,
}

impl Layers {
    /// Names of the namespaces in force.
    #[must_use]
    pub fn namespaces(&self) -> Vec<&'static str> {
        NAMESPACES
            .iter()
            .filter(|(_, flag)| self.flags & flag != 0)
            .map(|(name, _)| *name)
            .collect()
    }

    /// Names of the layers that are not in force; empty if the sandbox is complete.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let spaces = NAMESPACES.iter().filter(|(_, flag)| self.flags & flag == 0);
        let mut missing: Vec<_> = spaces
            .map(|(name, _)| format!("{name} namespace"))
            .collect();
        let others = [
            ("private root", self.private_root),
            ("landlock", self.landlock_abi > 0),
            ("seccomp", self.seccomp),
        ];
        missing.extend(
            others
                .iter()
                .filter(|(_, there)| !there)
                .map(|(name, _)| (*name).to_owned()),
        );
        missing
    }

    fn try_out(&self) -> Result<(), Error> {
        let policy = Policy {
            readable: vec!["/usr".into()],
            ..Policy::default()
        };
        let attempt = Launch {
            namespaces: self.flags,
            root: if self.private_root {
                Some(Root::plan(&policy)?)
            } else {
                None
            },
            landlock: if self.landlock_abi > 0 {
                filesystem::rules(&policy)?
            } else {
                None
            },
            filters: if self.seccomp {
                syscalls::filters(false)?
            } else {
                Vec::new()
            },
            limits: Vec::new(),
            program: None,
        };
        let pid = launch(&attempt)?;
        let mut status = 0;
        // SAFETY: waits for our own child, which exits at once.
        unsafe { libc::waitpid(pid, &raw mut status, 0) };
        Ok(())
    }
}

/// Tries the layers from all to none and returns what works; the answer is kept for the life of the process.
pub fn probe() -> &'static Layers {
    static FOUND: OnceLock<Layers> = OnceLock::new();
    FOUND.get_or_init(|| {
        let all = NAMESPACES.iter().fold(0, |flags, (_, flag)| flags | flag);
        // Root may lack user namespaces but have the others; a container may refuse the network one.
        let mut weaker = vec![0, libc::CLONE_NEWUSER | libc::CLONE_NEWPID];
        weaker.push(all & !libc::CLONE_NEWNET & !libc::CLONE_NEWNS);
        weaker.push(all & !libc::CLONE_NEWNET);
        weaker.push(all & !libc::CLONE_NEWUSER);
        let mut layers = Layers {
            flags: all,
            private_root: true,
            landlock_abi: filesystem::landlock_abi(),
            seccomp: true,
        };
        while let Err(error) = layers.try_out() {
            let step = if let Error::Setup { step, .. } = error {
                step
            } else {
                "clone"
            };
            match step {
                "private root" => layers.private_root = false,
                "landlock" | "landlock rules" => layers.landlock_abi = 0,
                "seccomp" | "seccomp program" => layers.seccomp = false,
                _ => match weaker.pop() {
                    Some(flags) => {
                        layers.flags = flags;
                        layers.private_root &= flags & libc::CLONE_NEWNS != 0;
                    }
                    None => break,
                },
            }
        }
        layers
    })
}
