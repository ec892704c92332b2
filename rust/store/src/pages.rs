//! Looks over an LMDB file before LMDB does, through plain reads.
//!
//! LMDB trusts its pages: where a file was cut or overwritten, a read through the memory map kills the process. So when
//! a store is opened, the tree of pages of its newest snapshot is walked once with `pread`: every page must lie in the
//! file, say its own number and kind, and keep its nodes inside itself, and a tree must have
//! as many entries as it says. Values are left to the journal's chain and the blobs' hashes. The walk reads inside a read transaction, so that a writer at work reuses none of these pages.
//!
//! Layout: LMDB 0.9.70, `MDB_page`, `MDB_node`, `MDB_db` and `MDB_meta` in `mdb.c`, on little-endian 64-bit machines.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::error::{Error, Result};

const MAGIC: u32 = 0xBEEF_C0DE;
const VERSION: u32 = 1;
/// Root of an empty tree.
const NO_PAGE: u64 = u64::MAX;

const PAGE_HEADER: usize = 16;
const NODE_HEADER: usize = 8;

const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
const OVERFLOW: u16 = 0x04;
const META: u16 = 0x08;
/// `MDB_INTEGERKEY`.
const NUMBER_KEYS: u16 = 0x08;

const BIG_DATA: u16 = 0x01;
const SUB_DATABASE: u16 = 0x02;
/// Size of `MDB_db`.
const TREE: usize = 48;

/// The parts of a meta page that a walk needs.
#[derive(PartialEq)]
struct Meta {
    page_size: usize,
    trees: [Tree; 2],
    last_page: u64,
    txn: u64,
}

#[derive(Clone, Copy, PartialEq)]
struct Tree {
    flags: u16,
    depth: u16,
    entries: u64,
    root: u64,
}

/// How a walk of the tree ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Walk {
    Sound,
    /// The writer has replaced this snapshot's meta page: begin a newer transaction.
    Stale,
}

/// Whether the file is LMDB's at all; called before LMDB opens, or makes, anything beside it.
pub(crate) fn recognise(path: &Path) -> Result<()> {
    let (file, length) = open(path)?;
    let first = read_meta(path, &file, 0)?;
    if (length as usize) < 2 * first.page_size {
        return Err(torn(path, format!("it is cut to {length} bytes")));
    }
    let second = read_meta(path, &file, first.page_size as u64)?;
    if second.page_size != first.page_size {
        return Err(torn(path, "its two meta pages differ".to_owned()));
    }
    Ok(())
}

/// Walks the snapshot of transaction `txn`, which the caller keeps open.
pub(crate) fn check(path: &Path, txn: u64) -> Result<Walk> {
    let (file, length) = open(path)?;
    let page_size = read_meta(path, &file, 0)?.page_size;
    let place = txn % 2 * page_size as u64;
    let meta = read_meta(path, &file, place)?;
    // Twice: a writer may be writing the page at this moment.
    if meta.txn != txn || meta != read_meta(path, &file, place)? {
        return Ok(Walk::Stale);
    }
    let mut walker = Walker {
        path,
        file: &file,
        length,
        page_size,
        last_page: meta.last_page,
        buffer: vec![0; page_size],
        left: meta.last_page.saturating_add(1),
        waiting: Vec::new(),
    };
    let mut trees = meta.trees.to_vec();
    while let Some(tree) = trees.pop() {
        walker.walk(tree, &mut trees)?;
    }
    Ok(Walk::Sound)
}

struct Walker<'a> {
    path: &'a Path,
    file: &'a File,
    length: u64,
    page_size: usize,
    last_page: u64,
    buffer: Vec<u8>,
    /// Pages that may still be visited: a sound file has no cycle.
    left: u64,
    /// Pages to visit, with their height above the leaves (1 is a leaf).
    waiting: Vec<(u64, u16)>,
}

impl Walker<'_> {
    /// Visits a tree's pages; adds the trees that it holds to `found`.
    fn walk(&mut self, tree: Tree, found: &mut Vec<Tree>) -> Result<()> {
        let mut entries = 0;
        // The tree of free pages has numbers as keys; none of ours has keys of a special kind.
        if tree.flags & !NUMBER_KEYS != 0 {
            return Err(torn(
                self.path,
                "a tree has flags that Moevolve never sets".to_owned(),
            ));
        }
        if tree.root != NO_PAGE {
            self.waiting.push((tree.root, tree.depth));
        }
        while let Some((page, height)) = self.waiting.pop() {
            if self.left == 0 {
                return Err(torn(self.path, "its pages form a circle".to_owned()));
            }
            self.left -= 1;
            entries += self.page(page, height, found)?;
        }
        if entries != tree.entries {
            let why = format!(
                "a tree should have {} entries and has {entries}",
                tree.entries
            );
            return Err(torn(self.path, why));
        }
        Ok(())
    }

    /// Visits one page; returns how many entries it holds itself.
    fn page(&mut self, number: u64, height: u16, found: &mut Vec<Tree>) -> Result<u64> {
        self.load(number, 1)?;
        let kind = if height > 1 { BRANCH } else { LEAF };
        let (lower, upper) = (self.u16(12) as usize, self.u16(14) as usize);
        if height == 0 || self.u16(10) != kind {
            return Err(self.bad(number, "is of the wrong kind"));
        }
        if lower < PAGE_HEADER || lower > upper || upper > self.page_size || lower % 2 != 0 {
            return Err(self.bad(number, "has bounds outside itself"));
        }
        let mut long = Vec::new();
        for slot in (PAGE_HEADER..lower).step_by(2) {
            let node = self.u16(slot) as usize;
            if node < upper || node + NODE_HEADER > self.page_size {
                return Err(self.bad(number, "has a node outside itself"));
            }
            if kind == BRANCH {
                self.branch(number, node, height)?;
            } else if let Some(value) = self.leaf(number, node, found)? {
                long.push(value);
            }
        }
        for (first, size) in long {
            self.overflow(first, size)?;
        }
        let nodes = (lower - PAGE_HEADER) as u64 / 2;
        Ok(if kind == LEAF { nodes } else { 0 })
    }

    /// Notes the child of a branch's node.
    fn branch(&mut self, number: u64, node: usize, height: u16) -> Result<()> {
        if node + NODE_HEADER + self.u16(node + 6) as usize > self.page_size {
            return Err(self.bad(number, "has a key that leaves it"));
        }
        // A branch keeps the child's number where a leaf keeps size and flags.
        let child = u64::from(self.u32(node)) | u64::from(self.u16(node + 4)) << 32;
        self.waiting.push((child, height - 1));
        Ok(())
    }

    /// Looks at a leaf's node; returns the place and size of a value that has pages of its own.
    fn leaf(&self, number: u64, node: usize, found: &mut Vec<Tree>) -> Result<Option<(u64, u64)>> {
        let (size, flags) = (self.u32(node), self.u16(node + 4));
        let data = node + NODE_HEADER + self.u16(node + 6) as usize;
        let inside = if flags == BIG_DATA { 8 } else { size as usize };
        if data + inside > self.page_size {
            return Err(self.bad(number, "has a value that leaves it"));
        }
        match flags {
            0 => Ok(None),
            BIG_DATA => Ok(Some((self.u64(data), u64::from(size)))),
            SUB_DATABASE if inside == TREE => {
                found.push(Tree {
                    flags: self.u16(data + 4),
                    depth: self.u16(data + 6),
                    entries: self.u64(data + 32),
                    root: self.u64(data + 40),
                });
                Ok(None)
            }
            _ => Err(self.bad(number, "has a node of an unknown kind")),
        }
    }

    /// A value too long for its page, on pages of its own.
    fn overflow(&mut self, first: u64, size: u64) -> Result<()> {
        let pages = (PAGE_HEADER as u64 - 1 + size) / self.page_size as u64 + 1;
        self.load(first, pages)?;
        if self.u16(10) != OVERFLOW || u64::from(self.u32(12)) < pages {
            return Err(self.bad(first, "is not the long value it should be"));
        }
        Ok(())
    }

    /// Reads a page's head, after a look whether the file has it and the ones after it.
    fn load(&mut self, number: u64, pages: u64) -> Result<()> {
        let last = number.saturating_add(pages - 1);
        if number < 2 || last > self.last_page {
            return Err(self.bad(number, "does not exist"));
        }
        let size = self.page_size as u64;
        if last.saturating_add(1).saturating_mul(size) > self.length {
            let why = format!("it is cut to {} bytes and lacks page {last}", self.length);
            return Err(torn(self.path, why));
        }
        self.file
            .read_exact_at(&mut self.buffer, number * size)
            .map_err(|error| Error::io(self.path, "cannot read", error))?;
        if self.u64(0) != number {
            return Err(self.bad(number, "was overwritten"));
        }
        Ok(())
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.buffer[at], self.buffer[at + 1]])
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from(self.u16(at)) | u32::from(self.u16(at + 2)) << 16
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from(self.u32(at)) | u64::from(self.u32(at + 4)) << 32
    }

    fn bad(&self, page: u64, what: &str) -> Error {
        torn(self.path, format!("page {page} {what}"))
    }
}

fn open(path: &Path) -> Result<(File, u64)> {
    let fail = |error| Error::io(path, "cannot read", error);
    let file = File::open(path).map_err(fail)?;
    let length = file.metadata().map_err(fail)?.len();
    Ok((file, length))
}

fn read_meta(path: &Path, file: &File, at: u64) -> Result<Meta> {
    let mut bytes = [0; 152];
    file.read_exact_at(&mut bytes, at).map_err(|error| {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            torn(path, "it is too short for an LMDB file".to_owned())
        } else {
            Error::io(path, "cannot read", error)
        }
    })?;
    let u16 = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let u32 = |at: usize| u32::from(u16(at)) | u32::from(u16(at + 2)) << 16;
    let u64 = |at: usize| u64::from(u32(at)) | u64::from(u32(at + 4)) << 32;
    let page_size = u32(40) as usize;
    if u32(16) != MAGIC || !page_size.is_power_of_two() || !(256..=65536).contains(&page_size) {
        return Err(torn(path, "it is not an LMDB file".to_owned()));
    }
    if u32(20) != VERSION {
        let why = format!("it has LMDB's file format {}, not {VERSION}", u32(20));
        return Err(torn(path, why));
    }
    // These flags come with the environment's, of which a fixed address would move the map.
    if u16(44) != NUMBER_KEYS || u16(92) != 0 || u16(10) != META {
        return Err(torn(path, "a meta page was overwritten".to_owned()));
    }
    let tree = |at: usize| Tree {
        flags: u16(at + 4),
        depth: u16(at + 6),
        entries: u64(at + 32),
        root: u64(at + 40),
    };
    Ok(Meta {
        page_size,
        trees: [tree(40), tree(88)],
        last_page: u64(136),
        txn: u64(144),
    })
}

fn torn(path: &Path, why: String) -> Error {
    Error::Torn {
        path: path.to_path_buf(),
        why,
    }
}
