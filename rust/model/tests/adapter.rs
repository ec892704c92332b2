//! LoRA beside frozen weights: nothing at first, the same as its merged weights later, and kept exactly.
//!
//! One file above 400 lines: every property runs over the same families and the same tiny adapters.

mod common;

use common::{
    adapted, batch, begins_with_fresh_moments, create, edit, families, odd, storable,
    storable_dense, stored, tensors, values,
};
use moevolve_model::adapter::TARGETS;
use moevolve_model::{AdapterSettings, Engine, Objective, Optimizer, Positions, Rollout};
use serde_json::json;

fn settings(rank: usize, targets: &[&str]) -> AdapterSettings {
    let targets = targets.iter().map(|&name| name.to_owned()).collect();
    AdapterSettings::new(rank, 5.0, targets, false).expect("good settings")
}

fn logits(engine: &mut Engine) -> Vec<f32> {
    let rows = [vec![1, 5, 9, 30, 2, 8, 8], vec![4], vec![7, 7, 3]];
    engine.logits(&rows).expect("logits").values
}

fn near(a: &[f32], b: &[f32], most: f32) -> bool {
    a.iter()
        .zip(b)
        .all(|(a, b)| a.is_nan() && b.is_nan() || (a - b).abs() < most)
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
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

#[test]
fn a_fresh_adapter_changes_nothing() {
    for (family, config) in families() {
        let mut engine = create(&config, 2);
        let before = logits(&mut engine);
        engine.adapt(settings(3, &TARGETS), 1).expect("adapted");
        assert!(near(&before, &logits(&mut engine), 1e-5), "{family}");
    }
}

#[test]
fn merged_weights_say_what_the_adapter_says() {
    for (family, config) in families() {
        let mut engine = adapted(create(&config, 2), 3);
        let mut plain = create(&config, 2);
        let with = logits(&mut engine);
        assert!(!near(&with, &logits(&mut plain), 1e-3), "{family}");
        engine.merge().expect("merged");
        assert!(engine.adapter().is_none());
        assert!(near(&with, &logits(&mut engine), 1e-4), "{family}");
    }
}

#[test]
fn stored_weights_with_an_adapter_are_the_same_bits_on_any_number_of_threads() {
    for config in [storable(), storable_dense()] {
        let on = |threads| {
            let mut engine = adapted(stored(&config, "bf16", threads), 3);
            let (loss, gradients) = engine.gradients(&batch()).expect("a good batch");
            let gradients = gradients.iter().flat_map(|(_, gradient)| values(gradient));
            let mut all = logits(&mut engine);
            all.extend(gradients);
            (loss.to_bits(), bits(&all))
        };
        assert!(on(1) == on(3));
    }
}

#[test]
fn what_is_no_target_does_not_train() {
    for (family, config) in families() {
        let mut engine = create(&config, 2);
        engine
            .adapt(settings(3, &["v_proj", "up_proj"]), 1)
            .expect("adapted");
        for _ in 0..3 {
            let report = engine.train_step(&batch(), 1e-2, false).expect("a step");
            // The norm is that of the tensors on file, so nothing else moves.
            assert!(report.gradient_norm > 0.0);
        }
        let (_, gradients) = engine.gradients(&batch()).expect("a good batch");
        let squares = gradients.iter().flat_map(|(_, gradient)| values(gradient));
        let norm = squares
            .map(|x| f64::from(x) * f64::from(x))
            .sum::<f64>()
            .sqrt();
        let report = engine.train_step(&batch(), 0.0, false).expect("a step");
        assert!(
            (report.gradient_norm - norm).abs() < 1e-5 * norm,
            "{family}"
        );
        let with = logits(&mut engine);
        let mut other = create(&config, 2);
        let folder = tempfile::tempdir().expect("a folder");
        engine.save_adapter(folder.path(), "").expect("saved");
        other.load_adapter(folder.path()).expect("loaded");
        assert_eq!(bits(&with), bits(&logits(&mut other)), "{family}");
    }
}

#[test]
fn an_adapter_of_stored_weights_learns_and_leaves_them_alone() {
    for config in [storable(), storable_dense()] {
        let mut engine = stored(&config, "bf16", 2);
        let before = logits(&mut engine);
        engine.adapt(settings(4, &TARGETS), 1).expect("adapted");
        engine.reset_optimizer(Optimizer::new(0.9, 0.99, 1e-8, 0.0, 1.0, 0.0).expect("good"));
        let loss = |engine: &mut Engine| {
            let report = engine.train_step(&batch(), 1e-2, true).expect("a step");
            let per_layer = report.expert_gradient.iter().map(Vec::len);
            assert!(per_layer.eq(report.expert_load.iter().map(Vec::len)));
            report.loss
        };
        let first = loss(&mut engine);
        for _ in 0..60 {
            loss(&mut engine);
        }
        let last = loss(&mut engine);
        assert!(last < 0.6 * first, "{first} {last}");
        // The base is as it was.
        let start = tensors(&engine);
        edit(&mut engine, |name, values| {
            if name.contains("lora_B") {
                values.fill(0.0);
            }
        });
        assert!(near(&before, &logits(&mut engine), 1e-5));
        common::put(&mut engine, &start);
        let told = engine.logprobs(&batch(), false).expect("log-probabilities");
        let mass: f64 = batch()
            .iter()
            .map(|e| f64::from(e.weight) * e.answer_tokens() as f64)
            .sum();
        let mean: f64 = batch()
            .iter()
            .zip(&told)
            .map(|(e, row)| {
                f64::from(e.weight) * row.iter().map(|&x| f64::from(-x)).sum::<f64>() / mass
            })
            .sum();
        let now = engine.gradients(&batch()).expect("a good batch").0;
        assert!((mean - now).abs() < 1e-4, "{mean} {now}");
        let base = engine.logprobs(&batch(), true).expect("log-probabilities");
        assert!(told != base);
    }
}

#[test]
fn computing_activations_again_gives_the_same_bits() {
    for (family, config) in families() {
        let objective = Objective::new("grpo", 0.2, 0.3, 0.1, 0).expect("good numbers");
        let print = |checkpointing: bool, adapter: bool| {
            let mut engine = create(&config, 2);
            if adapter {
                engine = adapted(engine, 3);
            }
            engine.set_checkpointing(checkpointing);
            let (one, first) = engine.gradients(&batch()).expect("a good batch");
            let (two, second) = engine
                .policy_gradients(&rollouts(), &objective)
                .expect("a good batch");
            let all = first.iter().chain(&second).flat_map(|(_, g)| values(g));
            (
                one.to_bits(),
                two.to_bits(),
                all.map(f32::to_bits).collect::<Vec<_>>(),
            )
        };
        for adapter in [false, true] {
            assert!(print(false, adapter) == print(true, adapter), "{family}");
        }
    }
}

#[test]
fn the_clipped_losses_match_finite_differences_of_their_tokens() {
    for kind in ["grpo", "dapo", "dr_grpo"] {
        let objective = Objective::new(kind, 0.2, 0.3, 0.1, 8).expect("good numbers");
        for rollout in rollouts() {
            for token in 0..rollout.old.len() {
                let target = rollout.target(token);
                for new in [-4.0f32, -3.1, -2.9, -1.0] {
                    let at = |x: f32| objective.token(target, x).loss;
                    let step = 1.0 / 1024.0;
                    let expected = (at(new + step) - at(new - step)) / (2.0 * f64::from(step));
                    let found = objective.token(target, new).slope;
                    assert!(
                        (found - expected).abs() < 1e-3,
                        "{kind}: {found} {expected}"
                    );
                }
            }
        }
    }
}

#[test]
fn cispo_keeps_every_tokens_gradient_and_bounds_its_weight() {
    let objective = Objective::new("cispo", 1.0, 1.0, 0.0, 0).expect("good numbers");
    for rollout in rollouts() {
        for token in 0..rollout.old.len() {
            let target = rollout.target(token);
            for new in [-9.0f32, -3.0, -0.1] {
                let told = objective.token(target, new);
                let weight = f64::from(new - target.old).exp().min(2.0);
                assert!((told.slope + weight * f64::from(target.advantage)).abs() < 1e-5);
                assert_eq!(told.clipped, f64::from(new - target.old).exp() > 2.0);
            }
        }
    }
}

#[test]
fn a_policy_step_tells_what_its_tokens_were_like() {
    let mut engine = adapted(create(&odd(), 2), 3);
    let mut fresh = rollouts();
    let examples = batch();
    let told = engine
        .logprobs(&examples, false)
        .expect("log-probabilities");
    for (rollout, logprobs) in fresh.iter_mut().zip(told) {
        rollout.old = logprobs;
        rollout.reference.clear();
    }
    let objective = Objective::new("cispo", 1.0, 4.0, 0.0, 0).expect("good numbers");
    let report = engine
        .policy_step(&fresh, &objective, 1e-3, false)
        .expect("a step");
    let policy = report.policy.expect("told");
    assert!((policy.ratio - 1.0).abs() < 1e-4 && policy.drift.abs() < 1e-6);
    assert_eq!((policy.clipped, policy.kl, policy.oldest), (0.0, 0.0, 4));
    assert!(policy.entropy > 0.0 && policy.entropy < 37f64.ln());
    assert_eq!(
        report.tokens,
        examples.iter().map(|e| e.answer_tokens()).sum::<usize>()
    );
    let after = engine
        .policy_step(&fresh, &objective, 1e-3, false)
        .expect("a step");
    assert!(after.policy.expect("told").drift > 0.0);
}

#[test]
fn answers_that_do_not_fit_are_refused() {
    let mut engine = adapted(create(&odd(), 1), 3);
    let objective = Objective::new("cispo", 1.0, 4.0, 0.0, 0).expect("good numbers");
    let damage: [fn(&mut Rollout); 5] = [
        |r| r.old.clear(),
        |r| r.advantages.push(0.0),
        |r| r.old[0] = f32::NAN,
        |r| r.reference.truncate(1),
        |r| r.positions = Positions::Each(vec![0]),
    ];
    for damage in damage {
        let mut batch = rollouts();
        damage(&mut batch[3]);
        let refused = engine.policy_step(&batch, &objective, 1e-3, false);
        let error = refused.expect_err("refused");
        assert!(
            error.is_usage() && error.to_string().contains("answer 3"),
            "{error}"
        );
    }
    assert!(engine.policy_step(&[], &objective, 1e-3, false).is_err());
    assert!(Objective::new("ppo", 0.2, 0.2, 0.0, 0).is_err());
    assert!(Objective::new("dr_grpo", 0.2, 0.2, 0.0, 0).is_err());
    assert!(Objective::new("grpo", -0.1, 0.2, 0.0, 0).is_err());
}

#[test]
fn training_goes_on_to_the_bit_after_it_was_left() {
    for adapter in [false, true] {
        let make = || {
            let mut engine = create(&odd(), 2);
            if adapter {
                engine = adapted(engine, 3);
            }
            engine.reset_optimizer(Optimizer::new(0.8, 0.9, 1e-8, 0.1, 0.5, 0.01).expect("good"));
            engine
        };
        let step = |engine: &mut Engine| {
            let report = engine.train_step(&batch(), 1e-2, false).expect("a step");
            report.loss.to_bits()
        };
        let folder = tempfile::tempdir().expect("a folder");
        let mut whole = make();
        for _ in 0..3 {
            step(&mut whole);
        }
        whole
            .save_training(folder.path(), "draw 17")
            .expect("saved");
        let mut again = make();
        let state = again.load_training(folder.path()).expect("loaded");
        assert_eq!(state, "draw 17");
        for _ in 0..3 {
            assert_eq!(step(&mut whole), step(&mut again));
        }
        assert_eq!(whole.fingerprint(), again.fingerprint());

        // A pair of which one file is another step's is noticed.
        let other = tempfile::tempdir().expect("a folder");
        let mut further = make();
        step(&mut further);
        further.save_training(other.path(), "").expect("saved");
        let name = "weights.safetensors";
        std::fs::copy(other.path().join(name), folder.path().join(name)).expect("copied");
        let before = again.fingerprint();
        let torn = again.load_training(folder.path()).expect_err("torn");
        assert!(torn.is_checkpoint(), "{torn}");
        // The pair on file is of two steps; what is in memory stays, optimiser included.
        assert_eq!(again.fingerprint(), before);
        assert_eq!(step(&mut whole), step(&mut again));
    }
}

#[test]
fn an_adapter_is_saved_and_loaded_as_peft_lays_it_out() {
    for (family, config) in families() {
        let mut engine = adapted(create(&config, 1), 3);
        let folder = tempfile::tempdir().expect("a folder");
        engine.save_adapter(folder.path(), "base").expect("saved");
        let mut other = create(&config, 1);
        other.load_adapter(folder.path()).expect("loaded");
        assert_eq!(engine.fingerprint(), other.fingerprint(), "{family}");
        assert_eq!(bits(&logits(&mut engine)), bits(&logits(&mut other)));
        // What is saved whole has the adapter in it.
        let whole = tempfile::tempdir().expect("a folder");
        engine.save(whole.path(), Some("f32")).expect("saved");
        let mut merged = Engine::load(whole.path(), 1).expect("loaded");
        assert!(near(&logits(&mut engine), &logits(&mut merged), 1e-4));
    }
}

#[test]
fn adapters_that_would_compute_something_else_are_refused_by_key() {
    let engine = adapted(create(&odd(), 1), 3);
    let folder = tempfile::tempdir().expect("a folder");
    engine.save_adapter(folder.path(), "base").expect("saved");
    let file = folder.path().join("adapter_config.json");
    let good: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&file).expect("read")).expect("JSON");
    for (key, value) in [
        ("peft_type", json!("IA3")),
        ("use_dora", json!(true)),
        ("bias", json!("all")),
        ("modules_to_save", json!(["lm_head"])),
        ("rank_pattern", json!({"q_proj": 4})),
        ("r", json!("eight")),
        ("r", json!(0)),
        ("lora_alpha", json!(null)),
        ("target_modules", json!("all-linear")),
        ("target_modules", json!(["embed_tokens"])),
    ] {
        let mut bad = good.clone();
        bad[key] = value.clone();
        std::fs::write(&file, bad.to_string()).expect("written");
        let mut fresh = create(&odd(), 1);
        let error = fresh.load_adapter(folder.path()).expect_err("refused");
        assert!(error.is_checkpoint() || error.is_usage(), "{key}: {error}");
        assert!(fresh.adapter().is_none());
    }
    // A rank that the weights do not have.
    let mut bad = good.clone();
    bad["r"] = json!(5);
    std::fs::write(&file, bad.to_string()).expect("written");
    let error = create(&odd(), 1)
        .load_adapter(folder.path())
        .expect_err("refused");
    assert!(error.to_string().contains("lora_A"), "{error}");
}

#[test]
fn targets_and_sizes_that_mean_nothing_are_refused() {
    let some = |targets: &[&str]| targets.iter().map(|&name| name.to_owned()).collect();
    assert!(AdapterSettings::new(0, 1.0, some(&["q_proj"]), false).is_err());
    assert!(AdapterSettings::new(4, f32::NAN, some(&["q_proj"]), false).is_err());
    assert!(AdapterSettings::new(4, 1.0, Vec::new(), false).is_err());
    let mut engine = create(&odd(), 1);
    let error = engine
        .adapt(settings(2, &["q_proj", "lm_head"]), 0)
        .expect_err("refused");
    assert!(error.to_string().contains("lm_head"), "{error}");
    engine
        .adapt(settings(2, &["q_proj", "w2"]), 0)
        .expect("the family's own name counts");
    let modules = engine.adapter().expect("there").modules();
    assert_eq!(modules, ["q_proj", "w2"]);
    assert!(engine.adapt(settings(2, &["q_proj"]), 0).is_err());
}

#[test]
fn other_numbers_train_from_fresh_moments() {
    let saved = tempfile::tempdir().expect("a folder");
    let written = adapted(create(&odd(), 2), 3).save_adapter(saved.path(), "base");
    written.expect("saved");
    let plain = || create(&odd(), 2);
    begins_with_fresh_moments("adapt", plain, |engine| {
        engine.adapt(settings(3, &TARGETS), 1).expect("adapted");
    });
    begins_with_fresh_moments("load_adapter", plain, |engine| {
        engine.load_adapter(saved.path()).expect("loaded");
    });
    begins_with_fresh_moments(
        "merge",
        || adapted(plain(), 3),
        |engine| engine.merge().expect("merged"),
    );
}
