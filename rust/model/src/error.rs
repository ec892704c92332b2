//! What can go wrong, with where and what was expected.

use std::path::Path;

/// One error for the crate; bindings turn `is_checkpoint` into `CheckpointError` and `is_usage` into `UsageError`.
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
    #[error("{0}")]
    Request(String),
    #[error("{0}")]
    Capacity(String),
    #[error(
        "these weights stay as their file has them and cannot change: put an adapter beside them (adapt), or load the \
         model with weights=\"trainable\""
    )]
    Frozen,
    #[error("this checkpoint has no tokenizer.json: pass token ids")]
    NoTokenizer,
    #[error(
        "the {what} is not finite ({value}): the weights were left as they were; lower the learning rate"
    )]
    NotFinite { what: &'static str, value: f64 },
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn file(path: &Path, reason: impl ToString) -> Self {
        // One line, whatever a library's message looks like.
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

    /// The checkpoint is torn, alien or inconsistent.
    pub fn is_checkpoint(&self) -> bool {
        matches!(
            self,
            Self::Config { .. } | Self::File { .. } | Self::Tensor { .. }
        )
    }

    /// The caller asked for something impossible.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Request(_) | Self::Capacity(_) | Self::NoTokenizer | Self::Frozen
        )
    }
}
