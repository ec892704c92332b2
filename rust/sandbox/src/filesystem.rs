//! What the child sees of the file system: Landlock rules, and the plan of a private root.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

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

/// Rules that allow reading `readable`, reading and executing `executable`, and nothing else: no write, no TCP, no
/// signal or abstract socket to the outside. `None` where the kernel has no Landlock.
pub(crate) fn rules(policy: &Policy) -> Result<Option<OwnedFd>> {
    if landlock_abi() == 0 {
        return Ok(None);
    }
    let abi = ABI::V6;
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(abi)))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(abi)))
        .and_then(Ruleset::create)
        .map_err(refused)?;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let rules = policy.readable.iter().map(|path| (path, read)).chain(
        policy
            .executable
            .iter()
            .map(|path| (path, read | AccessFs::Execute)),
    );
    for (path, access) in rules {
        let Some(is_folder) = existing(path)? else {
            continue;
        };
        let access: BitFlags<AccessFs> = if is_folder {
            access
        } else {
            access & AccessFs::from_file(abi)
        };
        let opened = PathFd::new(path).map_err(|error| Error::Path {
            path: path.clone(),
            source: io::Error::other(error.to_string()),
        })?;
        ruleset = ruleset
            .add_rule(PathBeneath::new(opened, access))
            .map_err(refused)?;
    }
    Ok(ruleset.into())
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
        Ok(found) => Ok(Some(found.is_dir())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Path {
            path: path.to_path_buf(),
            source,
        }),
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

/// The private root: the policy's paths, and nothing else of the host.
#[derive(Default)]
pub(crate) struct Root {
    pub places: Vec<Place>,
    pub links: Vec<Link>,
}

impl Root {
    /// Plans the mounts; a path below another one needs none of its own.
    pub(crate) fn plan(policy: &Policy) -> Result<Self> {
        let mut paths: Vec<PathBuf> = Vec::new();
        let mut root = Self::default();
        for path in policy.readable.iter().chain(&policy.executable) {
            if existing(path)?.is_none() {
                continue;
            }
            let real = path.canonicalize().map_err(|source| Error::Path {
                path: path.clone(),
                source,
            })?;
            // A link at the top level, as merged-usr systems have, is made again; deeper ones point into their target.
            if let (Ok(text), Some(parent)) = (std::fs::read_link(path), path.parent())
                && parent == Path::new("/")
            {
                root.links.push(Link {
                    text: text_of(&text)?,
                    target: relative(path)?,
                });
            } else if real != *path {
                paths.push(path.clone());
            }
            paths.push(real);
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
