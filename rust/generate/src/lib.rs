//! Generation: samples of many requests, drawn together and apart.
//!
//! [`Scheduler`] is the service, [`Generator`] what runs a batch of requests to its end. Inside, `kv` hands out the ids of
//! key-value blocks, `sequence` is one text under way, `worker` one thread's steps, [`sampling`] how a token is drawn and
//! `drawing` its draws, and
//! `draft` what is guessed ahead. A constraint (`moevolve-constrain`) says which tokens may come at all. The network and its memory are a `moevolve_model::backend::Backend`'s.

mod anywhere;
mod draft;
mod drawing;
mod generator;
mod kv;
pub mod sampling;
pub mod scheduler;
mod sequence;
mod worker;

pub use anywhere::EngineScheduler;
pub use generator::{Generator, Request, Sample};
pub use moevolve_constrain::Constraint;
pub use sampling::{Finish, Sampling};
pub use scheduler::{Event, Scheduler};
