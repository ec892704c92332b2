//! What failed first on a device: a pass is many launches, and its caller asks once, at the end.

use std::sync::{Mutex, PoisonError};

use moevolve_kernels_cuda::{Error, Result};

/// The first error since somebody asked.
#[derive(Debug, Default)]
pub struct Failure {
    first: Mutex<Option<Error>>,
}

impl Failure {
    /// Does some work unless something failed before; none if it fails.
    pub fn attempt<T>(&self, work: impl FnOnce() -> Result<T>) -> Option<T> {
        if self.lock().is_some() {
            return None;
        }
        match work() {
            Ok(done) => Some(done),
            Err(error) => {
                *self.lock() = Some(error);
                None
            }
        }
    }

    /// Whether something failed since somebody asked for it.
    pub fn is_set(&self) -> bool {
        self.lock().is_some()
    }

    /// The first error, which is forgotten.
    pub fn take(&self) -> Result<()> {
        self.lock().take().map_or(Ok(()), Err)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Error>> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
