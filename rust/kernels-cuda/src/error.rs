//! What can go wrong on a device.

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("out of device memory: {asked} bytes were asked for, {free} are free")]
    Memory { asked: usize, free: usize },
    #[error("kernel {kernel}: {reason}")]
    Kernel { kernel: String, reason: String },
    #[error("{call}: {reason}")]
    Driver { call: &'static str, reason: String },
    #[error("{folder} has no compiled kernels (*.fatbin): {reason}")]
    NoKernels { folder: String, reason: String },
    #[error(
        "the kernels in {folder} are of another version than this engine: install moevolve and moevolve-cuda13 of one version"
    )]
    OtherKernels { folder: String },
    #[error("there is no NVIDIA driver (libcuda.so.1 is not found)")]
    NoDriver,
    #[error("the NVIDIA driver supports CUDA {}.{}, and 13.0 is needed", version / 1000, version % 1000 / 10)]
    OldDriver { version: i32 },
    #[error("there is no card {index}: the driver has {count}")]
    NoCard { index: usize, count: usize },
    #[error("card {index} does not multiply bf16: compute capability 8.0 is needed")]
    NoBf16 { index: usize },
    #[error("{what} is {value}; kernels take up to {most}")]
    TooLarge {
        what: &'static str,
        value: usize,
        most: usize,
    },
}

impl Error {
    /// Whether the machine has no card that can be used, however often somebody asks.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::NoKernels { .. }
                | Self::OtherKernels { .. }
                | Self::NoDriver
                | Self::OldDriver { .. }
                | Self::NoCard { .. }
                | Self::NoBf16 { .. }
        )
    }
}

pub type Result<T> = std::result::Result<T, Error>;
