//! What supersedes what: rows in chains, each with the one that comes after it.

use std::path::Path;

use heed::RwTxn;

use crate::columns::NONE;
use crate::lesson::Lesson;
use crate::store::{MemoryStore, Work, name_error};

/// What becomes of a lesson that cannot supersede what it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// It is refused.
    Strict,
    /// It comes after what holds there, or stands alone: so it was where it comes from.
    Adopted,
}

impl MemoryStore {
    /// Puts a new row at the end of the chain of what its lesson supersedes.
    ///
    /// What is gone or forgotten in it is walked over: a lesson that holds again since its successor was forgotten may be
    /// superseded again.
    pub(crate) fn supersede(
        &self,
        txn: &mut RwTxn<'_>,
        path: &Path,
        lesson: &Lesson,
        row: u32,
        replaced: Option<u32>,
        manner: Manner,
    ) -> Work<()> {
        let Some(old) = &lesson.supersedes else {
            if let Some(before) = replaced {
                // A lesson that is written again keeps its place: what came after it still does.
                let mut gone = self.columns.get(txn, before)?;
                if gone.successor != NONE {
                    let mut new = self.columns.get(txn, row)?;
                    new.successor = gone.successor;
                    gone.successor = row;
                    self.columns.put(txn, &[(before, gone), (row, new)])?;
                }
            }
            return Ok(());
        };
        let refuse = |why: &str| name_error("superseded lesson", old, why);
        let Some(before) = self.row(txn, path, old)? else {
            return match manner {
                Manner::Strict => Err(refuse("it is not in this memory").into()),
                Manner::Adopted => Ok(()),
            };
        };
        if before == row {
            return Err(refuse("a lesson cannot supersede itself").into());
        }
        let mut end = before;
        let mut columns = self.columns.get(txn, end)?;
        while columns.successor != NONE && replaced != Some(end) {
            end = columns.successor;
            columns = self.columns.get(txn, end)?;
            let holds = !columns.gone() && !columns.standing().forgotten;
            if holds && manner == Manner::Strict {
                return Err(refuse("another lesson has superseded it: name that one").into());
            }
        }
        let mut last = row;
        loop {
            if last == end {
                return Err(refuse(&format!("it comes after {:?} already", lesson.id)).into());
            }
            match self.columns.get(txn, last)?.successor {
                NONE => break,
                next => last = next,
            }
        }
        if columns.successor != NONE {
            // The same of one that supersedes.
            let mut later = self.columns.get(txn, last)?;
            later.successor = columns.successor;
            self.columns.put(txn, &[(last, later)])?;
        }
        columns.successor = row;
        self.columns.put(txn, &[(end, columns)])?;
        Ok(())
    }
}
