//! The memory of a process that waits for us.

use crate::world::Answer;

/// A process whose call is answered: it does not run meanwhile.
pub(crate) struct Process {
    id: libc::pid_t,
}

impl Process {
    pub(crate) fn new(id: libc::pid_t) -> Self {
        Self { id }
    }

    pub(crate) fn id(&self) -> libc::pid_t {
        self.id
    }

    /// `N` bytes at `pointer`; `None` if they are not all there.
    pub(crate) fn read<const N: usize>(&self, pointer: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        let (ours, theirs) = spans(bytes.as_mut_ptr(), pointer, N);
        // SAFETY: the local span is `bytes`; the kernel checks the other one.
        let count =
            unsafe { libc::process_vm_readv(self.id, &raw const ours, 1, &raw const theirs, 1, 0) };
        (count == N as isize).then_some(bytes)
    }

    /// Puts `bytes` at `pointer`: a call that succeeded, or `EFAULT`.
    pub(crate) fn write(&self, pointer: u64, bytes: &[u8]) -> Answer {
        let (ours, theirs) = spans(bytes.as_ptr().cast_mut(), pointer, bytes.len());
        // SAFETY: the local span is `bytes`, which is only read; the kernel checks the other one.
        let count = unsafe {
            libc::process_vm_writev(self.id, &raw const ours, 1, &raw const theirs, 1, 0)
        };
        if count == bytes.len() as isize {
            Answer::Value(0)
        } else {
            Answer::Error(libc::EFAULT)
        }
    }
}

fn spans(ours: *mut u8, theirs: u64, length: usize) -> (libc::iovec, libc::iovec) {
    let span = |base: *mut libc::c_void| libc::iovec {
        iov_base: base,
        iov_len: length,
    };
    (span(ours.cast()), span(theirs as *mut libc::c_void))
}
