//! CUDA kernels of a Mixture-of-Experts decoder, and their launches.
//!
//! The sources in `cuda/` are compiled twice: by nvcc for cards, and by the C++ compiler for the processor, where a fiber stands
//! for every thread ([`twin`]). Whoever launches sees a [`Device`] and cannot tell which of the two it is, so that everything
//! but the driver's own calls is tested without a card.

mod argument;
pub mod attention;
mod device;
pub mod driver;
mod error;
pub mod experts;
pub mod loss;
pub mod norm;
pub mod products;
pub mod route;
pub mod rows;
pub mod sample;
#[cfg(feature = "twin")]
pub mod twin;
pub mod update;

pub use argument::Plain;
pub use device::{Address, Device, Launch, Memory};
pub use driver::{Driver, images};
pub use error::{Error, Result};
