//! The fork and what the child does before it executes.
//!
//! The parent has threads, so between `clone` and `execve` the child may only make system calls: no allocation, no
//! locks, no panics. Everything it needs is prepared in [`Launch`]. It runs on a stack of its own in the parent's memory
//! while the calling thread waits (`CLONE_VM | CLONE_VFORK`), so it can leave the failed step where the parent finds it.

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_uint, c_void};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::filesystem::Root;
use crate::mounts::private_root;
use crate::restrict::restrict;
use crate::syscalls::Filters;

/// Inside its user namespace the child is this ordinary user, so executing gains no capabilities.
const INNER_ID: u32 = 1000;
const STACK: usize = 256 << 10;

/// Everything a child needs, made before the fork.
pub(crate) struct Launch {
    /// `CLONE_NEW*` flags.
    pub namespaces: c_int,
    /// Mounts of the private root; needs the mount namespace.
    pub root: Option<Arc<Root>>,
    /// Landlock rules.
    pub landlock: Option<Arc<OwnedFd>>,
    /// Seccomp filters.
    pub filters: Option<Filters>,
    /// Where the child sends the listener, if the filters have one.
    pub socket: Option<OwnedFd>,
    /// `(resource, limit)`.
    pub limits: Vec<(c_uint, u64)>,
    /// What to execute; `None` only tries the layers and exits with 0.
    pub program: Option<Program>,
}

/// Arguments of `execve`; the pointer lists end with null and point into the strings beside them.
pub(crate) struct Program {
    path: CString,
    arguments: Pointers,
    environment: Pointers,
    /// Ends of the pipes that become 0, 1 and 2.
    pub streams: [OwnedFd; 3],
}

struct Pointers {
    _strings: Vec<CString>,
    list: Vec<*const c_char>,
}

impl Pointers {
    fn new(strings: Vec<CString>) -> Self {
        let list = strings
            .iter()
            .map(|text| text.as_ptr())
            .chain([ptr::null()])
            .collect();
        Self {
            _strings: strings,
            list,
        }
    }
}

impl Program {
    pub(crate) fn path(&self) -> &CStr {
        &self.path
    }

    pub(crate) fn new(
        path: CString,
        arguments: Vec<CString>,
        environment: Vec<CString>,
        streams: [OwnedFd; 3],
    ) -> Self {
        let arguments = [path.clone()].into_iter().chain(arguments).collect();
        Self {
            path,
            arguments: Pointers::new(arguments),
            environment: Pointers::new(environment),
            streams,
        }
    }
}

/// What the child leaves behind if a step fails.
#[derive(Clone, Copy)]
pub(crate) struct Failure {
    pub step: &'static str,
    pub errno: c_int,
}

struct Shared<'a> {
    launch: &'a Launch,
    maps: [(&'static CStr, CString); 3],
    failure: Option<Failure>,
}

/// A stack for the child, with an inaccessible page below it.
struct Stack {
    base: *mut c_void,
}

impl Stack {
    fn new() -> io::Result<Self> {
        // SAFETY: a fresh anonymous mapping; nothing else refers to it.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                STACK,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the first page belongs to the mapping above.
        unsafe { libc::mprotect(base, 4096, libc::PROT_NONE) };
        Ok(Self { base })
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: unmaps exactly what `new` mapped; the child has executed or exited by then.
        unsafe { libc::munmap(self.base, STACK) };
    }
}

/// Starts the child; returns its process id in the caller's namespace.
///
/// # Errors
/// [`Error::Setup`] naming the step that failed, `clone` included.
pub(crate) fn launch(launch: &Launch) -> Result<libc::pid_t> {
    let stack = Stack::new().map_err(|source| Error::Setup {
        step: "stack",
        source,
    })?;
    // SAFETY: geteuid and getegid cannot fail and touch no memory.
    let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
    let line = |id: u32| CString::new(format!("{INNER_ID} {id} 1")).unwrap_or_default();
    let mut shared = Shared {
        launch,
        maps: [
            (c"/proc/self/setgroups", CString::from(c"deny")),
            (c"/proc/self/uid_map", line(user)),
            (c"/proc/self/gid_map", line(group)),
        ],
        failure: None,
    };
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD | launch.namespaces;
    // No signal handler of the parent may run in the child, which shares its memory.
    // SAFETY: sigset_t is plain data that sigfillset initialises.
    let (pid, error) = unsafe {
        let mut all = std::mem::zeroed::<libc::sigset_t>();
        let mut before = std::mem::zeroed::<libc::sigset_t>();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        // SAFETY: the stack outlives the child's use of it, since CLONE_VFORK holds this thread until the child
        // executes or exits; `shared` lives as long, and only one of the two runs at a time.
        let pid = libc::clone(
            enter,
            stack.base.byte_add(STACK),
            flags,
            (&raw mut shared).cast(),
        );
        let error = io::Error::last_os_error();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut());
        (pid, error)
    };
    if pid < 0 {
        return Err(Error::Setup {
            step: "clone",
            source: error,
        });
    }
    // SAFETY: `shared` is initialised; the child wrote through the pointer before it exited, hence the volatile read.
    match unsafe { ptr::read_volatile(&raw const shared.failure) } {
        None => Ok(pid),
        Some(Failure { step, errno }) => {
            let mut status = 0;
            // SAFETY: waits for our own child, which has exited.
            unsafe { libc::waitpid(pid, &raw mut status, 0) };
            Err(Error::Setup {
                step,
                source: io::Error::from_raw_os_error(errno),
            })
        }
    }
}

extern "C" fn enter(argument: *mut c_void) -> c_int {
    // SAFETY: `argument` is the `Shared` of the waiting parent.
    let shared = unsafe { &mut *argument.cast::<Shared>() };
    match set_up(shared) {
        // SAFETY: _exit ends this process without running the parent's exit handlers.
        Ok(()) => unsafe { libc::_exit(0) },
        // SAFETY: the parent, which owns `shared`, waits until this process ends.
        Err(failure) => unsafe {
            ptr::write_volatile(&raw mut shared.failure, Some(failure));
            libc::_exit(127)
        },
    }
}

pub(crate) type Step = std::result::Result<(), Failure>;

pub(crate) fn check(step: &'static str, result: c_long) -> std::result::Result<c_long, Failure> {
    if result < 0 {
        // SAFETY: the pointer is to this thread's errno.
        let errno = unsafe { *libc::__errno_location() };
        Err(Failure { step, errno })
    } else {
        Ok(result)
    }
}

/// Everything between `clone` and `execve`, in an order in which each step can still do what it needs.
fn set_up(shared: &Shared) -> Step {
    let launch = shared.launch;
    signals();
    // SAFETY: plain system calls on values of this file.
    unsafe {
        check("session", c_long::from(libc::setsid()))?;
        check(
            "parent death signal",
            c_long::from(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL)),
        )?;
    }
    // Where memory runs out it is this process that goes; a machine whose /proc cannot be written chooses for itself.
    let _ = write_file(c"/proc/self/oom_score_adj", c"1000");
    if launch.namespaces & libc::CLONE_NEWUSER != 0 {
        for (path, text) in &shared.maps {
            write_file(path, text)?;
        }
    }
    if launch.namespaces & libc::CLONE_NEWNS != 0 {
        // SAFETY: null means no source, type or data for a change of propagation.
        let private = unsafe {
            libc::mount(
                ptr::null(),
                c"/".as_ptr(),
                ptr::null(),
                libc::MS_REC | libc::MS_PRIVATE,
                ptr::null(),
            )
        };
        check("private mounts", c_long::from(private))?;
        if let Some(root) = &launch.root {
            private_root(root)?;
        }
    }
    if let Some(program) = &launch.program {
        for (target, stream) in program.streams.iter().enumerate() {
            // SAFETY: both descriptors are valid; the parent keeps its ends above 2.
            let result = unsafe { libc::dup2(stream.as_raw_fd(), target as c_int) };
            check("streams", c_long::from(result))?;
        }
    }
    close_others();
    restrict(launch)?;
    if let Some(program) = &launch.program {
        // SAFETY: path and lists are null-terminated and live in `launch`.
        let failed = unsafe {
            libc::execve(
                program.path.as_ptr(),
                program.arguments.list.as_ptr(),
                program.environment.list.as_ptr(),
            )
        };
        check("execute", c_long::from(failed))?;
    }
    Ok(())
}

/// Default handlers and nothing blocked: ignored signals would survive the execution.
fn signals() {
    // SAFETY: sigaction and sigset_t are plain data; numbers that cannot be set are refused by the kernel.
    unsafe {
        let default = std::mem::zeroed::<libc::sigaction>();
        for number in 1..=64 {
            libc::sigaction(number, &raw const default, ptr::null_mut());
        }
        let none = std::mem::zeroed::<libc::sigset_t>();
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}

fn write_file(path: &CStr, text: &CStr) -> Step {
    // SAFETY: path and text are null-terminated; the descriptor is closed at execution.
    unsafe {
        let file = check(
            "user mapping",
            c_long::from(libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC)),
        )?;
        let bytes = text.to_bytes();
        check(
            "user mapping",
            libc::write(file as c_int, bytes.as_ptr().cast(), bytes.len()) as c_long,
        )?;
        libc::close(file as c_int);
    }
    Ok(())
}

/// Marks everything above stderr for closing at execution.
fn close_others() {
    const CLOSE_RANGE_CLOEXEC: c_uint = 4;
    // SAFETY: plain system calls; the child has its own table of descriptors.
    unsafe {
        if libc::syscall(
            libc::SYS_close_range,
            3 as c_uint,
            c_uint::MAX,
            CLOSE_RANGE_CLOEXEC,
        ) < 0
        {
            for descriptor in 3..65_536 {
                libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC);
            }
        }
    }
}
