//! The driver's functions that are used, found in its library.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::error::{Error, Result};

pub type Handle = *mut c_void;
pub const OUT_OF_MEMORY: c_int = 2;

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident = $symbol:literal fn($($type:ty),* $(,)?);)+) => {
        /// Functions of the driver's library, which stays open.
        pub struct Calls {
            $(pub $name: unsafe extern "C" fn($($type),*) -> c_int,)+
        }

        impl Calls {
            /// None unless the library is there with all of them.
            pub fn open(library: &Path) -> Option<Self> {
                let path = CString::new(library.as_os_str().as_bytes()).ok()?;
                // SAFETY: the driver's library may be opened by any process.
                let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
                if handle.is_null() {
                    return None;
                }
                Some(Self {
                    $($name: {
                        let name = CString::new($symbol).ok()?;
                        // SAFETY: the handle is open.
                        let symbol = unsafe { libc::dlsym(handle, name.as_ptr()) };
                        if symbol.is_null() {
                            return None;
                        }
                        // SAFETY: this is the function's type in cuda.h.
                        unsafe { std::mem::transmute::<Handle, unsafe extern "C" fn($($type),*) -> c_int>(symbol) }
                    },)+
                })
            }
        }
    };
}

calls! {
    init = "cuInit" fn(c_uint);
    version = "cuDriverGetVersion" fn(*mut c_int);
    count = "cuDeviceGetCount" fn(*mut c_int);
    device = "cuDeviceGet" fn(*mut c_int, c_int);
    attribute = "cuDeviceGetAttribute" fn(*mut c_int, c_int, c_int);
    retain = "cuDevicePrimaryCtxRetain" fn(*mut Handle, c_int);
    release = "cuDevicePrimaryCtxRelease_v2" fn(c_int);
    push = "cuCtxPushCurrent_v2" fn(Handle);
    pop = "cuCtxPopCurrent_v2" fn(*mut Handle);
    create_stream = "cuStreamCreate" fn(*mut Handle, c_uint);
    destroy_stream = "cuStreamDestroy_v2" fn(Handle);
    synchronize = "cuStreamSynchronize" fn(Handle);
    allocate = "cuMemAllocAsync" fn(*mut u64, usize, Handle);
    free = "cuMemFreeAsync" fn(u64, Handle);
    memory = "cuMemGetInfo_v2" fn(*mut usize, *mut usize);
    upload = "cuMemcpyHtoDAsync_v2" fn(u64, *const c_void, usize, Handle);
    download = "cuMemcpyDtoHAsync_v2" fn(*mut c_void, u64, usize, Handle);
    copy = "cuMemcpyDtoDAsync_v2" fn(u64, u64, usize, Handle);
    set = "cuMemsetD8Async" fn(u64, u8, usize, Handle);
    load = "cuModuleLoadData" fn(*mut Handle, *const c_void);
    unload = "cuModuleUnload" fn(Handle);
    function = "cuModuleGetFunction" fn(*mut Handle, Handle, *const c_char);
    set_attribute = "cuFuncSetAttribute" fn(Handle, c_int, c_int);
    launch = "cuLaunchKernel" fn(Handle, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, Handle, *mut *mut c_void, *mut *mut c_void);
    error = "cuGetErrorString" fn(c_int, *mut *const c_char);
}

impl Calls {
    /// The error that a call's status stands for.
    pub fn check(&self, call: &'static str, status: c_int) -> Result<()> {
        if status == 0 {
            return Ok(());
        }
        let mut text = std::ptr::null();
        // SAFETY: the driver sets a text of its own, or none.
        let known = unsafe { (self.error)(status, &mut text) };
        let reason = if known == 0 && !text.is_null() {
            // SAFETY: as above.
            let text = unsafe { CStr::from_ptr(text) };
            format!("{} (error {status})", text.to_string_lossy())
        } else {
            format!("error {status}")
        };
        Err(Error::Driver { call, reason })
    }
}
