//! Tokens a second of training and generation at the seed model's shape, in CPU-independent form for a profiler.
//!
//! `cargo run --release -p moevolve-generate --example speed -- [train|generate|both] [threads] [f32|bf16]`

use std::time::{Duration, Instant};

use moevolve_generate::{Generator, Request, Sampling};
use moevolve_kernels::{Isa, Precision};
use moevolve_model::{Engine, Example};

const CONFIG: &str = r#"{"model_type": "minimax_m2", "vocab_size": 128, "hidden_size": 128, "intermediate_size": 128,
    "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 16,
    "num_local_experts": 8, "num_experts_per_tok": 2, "max_position_embeddings": 512,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}}"#;

/// A prompt of 24 tokens that differs from index to index.
fn tokens(index: usize, n: usize) -> Vec<u32> {
    (0..n)
        .map(|i| ((index * 31 + i * i * 7 + i) % 128) as u32)
        .collect()
}

/// Median time of `work` over about two seconds.
fn median(mut work: impl FnMut()) -> Duration {
    let (begin, mut times) = (Instant::now(), Vec::new());
    while times.len() < 5 || begin.elapsed() < Duration::from_secs(2) {
        let start = Instant::now();
        work();
        times.push(start.elapsed());
    }
    times.sort();
    times[times.len() / 2]
}

fn main() -> moevolve_model::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let only = arguments.first().map(String::as_str);
    let precision = arguments
        .get(2)
        .and_then(|name| Precision::chosen(name, Isa::best()));
    let precision = precision.unwrap_or(Precision::fastest(Isa::best()));
    let threads = arguments.get(1).and_then(|n| n.parse().ok());
    for threads in threads.map_or(vec![1, 2], |n| vec![n]) {
        let mut engine = Engine::create(CONFIG, None, 0, threads)?;
        engine.set_precision(precision);
        if only != Some("generate") {
            let example = |i| Example {
                ids: tokens(i, 40),
                answer_start: 28,
                positions: moevolve_model::Positions::From(0),
                weight: 1.0,
            };
            let batch: Vec<Example> = (0..128).map(example).collect();
            engine.train_step(&batch, 1e-3, false)?;
            let time = median(|| drop(engine.train_step(&batch, 1e-3, false)));
            println!(
                "{} {precision} threads {threads}: training {:.0} tokens/s",
                engine.isa(),
                5120.0 / time.as_secs_f64()
            );
        }
        if only != Some("train") {
            let request = |i: usize| Request {
                prompt: tokens(i, 24),
                keys: vec![i as u64],
                sampling: Sampling {
                    max_tokens: 32,
                    temperature: 0.0,
                    ..Sampling::default()
                },
            };
            let mut generator = Generator::default();
            let requests: Vec<Request> = (0..64).map(request).collect();
            let time = median(|| drop(generator.generate(&mut engine, &requests)));
            println!(
                "{} {precision} threads {threads}: greedy {:.0} tokens/s",
                engine.isa(),
                2048.0 / time.as_secs_f64()
            );
        }
    }
    Ok(())
}
