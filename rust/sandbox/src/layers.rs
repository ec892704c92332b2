//! Which layers are really in force: tried in throw-away children, not guessed from versions.

use std::ffi::c_int;
use std::sync::OnceLock;

use crate::error::Error;
use crate::filesystem::{self, Root};
use crate::launch::{Launch, launch};
use crate::listener;
use crate::policy::{Forks, Policy};
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
    /// Whether the host can answer clocks and entropy in the child's place.
    pub virtual_clock: bool,
}

impl Layers {
    /// Every layer by name, and whether it is in force.
    fn named(&self) -> impl Iterator<Item = (String, bool)> {
        let spaces = NAMESPACES
            .iter()
            .map(|(name, flag)| (format!("{name} namespace"), self.flags & flag != 0));
        let others = [
            ("private root", self.private_root),
            ("landlock", self.landlock_abi > 0),
            ("seccomp", self.seccomp),
            ("virtual clock", self.virtual_clock),
        ];
        spaces.chain(others.map(|(name, there)| (name.to_owned(), there)))
    }

    /// Names of the layers in force; resource limits are, always.
    #[must_use]
    pub fn in_force(&self) -> Vec<String> {
        self.named()
            .filter(|(_, there)| *there)
            .map(|(name, _)| name)
            .collect()
    }

    /// Names of the layers that are not in force; empty if the sandbox is complete.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        self.named()
            .filter(|(_, there)| !there)
            .map(|(name, _)| name)
            .collect()
    }

    fn try_out(&self) -> Result<(), Error> {
        let policy = Policy {
            readable: vec!["/usr".into()],
            ..Policy::default()
        };
        // Our end stays open until the child has sent its listener.
        let (_ours, theirs) = listener::sockets().map_err(|source| Error::Setup {
            step: "virtual clock",
            source,
        })?;
        let attempt = Launch {
            namespaces: self.flags,
            root: if self.private_root {
                Some(Root::plan(&policy, self.landlock_abi > 0)?.into())
            } else {
                None
            },
            landlock: if self.landlock_abi > 0 {
                filesystem::rules(&policy)?
            } else {
                None
            },
            filters: if self.seccomp {
                let answers = self.virtual_clock;
                Some(syscalls::filters(Forks::Nobody, answers, false, None)?)
            } else {
                None
            },
            socket: Some(theirs),
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
            virtual_clock: true,
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
                "virtual clock" => layers.virtual_clock = false,
                "seccomp" | "seccomp program" => {
                    layers.seccomp = false;
                    layers.virtual_clock = false;
                }
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
