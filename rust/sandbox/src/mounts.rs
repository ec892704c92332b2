//! The private root: a few places of the host, read-only, on a file system of the child's own.
//!
//! Runs between `clone` and `execve`, so it makes system calls and nothing else (see `launch`).

use std::ffi::{CStr, c_char, c_int, c_long, c_uint};
use std::os::fd::RawFd;

use crate::filesystem::Root;
use crate::launch::{Failure, Step, check};

/// Places of a private root at most.
const MOST: usize = 256;
/// Where the private root is put together; any folder that every system has.
const STAGE: &CStr = c"/tmp";

/// A tmpfs that holds the planned places, read-only, becomes the root; the old one is let go.
pub(crate) fn private_root(root: &Root) -> Step {
    const STEP: &str = "private root";
    const RECURSIVE: c_int = 0x8000; // AT_RECURSIVE
    // SAFETY: every pointer below is a null-terminated string or a struct that outlives its call.
    unsafe {
        // A handle on the host's root: places are found through it although the stage covers /tmp.
        let host = check(
            STEP,
            c_long::from(libc::open(c"/".as_ptr(), libc::O_PATH | libc::O_CLOEXEC)),
        )? as RawFd;
        let mut trees = [-1 as RawFd; MOST];
        if root.places.len() > trees.len() {
            return Err(Failure {
                step: STEP,
                errno: libc::E2BIG,
            });
        }
        for (place, tree) in root.places.iter().zip(&mut trees) {
            let flags =
                libc::OPEN_TREE_CLONE as c_int | libc::OPEN_TREE_CLOEXEC as c_int | RECURSIVE;
            *tree = check(
                STEP,
                libc::syscall(libc::SYS_open_tree, host, place.source.as_ptr(), flags),
            )? as RawFd;
        }
        let data = c"size=1m,mode=755".as_ptr().cast();
        let flags = libc::MS_NOSUID | libc::MS_NODEV;
        check(
            STEP,
            c_long::from(libc::mount(
                c"none".as_ptr(),
                STAGE.as_ptr(),
                c"tmpfs".as_ptr(),
                flags,
                data,
            )),
        )?;
        check(STEP, c_long::from(libc::chdir(STAGE.as_ptr())))?;
        for link in &root.links {
            libc::symlink(link.text.as_ptr(), link.target.as_ptr());
        }
        let sealed = MountAttributes {
            set: libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
            clear: 0,
            propagation: 0,
            user: 0,
        };
        let seal = |path: *const c_char, at: RawFd, flags: c_int| {
            libc::syscall(
                libc::SYS_mount_setattr,
                at,
                path,
                flags,
                &raw const sealed,
                size_of::<MountAttributes>(),
            )
        };
        for (place, &tree) in root.places.iter().zip(&trees) {
            for parent in &place.parents {
                libc::mkdir(parent.as_ptr(), 0o755);
            }
            if place.is_folder {
                libc::mkdir(place.target.as_ptr(), 0o755);
            } else {
                let file = libc::open(
                    place.target.as_ptr(),
                    libc::O_CREAT | libc::O_WRONLY | libc::O_CLOEXEC,
                    0o644,
                );
                libc::close(file);
            }
            const FROM_HANDLE: c_uint = 4; // MOVE_MOUNT_F_EMPTY_PATH
            let here = libc::AT_FDCWD;
            let target = place.target.as_ptr();
            check(
                STEP,
                libc::syscall(
                    libc::SYS_move_mount,
                    tree,
                    c"".as_ptr(),
                    here,
                    target,
                    FROM_HANDLE,
                ),
            )?;
        }
        cover(root)?;
        check(STEP, seal(c".".as_ptr(), libc::AT_FDCWD, RECURSIVE))?;
        check(
            STEP,
            libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()),
        )?;
        check(
            STEP,
            c_long::from(libc::umount2(c".".as_ptr(), libc::MNT_DETACH)),
        )?;
        check(STEP, c_long::from(libc::chdir(c"/".as_ptr())))?;
    }
    Ok(())
}

/// Puts an empty folder or file over every hidden path.
fn cover(root: &Root) -> Step {
    const STEP: &str = "private root";
    const FOLDER: &CStr = c".empty";
    const FILE: &CStr = c".nothing";
    if root.covers.is_empty() {
        return Ok(());
    }
    // SAFETY: every pointer is a null-terminated string.
    unsafe {
        libc::mkdir(FOLDER.as_ptr(), 0o555);
        let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_CLOEXEC;
        libc::close(libc::open(FILE.as_ptr(), flags, 0o444));
        for (path, is_folder) in &root.covers {
            let empty = if *is_folder { FOLDER } else { FILE };
            let none = std::ptr::null();
            let (from, to) = (empty.as_ptr(), path.as_ptr());
            let bound = libc::mount(from, to, none, libc::MS_BIND, none.cast());
            check(STEP, c_long::from(bound))?;
        }
        libc::rmdir(FOLDER.as_ptr());
        libc::unlink(FILE.as_ptr());
    }
    Ok(())
}

/// `struct mount_attr` of mount_setattr(2).
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user: u64,
}
