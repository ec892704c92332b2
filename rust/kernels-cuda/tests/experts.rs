//! The block of experts on the twin against the CPU's kernels: every rule, ragged and empty experts, odd sizes, all formats.

mod common;

use common::{Case, Sizes, apart, cases, decoded, random, rounded, twin};
use moevolve_kernels::padded;
use moevolve_kernels_cuda::Memory;
use moevolve_kernels_cuda::experts::{Combination, Experts, FEW_COPIES, Gradients};
use moevolve_kernels_cuda::products::Format;
use moevolve_kernels_cuda::route::Rule;
use proptest::prelude::*;

fn sizes() -> impl Strategy<Value = Sizes> {
    // Mostly few tokens; now and then a prompt.
    let tokens = prop_oneof![4 => 1usize..40, 1 => 40usize..600];
    (
        0usize..4,
        1usize..90,
        1usize..70,
        1usize..40,
        1usize..9,
        tokens,
    )
        .prop_map(
            |(rule, hidden, intermediate, experts, chosen, tokens)| Sizes {
                rule,
                hidden,
                intermediate,
                experts,
                chosen,
                tokens,
            },
        )
}

fn forward(case: &Case, format: Format, combination: Combination, seed: u64) -> Vec<f32> {
    let device = twin(seed);
    let on = case.on(&device, format);
    let experts = Experts::new(&device);
    let (h, residual, out) = (on.h.address(), on.residual.address(), on.out.address());
    experts
        .forward(&on.block(case), case.tokens, h, residual, out, combination)
        .unwrap();
    on.out.download().unwrap()
}

fn few(case: &Case, format: Format, seed: u64) -> Vec<f32> {
    let device = twin(seed);
    let on = case.on(&device, format);
    let (h, residual, out) = (on.h.address(), on.residual.address(), on.out.address());
    Experts::new(&device)
        .few(&on.block(case), case.tokens, h, residual, out)
        .unwrap();
    on.out.download().unwrap()
}

/// Gradients of input, router, gates and ups, and downs.
fn backward(case: &Case, format: Format, dout: &[f32], seed: u64) -> [Vec<f32>; 4] {
    let device = twin(seed);
    let on = case.on(&device, format);
    let (experts, block) = (Experts::new(&device), on.block(case));
    let (h, residual, out) = (on.h.address(), on.residual.address(), on.out.address());
    let saved = experts
        .forward(&block, case.tokens, h, residual, out, Combination::Ordered)
        .unwrap();
    let dout = Memory::from_slice(&device, dout).unwrap();
    let dh = Memory::<f32>::new(&device, case.h.len()).unwrap();
    let router = Memory::<f32>::zeros(&device, padded(case.experts) * case.hidden).unwrap();
    let gate_up = Memory::<f32>::zeros(&device, case.gate_up.len()).unwrap();
    let down = Memory::<f32>::zeros(&device, case.down.len()).unwrap();
    let gradients = Gradients {
        router: router.address(),
        gate_up: gate_up.address(),
        down: down.address(),
        gate_up_apart: case.gate_up.len() / case.experts,
        down_apart: case.down.len() / case.experts,
    };
    experts
        .backward(&block, &saved, h, dout.address(), dh.address(), gradients)
        .unwrap();
    let mut router = router.download().unwrap();
    router.truncate(if case.rule == Rule::Dense {
        0
    } else {
        case.router.len()
    });
    [dh, gate_up, down]
        .map(|memory| memory.download().unwrap())
        .into_iter()
        .collect::<Vec<_>>()
        .try_into()
        .map(|[dh, up, down]: [Vec<f32>; 3]| [dh, router, up, down])
        .unwrap()
}

proptest! {
    #![proptest_config(cases(12))]

    #[test]
    fn in_f32_the_output_is_the_cpus(sizes in sizes(), seed: u64) {
        let case = Case::new(sizes, false, seed);
        let (expected, _) = case.forward_on_cpu();
        prop_assert!(apart(&forward(&case, Format::F32, Combination::Ordered, seed), &expected) < 1e-5);
        prop_assert!(apart(&forward(&case, Format::F32, Combination::Atomic, seed), &expected) < 1e-5);
    }

    #[test]
    fn in_bf16_the_output_is_near_the_cpus(sizes in sizes(), seed: u64) {
        let case = Case::new(sizes, true, seed);
        let (expected, _) = case.forward_on_cpu();
        let found = forward(&case, Format::Bf16, Combination::Ordered, seed);
        prop_assert!(apart(&found, &expected) < 1e-2, "{}", apart(&found, &expected));
    }

    #[test]
    fn few_tokens_have_the_same_output_without_sorting(mut sizes in sizes(), half: bool, seed: u64) {
        sizes.rule %= 3;
        sizes.tokens = 1 + sizes.tokens % (FEW_COPIES / sizes.chosen.min(sizes.experts));
        let case = Case::new(sizes, half, seed);
        let format = if half { Format::Bf16 } else { Format::F32 };
        prop_assert!(apart(&few(&case, format, seed), &case.forward_on_cpu().0) < 1e-5);
    }

    #[test]
    fn in_f32_gradients_are_the_cpus(mut sizes in sizes(), seed: u64) {
        sizes.tokens = 1 + sizes.tokens % 300;
        let case = Case::new(sizes, false, seed);
        let dout = random(case.h.len(), seed ^ 40);
        for (found, expected) in backward(&case, Format::F32, &dout, seed).iter().zip(case.backward_on_cpu(&dout)) {
            prop_assert!(apart(found, &expected) < 1e-4, "{}", apart(found, &expected));
        }
    }

    #[test]
    fn in_bf16_gradients_are_near_the_cpus(mut sizes in sizes(), seed: u64) {
        sizes.tokens = 1 + sizes.tokens % 200;
        let case = Case::new(sizes, true, seed);
        let dout = rounded(random(case.h.len(), seed ^ 40));
        for (found, expected) in backward(&case, Format::Bf16, &dout, seed).iter().zip(case.backward_on_cpu(&dout)) {
            prop_assert!(apart(found, &expected) < 2e-2, "{}", apart(found, &expected));
        }
    }

    #[test]
    fn stored_weights_are_read_inside_the_products(format in 0usize..3, rule in 0usize..3, experts in 1usize..9, chosen in 1usize..4, tokens in 1usize..60, seed: u64) {
        let format = [Format::Fp8, Format::Q8_0, Format::Q4K][format];
        let (hidden, intermediate) = match format {
            Format::Q4K => (256, 256),
            Format::Q8_0 => (64, 96),
            _ => (130 + seed as usize % 20, 40 + seed as usize % 100),
        };
        let mut case = Case::new(Sizes { rule, hidden, intermediate, experts, chosen, tokens }, true, seed);
        let (up, down) = (case.gate_up.clone(), case.down.clone());
        case.gate_up = decoded(format, &up, 2 * intermediate, hidden);
        case.down = decoded(format, &down, hidden, intermediate);
        let (expected, _) = case.forward_on_cpu();
        // On the device they are as the file has them.
        (case.gate_up, case.down) = (up, down);
        let found = forward(&case, format, Combination::Ordered, seed);
        prop_assert!(apart(&found, &expected) < 1e-2, "{:?} {}", format, apart(&found, &expected));
        case.tokens = case.tokens.min(FEW_COPIES / case.chosen);
        case.h.truncate(case.tokens * hidden);
        case.residual.truncate(case.tokens * hidden);
        let found = few(&case, format, seed);
        prop_assert!(apart(&found, &expected[..found.len()]) < 1e-5, "{:?} {}", format, apart(&found, &expected[..found.len()]));
    }
}

#[test]
fn a_row_does_not_depend_on_its_company() {
    let sizes = Sizes {
        rule: 0,
        hidden: 48,
        intermediate: 40,
        experts: 6,
        chosen: 2,
        tokens: 200,
    };
    for format in [Format::F32, Format::Bf16] {
        let mut case = Case::new(sizes, true, 11);
        let together = forward(&case, format, Combination::Ordered, 1);
        let first = 137 * case.hidden..138 * case.hidden;
        let expected = together[first.clone()].to_vec();
        (case.h, case.residual, case.tokens) = (
            case.h[first.clone()].to_vec(),
            case.residual[first].to_vec(),
            1,
        );
        assert_eq!(
            forward(&case, format, Combination::Ordered, 2),
            expected,
            "{format:?}"
        );
    }
}

#[test]
fn the_same_bits_come_in_any_order_of_threads_and_blocks() {
    let sizes = Sizes {
        rule: 1,
        hidden: 33,
        intermediate: 20,
        experts: 5,
        chosen: 3,
        tokens: 150,
    };
    let case = Case::new(sizes, true, 12);
    let dout = random(case.h.len(), 13);
    for format in [Format::F32, Format::Bf16] {
        assert_eq!(
            forward(&case, format, Combination::Ordered, 1),
            forward(&case, format, Combination::Ordered, 999)
        );
        assert_eq!(
            backward(&case, format, &dout, 1),
            backward(&case, format, &dout, 999)
        );
    }
}
