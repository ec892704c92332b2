//! Runs code nobody trusts: namespaces, Landlock, seccomp, limits, and the kill of a whole process tree.
//!
//! A [`Policy`] says what the child may read and spend, [`spawn`] starts it, and [`Child`] exchanges length-prefixed
//! frames with it under deadlines. What the kernel offers is tried out once per process and told by [`probe`]; a layer
//! that is missing is reported, never assumed, and `strict` refuses to go on without it.
//!
//! Walls: private root and Landlock (files), namespaces, a list of allowed system calls, resource limits, a leash that
//! ends with the host. Determinism: time, entropy and names are answered by the host from a key (`world`), so a program
//! that reads a clock in good faith reads the same twice.
//!
//! Design:
//! * Everything that allocates (paths, arguments, Landlock rules, BPF programs) is made before the fork; the child
//!   runs plain system calls on what it finds, because the parent has threads (see `launch`).
//! * The child shares the parent's memory until it executes (`CLONE_VM | CLONE_VFORK`), so a spawn costs the same
//!   however large the parent has grown, and a failed step is reported through that memory.
//! * The child is the init of its own PID namespace: when it dies, everything it started dies.

mod child;
mod error;
mod filesystem;
mod frames;
mod image;
mod launch;
mod layers;
mod leash;
mod listener;
mod memory;
mod mounts;
mod policy;
mod restrict;
mod spawn;
mod start;
mod syscalls;
mod world;

pub use child::Child;
pub use error::{Error, Result};
pub use frames::Bounds;
pub use layers::{Layers, probe};
pub use policy::{Forks, Limits, Policy};
pub use spawn::spawn;
