//! The listener: the kernel tells it the calls that the guard leaves to the host, and passes the answers on.
//!
//! The child makes it when it installs the guard, and sends it through a socket before it executes.

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::launch::{Step, check};
use crate::memory::Process;
use crate::policy::Forks;
use crate::world::{Answer, Call, World};

/// Room for one descriptor beside a message.
const CONTROL: usize = 64;
/// `SECCOMP_IOCTL_NOTIF_SET_FLAGS` and its flag that wakes the other side on this core; Linux 6.6.
const SET_FLAGS: libc::Ioctl = 0x4008_2104;
const SYNC_WAKE_UP: u64 = 1;

/// A pair of sockets whose second one the child uses.
pub(crate) fn sockets() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for two descriptors, which are then owned here alone.
    unsafe {
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
        if libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok((OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])))
    }
}

/// In the child: installs the guard with a listener and sends that through `socket`.
pub(crate) fn install(program: &libc::sock_fprog, socket: RawFd) -> Step {
    const STEP: &str = "virtual clock";
    // SAFETY: system calls on values that outlive them; no allocation.
    unsafe {
        let listener = check(
            STEP,
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
                std::ptr::from_ref(program),
            ),
        )?;
        let mut control = [0u64; CONTROL / 8];
        let mut byte = 0u8;
        let mut span = libc::iovec {
            iov_base: (&raw mut byte).cast(),
            iov_len: 1,
        };
        let message = message(&raw mut span, &mut control);
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<RawFd>() as u32) as _;
        libc::CMSG_DATA(header)
            .cast::<RawFd>()
            .write_unaligned(listener as RawFd);
        check(STEP, libc::sendmsg(socket, &raw const message, 0) as i64)?;
    }
    Ok(())
}

fn message(span: *mut libc::iovec, control: &mut [u64; CONTROL / 8]) -> libc::msghdr {
    // SAFETY: msghdr is plain data; all pointers are set below.
    let mut message = unsafe { zeroed::<libc::msghdr>() };
    message.msg_iov = span;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    // SAFETY: arithmetic on a constant.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(size_of::<RawFd>() as u32) } as _;
    message
}

/// The host's side: answers calls of a child's processes.
#[derive(Debug)]
pub(crate) struct Listener {
    descriptor: OwnedFd,
    world: World,
}

impl Listener {
    /// Takes the listener that the child has sent.
    pub(crate) fn receive(socket: &OwnedFd, first: libc::pid_t, forks: Forks) -> io::Result<Self> {
        let mut control = [0u64; CONTROL / 8];
        let mut byte = 0u8;
        let mut span = libc::iovec {
            iov_base: (&raw mut byte).cast(),
            iov_len: 1,
        };
        let mut message = message(&raw mut span, &mut control);
        // SAFETY: the message's buffers live here; a header is read only if the kernel wrote one with a descriptor.
        let descriptor = unsafe {
            let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT;
            if libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) < 0 {
                return Err(io::Error::last_os_error());
            }
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            if header.is_null() || (*header).cmsg_type != libc::SCM_RIGHTS {
                return Err(io::Error::other("no listener came"));
            }
            OwnedFd::from_raw_fd(libc::CMSG_DATA(header).cast::<RawFd>().read_unaligned())
        };
        Ok(Self::new(descriptor, World::new(first, forks)))
    }

    /// Serves a listener that we hold.
    pub(crate) fn new(descriptor: OwnedFd, world: World) -> Self {
        // SAFETY: takes numbers only. An older kernel refuses the flag, and answers are a little later.
        unsafe { libc::ioctl(descriptor.as_raw_fd(), SET_FLAGS, SYNC_WAKE_UP) };
        Self { descriptor, world }
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// Answers the next call; to be called when the descriptor is readable, since it waits otherwise.
    pub(crate) fn serve(&mut self) {
        let raw = self.descriptor.as_raw_fd();
        // SAFETY: both structs are plain data of the size that the kernel expects, and live through their calls.
        unsafe {
            let mut told = zeroed::<libc::seccomp_notif>();
            if libc::ioctl(raw, libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut told) < 0 {
                return; // The caller was killed meanwhile, or a signal came: the poll says if there is more.
            }
            let process = Process::new(told.pid as libc::pid_t);
            // A process that died since may have left its number to another.
            if libc::ioctl(raw, libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const told.id) < 0 {
                return;
            }
            let call = Call {
                number: i64::from(told.data.nr),
                arguments: told.data.args,
            };
            let mut reply = zeroed::<libc::seccomp_notif_resp>();
            reply.id = told.id;
            match self.world.answer(&process, &call) {
                Answer::Value(value) => reply.val = value,
                Answer::Error(number) => reply.error = -number,
                Answer::Proceed => reply.flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
            }
            libc::ioctl(raw, libc::SECCOMP_IOCTL_NOTIF_SEND, &raw const reply);
        }
    }
}
