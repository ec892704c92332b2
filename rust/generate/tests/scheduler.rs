//! The scheduler: order, bounds, sharing, and what each of them may not change.
//!
//! One file above 400 lines: the properties share one generator of requests and one reference that draws them alone.

mod common;

use std::collections::BTreeMap;

use common::{create, edit, generate, ids, odd, request, with};
use moevolve_generate::{Event, Finish, Sampling, Scheduler};
use moevolve_kernels::Isa;
use moevolve_model::{Engine, Error};
use serde_json::json;

fn sampling(max_tokens: usize) -> Sampling {
    Sampling {
        max_tokens,
        ..Sampling::default()
    }
}

/// An engine whose samples go on to their limit.
fn endless(threads: usize) -> Engine {
    create(&with(odd(), &[("eos_token_id", json!(null))]), threads)
}

type Told = BTreeMap<(u64, usize), (Vec<u32>, Vec<f32>, Option<Finish>)>;

fn hear(told: &mut Told, events: Vec<Event>) {
    for event in events {
        let sample = told.entry((event.request, event.sample)).or_default();
        assert_eq!(sample.2, None, "an event after the end");
        sample.0.extend(event.drawn.tokens);
        sample.1.extend(event.drawn.logprobs);
        sample.2 = event.finish;
    }
}

fn drain(engine: &mut Engine, scheduler: &Scheduler) -> Told {
    let mut told = Told::new();
    while scheduler.busy() + scheduler.waiting() > 0 {
        hear(&mut told, scheduler.step(engine));
    }
    hear(&mut told, scheduler.step(engine));
    told
}

/// Bytes of sixteen tokens.
fn block(engine: &Engine) -> usize {
    let positions = engine.config().positions.div_ceil(16);
    let scheduler = Scheduler::of(engine, 1, 0).expect("a scheduler");
    scheduler.memory().limit / positions
}

#[test]
fn rounds_draw_what_a_whole_call_draws() {
    let requests = [
        request(1, 1, &[1, 2, 3], 5, 1.2),
        request(2, 40, &[7], 30, 0.8),
        request(4, 16, &[3, 3], 20, 0.0),
        request(5, 9, &[], 20, 1.0),
        request(6, 9, &[1], 0, 1.0),
        request(7, 120, &[5, 6], 9, 1.0),
    ];
    let expected = generate(&mut create(&odd(), 1), &requests);
    for (threads, slots) in [(1, 1), (1, 3), (2, 4), (3, 64)] {
        let mut engine = create(&odd(), threads);
        let scheduler = Scheduler::of(&engine, slots, 0).expect("a scheduler");
        for request in &requests {
            scheduler
                .add(&request.prompt, &request.keys, request.sampling.clone())
                .expect("a good request");
        }
        let told = drain(&mut engine, &scheduler);
        let expected = expected.iter().flatten();
        assert_eq!(told.len(), expected.clone().count());
        for ((tokens, logprobs, finish), expected) in told.values().zip(expected) {
            assert_eq!((tokens, logprobs), (&expected.tokens, &expected.logprobs));
            assert_eq!(*finish, Some(expected.finish));
        }
    }
}

#[test]
fn a_shared_beginning_is_read_once_and_changes_no_bit() {
    for isa in Isa::available() {
        let mut engine = create(&odd(), 1);
        engine.set_isa(isa);
        let start = ids(3, 70);
        let prompts: Vec<Vec<u32>> = (0..5).map(|i| [&start[..], &ids(i, 5)].concat()).collect();
        let alone: Vec<Told> = prompts
            .iter()
            .map(|prompt| {
                let scheduler = Scheduler::of(&engine, 4, 0).expect("a scheduler");
                scheduler.add(prompt, &[1, 2], sampling(20)).expect("good");
                drain(&mut engine, &scheduler)
            })
            .collect();
        let scheduler = Scheduler::of(&engine, 20, 0).expect("a scheduler");
        let block = block(&engine);
        let mut held = 0;
        let mut told = Told::new();
        for prompt in &prompts {
            scheduler.add(prompt, &[1, 2], sampling(20)).expect("good");
        }
        while scheduler.busy() + scheduler.waiting() > 0 {
            hear(&mut told, scheduler.step(&mut engine));
            held = held.max(scheduler.memory().used);
        }
        // Four whole blocks for all, and for each sample at most what its own tokens take.
        assert!(held <= (4 + 10 * 2) * block, "{} blocks", held / block);
        let together = told.values();
        let alone: Vec<_> = alone.iter().flat_map(|told| told.values()).collect();
        assert!(together.eq(alone.iter().copied()));
    }
}

#[test]
fn what_was_read_is_kept_for_later_requests_until_the_weights_change() {
    let mut engine = endless(1);
    let scheduler = Scheduler::of(&engine, 4, 0).expect("a scheduler");
    let (first, second) = (ids(3, 80), [&ids(3, 80)[..], &[5; 4]].concat());
    scheduler.add(&first, &[1], sampling(8)).expect("good");
    drain(&mut engine, &scheduler);
    let kept = scheduler.memory();
    // 80 tokens and 7 of the 8 drawn were read: five whole blocks.
    assert_eq!((kept.used, kept.reserved), (5 * block(&engine), 0));

    let fresh = |engine: &mut Engine| {
        let scheduler = Scheduler::of(engine, 4, 0).expect("a scheduler");
        scheduler.add(&second, &[2], sampling(8)).expect("good");
        drain(engine, &scheduler).into_values().next()
    };
    scheduler.add(&second, &[2], sampling(8)).expect("good");
    let again = drain(&mut engine, &scheduler).into_values().next();
    assert_eq!(again, fresh(&mut engine));

    edit(&mut engine, |_, values| {
        values.iter_mut().for_each(|x| *x *= 1.1)
    });
    scheduler.add(&second, &[2], sampling(8)).expect("good");
    let changed = drain(&mut engine, &scheduler).into_values().next();
    assert_ne!(changed, again);
    assert_eq!(changed, fresh(&mut engine));
}

#[test]
fn memory_never_passes_its_limit_and_stays_flat() {
    let mut engine = endless(2);
    let limit = 12 * block(&engine);
    let scheduler = Scheduler::of(&engine, 8, limit).expect("a scheduler");
    assert_eq!(scheduler.memory().limit, limit);
    let (mut sent, mut ended) = (0, 0);
    while ended < 10_000 {
        while sent < 10_000 && scheduler.waiting() < 16 {
            // Some alike, some not.
            let prompt = ids(sent % 37, 1 + sent * 7 % 50);
            let key = sent as u64;
            scheduler
                .add(&prompt, &[key], sampling(1 + sent % 3))
                .expect("good");
            sent += 1;
        }
        let events = scheduler.step(&mut engine);
        ended += events.iter().filter(|event| event.finish.is_some()).count();
        let memory = scheduler.memory();
        assert!(memory.used <= limit && memory.reserved <= limit && scheduler.busy() <= 8);
    }
    let memory = scheduler.memory();
    assert_eq!(
        (memory.reserved, scheduler.busy(), scheduler.waiting()),
        (0, 0, 0)
    );
    assert!(
        memory.used <= limit / 4,
        "kept for later: a quarter at most"
    );
}

#[test]
fn what_can_never_fit_is_refused_with_the_figures() {
    let engine = endless(1);
    let block = block(&engine);
    let scheduler = Scheduler::of(&engine, 4, 3 * block).expect("a scheduler");
    scheduler
        .add(&ids(1, 40), &[1], sampling(9))
        .expect("three blocks hold 48 positions");
    let error = scheduler
        .add(&ids(1, 40), &[1], sampling(10))
        .expect_err("49 positions");
    assert!(matches!(error, Error::Capacity(_)) && error.is_usage());
    let text = error.to_string();
    for figure in [
        "40",
        "10",
        &(4 * block).to_string(),
        &(3 * block).to_string(),
    ] {
        assert!(text.contains(figure), "{text}");
    }
    assert!(matches!(
        Scheduler::of(&engine, 4, block - 1),
        Err(Error::Capacity(_))
    ));
    assert!(matches!(
        Scheduler::of(&engine, 0, 0),
        Err(Error::Request(_))
    ));
}

#[test]
fn requests_are_let_in_in_order_and_nobody_waits_for_ever() {
    let mut engine = endless(1);
    let scheduler = Scheduler::of(&engine, 8, 8 * block(&engine)).expect("a scheduler");
    // A large one stands behind small ones, and more small ones behind it.
    let sizes = [10, 10, 10, 110, 10, 10, 10];
    let numbers: Vec<u64> = sizes
        .iter()
        .map(|&n| scheduler.add(&ids(n, n), &[1], sampling(6)).expect("good"))
        .collect();
    let mut begun = Vec::new();
    while scheduler.busy() + scheduler.waiting() > 0 {
        for event in scheduler.step(&mut engine) {
            if !begun.contains(&event.request) {
                begun.push(event.request);
            }
        }
    }
    assert_eq!(begun, numbers);
}

#[test]
fn a_long_prompt_does_not_keep_others_waiting() {
    let config = with(
        odd(),
        &[
            ("eos_token_id", json!(null)),
            ("max_position_embeddings", json!(4000)),
        ],
    );
    let mut engine = create(&config, 1);
    let scheduler = Scheduler::of(&engine, 4, 0).expect("a scheduler");
    let short = scheduler
        .add(&ids(1, 4), &[1], sampling(200))
        .expect("good");
    scheduler.step(&mut engine);
    let long = scheduler
        .add(&ids(2, 3000), &[1], sampling(2))
        .expect("good");
    let mut rounds = 0;
    loop {
        let events = scheduler.step(&mut engine);
        rounds += 1;
        assert_eq!(events[0].request, short);
        assert_eq!(events[0].drawn.tokens.len(), 1);
        if events.iter().any(|event| event.request == long) {
            break;
        }
    }
    assert_eq!(rounds, 3000usize.div_ceil(256));
}

#[test]
fn cancelling_frees_the_slot_at_the_next_round() {
    let mut engine = endless(1);
    let scheduler = Scheduler::of(&engine, 3, 0).expect("a scheduler");
    let first = scheduler
        .add(&ids(1, 20), &[1, 2, 3], sampling(100))
        .expect("good");
    let second = scheduler
        .add(&ids(2, 20), &[1, 2], sampling(100))
        .expect("good");
    scheduler.step(&mut engine);
    assert_eq!((scheduler.busy(), scheduler.waiting()), (3, 2));
    assert!(scheduler.cancel(first, Some(1)));
    let events = scheduler.step(&mut engine);
    let ends: Vec<_> = events
        .iter()
        .filter_map(|e| Some((e.request, e.sample, e.finish?)))
        .collect();
    assert_eq!(ends, [(first, 1, Finish::Cancelled)]);
    assert_eq!((scheduler.busy(), scheduler.waiting()), (3, 1));
    assert!(scheduler.cancel(first, None) && scheduler.cancel(second, None));
    let events = scheduler.step(&mut engine);
    assert_eq!(events.len(), 4);
    assert!(
        events
            .iter()
            .all(|event| event.finish == Some(Finish::Cancelled))
    );
    assert_eq!((scheduler.busy(), scheduler.waiting()), (0, 0));
    assert_eq!(scheduler.memory().reserved, 0);
    assert!(!scheduler.cancel(first, None) && !scheduler.cancel(99, None));
    assert!(scheduler.step(&mut engine).is_empty());
}

#[test]
fn samples_of_a_prompt_that_is_being_read_can_be_cancelled() {
    let config = with(odd(), &[("max_position_embeddings", json!(4000))]);
    let mut engine = create(&config, 1);
    let scheduler = Scheduler::of(&engine, 4, 0).expect("a scheduler");
    let prompt = ids(2, 3000);
    let number = scheduler
        .add(&prompt, &[1, 2, 3], sampling(5))
        .expect("good");
    assert!(scheduler.step(&mut engine).is_empty());
    scheduler.cancel(number, Some(0));
    let told = drain(&mut engine, &scheduler);
    assert_eq!(told[&(number, 0)].2, Some(Finish::Cancelled));
    let scheduler = Scheduler::of(&engine, 4, 0).expect("a scheduler");
    let other = scheduler.add(&prompt, &[2, 3], sampling(5)).expect("good");
    let expected = drain(&mut engine, &scheduler);
    for sample in 0..2 {
        assert_eq!(told[&(number, sample + 1)], expected[&(other, sample)]);
    }
}

#[test]
fn two_schedulers_take_turns_on_one_engine_and_on_two() {
    let (mut one, mut two) = (create(&odd(), 2), create(&odd(), 1));
    edit(&mut two, |_, values| {
        values.iter_mut().for_each(|x| *x *= 0.9)
    });
    let prompt = ids(4, 30);
    let schedulers =
        [&one, &one, &two].map(|engine| Scheduler::of(engine, 2, 0).expect("a scheduler"));
    for scheduler in &schedulers {
        scheduler
            .add(&prompt, &[1, 2, 3], sampling(12))
            .expect("good");
    }
    let mut told = [Told::new(), Told::new(), Told::new()];
    for _ in 0..60 {
        for (at, scheduler) in schedulers.iter().enumerate() {
            let engine = if at < 2 { &mut one } else { &mut two };
            hear(&mut told[at], scheduler.step(engine));
        }
    }
    assert!(
        told.iter()
            .all(|told| told.len() == 3 && told.values().all(|t| t.2.is_some()))
    );
    assert_eq!(told[0], told[1]);
    assert_ne!(told[0], told[2]);
}

#[test]
fn impossible_settings_are_refused() {
    let engine = endless(1);
    let scheduler = Scheduler::of(&engine, 1, 0).expect("a scheduler");
    let wrong = [
        Sampling {
            temperature: -1.0,
            ..sampling(1)
        },
        Sampling {
            temperature: f32::NAN,
            ..sampling(1)
        },
        Sampling {
            top_p: 0.0,
            ..sampling(1)
        },
        Sampling {
            top_p: 1.1,
            ..sampling(1)
        },
        Sampling {
            min_p: -0.1,
            ..sampling(1)
        },
        Sampling {
            min_p: f32::NAN,
            ..sampling(1)
        },
        Sampling {
            frequency_penalty: f32::INFINITY,
            ..sampling(1)
        },
        Sampling {
            presence_penalty: f32::NAN,
            ..sampling(1)
        },
        Sampling {
            repetition_penalty: 0.0,
            ..sampling(1)
        },
        Sampling {
            bias: vec![(37, 1.0)],
            ..sampling(1)
        },
        Sampling {
            bias: vec![(1, f32::NAN)],
            ..sampling(1)
        },
        Sampling {
            stop: vec![37],
            ..sampling(1)
        },
        Sampling {
            top: 21,
            ..sampling(1)
        },
    ];
    for sampling in wrong {
        let told = format!("{sampling:?}");
        assert!(scheduler.add(&[1], &[1], sampling).is_err(), "{told}");
    }
    for prompt in [&[][..], &[37], &[1; 201]] {
        assert!(scheduler.add(prompt, &[1], sampling(1)).is_err());
    }
    assert_eq!(scheduler.waiting(), 0);
}

#[test]
fn penalties_and_biases_bend_the_choice_by_their_definition() {
    let mut engine = endless(1);
    let prompt = ids(1, 9);
    let (repetition, frequency, presence) = (1.3f32, 0.7f32, 0.2f32);
    let bias = vec![(4, 1.5), (9, -2.0)];
    let settings = Sampling {
        temperature: 0.0,
        repetition_penalty: repetition,
        frequency_penalty: frequency,
        presence_penalty: presence,
        bias: bias.clone(),
        top: 2,
        ..sampling(25)
    };
    let scheduler = Scheduler::of(&engine, 1, 0).expect("a scheduler");
    scheduler.add(&prompt, &[0], settings).expect("good");
    let told = drain(&mut engine, &scheduler);
    let drawn = &told.values().next().expect("a sample").0;
    let mut text = prompt.clone();
    for &token in drawn {
        let logits = engine.logits(std::slice::from_ref(&text)).expect("good");
        let [_, longest, vocabulary] = logits.shape;
        let mut row = logits.values[(longest - 1) * vocabulary..].to_vec();
        for (i, x) in row.iter_mut().enumerate() {
            if text.contains(&(i as u32)) {
                *x = if *x > 0.0 {
                    *x / repetition
                } else {
                    *x * repetition
                };
            }
            let count = text[prompt.len()..]
                .iter()
                .filter(|&&t| t == i as u32)
                .count();
            if count > 0 {
                *x -= frequency * count as f32 + presence;
            }
            *x += bias
                .iter()
                .filter(|b| b.0 == i as u32)
                .map(|b| b.1)
                .sum::<f32>();
        }
        assert_eq!(Some(token as usize), moevolve_kernels::sample::greedy(&row));
        text.push(token);
    }
    assert_eq!(drawn.len(), 25);
}

#[test]
fn a_block_taken_over_while_reading_is_not_promised_twice() {
    let config = with(
        odd(),
        &[
            ("eos_token_id", json!(null)),
            ("max_position_embeddings", json!(4000)),
        ],
    );
    let mut engine = create(&config, 1);
    let block = block(&engine);
    let prompt = ids(2, 2400);
    let scheduler = Scheduler::of(&engine, 4, 160 * block).expect("a scheduler");
    // The first reads; the second, which would read the same, waits for it and takes over what it leaves behind.
    let first = scheduler.add(&prompt, &[1], sampling(2)).expect("good");
    scheduler.step(&mut engine);
    scheduler.add(&prompt, &[2], sampling(2)).expect("good");
    scheduler.cancel(first, None);
    while scheduler.busy() + scheduler.waiting() > 0 {
        scheduler.step(&mut engine);
        let memory = scheduler.memory();
        assert!(memory.reserved <= memory.limit && memory.used <= memory.limit);
    }
    assert_eq!(scheduler.memory().reserved, 0);
}

#[test]
fn what_reaches_further_than_the_network_is_ready_for_waits_for_the_step_after() {
    let mut engine = endless(1);
    let scheduler = Scheduler::of(&engine, 4, 0).expect("a scheduler");
    let first = scheduler.add(&ids(1, 3), &[1], sampling(2)).expect("good");
    engine.prepare(scheduler.reach());
    // As another thread may, just before the step.
    let late = scheduler.add(&ids(2, 90), &[1], sampling(5)).expect("good");
    let events = engine.with_cpu(|cpu| scheduler.step_on(&cpu, engine.weights_version()));
    let begun: Vec<u64> = events.iter().map(|event| event.request).collect();
    assert_eq!((begun, scheduler.waiting()), (vec![first], 1));
    let told = drain(&mut engine, &scheduler);
    assert_eq!(told[&(late, 0)].0.len(), 5);
}
