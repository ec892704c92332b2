//! The model's tiny networks, and what is asked of them.

#![allow(dead_code, unused_imports)] // Each test crate uses a part.

#[path = "../../../model/tests/common/mod.rs"]
mod networks;

use moevolve_generate::{Generator, Request, Sample, Sampling};
use moevolve_model::Engine;

pub use networks::*;

/// Samples of requests that are good, each asked of a new generator.
pub fn generate(engine: &mut Engine, requests: &[Request]) -> Vec<Vec<Sample>> {
    let samples = Generator::default().generate(engine, requests);
    samples.expect("good requests")
}

pub fn request(
    seed: usize,
    n: usize,
    keys: &[u64],
    max_tokens: usize,
    temperature: f32,
) -> Request {
    Request {
        prompt: ids(seed, n),
        keys: keys.to_vec(),
        sampling: Sampling {
            max_tokens,
            temperature,
            top_p: 0.95,
            ..Sampling::default()
        },
    }
}
