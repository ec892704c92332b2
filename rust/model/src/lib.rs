//! moevolve-model.
