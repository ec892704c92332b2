//! moevolve-store.
