//! moevolve-kernels.
