//! Steps: what they change, what they refuse, what they do not depend on.

mod common;

use common::{batch, create, edit, families, odd, put, tensors, with};
use moevolve_kernels::Isa;
use moevolve_model::{Engine, Error, Optimizer};
use serde_json::json;

fn train(engine: &mut Engine, steps: usize) -> String {
    for _ in 0..steps {
        engine
            .train_step(&batch(), 1e-2, false)
            .expect("a good batch");
    }
    engine.fingerprint()
}

#[test]
fn training_is_the_same_bits_on_every_instruction_set_and_thread_count() {
    let print = |isa, threads| {
        let mut engine = create(&odd(), threads);
        engine.set_isa(isa);
        train(&mut engine, 3)
    };
    let scalar = print(Isa::SCALAR, 1);
    for isa in Isa::available() {
        for threads in [1, 2, 3] {
            assert_eq!(print(isa, threads), scalar, "{isa} on {threads} threads");
        }
    }
}

#[test]
fn a_resumed_optimizer_is_a_fresh_one() {
    let (mut one, mut two) = (create(&odd(), 1), create(&odd(), 1));
    train(&mut one, 2);
    let weights = tempfile::tempdir().expect("a folder");
    let file = weights.path().join("weights.safetensors");
    one.write_weights(&file).expect("written");
    two.read_weights(&file).expect("taken");
    one.reset_optimizer(Optimizer::default());
    assert_eq!(train(&mut one, 2), train(&mut two, 2));
}

#[test]
fn a_clone_starts_with_the_weights_and_a_fresh_optimizer() {
    let mut engine = create(&odd(), 1);
    train(&mut engine, 2);
    let mut copy = engine.duplicate().expect("a copy");
    assert_eq!(copy.fingerprint(), engine.fingerprint());
    engine.reset_optimizer(Optimizer::default());
    assert_eq!(train(&mut copy, 2), train(&mut engine, 2));
}

#[test]
fn steps_learn_at_any_shape() {
    for changes in [
        vec![],
        vec![("tie_word_embeddings", json!(true))],
        vec![("num_hidden_layers", json!(1))],
        vec![("num_experts_per_tok", json!(1))],
        vec![
            ("num_experts_per_tok", json!(5)),
            ("num_key_value_heads", json!(6)),
        ],
        vec![
            ("hidden_size", json!(32)),
            ("head_dim", json!(34)),
            ("num_key_value_heads", json!(1)),
        ],
    ] {
        let mut engine = create(&with(odd(), &changes), 2);
        let first = engine
            .train_step(&batch(), 1e-2, false)
            .expect("a good batch")
            .loss;
        train(&mut engine, 30);
        let last = engine
            .train_step(&batch(), 1e-2, false)
            .expect("a good batch")
            .loss;
        assert!(last < 0.5 * first, "{changes:?}: {first} to {last}");
    }
}

#[test]
fn every_family_learns_and_comes_back_from_its_folder() {
    for (family, config) in families() {
        let mut engine = create(&config, 2);
        let first = engine
            .train_step(&batch(), 1e-2, false)
            .expect("a good batch")
            .loss;
        let trained = train(&mut engine, 30);
        let folder = tempfile::tempdir().expect("a folder");
        engine.save(folder.path(), None).expect("saved");
        let mut again = Engine::load(folder.path(), 1).expect("loaded");
        assert_eq!(again.fingerprint(), trained, "{family}");
        assert_eq!(again.config_json(), engine.config_json(), "{family}");
        let last = again
            .train_step(&batch(), 0.0, false)
            .expect("a good batch")
            .loss;
        assert!(last < 0.5 * first, "{family}: {first} to {last}");
    }
}

#[test]
fn balancing_evens_the_load() {
    let mut engine = create(&odd(), 1);
    // One expert that every token wants.
    edit(&mut engine, |name, values| {
        if name.contains("bias") {
            values.fill(0.0);
            values[2] = 1.0;
        }
    });
    engine.reset_optimizer(Optimizer::new(0.9, 0.95, 1e-8, 0.0, 1.0, 0.02).expect("good numbers"));
    let most = |loads: &[Vec<f64>]| loads.iter().flatten().copied().fold(0.0, f64::max);
    let before = engine
        .train_step(&batch(), 0.0, false)
        .expect("a good batch")
        .expert_load;
    for layer in &before {
        assert!((layer.iter().sum::<f64>() - 1.0).abs() < 1e-9);
    }
    let mut after = before.clone();
    for _ in 0..80 {
        after = engine
            .train_step(&batch(), 0.0, false)
            .expect("a good batch")
            .expert_load;
    }
    assert!(
        (most(&before) - 1.0 / 3.0).abs() < 1e-9,
        "a third is the most that one of three choices can take"
    );
    assert!(most(&after) < 0.27, "{after:?}");
}

#[test]
fn what_is_not_finite_changes_nothing() {
    let mut engine = create(&odd(), 2);
    edit(&mut engine, |name, values| {
        if name == "lm_head.weight" {
            values.fill(3e38);
        }
    });
    let before = engine.fingerprint();
    let refused = engine.train_step(&batch(), 1e-2, false);
    assert!(
        matches!(refused, Err(Error::NotFinite { .. })),
        "{refused:?}"
    );
    assert_eq!(engine.fingerprint(), before);
}

#[test]
fn a_diverged_step_leaves_nothing_behind() {
    let (mut one, mut two) = (create(&odd(), 1), create(&odd(), 1));
    let start = tensors(&one);
    // Queries that overflow are NaN once normalised, and so is everything after them, forward and back.
    edit(&mut one, |name, values| {
        if name.contains("q_proj") {
            values.fill(3e38);
        }
    });
    assert!(one.train_step(&batch(), 1e-2, false).is_err());
    put(&mut one, &start);
    let short = &batch()[..2];
    let steps = [&mut one, &mut two].map(|engine| {
        let loss = engine
            .train_step(short, 1e-2, false)
            .expect("a good batch")
            .loss;
        (loss.to_bits(), train(engine, 2))
    });
    assert_eq!(steps[0], steps[1]);
}
