//! Networks with windows, sinks or states draw what a whole reading of the text says, however it is cut, shared and forked.

mod common;

use std::collections::BTreeMap;

use common::{create, generate, gpt_oss, ids, odd, qwen3_5_moe, request, with};
use moevolve_generate::{Sampling, Scheduler};
use moevolve_model::backend::Backend;
use moevolve_model::{Engine, Error};
use serde_json::Value;

fn networks() -> [(&'static str, Value); 3] {
    [
        ("gpt_oss", gpt_oss()),
        (
            "qwen3_5_moe",
            qwen3_5_moe(["linear_attention", "full_attention"]),
        ),
        (
            "qwen3_5_moe with a linear end",
            qwen3_5_moe(["full_attention", "linear_attention"]),
        ),
    ]
}

/// The likeliest continuation, by reading the whole text again for every token.
fn greedy(engine: &mut Engine, prompt: &[u32], count: usize) -> Vec<u32> {
    let mut text = prompt.to_vec();
    for _ in 0..count {
        let logits = engine.logits(&[text.clone()]).expect("logits");
        let [_, length, vocabulary] = logits.shape;
        let last = &logits.values[(length - 1) * vocabulary..];
        let best =
            (0..vocabulary).fold(0, |best, id| if last[id] > last[best] { id } else { best });
        text.push(best as u32);
        if engine.config().eos.contains(&(best as u32)) {
            text.pop();
            break;
        }
    }
    text.split_off(prompt.len())
}

#[test]
fn steps_say_what_whole_texts_say() {
    for (name, config) in networks() {
        let mut engine = create(&config, 2);
        // At, before and behind the end of a block; longer than what a step reads at a time.
        for length in [1, 15, 16, 17, 32, 60] {
            let prompt = ids(length, length);
            let mut asked = request(3, length, &[1, 2, 3], 20, 0.0);
            asked.prompt = prompt.clone();
            let expected = greedy(&mut engine, &prompt, 20);
            for sample in generate(&mut engine, &[asked]).iter().flatten() {
                assert_eq!(sample.tokens, expected, "{name}: {length}");
            }
        }
    }
}

#[test]
fn company_threads_and_guesses_change_nothing() {
    for (name, config) in networks() {
        let requests: Vec<_> = [(1, 16, 3), (2, 16, 2), (3, 47, 1), (3, 47, 4), (4, 5, 2)]
            .into_iter()
            .map(|(seed, length, samples)| {
                let keys: Vec<u64> = (0..samples).collect();
                request(seed, length, &keys, 40, 1.1)
            })
            .collect();
        let expected = generate(&mut create(&config, 1), &requests);
        for (threads, slots, speculate) in [(1, 1, 0), (1, 64, 4), (3, 5, 0)] {
            let mut engine = create(&config, threads);
            let scheduler = Scheduler::of(&engine, slots, 0).expect("a scheduler");
            for request in &requests {
                let mut sampling = request.sampling.clone();
                sampling.speculate = speculate;
                let prompt = &request.prompt;
                scheduler
                    .add(prompt, &request.keys, sampling)
                    .expect("good");
            }
            let mut told = BTreeMap::new();
            while scheduler.busy() + scheduler.waiting() > 0 {
                for event in scheduler.step(&mut engine) {
                    let sample: &mut Vec<u32> =
                        told.entry((event.request, event.sample)).or_default();
                    sample.extend(event.drawn.tokens);
                }
            }
            let expected: Vec<_> = expected
                .iter()
                .flatten()
                .map(|sample| &sample.tokens)
                .collect();
            let told: Vec<_> = told.values().collect();
            assert_eq!(told, expected, "{name}: {threads} threads, {slots} slots");
        }
    }
}

/// So long that its key heads are shared out among threads.
#[test]
fn a_long_text_alone_is_drawn_the_same_on_any_number_of_threads() {
    let mut all = vec![("minimax_m2", odd())];
    all.extend(networks());
    for (name, config) in all {
        let longer = [("max_position_embeddings", Value::from(800))];
        let config = with(config, &longer);
        let asked = [request(5, 400, &[7], 20, 1.1)];
        let expected = generate(&mut create(&config, 1), &asked);
        for threads in [2, 3] {
            let drawn = generate(&mut create(&config, threads), &asked);
            assert_eq!(drawn, expected, "{name}: {threads} threads");
        }
    }
}

#[test]
fn a_fork_may_take_the_block_of_who_leaves_in_the_same_step() {
    for (name, config) in networks() {
        let config = with(config, &[("eos_token_id", Value::Null)]);
        let mut engine = create(&config, 1);
        let asked = request(2, 5, &[1, 2, 3], 6, 1.0);
        let expected = generate(&mut engine, std::slice::from_ref(&asked));
        let scheduler = Scheduler::of(&engine, 8, 0).expect("a scheduler");
        let ends = request(1, 1, &[1], 2, 1.0);
        scheduler
            .add(&ends.prompt, &ends.keys, ends.sampling)
            .expect("good");
        scheduler.step(&mut engine);
        // Its samples begin in the step in which the other one draws its last token.
        let number = scheduler
            .add(&asked.prompt, &asked.keys, asked.sampling)
            .expect("good");
        let mut told: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        while scheduler.busy() + scheduler.waiting() > 0 {
            let events = scheduler.step(&mut engine).into_iter();
            for event in events.filter(|event| event.request == number) {
                let tokens = event.drawn.tokens;
                told.entry(event.sample).or_default().extend(tokens);
            }
        }
        let expected = expected[0].iter().map(|sample| &sample.tokens);
        assert!(told.values().eq(expected), "{name}");
    }
}

/// Most samples at once of those that draw nine tokens each.
fn most_at_once(engine: &mut Engine, memory: usize, prompts: &[(Vec<u32>, usize)]) -> usize {
    let scheduler = Scheduler::of(engine, 8, memory).expect("a scheduler");
    let sampling = Sampling {
        max_tokens: 9,
        ..Sampling::default()
    };
    for (prompt, samples) in prompts {
        let keys: Vec<u64> = (0..*samples as u64).collect();
        scheduler
            .add(prompt, &keys, sampling.clone())
            .expect("good");
    }
    let mut most = 0;
    while scheduler.busy() + scheduler.waiting() > 0 {
        scheduler.step(engine);
        most = most.max(scheduler.busy());
        let memory = scheduler.memory();
        assert!(memory.reserved <= memory.limit);
    }
    assert_eq!(scheduler.memory().reserved, 0);
    most
}

#[test]
fn states_are_within_the_limit_of_memory() {
    let kinds = ["linear_attention", "full_attention"];
    let config = with(qwen3_5_moe(kinds), &[("eos_token_id", Value::Null)]);
    let mut engine = create(&config, 1);
    let (block, states) = engine.with_cpu(|cpu| (cpu.block_bytes(), cpu.state_bytes()));
    assert!(states > 0);
    let states = states.div_ceil(block) * block;
    // Twelve positions, one block.
    let short: Vec<_> = (0..8).map(|seed| (ids(seed, 4), 1)).collect();
    let each = block + states;
    assert_eq!(most_at_once(&mut engine, 3 * each, &short), 3);
    assert_eq!(most_at_once(&mut engine, 3 * each + states, &short), 3);
    assert_eq!(most_at_once(&mut engine, 0, &short), 8);
    // The states after a whole block of the prompt stay as long as any of its samples, each of which has some of its own.
    let shared = [(ids(1, 16), 3)];
    let each = block + 2 * states;
    assert_eq!(most_at_once(&mut engine, block + each, &shared), 1);
    assert_eq!(most_at_once(&mut engine, block + 2 * each, &shared), 2);
    let small = Scheduler::of(&engine, 8, states).expect("a scheduler");
    let refused = small.add(&ids(1, 4), &[1], Sampling::default());
    assert!(matches!(refused, Err(Error::Capacity(_))));
}
