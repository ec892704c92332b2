//! What a writer says of itself, many times a second: a small file beside the journal, outside its chain.
//!
//! The file has its full length from the start, so a full disk cannot keep a run from saying that the disk is full.
//! Two slots are written by turns, each with a checksum and a counter: a reader takes the newest whole one, and a
//! writer killed in between leaves the one before. Nothing is synced: after a power cut the journal tells the truth.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::fcntl::posix_fallocate;

use crate::error::{Error, Result};

/// Length of one slot in bytes.
const SLOT: usize = 8192;
const HEADER: usize = 16 + 8 + 4;

/// The longest state in bytes.
pub const MAX_STATE: usize = SLOT - HEADER;

/// Reads that may meet a half-written slot before the state counts as unknown.
const TRIES: usize = 16;

/// The file and the counter of its newest slot.
#[derive(Debug)]
pub(crate) struct StateFile {
    path: PathBuf,
    file: File,
    turn: u64,
}

impl StateFile {
    /// Opens the file for writing and reserves its space.
    pub fn open(path: PathBuf) -> Result<Self> {
        let fail = |source| Error::io(&path, "cannot open", source);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(fail)?;
        posix_fallocate(&file, 0, 2 * SLOT as i64).map_err(|error| fail(error.into()))?;
        let turn = newest(&file).map_err(fail)?.map_or(0, |slot| slot.turn);
        Ok(Self { path, file, turn })
    }

    pub fn write(&mut self, state: &[u8]) -> Result<()> {
        if state.len() > MAX_STATE {
            return Err(Error::Name {
                what: "state",
                name: format!("{} bytes", state.len()),
                why: format!("it is longer than {MAX_STATE} bytes"),
            });
        }
        self.turn += 1;
        let mut slot = vec![0; HEADER];
        slot[16..24].copy_from_slice(&self.turn.to_le_bytes());
        slot[24..28].copy_from_slice(&(state.len() as u32).to_le_bytes());
        slot.extend_from_slice(state);
        let sum = checksum(&slot[16..]);
        slot[..16].copy_from_slice(&sum);
        self.file
            .write_all_at(&slot, self.turn % 2 * SLOT as u64)
            .map_err(|source| Error::io(&self.path, "cannot write", source))
    }
}

/// The newest state, or None before there is one.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let fail = |source| Error::io(path, "cannot read", source);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error)),
    };
    for _ in 0..TRIES {
        if let Some(slot) = newest(&file).map_err(fail)? {
            return Ok(Some(slot.state));
        }
    }
    Ok(None)
}

struct Slot {
    turn: u64,
    state: Vec<u8>,
}

fn newest(file: &File) -> std::io::Result<Option<Slot>> {
    let mut best: Option<Slot> = None;
    for place in 0..2 {
        let mut bytes = vec![0; SLOT];
        let mut filled = 0;
        while filled < SLOT {
            match file.read_at(&mut bytes[filled..], (place * SLOT + filled) as u64)? {
                0 => break,
                more => filled += more,
            }
        }
        if let Some(slot) = whole(&bytes[..filled])
            && best.as_ref().is_none_or(|before| before.turn < slot.turn)
        {
            best = Some(slot);
        }
    }
    Ok(best)
}

fn whole(bytes: &[u8]) -> Option<Slot> {
    let (sum, rest) = bytes.split_first_chunk::<16>()?;
    let (turn, after) = rest.split_first_chunk::<8>()?;
    let (length, after) = after.split_first_chunk::<4>()?;
    let state = after.get(..u32::from_le_bytes(*length) as usize)?;
    let turn = u64::from_le_bytes(*turn);
    (turn > 0 && checksum(&rest[..12 + state.len()]) == *sum).then(|| Slot {
        turn,
        state: state.to_vec(),
    })
}

fn checksum(bytes: &[u8]) -> [u8; 16] {
    let mut sum = [0; 16];
    sum.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
    sum
}
