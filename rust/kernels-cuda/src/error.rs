//! What can go wrong on a device.

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("out of device memory: {asked} bytes were asked for, {free} are free")]
    Memory { asked: usize, free: usize },
    #[error("kernel {kernel}: {reason}")]
    Kernel { kernel: String, reason: String },
    #[error("{call}: {reason}")]
    Driver { call: &'static str, reason: String },
    #[error("{what} is {value}; kernels take up to {most}")]
    TooLarge {
        what: &'static str,
        value: usize,
        most: usize,
    },
}

pub type Result<T> = std::result::Result<T, Error>;
