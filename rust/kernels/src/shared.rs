//! One buffer for the parts of a pool's job.

use std::marker::PhantomData;
use std::ops::Range;

/// A buffer that several threads write, each its own elements.
pub struct Shared<'a, T> {
    at: *mut T,
    length: usize,
    borrowed: PhantomData<&'a mut [T]>,
}

// SAFETY: a pointer into a buffer that is borrowed for as long; `put` says what they may write.
unsafe impl<T: Send> Send for Shared<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub fn new(buffer: &'a mut [T]) -> Self {
        Self {
            at: buffer.as_mut_ptr(),
            length: buffer.len(),
            borrowed: PhantomData,
        }
    }

    /// # Safety
    /// No other part reads or writes these elements while the parts run.
    pub unsafe fn put(&self, at: usize, values: &[T])
    where
        T: Copy,
    {
        assert!(at + values.len() <= self.length);
        std::ptr::copy_nonoverlapping(values.as_ptr(), self.at.add(at), values.len());
    }

    /// # Safety
    /// As for [`Self::put`].
    #[allow(clippy::mut_from_ref)] // Of a raw pointer.
    pub unsafe fn slice(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.length);
        std::slice::from_raw_parts_mut(self.at.add(range.start), range.len())
    }
}
