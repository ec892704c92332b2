//! Texts that are read in parts, between which others draw: what comes of them is the same.

mod common;

use common::{create, ids, odd, request, with};
use moevolve_generate::{EngineScheduler, Sampling};
use moevolve_model::Engine;
use serde_json::json;

fn long() -> Engine {
    let positions = [("max_position_embeddings", json!(2000))];
    create(&with(odd(), &positions), 2)
}

/// An engine, and a step of texts that it draws meanwhile.
fn drawing() -> (Engine, impl Fn(&mut Engine) -> usize) {
    let engine = long();
    let scheduler = EngineScheduler::of(&engine, 4, 0).expect("a scheduler");
    for key in 0..3 {
        let asked = request(key, 40, &[key as u64], 400, 1.0);
        let sampling = Sampling {
            ignore_eos: true,
            ..asked.sampling
        };
        scheduler
            .add(&asked.prompt, &asked.keys, sampling)
            .expect("a good request");
    }
    let step = move |engine: &mut Engine| scheduler.step(engine).expect("a step").len();
    (engine, step)
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn a_text_is_the_same_whatever_comes_between_its_parts() {
    for n in [1, 640, 641, 1300] {
        let (text, mut alone) = (ids(7, n), long());
        let (mut engine, step) = drawing();
        let (mut sums, mut read, mut parts) = (Vec::new(), 0, 0);
        let mean = loop {
            let (end, mean) = engine.embed_part(&text, read, &mut sums).expect("a part");
            assert!(end > read && end - read <= 640);
            assert_eq!(mean.is_some(), end == n);
            assert!(step(&mut engine) > 0);
            (read, parts) = (end, parts + 1);
            if let Some(mean) = mean {
                break mean;
            }
        };
        assert_eq!(parts, n.div_ceil(640));
        assert_eq!(bits(&mean), bits(&alone.embed(&text).expect("a state")));
        let (mut scores, mut read) = (Vec::new(), 0);
        while read < n {
            let (part, end) = engine.score_part(&text, 2, read).expect("a part");
            assert!(step(&mut engine) > 0);
            scores.extend(part);
            read = end;
        }
        assert_eq!(scores, alone.score(&text, 2).expect("scores"));
        assert_eq!(scores.len(), n - 1);
        // Nothing is left to be read.
        for read in [n, n + 1] {
            let error = engine.score_part(&text, 2, read).expect_err("no part");
            assert!(error.is_usage(), "{error}");
        }
    }
}

/// The mean of the states of each token as the last one of a text.
#[test]
fn an_embedding_is_a_mean_over_all_parts() {
    let (text, mut engine) = (ids(3, 1300), long());
    let hidden = engine.config().hidden;
    let mut sums = Vec::new();
    let mut read = 0;
    let mut totals = vec![0.0f64; hidden];
    let mut before = vec![0.0f64; hidden];
    let mean = loop {
        let (end, mean) = engine.embed_part(&text, read, &mut sums).expect("a part");
        // A part by itself is what the text has up to there, less what it had before.
        let mut own = Vec::new();
        let (_, _) = engine
            .embed_part(&text[..end], read, &mut own)
            .expect("a part");
        for i in 0..hidden {
            totals[i] += own[i];
            assert!((sums[i] - before[i] - own[i]).abs() < 1e-9);
        }
        before.clone_from(&sums);
        read = end;
        if let Some(mean) = mean {
            break mean;
        }
    };
    for (mean, total) in mean.iter().zip(&totals) {
        assert!((f64::from(*mean) - total / 1300.0).abs() < 1e-6);
    }
}
