//! bf16 products: the same bits everywhere, near f32, and f32 again when asked.

mod common;

use common::{batch, create, ids, odd, values};
use moevolve_kernels::{Isa, Precision};
use moevolve_model::Engine;

fn rounded(threads: usize) -> Engine {
    let mut engine = create(&odd(), threads);
    engine.set_precision(Precision::Bf16);
    engine
}

fn gradients(engine: &mut Engine) -> (f64, Vec<f32>) {
    let (loss, gradients) = engine.gradients(&batch()).expect("a good batch");
    (
        loss,
        gradients.iter().flat_map(|(_, g)| values(g)).collect(),
    )
}

#[test]
fn training_is_the_same_bits_on_every_instruction_set_and_thread_count() {
    let print = |isa: Isa, threads| {
        let mut engine = rounded(threads);
        engine.set_isa(isa);
        for _ in 0..3 {
            engine
                .train_step(&batch(), 1e-2, false)
                .expect("a good batch");
        }
        let (loss, gradients) = gradients(&mut engine);
        let bits: Vec<u32> = gradients.iter().map(|g| g.to_bits()).collect();
        (engine.fingerprint(), loss.to_bits(), bits)
    };
    let scalar = print(Isa::SCALAR, 1);
    for isa in Isa::available() {
        for threads in [1, 2, 5] {
            assert!(print(isa, threads) == scalar, "{isa} on {threads} threads");
        }
    }
}

#[test]
fn gradients_stay_near_those_in_f32() {
    let (loss, exact) = gradients(&mut create(&odd(), 1));
    let (near_loss, near) = gradients(&mut rounded(1));
    let length = |x: &[f32]| x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    let gap: Vec<f32> = exact.iter().zip(&near).map(|(a, b)| a - b).collect();
    let relative = length(&gap) / length(&exact);
    assert!(relative > 0.0 && relative < 0.04, "{relative}");
    assert!(
        loss != near_loss && (loss - near_loss).abs() < 0.01 * loss,
        "{loss} {near_loss}"
    );
}

#[test]
fn f32_comes_back_to_the_bit_also_after_other_weights_were_read() {
    let rows = [ids(3, 20), ids(4, 7)];
    let bits = |engine: &mut Engine| -> Vec<u32> {
        let logits = engine.logits(&rows).expect("good rows");
        logits.values.iter().map(|x| x.to_bits()).collect()
    };
    let mut engine = create(&odd(), 1);
    let exact = bits(&mut engine);
    engine.set_precision(Precision::Bf16);
    let near = bits(&mut engine);
    assert!(near != exact);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("weights.safetensors");
    engine.write_weights(&file).expect("written");
    engine.read_weights(&file).expect("taken");
    assert_eq!(engine.precision(), Precision::Bf16);
    assert!(bits(&mut engine) == near && bits(&mut engine.duplicate().expect("a copy")) == near);
    engine.set_precision(Precision::F32);
    assert!(bits(&mut engine) == exact);
}

#[test]
fn an_unknown_precision_names_the_known_ones() {
    let mut engine = create(&odd(), 1);
    let error = engine
        .choose_precision("f16")
        .expect_err("no such precision");
    assert!(
        error.to_string().contains("f32, bf16 or fastest"),
        "{error}"
    );
    engine.choose_precision("fastest").expect("always there");
    assert_eq!(engine.precision(), Precision::fastest(Isa::best()));
}
