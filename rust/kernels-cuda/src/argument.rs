//! Numbers that a device has as the host has them.

/// Any bits are a value, and there is no padding.
///
/// # Safety
///
/// Both must hold.
pub unsafe trait Plain: Copy + Default {
    fn bytes(values: &[Self]) -> &[u8] {
        // SAFETY: there is no padding.
        unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
    }

    fn bytes_mut(values: &mut [Self]) -> &mut [u8] {
        // SAFETY: any bits are a value.
        unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), size_of_val(values)) }
    }
}

macro_rules! plain {
    ($($of:ty),+) => { $(
        // SAFETY: integers and floats are.
        unsafe impl Plain for $of {}
    )+ };
}

plain!(u8, u16, u32, u64, i32, f32, f64);
