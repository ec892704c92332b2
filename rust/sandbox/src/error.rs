//! What can go wrong between asking for a child and reading its last frame.

use std::io;
use std::path::PathBuf;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the sandbox. The child's own misbehaviour is the last five variants.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setup step failed, in the parent or in the child before it executed.
    #[error("sandbox setup failed at '{step}': {source}")]
    Setup {
        /// The step, named as in `launch`.
        step: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// A path of the policy cannot be opened or holds a NUL byte.
    #[error("sandbox path {path}: {source}")]
    Path {
        /// The path as given.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// An argument or environment entry holds a NUL byte.
    #[error("sandbox argument {0:?} holds a NUL byte")]
    Argument(String),
    /// `strict` was asked for and a layer is missing.
    #[error(
        "the sandbox is not complete on this machine, missing: {missing}; run without strict to accept that"
    )]
    Incomplete {
        /// The missing layers.
        missing: String,
    },
    /// What the policy asks for hangs on a layer that is missing.
    #[error("{what} need the sandbox's layer '{layer}', which this machine does not offer")]
    Needs {
        /// What was asked for.
        what: &'static str,
        /// The missing layer.
        layer: &'static str,
    },
    /// The child closed its pipe or died; `how` says which exit or signal, `stderr` is its last output.
    #[error("the sandboxed process ended ({how}){}", tail(.stderr))]
    Ended {
        /// Exit status or signal in words.
        how: String,
        /// Last output on stderr.
        stderr: String,
    },
    /// The child used up its processor time.
    #[error("the sandboxed process used up its {seconds} s of processor time")]
    Spent {
        /// The limit in seconds.
        seconds: u64,
    },
    /// A frame announced more bytes than allowed.
    #[error("the sandboxed process announced a message of {length} bytes, more than {most}")]
    FrameTooLarge {
        /// Announced length in bytes.
        length: usize,
        /// Allowed length in bytes.
        most: usize,
    },
    /// A frame holds more values or levels than allowed.
    #[error("the sandboxed process sent a message of more than {values} values or {depth} levels")]
    FrameTooRich {
        /// Allowed number of values.
        values: usize,
        /// Allowed number of levels.
        depth: usize,
    },
    /// The pipes failed.
    #[error("exchange with the sandboxed process failed: {0}")]
    Pipe(#[source] io::Error),
}

fn tail(stderr: &str) -> String {
    match stderr.trim().lines().last() {
        Some(line) => format!(": {line}"),
        None => String::new(),
    }
}
