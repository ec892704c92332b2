//! moevolve-sandbox.
