//! placeholder
use crate::error::Result;
use std::path::Path;
pub(crate) fn check(_path: &Path, _txn: u64) -> Result<()> {
    Ok(())
}
