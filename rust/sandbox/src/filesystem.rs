//! What the child sees of the file system: Landlock rules, and the plan of a private root.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreatedAttr, Scope,
};

use crate::error::{Error, Result};
use crate::policy::Policy;

/// Version of Landlock that the running kernel offers; 0 without it.
pub(crate) fn landlock_abi() -> i32 {
    const VERSION: libc::c_uint = 1;
    // SAFETY: the kernel documents a null pointer and size 0 for the query of the version.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0usize,
            VERSION,
        )
    };
    i32::try_from(version).map_or(0, |version| version.max(0))
}

/// What rules were made for: readable, executable, hidden.
type Paths = (Vec<PathBuf>, Vec<PathBuf>, Vec<PathBuf>);

/// Rules that allow reading `readable` without `hidden`, reading and executing `executable`, and nothing else: no write,
/// no TCP, no signal or abstract socket to the outside. `None` where the kernel has no Landlock.
///
/// The last rules are kept: one child after the other has the same.
pub(crate) fn rules(policy: &Policy) -> Result<Option<Arc<OwnedFd>>> {
    static LAST: Mutex<Option<(Paths, Arc<OwnedFd>)>> = Mutex::new(None);
    if landlock_abi() == 0 {
        return Ok(None);
    }
    let paths = paths(policy);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((for_paths, rules)) = &*last
        && *for_paths == paths
    {
        return Ok(Some(Arc::clone(rules)));
    }
    let made = make_rules(policy)?.map(Arc::new);
    *last = made.clone().map(|rules| (paths, rules));
    Ok(made)
}

fn paths(policy: &Policy) -> Paths {
    (
        policy.readable.clone(),
        policy.executable.clone(),
        policy.hidden.clone(),
    )
}

fn make_rules(policy: &Policy) -> Result<Option<OwnedFd>> {
    let abi = ABI::V6;
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(abi)))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(abi)))
        .and_then(Ruleset::create)
        .map_err(refused)?;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut rules = Vec::new();
    for path in &policy.readable {
        around(path, &policy.hidden, read, &mut rules)?;
    }
    for path in &policy.executable {
        around(path, &policy.hidden, read | AccessFs::Execute, &mut rules)?;
    }
    for (path, access) in rules {
        let opened = PathFd::new(&path).map_err(|error| Error::Path {
            path: path.clone(),
            source: io::Error::other(error.to_string()),
        })?;
        ruleset = ruleset
            .add_rule(PathBeneath::new(opened, access))
            .map_err(refused)?;
    }
    Ok(ruleset.into())
}

/// Rules that open `path` and what is below it, but nothing of `hidden`: a rule covers all below it, so the folders
/// above a hidden path are opened entry by entry, and may themselves only be listed.
fn around(
    path: &Path,
    hidden: &[PathBuf],
    access: BitFlags<AccessFs>,
    rules: &mut Vec<(PathBuf, BitFlags<AccessFs>)>,
) -> Result<()> {
    let Some(is_folder) = existing(path)? else {
        return Ok(());
    };
    let real = real(path)?;
    if hidden.iter().any(|closed| real.starts_with(closed)) {
        return Ok(());
    }
    if !is_folder {
        rules.push((real, access & AccessFs::from_file(ABI::V6)));
    } else if hidden.iter().any(|closed| closed.starts_with(&real)) {
        let entries = std::fs::read_dir(&real).map_err(|source| unreadable(&real, source))?;
        for entry in entries {
            let entry = entry.map_err(|source| unreadable(&real, source))?;
            // A link may point anywhere.
            if !entry.path().is_symlink() {
                around(&entry.path(), hidden, access, rules)?;
            }
        }
        rules.push((real, AccessFs::ReadDir.into()));
    } else {
        rules.push((real, access));
    }
    Ok(())
}

fn real(path: &Path) -> Result<PathBuf> {
    path.canonicalize()
        .map_err(|source| unreadable(path, source))
}

fn unreadable(path: &Path, source: io::Error) -> Error {
    Error::Path {
        path: path.to_path_buf(),
        source,
    }
}

fn refused(error: landlock::RulesetError) -> Error {
    Error::Setup {
        step: "landlock rules",
        source: io::Error::other(error.to_string()),
    }
}

/// Whether the path is a folder; `None` if there is nothing there.
fn existing(path: &Path) -> Result<Option<bool>> {
    match std::fs::metadata(path) {
        Ok(there) => Ok(Some(there.is_dir())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(unreadable(path, source)),
    }
}

/// One place of the private root: `source` of the host appears at the same path, read-only.
pub(crate) struct Place {
    /// Absolute host path.
    pub source: CString,
    /// The same path, relative to the new root.
    pub target: CString,
    /// Folders to make first, relative to the new root, outermost first.
    pub parents: Vec<CString>,
    /// Whether the place is a folder (else an empty file is made to mount over).
    pub is_folder: bool,
}

/// A symbolic link of the private root, such as `/lib64 -> usr/lib64`.
pub(crate) struct Link {
    /// What the link says.
    pub text: CString,
    /// Its path relative to the new root.
    pub target: CString,
}

/// So many files of one folder are a mount of that folder.
const CROWD: usize = 6;

/// The private root: the policy's paths, and nothing else of the host.
#[derive(Default)]
pub(crate) struct Root {
    pub places: Vec<Place>,
    pub links: Vec<Link>,
    /// Paths, relative to the new root, that are covered by something empty; true for a folder.
    pub covers: Vec<(CString, bool)>,
}

/// The plan of a policy's private root; the last one is kept, as with `rules`.
pub(crate) fn root(policy: &Policy, landlock: bool) -> Result<Arc<Root>> {
    static LAST: Mutex<Option<(Paths, Arc<Root>)>> = Mutex::new(None);
    let paths = paths(policy);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((for_paths, root)) = &*last
        && *for_paths == paths
    {
        return Ok(Arc::clone(root));
    }
    let made = Arc::new(Root::plan(policy, landlock)?);
    *last = Some((paths, Arc::clone(&made)));
    Ok(made)
}

impl Root {
    /// Plans the mounts; a path below another one needs none of its own, nor does one of many files of a folder:
    /// where Landlock closes the others, the folder is mounted once.
    pub(crate) fn plan(policy: &Policy, landlock: bool) -> Result<Self> {
        let mut paths: Vec<PathBuf> = Vec::new();
        let mut root = Self::default();
        let mut tops = BTreeMap::new();
        for path in policy.readable.iter().chain(&policy.executable) {
            if existing(path)?.is_none() {
                continue;
            }
            let real = real(path)?;
            // A link at the top level, as merged-usr systems have, is made again; deeper ones point into their target.
            let top = path.iter().take(2).collect::<PathBuf>();
            let mut seen = path.clone();
            if let (Ok(text), Ok(below)) = (std::fs::read_link(&top), path.strip_prefix(&top)) {
                seen = Path::new("/").join(&text);
                if below.components().next().is_some() {
                    seen.push(below);
                }
                tops.insert(top, text);
            }
            if real != seen {
                paths.push(seen);
            }
            paths.push(real);
        }
        for (top, text) in tops {
            root.links.push(Link {
                text: text_of(&text)?,
                target: relative(&top)?,
            });
        }
        if landlock {
            let mut files: BTreeMap<PathBuf, usize> = BTreeMap::new();
            for folder in paths.iter().filter_map(|path| path.parent()) {
                *files.entry(folder.to_path_buf()).or_default() += 1;
            }
            let crowded = files.into_iter().filter(|(_, count)| *count >= CROWD);
            paths.extend(crowded.map(|(folder, _)| folder));
        }
        paths.sort();
        paths.dedup();
        let mut kept: Vec<PathBuf> = Vec::new();
        for path in paths {
            if !kept.iter().any(|above| path.starts_with(above)) {
                kept.push(path);
            }
        }
        for path in kept {
            let is_folder = path.is_dir();
            let mut parents: Vec<_> = path
                .ancestors()
                .skip(1)
                .filter(|p| p.parent().is_some())
                .collect();
            parents.reverse();
            root.places.push(Place {
                source: text_of(&path)?,
                target: relative(&path)?,
                parents: parents.into_iter().map(relative).collect::<Result<_>>()?,
                is_folder,
            });
        }
        for path in &policy.hidden {
            let within = |path: &Path| {
                root.places.iter().any(|place| {
                    let source = Path::new(std::ffi::OsStr::from_bytes(place.source.as_bytes()));
                    path.starts_with(source)
                })
            };
            if let Some(is_folder) = existing(path)?
                && within(path)
            {
                root.covers.push((relative(path)?, is_folder));
            }
        }
        Ok(root)
    }
}

fn relative(path: &Path) -> Result<CString> {
    text_of(path.strip_prefix("/").unwrap_or(path))
}

pub(crate) fn text_of(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|error| Error::Path {
        path: path.to_path_buf(),
        source: io::Error::other(error),
    })
}
