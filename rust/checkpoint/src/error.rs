//! Errors of files, with where and what was expected.

use std::path::Path;

/// One error for the crate: what is wrong with which file, key or tensor.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{file}: {key}: {reason}")]
    Config {
        file: String,
        key: String,
        reason: String,
    },
    #[error("{file}: {reason}")]
    File { file: String, reason: String },
    #[error("{file}: tensor {name}: {reason}")]
    Tensor {
        file: String,
        name: String,
        reason: String,
    },
    /// The caller's own request is impossible, whatever the files say.
    #[error("{0}")]
    Request(String),
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of a whole file, on one line whatever a library's message looks like.
    pub fn file(path: &Path, reason: impl ToString) -> Self {
        let reason = reason
            .to_string()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        Self::File {
            file: path.display().to_string(),
            reason,
        }
    }

    /// An error of one tensor of `file`.
    pub fn tensor(file: &str, name: &str, reason: impl Into<String>) -> Self {
        Self::Tensor {
            file: file.to_owned(),
            name: name.to_owned(),
            reason: reason.into(),
        }
    }

    /// Whether the checkpoint is torn, alien or inconsistent.
    pub fn is_checkpoint(&self) -> bool {
        !self.is_usage()
    }

    /// Whether the caller's request was impossible.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Request(_))
    }
}
