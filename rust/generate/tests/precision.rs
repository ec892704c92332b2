//! Samples of a network that computes in bf16.

mod common;

use common::{batch, create, generate, odd, request};
use moevolve_kernels::{Isa, Precision};

#[test]
fn samples_in_bf16_are_the_same_bits_on_every_instruction_set_and_thread_count() {
    let draw = |isa: Isa, threads| {
        let mut engine = create(&odd(), threads);
        engine.set_precision(Precision::Bf16);
        engine.set_isa(isa);
        for _ in 0..3 {
            let step = engine.train_step(&batch(), 1e-2, false);
            step.expect("a good batch");
        }
        let requests = [
            request(1, 5, &[1, 2, 3], 12, 1.0),
            request(2, 9, &[4], 12, 0.0),
        ];
        let samples = generate(&mut engine, &requests).into_iter().flatten();
        let bits =
            |logprobs: Vec<f32>| -> Vec<u32> { logprobs.iter().map(|p| p.to_bits()).collect() };
        samples
            .map(|sample| (sample.tokens, bits(sample.logprobs)))
            .collect::<Vec<_>>()
    };
    let scalar = draw(Isa::SCALAR, 1);
    for isa in Isa::available() {
        for threads in [1, 2, 5] {
            assert!(draw(isa, threads) == scalar, "{isa} on {threads} threads");
        }
    }
}
