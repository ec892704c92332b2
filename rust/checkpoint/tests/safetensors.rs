//! Files written row by row beside the format's own writer, and values beside `half`'s roundings.

use std::collections::HashMap;

use moevolve_checkpoint::{TensorSpec, safetensors};
use moevolve_kernels::stored::Format;
use proptest::prelude::*;
use safetensors_reference::tensor::{Dtype, TensorView};

extern crate safetensors as safetensors_reference;

/// What the reference writer makes of the same tensors, each number rounded by `half`.
fn reference(tensors: &[(String, Vec<usize>, Format, Vec<f32>)]) -> Vec<u8> {
    let encoded: Vec<(Dtype, Vec<u8>)> = tensors
        .iter()
        .map(|(_, _, format, values)| {
            let (dtype, encode): (Dtype, fn(f32) -> Vec<u8>) = match format {
                Format::F16 => (Dtype::F16, |x| {
                    half::f16::from_f32(x).to_le_bytes().to_vec()
                }),
                Format::Bf16 => (Dtype::BF16, |x| {
                    half::bf16::from_f32(x).to_le_bytes().to_vec()
                }),
                _ => (Dtype::F32, |x| x.to_le_bytes().to_vec()),
            };
            (dtype, values.iter().flat_map(|&x| encode(x)).collect())
        })
        .collect();
    let views = tensors
        .iter()
        .zip(&encoded)
        .map(|((name, shape, ..), (dtype, bytes))| {
            let view = TensorView::new(*dtype, shape.clone(), bytes).expect("whole");
            (name.clone(), view)
        });
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors_reference::serialize(views, Some(metadata)).expect("serialised")
}

fn shape() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        prop::collection::vec(1usize..6, 1..4),
        // More than one chunk, and a row that is longer than a chunk.
        Just(vec![300_000]),
        Just(vec![700, 577]),
        Just(vec![2, 300_000]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        rng_seed: proptest::test_runner::RngSeed::Fixed(5),
        failure_persistence: None,
        ..ProptestConfig::with_cases(24)
    })]

    #[test]
    fn a_file_has_the_bytes_and_the_hash_of_the_reference_writer(
        shapes in prop::collection::vec(
            (shape(), prop::sample::select(vec![Format::F32, Format::F16, Format::Bf16])), 1..6),
        scale in -12i32..12,
    ) {
        let tensors: Vec<_> = shapes
            .into_iter()
            .enumerate()
            .map(|(index, (shape, format))| {
                let count = shape.iter().product();
                let number = |i: usize| ((i * 37 + index) as f32).sin() * (scale as f32).exp2();
                let values: Vec<f32> = (0..count).map(number).collect();
                (format!("tensor.{}", (index * 7) % 10), shape, format, values)
            })
            .collect();
        let specs: Vec<_> = tensors
            .iter()
            .map(|(name, shape, format, _)| TensorSpec {
                name: name.clone(),
                shape: shape.clone(),
                format: *format,
            })
            .collect();
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("model.safetensors");
        let hash = safetensors::write(&file, ("format", "pt"), &specs, &mut |index, rows, out| {
            let (_, shape, _, values) = &tensors[index];
            let width = if shape.len() == 1 { 1 } else { shape[shape.len() - 1] };
            out.extend_from_slice(&values[rows.start * width..rows.end * width]);
            Ok(())
        })
        .expect("written");
        let expected = reference(&tensors);
        let bytes = std::fs::read(&file).expect("read");
        prop_assert!(bytes == expected);
        prop_assert_eq!(hash, blake3::hash(&expected).to_hex().to_string());
    }
}

#[test]
fn numbers_that_a_format_cannot_hold_are_refused_and_nothing_is_left() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("model.safetensors");
    let refusal = |format, value: f32| {
        let spec = TensorSpec {
            name: "a".to_owned(),
            shape: vec![3],
            format,
        };
        let outcome = safetensors::write(&file, ("format", "pt"), &[spec], &mut |_, rows, out| {
            out.extend(rows.map(|i| if i == 1 { value } else { 1.0 }));
            Ok(())
        });
        outcome.expect_err("refused").to_string()
    };
    assert!(refusal(Format::F32, f32::NAN).ends_with("tensor a: holds NaN at flat index 1"));
    assert!(refusal(Format::F16, -7e4).contains("holds -70000, which f16 cannot"));
    assert!(refusal(Format::Q8_0, 1.0).contains("safetensors files hold no Q8_0"));
    assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 0);
}
