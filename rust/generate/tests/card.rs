//! Whole engines on a card, by its twin on the processor: every family computes, learns and draws there what it does here.
//!
//! One file above 400 lines: every property runs over the same families, on both sides.

mod common;

use common::{
    adapted, batch, begins_with_fresh_moments, create, edit, families, generate, ids, odd, put,
    request, storable, storable_dense, stored, tensors, values, with,
};
use moevolve_generate::{EngineScheduler, Event, Generator, Request};
use moevolve_kernels::Precision;
use moevolve_kernels_cuda::twin::Twin;
use moevolve_model::adapter::TARGETS;
use moevolve_model::{AdapterSettings, Engine, Error, Objective, Optimizer, Rollout};
use serde_json::{Value, json};

/// The same engine on a card.
fn on_card(mut engine: Engine) -> Engine {
    engine
        .to_card("cuda:0", &Twin::device(5), None)
        .expect("a network that cards run");
    engine
}

/// What cards run, with what only each family has.
fn runs() -> Vec<(&'static str, Value)> {
    let refused = |name: &str| {
        ["slides", "mistral", "qwen2", "gpt_oss", "qwen3_5"]
            .iter()
            .any(|part| name.contains(part))
    };
    let mut all: Vec<_> = families();
    all.retain(|(name, _)| !refused(name));
    let open = |name: &str| {
        let of = |(family, _): &&(&str, Value)| *family == name;
        let (_, config) = families().iter().find(of).cloned().expect("a family");
        with(
            config,
            &[
                ("sliding_window", Value::Null),
                ("use_sliding_window", json!(false)),
            ],
        )
    };
    all.push(("mistral without a window", open("mistral")));
    all.push(("qwen2 without a window", open("qwen2")));
    all
}

/// The largest difference, against the largest number there is.
fn apart(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let scale = expected
        .iter()
        .filter(|x| x.is_finite())
        .fold(1e-6f32, |most, x| most.max(x.abs()));
    let pairs = found.iter().zip(expected);
    let real = pairs.filter(|(a, b)| !(a.is_nan() && b.is_nan()));
    // What is no number is no smaller than anything.
    real.map(|(a, b)| (a - b).abs() / scale)
        .fold(0.0, |most, x| if x <= most { most } else { x })
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

fn logits(engine: &mut Engine) -> Vec<f32> {
    let rows = [ids(3, 23), ids(4, 5), ids(5, 40), ids(6, 1)];
    engine.logits(&rows).expect("logits").values
}

fn rollouts() -> Vec<Rollout> {
    let rollout = |(i, example): (usize, moevolve_model::Example)| {
        let tokens = example.answer_tokens();
        let number = |k: usize, scale: f32| scale * ((7 * i + 3 * k) as f32).sin();
        Rollout {
            advantages: (0..tokens).map(|k| number(k, 1.5)).collect(),
            old: (0..tokens).map(|k| -3.0 + number(k + 1, 1.0)).collect(),
            reference: (0..tokens).map(|k| -3.0 + number(k + 2, 1.0)).collect(),
            age: i as u32,
            ids: example.ids,
            answer_start: example.answer_start,
            positions: example.positions,
        }
    };
    batch().into_iter().enumerate().map(rollout).collect()
}

/// Tensor by tensor, so that no small one hides behind a large one.
fn compare(
    what: &str,
    found: &[(String, moevolve_model::Tensor)],
    expected: &[(String, moevolve_model::Tensor)],
    most: f32,
) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for ((name, a), (same, b)) in found.iter().zip(expected) {
        assert_eq!(name, same);
        let far = apart(&values(a), &values(b));
        assert!(far < most, "{what}: {name} is {far} apart");
    }
}

#[test]
fn logits_scores_and_states_are_the_processors() {
    for (family, config) in runs() {
        let (mut cpu, mut card) = (create(&config, 1), on_card(create(&config, 1)));
        let far = apart(&logits(&mut card), &logits(&mut cpu));
        assert!(far < 1e-5, "{family}: {far}");
        let text = ids(8, 31);
        let scores = |engine: &mut Engine| -> Vec<f32> {
            let scores = engine.score(&text, 2).expect("scores");
            let flat = scores
                .iter()
                .flat_map(|(own, best)| [*own, best[0].1, best[1].1]);
            flat.collect()
        };
        assert!(
            apart(&scores(&mut card), &scores(&mut cpu)) < 1e-5,
            "{family}"
        );
        let states = |engine: &mut Engine| engine.embed(&text).expect("a state");
        assert!(
            apart(&states(&mut card), &states(&mut cpu)) < 1e-5,
            "{family}"
        );
        let logprobs = |engine: &mut Engine| engine.logprobs(&batch(), false).expect("numbers");
        let (found, expected) = (logprobs(&mut card).concat(), logprobs(&mut cpu).concat());
        assert!(apart(&found, &expected) < 1e-5, "{family}");
    }
}

#[test]
fn gradients_are_the_processors_kept_or_computed_again() {
    let objective = Objective::new("cispo", 0.2, 0.3, 0.1, 0).expect("an objective");
    for (family, config) in runs() {
        let (mut cpu, mut card) = (create(&config, 1), on_card(create(&config, 1)));
        let (expected_loss, expected) = cpu.gradients(&batch()).expect("gradients");
        for again in [false, true] {
            card.set_checkpointing(again);
            let (loss, found) = card.gradients(&batch()).expect("gradients");
            assert!(
                (loss - expected_loss).abs() < 1e-5 * expected_loss,
                "{family}: {loss}"
            );
            compare(family, &found, &expected, 1e-4);
        }
        let (expected_loss, expected) = cpu
            .policy_gradients(&rollouts(), &objective)
            .expect("gradients");
        let (loss, found) = card
            .policy_gradients(&rollouts(), &objective)
            .expect("gradients");
        assert!(
            (loss - expected_loss).abs() < 1e-4,
            "{family}: {loss}, not {expected_loss}"
        );
        compare(family, &found, &expected, 1e-4);
    }
}

#[test]
fn steps_change_the_weights_as_on_the_processor() {
    let objective = Objective::new("grpo", 0.2, 0.3, 0.1, 0).expect("an objective");
    for (family, config) in [("minimax_m2", odd()), runs().remove(1)] {
        let (mut cpu, mut card) = (create(&config, 1), on_card(create(&config, 1)));
        for engine in [&mut cpu, &mut card] {
            let optimizer = Optimizer::new(0.9, 0.95, 1e-3, 0.1, 1.0, 1e-3);
            engine.reset_optimizer(optimizer.expect("good settings"));
        }
        for step in 0..3 {
            let [a, b] = [&mut cpu, &mut card].map(|engine| match step {
                2 => engine.policy_step(&rollouts(), &objective, 1e-2, true),
                _ => engine.train_step(&batch(), 1e-2, true),
            });
            let (a, b) = (a.expect("a step"), b.expect("a step"));
            assert!(
                (a.loss - b.loss).abs() < 1e-4 * a.loss.abs().max(1.0),
                "{family}"
            );
            assert!(
                (a.gradient_norm - b.gradient_norm).abs() < 1e-4 * a.gradient_norm,
                "{family}"
            );
            assert_eq!(a.expert_load, b.expert_load, "{family}");
            let norms = [&a, &b].map(|report| report.expert_gradient.concat());
            let norms = norms.map(|norms| norms.iter().map(|&x| x as f32).collect::<Vec<_>>());
            assert!(apart(&norms[1], &norms[0]) < 1e-3, "{family}");
            assert_eq!(a.policy.is_some(), b.policy.is_some());
        }
        let (expected, found) = (tensors(&cpu), tensors(&card));
        assert_eq!(found.len(), expected.len());
        for (name, tensor) in &expected {
            let far = apart(&values(&found[name]), &values(tensor));
            assert!(far < 1e-3, "{family}: {name} is {far} apart");
        }
    }
}

#[test]
fn an_adapter_learns_beside_weights_on_a_card() {
    for (family, config) in [runs().remove(0), runs().remove(2), runs().remove(7)] {
        let mut cpu = adapted(create(&config, 1), 3);
        let mut card = on_card(adapted(create(&config, 1), 3));
        assert!(
            apart(&logits(&mut card), &logits(&mut cpu)) < 1e-5,
            "{family}"
        );
        for base in [true, false] {
            let logprobs = |engine: &mut Engine| engine.logprobs(&batch(), base).expect("numbers");
            let (found, expected) = (logprobs(&mut card).concat(), logprobs(&mut cpu).concat());
            assert!(apart(&found, &expected) < 1e-5, "{family}, base {base}");
        }
        let (_, expected) = cpu.gradients(&batch()).expect("gradients");
        let (_, found) = card.gradients(&batch()).expect("gradients");
        compare(family, &found, &expected, 1e-4);
        for _ in 0..2 {
            let [a, b] = [&mut cpu, &mut card]
                .map(|engine| engine.train_step(&batch(), 1e-3, true).expect("a step"));
            assert!(
                (a.gradient_norm - b.gradient_norm).abs() < 1e-4 * a.gradient_norm,
                "{family}"
            );
        }
        assert!(
            apart(&logits(&mut card), &logits(&mut cpu)) < 1e-3,
            "{family}"
        );
        // Put beside a network that is there already, it is the same.
        let folder = tempfile::tempdir().expect("a folder");
        card.save_adapter(folder.path(), "base").expect("saved");
        let mut other = on_card(create(&config, 1));
        other.load_adapter(folder.path()).expect("loaded");
        assert!(
            bits(&logits(&mut other)) == bits(&logits(&mut card)),
            "{family}"
        );
        card.merge().expect("merged");
        assert!(
            apart(&logits(&mut card), &logits(&mut other)) < 1e-5,
            "{family}"
        );
        assert!(card.adapter().is_none() && card.device() == "cuda:0");
    }
}

#[test]
fn other_numbers_train_from_fresh_moments_on_a_card() {
    let plain = || on_card(create(&odd(), 1));
    begins_with_fresh_moments("adapt", plain, |engine| {
        let targets = TARGETS.map(str::to_owned).to_vec();
        let settings = AdapterSettings::new(3, 5.0, targets, false).expect("good settings");
        engine.adapt(settings, 4).expect("adapted");
    });
    begins_with_fresh_moments(
        "merge",
        || on_card(adapted(create(&odd(), 1), 3)),
        |engine| engine.merge().expect("merged"),
    );
}

#[test]
fn stored_weights_are_read_and_adapted_on_a_card() {
    for dtype in ["f32", "bf16"] {
        let mut cpu = stored(&storable(), dtype, 1);
        let mut card = on_card(stored(&storable(), dtype, 1));
        assert!(
            apart(&logits(&mut card), &logits(&mut cpu)) < 1e-5,
            "{dtype}"
        );
        assert!(matches!(
            card.train_step(&batch(), 1e-3, false),
            Err(Error::Frozen)
        ));
        let (mut cpu, mut card) = (adapted(cpu, 2), adapted(card, 2));
        let (_, expected) = cpu.gradients(&batch()).expect("gradients");
        let (_, found) = card.gradients(&batch()).expect("gradients");
        compare(dtype, &found, &expected, 1e-4);
    }
}

#[test]
fn stored_weights_in_bf16_take_no_more_than_that() {
    let mut cpu = create(&storable_dense(), 1);
    cpu.choose_precision("bf16").expect("a precision");
    let folder = tempfile::tempdir().expect("a folder");
    create(&storable_dense(), 1)
        .save(folder.path(), Some("bf16"))
        .expect("saved");
    let read =
        || Engine::load_as(folder.path(), 1, moevolve_model::WeightsMode::Stored).expect("loaded");
    let (mut at_once, mut later) = (read(), on_card(read()));
    at_once
        .to_card("cuda:0", &Twin::device(5), Some("bf16"))
        .expect("moved");
    let far = apart(&logits(&mut at_once), &logits(&mut cpu));
    assert!(far < 2e-2, "{far}");
    later.choose_precision("fastest").expect("a precision");
    assert!(bits(&logits(&mut later)) == bits(&logits(&mut at_once)));
    let asked = [request(1, 9, &[1], 8, 0.0)];
    assert_eq!(texts(&mut later, &asked), texts(&mut at_once, &asked));
    let copy = logits(&mut at_once.duplicate().expect("a copy"));
    assert_eq!(apart(&copy, &logits(&mut at_once)), 0.0);
    // And back.
    later.choose_precision("f32").expect("a precision");
    let far = apart(&logits(&mut later), &logits(&mut on_card(read())));
    assert_eq!(far, 0.0);
}

/// Prompts that share a beginning, greedy and drawn, with guesses and without.
fn requests() -> Vec<Request> {
    (0..6)
        .map(|i| {
            let temperature = if i < 3 { 0.0 } else { 1.0 };
            let mut asked = request(2, 20, &[i as u64, 9], 18, temperature);
            if i % 2 == 0 {
                asked.prompt.extend(ids(i, 3));
            } else {
                asked.prompt = ids(i, 5 + 3 * i);
            }
            asked.sampling.speculate = i % 3;
            asked.sampling.top = 1;
            asked
        })
        .collect()
}

fn texts(engine: &mut Engine, requests: &[Request]) -> Vec<Vec<Vec<u32>>> {
    let samples = generate(engine, requests);
    let tokens = |samples: &Vec<moevolve_generate::Sample>| {
        samples.iter().map(|sample| sample.tokens.clone()).collect()
    };
    samples.iter().map(tokens).collect()
}

#[test]
fn texts_are_the_processors_alone_and_in_company() {
    for (family, config) in runs() {
        let (mut cpu, mut card) = (create(&config, 1), on_card(create(&config, 1)));
        let expected = texts(&mut cpu, &requests());
        assert_eq!(texts(&mut card, &requests()), expected, "{family}");
        // Greedy ones with and without guesses.
        for (asked, expected) in requests().into_iter().zip(expected).take(3) {
            assert_eq!(texts(&mut card, &[asked]), [expected], "{family}");
        }
    }
}

#[test]
fn two_passes_give_the_same_bits() {
    let numbers = |seed| {
        let mut card = create(&odd(), 1);
        // Another order of threads and blocks.
        card.to_card("cuda:0", &Twin::device(seed), None)
            .expect("moved");
        card.train_step(&batch(), 1e-2, false).expect("a step");
        let samples = generate(&mut card, &requests());
        (
            card.fingerprint(),
            logits(&mut card)
                .iter()
                .map(|x| x.to_bits())
                .collect::<Vec<_>>(),
            samples,
        )
    };
    assert_eq!(numbers(1), numbers(77));
}

#[test]
fn a_scheduler_draws_on_a_card_and_stays_there() {
    let mut card = on_card(create(&odd(), 1));
    let expected = texts(&mut card, &[request(1, 9, &[4], 6, 1.0)]);
    let scheduler = EngineScheduler::of(&card, 3, 0).expect("a scheduler");
    let asked = request(1, 9, &[4], 6, 1.0);
    scheduler
        .add(&asked.prompt, &asked.keys, asked.sampling)
        .expect("a good request");
    let mut drawn: Vec<u32> = Vec::new();
    while scheduler.busy() + scheduler.waiting() > 0 {
        let events = scheduler.step(&mut card).expect("a step");
        drawn.extend(events.iter().flat_map(|event: &Event| &event.drawn.tokens));
    }
    assert_eq!(vec![vec![drawn]], expected);
    card.to_cpu().expect("moved");
    let error = scheduler
        .step(&mut card)
        .expect_err("its keys lie elsewhere")
        .to_string();
    assert!(
        error.contains("is for the engine on cuda:0, and it has moved to cpu"),
        "{error}"
    );
    assert_eq!(texts(&mut card, &[request(1, 9, &[4], 6, 1.0)]), expected);
}

#[test]
fn moving_there_and_back_keeps_weights_and_optimiser() {
    let step = |engine: &mut Engine| {
        let report = engine.train_step(&batch(), 1e-2, false).expect("a step");
        report.loss
    };
    let mut stays = create(&odd(), 1);
    let mut moves = create(&odd(), 1);
    step(&mut stays);
    step(&mut moves);
    let before = moves.fingerprint();
    let mut moves = on_card(moves);
    assert_eq!(moves.fingerprint(), before);
    let copy = moves.duplicate().expect("a copy");
    assert_eq!(
        (copy.fingerprint(), copy.device()),
        (before.clone(), "cuda:0")
    );
    step(&mut stays);
    step(&mut moves);
    // What was copied does not change with it.
    assert_eq!(copy.fingerprint(), before);
    assert_ne!(moves.fingerprint(), before);
    let trained = moves.fingerprint();
    moves.to_cpu().expect("moved");
    assert_eq!((moves.fingerprint(), moves.device()), (trained, "cpu"));
    let (a, b) = (step(&mut stays), step(&mut moves));
    assert!((a - b).abs() < 1e-4 * a, "{a}, not {b}");
}

#[test]
fn training_goes_on_from_a_folder_on_any_device() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut card = on_card(create(&odd(), 1));
    card.train_step(&batch(), 1e-2, false).expect("a step");
    card.save_training(folder.path(), "seven").expect("saved");
    let mut other = create(&odd(), 1);
    assert_eq!(other.load_training(folder.path()).expect("loaded"), "seven");
    assert_eq!(other.fingerprint(), card.fingerprint());
    let mut third = on_card(create(&odd(), 1));
    assert_eq!(third.load_training(folder.path()).expect("loaded"), "seven");
    let step = |engine: &mut Engine| {
        engine
            .train_step(&batch(), 1e-2, false)
            .expect("a step")
            .loss
    };
    let (a, b, c) = (step(&mut card), step(&mut other), step(&mut third));
    assert!((a - b).abs() < 1e-4 * a && a == c, "{a}, {b}, {c}");
    assert_eq!(card.fingerprint(), third.fingerprint());
    let saved = tempfile::tempdir().expect("a folder");
    card.save(saved.path(), None).expect("saved");
    let mut again = Engine::load(saved.path(), 1).expect("loaded");
    assert!(apart(&logits(&mut again), &logits(&mut card)) < 1e-5);
}

#[test]
fn bf16_products_are_near_the_processors() {
    for (family, config) in runs() {
        let (mut cpu, mut card) = (create(&config, 1), on_card(create(&config, 1)));
        for engine in [&mut cpu, &mut card] {
            engine.choose_precision("bf16").expect("a precision");
            assert_eq!(engine.precision(), Precision::Bf16);
        }
        let far = apart(&logits(&mut card), &logits(&mut cpu));
        assert!(far < 1e-2, "{family}: {far}");
        let (_, expected) = cpu.gradients(&batch()).expect("gradients");
        let (_, found) = card.gradients(&batch()).expect("gradients");
        compare(family, &found, &expected, 2e-2);
        // What products read follows the step.
        card.train_step(&batch(), 1e-2, false).expect("a step");
        put(&mut cpu, &tensors(&card));
        let far = apart(&logits(&mut card), &logits(&mut cpu));
        assert!(far < 1e-2, "{family}: {far}");
    }
}

#[test]
fn an_adapter_wants_f32_there() {
    let mut card = on_card(adapted(create(&odd(), 1), 2));
    let error = card
        .choose_precision("bf16")
        .expect_err("refused")
        .to_string();
    assert!(
        error.contains("an adapter on a card computes in f32"),
        "{error}"
    );
    card.choose_precision("fastest")
        .expect("what is fastest for it");
    assert_eq!(card.precision(), Precision::F32);
    let mut card = on_card(create(&odd(), 1));
    card.choose_precision("fastest")
        .expect("what is fastest for it");
    assert_eq!(card.precision(), Precision::Bf16);
}

#[test]
fn what_no_kernel_computes_is_refused_by_name() {
    let without = [
        ("gpt_oss", "attention sinks"),
        ("qwen3_5_moe", "layers of linear attention (layer_types)"),
        ("mistral", "windows of attention (sliding_window)"),
        (
            "mixtral that slides",
            "windows of attention (sliding_window)",
        ),
        ("qwen2", "windows of attention (sliding_window)"),
    ];
    for (family, what) in without {
        let of = |(name, _): &&(&str, Value)| *name == family;
        let (_, config) = families().iter().find(of).cloned().expect("a family");
        let mut engine = create(&config, 1);
        let before = logits(&mut engine);
        let error = engine
            .to_card("cuda:0", &Twin::device(5), None)
            .expect_err(family);
        assert!(error.is_usage());
        assert!(
            error.to_string().ends_with(&format!(
                "no kernel for cards computes {what}; device cpu runs it"
            )),
            "{family}: {error}"
        );
        // It goes on where it was.
        assert_eq!(engine.device(), "cpu");
        assert_eq!(apart(&logits(&mut engine), &before), 0.0, "{family}");
    }
}

#[test]
fn weights_of_a_file_are_taken_there() {
    let mut card = on_card(create(&odd(), 1));
    let mut cpu = create(&odd(), 1);
    for engine in [&mut card, &mut cpu] {
        edit(engine, |_, values| {
            values.iter_mut().for_each(|x| *x *= 0.9)
        });
    }
    assert_eq!(card.fingerprint(), cpu.fingerprint());
    assert!(apart(&logits(&mut card), &logits(&mut cpu)) < 1e-5);
    let mut generator = Generator::default();
    let before = generator.generate(&mut card, &requests()).expect("samples");
    edit(&mut card, |_, values| {
        values.iter_mut().for_each(|x| *x *= 0.5)
    });
    // What older weights read is forgotten.
    assert_ne!(
        generator.generate(&mut card, &requests()).expect("samples"),
        before
    );
}
