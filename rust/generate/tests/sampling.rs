//! Generation: what a sample may depend on, and that the cache changes nothing.

mod common;

use common::{create, edit, generate, ids, odd, request, with};
use moevolve_generate::{Finish, Generator, Request, Sample, Sampling};
use moevolve_kernels::Isa;
use moevolve_model::Engine;
use serde_json::json;

fn one(
    engine: &mut Engine,
    seed: usize,
    n: usize,
    key: u64,
    most: usize,
    temperature: f32,
) -> Sample {
    let request = request(seed, n, &[key], most, temperature);
    generate(engine, &[request]).remove(0).remove(0)
}

#[test]
fn a_sample_depends_on_its_key_and_prompt_alone() {
    // More samples than are decoded together, of prompts and limits of every length.
    let keys: Vec<u64> = (0..150).collect();
    let requests = [
        request(1, 1, &keys, 5, 1.2),
        request(2, 40, &[7], 30, 0.8),
        request(3, 17, &keys[..70], 1, 1.0),
        request(4, 16, &[3, 3], 20, 0.0),
        request(5, 9, &[], 20, 1.0),
        request(6, 9, &[1], 0, 1.0),
    ];
    let crowds: Vec<_> = [1, 2, 3]
        .map(|threads| generate(&mut create(&odd(), threads), &requests))
        .into_iter()
        .collect();
    assert_eq!(crowds[0], crowds[1]);
    assert_eq!(crowds[0], crowds[2]);
    let (mut engine, mut generator) = (create(&odd(), 1), Generator::default());
    for (request, samples) in requests.iter().zip(&crowds[0]) {
        assert_eq!(samples.len(), request.keys.len());
        for (&key, sample) in request.keys.iter().zip(samples).step_by(13) {
            let alone = Request {
                keys: vec![key],
                ..request.clone()
            };
            let drawn = generator.generate(&mut engine, &[alone]);
            assert_eq!(drawn.expect("a good request")[0][0], *sample);
        }
    }
}

#[test]
fn the_cache_gives_the_bits_of_the_whole() {
    let mut engine = create(&odd(), 1);
    for isa in Isa::available() {
        engine.set_isa(isa);
        let prompt = ids(8, 11);
        let mut text = prompt.clone();
        let sample = one(&mut engine, 8, 11, 5, 40, 1.0);
        for (token, logprob) in sample.tokens.iter().zip(&sample.logprobs) {
            let logits = engine
                .logits(std::slice::from_ref(&text))
                .expect("good tokens");
            let [_, longest, vocabulary] = logits.shape;
            let row = &logits.values[(longest - 1) * vocabulary..];
            let mut padded = row.to_vec();
            padded.resize(moevolve_kernels::padded(vocabulary), 0.0);
            let mass = moevolve_kernels::loss::log_sum_exp(isa, vocabulary, &padded);
            assert_eq!(
                row[*token as usize] - mass,
                *logprob,
                "{isa} after {} tokens",
                text.len()
            );
            text.push(*token);
        }
        assert!(text.len() > prompt.len() + 5);
    }
}

#[test]
fn samples_are_the_same_on_every_instruction_set() {
    let mut engine = create(&odd(), 1);
    let requests = [
        request(1, 12, &[1, 2, 3, 4, 5], 30, 1.0),
        request(2, 5, &[6], 30, 0.0),
    ];
    engine.set_isa(Isa::SCALAR);
    let scalar = generate(&mut engine, &requests);
    for isa in Isa::available() {
        engine.set_isa(isa);
        assert_eq!(generate(&mut engine, &requests), scalar, "{isa}");
    }
}

#[test]
fn no_sample_goes_past_the_last_position() {
    let mut engine = create(
        &with(
            odd(),
            &[
                ("max_position_embeddings", json!(20)),
                ("eos_token_id", json!(null)),
            ],
        ),
        1,
    );
    let sample = one(&mut engine, 1, 18, 0, 1_000_000, 0.0);
    // Positions 18 and 19 are read; the token that the last one predicts is given, not read.
    assert_eq!(sample.tokens.len(), 3);
    assert_eq!(sample.finish, Finish::Length);
    let too_long = [request(1, 21, &[0], 1, 0.0)];
    assert!(
        Generator::default()
            .generate(&mut engine, &too_long)
            .is_err()
    );
}

#[test]
fn any_end_token_stops() {
    let config = with(odd(), &[("eos_token_id", json!([5, 9, 11]))]);
    let mut engine = create(&config, 1);
    let keys: Vec<u64> = (0..200).collect();
    let samples = generate(&mut engine, &[request(2, 6, &keys, 60, 1.5)]).remove(0);
    let ended = |sample: &Sample| sample.finish == Finish::Stop;
    let stopped = samples.iter().filter(|sample| ended(sample)).count();
    assert!(stopped > 50, "{stopped} of 200");
    for sample in samples {
        assert!(
            sample
                .tokens
                .iter()
                .all(|token| ![5, 9, 11].contains(token))
        );
        assert_eq!(
            sample.logprobs.len(),
            sample.tokens.len() + usize::from(ended(&sample))
        );
    }
}

#[test]
fn settings_that_add_up_to_infinity_allow_what_they_allowed() {
    let mut engine = create(&odd(), 1);
    let far = 3e38;
    let settings = |sampling: Sampling| {
        [0.0, 1.0].map(|temperature| Request {
            sampling: Sampling {
                max_tokens: 12,
                temperature,
                allowed: vec![7, 9],
                ..sampling.clone()
            },
            ..request(1, 9, &[1, 2, 3], 12, 1.0)
        })
    };
    for (sampling, only) in [
        (
            Sampling {
                bias: vec![(7, far), (7, far)],
                ..Sampling::default()
            },
            vec![7],
        ),
        (
            Sampling {
                bias: vec![(7, -far), (7, -far), (9, -far), (9, -far), (7, far)],
                ..Sampling::default()
            },
            vec![7],
        ),
        (
            Sampling {
                frequency_penalty: far,
                presence_penalty: far,
                ..Sampling::default()
            },
            vec![7, 9],
        ),
        (
            Sampling {
                frequency_penalty: -far,
                repetition_penalty: 1e-40,
                bias: vec![(0, far), (0, far)],
                ..Sampling::default()
            },
            vec![7, 9],
        ),
    ] {
        for samples in generate(&mut engine, &settings(sampling)) {
            for sample in samples {
                assert_eq!((sample.finish, sample.tokens.len()), (Finish::Length, 12));
                let all = sample.tokens.iter().all(|token| only.contains(token));
                assert!(all, "{:?}", sample.tokens);
            }
        }
    }
}

#[test]
fn a_sample_whose_logits_give_no_distribution_ends_by_that_name() {
    // Products overflow: to either side, or those of token 0 alone, to one.
    let mut ended = 0;
    for (all, weight) in [(true, 3e38), (false, 3e38), (false, -3e38)] {
        let mut engine = create(&odd(), 1);
        let hidden = engine.config().hidden;
        edit(&mut engine, |name, values| match name {
            "model.norm.weight" => values.fill(if all { 3e38 } else { 1.0 }),
            "lm_head.weight" => {
                values.fill(if all { weight } else { 0.0 });
                values[..hidden].fill(weight);
            }
            _ => {}
        });
        let vocabulary = engine.config().vocabulary;
        let logits = engine.logits(&[ids(1, 9)]).expect("good tokens").values;
        let last = &logits[8 * vocabulary..];
        assert!(!last[0].is_finite(), "{}", last[0]);
        assert_eq!(last[1..].iter().all(|x| x.is_finite()), !all);
        // A token that never comes is no fault.
        let ends = last[0] != f32::NEG_INFINITY;
        ended += u32::from(ends);
        let mut requests = vec![
            request(1, 9, &[1, 2, 3], 12, 0.0),
            request(1, 9, &[4, 5], 12, 1.0),
            request(1, 9, &[6, 7], 12, 1.0),
        ];
        requests[2].sampling.allowed = vec![7, 9];
        for samples in generate(&mut engine, &requests) {
            for sample in samples {
                assert_eq!(sample.logprobs.is_empty(), ends);
                assert!(sample.logprobs.iter().all(|x| x.is_finite()));
                assert!(!ends || (sample.finish, sample.tokens.len()) == (Finish::NotFinite, 0));
            }
        }
    }
    assert_eq!(ended, 2);
}
