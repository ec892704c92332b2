//! What can go wrong, with where and what was expected.

use std::path::Path;

/// One error for the crate; bindings turn `is_checkpoint` into `CheckpointError` and `is_usage` into `UsageError`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What is wrong with which file, key or tensor.
    #[error(transparent)]
    Checkpoint(#[from] moevolve_checkpoint::Error),
    #[error("{0}")]
    Request(String),
    #[error("{0}")]
    Capacity(String),
    /// What a device's driver or memory said.
    #[error(transparent)]
    Device(#[from] moevolve_kernels_cuda::Error),
    #[error(
        "{family} does not run on cards here: no kernel for cards computes {what}; device cpu runs it"
    )]
    NotOnCards {
        family: &'static str,
        what: &'static str,
    },
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
    /// An error of a whole file.
    pub fn file(path: &Path, reason: impl ToString) -> Self {
        moevolve_checkpoint::Error::file(path, reason).into()
    }

    /// The checkpoint is torn, alien or inconsistent.
    pub fn is_checkpoint(&self) -> bool {
        matches!(self, Self::Checkpoint(error) if error.is_checkpoint())
    }

    /// There is not enough memory for it.
    pub fn is_capacity(&self) -> bool {
        matches!(
            self,
            Self::Capacity(_) | Self::Device(moevolve_kernels_cuda::Error::Memory { .. })
        )
    }

    /// The caller asked for something impossible.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Checkpoint(error) => error.is_usage(),
            Self::Request(_)
            | Self::Capacity(_)
            | Self::NoTokenizer
            | Self::Frozen
            | Self::NotOnCards { .. } => true,
            Self::Device(error) => error.is_usage(),
            Self::NotFinite { .. } => false,
        }
    }
}
