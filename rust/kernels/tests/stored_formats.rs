//! Stored formats: decoding as ggml does, encoding as well as ggml does.
//!
//! `golden/NAME.blocks` holds `golden/values.f32` (512 values) as ggml 0.19 quantises them, then as many blocks of random
//! bits with ordinary scales; `golden/NAME.f32` is what its Python twin `gguf` makes of all of them.

mod common;

use common::{cases, random};
use moevolve_kernels::stored::{
    Format, Matrix, decode_row, embed, encode, from_bf16, from_f16, from_fp8, to_bf16, to_f16,
};
use proptest::prelude::*;

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect()
}

fn values() -> Vec<f32> {
    floats(include_bytes!("golden/values.f32"))
}

type Golden = (Format, &'static [u8], &'static [u8]);

macro_rules! golden {
    ($format:ident, $name:literal) => {
        (
            Format::$format,
            include_bytes!(concat!("golden/", $name, ".blocks")),
            include_bytes!(concat!("golden/", $name, ".f32")),
        )
    };
}

const GOLDEN: [Golden; 17] = [
    golden!(F16, "f16"),
    golden!(Bf16, "bf16"),
    golden!(Q4_0, "q40"),
    golden!(Q4_1, "q41"),
    golden!(Q5_0, "q50"),
    golden!(Q8_0, "q80"),
    golden!(Q4K, "q4k"),
    golden!(Q5K, "q5k"),
    golden!(Q6K, "q6k"),
    golden!(Q5_1, "q51"),
    golden!(Q2K, "q2k"),
    golden!(Q3K, "q3k"),
    golden!(Iq3Xxs, "iq3xxs"),
    golden!(Iq3S, "iq3s"),
    golden!(Iq4Nl, "iq4nl"),
    golden!(Iq4Xs, "iq4xs"),
    golden!(Mxfp4, "mxfp4"),
];

fn decoded(format: Format, bytes: &[u8]) -> Vec<f32> {
    let mut out = vec![0.0; bytes.len() / format.block_bytes() * format.block_len()];
    decode_row(format, bytes, &mut out);
    out
}

/// Root of the mean squared difference.
fn miss(a: &[f32], b: &[f32]) -> f64 {
    let squares = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2));
    (squares.sum::<f64>() / a.len() as f64).sqrt()
}

#[test]
fn blocks_decode_as_ggml_decodes_them() {
    for (format, blocks, expected) in GOLDEN {
        let (found, expected) = (decoded(format, blocks), floats(expected));
        assert_eq!(found.len(), expected.len());
        for (i, (a, b)) in found.iter().zip(&expected).enumerate() {
            assert_eq!(a.to_bits(), b.to_bits(), "{} {i}: {a} {b}", format.name());
        }
    }
}

#[test]
fn values_encode_as_ggml_encodes_them() {
    let values = values();
    for (format, blocks, _) in GOLDEN {
        if let Some(found) = encode(format, &values) {
            assert!(found == blocks[..blocks.len() / 2], "{}", format.name());
        }
    }
}

/// `golden/odd.f32` holds 32 blocks of 256 numbers as no trained model has them: zeros, denormals, constants and little beside
/// them, one outlier; `golden/odd.NAME` what ggml 0.25 makes of them.
#[test]
fn odd_values_encode_as_ggml_encodes_them() {
    let values = floats(include_bytes!("golden/odd.f32"));
    macro_rules! odd {
        ($format:ident, $name:literal) => {
            (
                Format::$format,
                &include_bytes!(concat!("golden/odd.", $name))[..],
            )
        };
    }
    for (format, expected) in [
        odd!(Q4_0, "q40"),
        odd!(Q4_1, "q41"),
        odd!(Q5_0, "q50"),
        odd!(Q5_1, "q51"),
        odd!(Q8_0, "q80"),
        odd!(Q4K, "q4k"),
        odd!(Q5K, "q5k"),
        odd!(Q6K, "q6k"),
    ] {
        let found = encode(format, &values).expect("is written");
        let size = format.block_bytes();
        let blocks = found.chunks_exact(size).zip(expected.chunks_exact(size));
        for (block, (found, expected)) in blocks.enumerate() {
            assert_eq!(found, expected, "{} block {block}", format.name());
        }
    }
}

#[test]
fn names_and_numbers_are_unambiguous() {
    for format in Format::ALL {
        match format.to_ggml() {
            Some(number) => assert_eq!(Format::from_ggml(number), Some(format)),
            None => assert_eq!(format, Format::Fp8),
        }
        let same = Format::ALL
            .iter()
            .filter(|other| other.name() == format.name());
        assert_eq!(same.count(), 1);
    }
    assert_eq!(Format::from_ggml(9999), None);
    assert_eq!(encode(Format::Fp8, &[1.0]), None);
    assert_eq!(encode(Format::Q2K, &[1.0; 256]), None);
}

/// A small float by its definition.
fn by_definition(bits: u32, exponent_bits: u32, mantissa_bits: u32) -> f64 {
    let bias = (1 << (exponent_bits - 1)) - 1;
    let sign = if bits >> (exponent_bits + mantissa_bits) & 1 == 1 {
        -1.0
    } else {
        1.0
    };
    let exponent = (bits >> mantissa_bits & ((1 << exponent_bits) - 1)) as i32;
    let fraction = f64::from(bits & ((1 << mantissa_bits) - 1)) / f64::from(1 << mantissa_bits);
    if exponent == 0 {
        return sign * fraction * 2f64.powi(1 - bias);
    }
    sign * (1.0 + fraction) * 2f64.powi(exponent - bias)
}

#[test]
fn every_narrow_float_widens_exactly() {
    for bits in 0..=u16::MAX {
        let (half, brain) = (from_f16(bits), from_bf16(bits));
        match (bits & 0x7c00 == 0x7c00, bits & 0x3ff) {
            (true, 0) => assert!(half.is_infinite()),
            (true, _) => assert!(half.is_nan()),
            _ => {
                assert_eq!(f64::from(half), by_definition(bits.into(), 5, 10));
                assert_eq!(half.is_sign_negative(), bits >> 15 == 1);
                assert_eq!(to_f16(half), bits);
            }
        }
        if brain.is_finite() {
            assert_eq!(f64::from(brain), by_definition(bits.into(), 8, 7));
            assert_eq!(to_bf16(brain), bits);
        }
    }
    for bits in 0..=u8::MAX {
        if bits & 0x7f == 0x7f {
            assert!(from_fp8(bits).is_nan());
        } else {
            assert_eq!(f64::from(from_fp8(bits)), by_definition(bits.into(), 4, 3));
        }
    }
    assert_eq!(from_fp8(0x7e), 448.0);
    assert!(from_f16(to_f16(f32::NAN)).is_nan() && from_bf16(to_bf16(f32::NAN)).is_nan());
    assert_eq!(from_f16(to_f16(65520.0)), f32::INFINITY);
    assert_eq!(from_f16(to_f16(65519.9)), 65504.0);
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn narrow_floats_are_the_nearest(bits in any::<u32>(), power in -27i32..16) {
        let x = f32::from_bits(bits & 0x807f_ffff | 0x3f80_0000) * 2f32.powi(power);
        for (back, above, below) in [
            (from_f16(to_f16(x)), from_f16(to_f16(x) + 1), from_f16(to_f16(x).max(1) - 1)),
            (from_bf16(to_bf16(x)), from_bf16(to_bf16(x) + 1), from_bf16(to_bf16(x) - 1)),
        ] {
            if back.is_infinite() || to_f16(x) & 0x7fff == 0 {
                continue;
            }
            let gap = f64::from(back - x).abs();
            prop_assert!(gap <= f64::from(above - x).abs() && gap <= f64::from(below - x).abs(), "{x} {back}");
        }
    }

    #[test]
    fn encoding_misses_by_at_most_a_step(seed in any::<u32>(), size in 1e-3f32..100.0, shift in -1.0f32..1.0) {
        let x: Vec<f32> = random(512, seed.into()).iter().map(|x| (x + shift) * size).collect();
        for format in Format::ALL {
            let Some(bytes) = encode(format, &x) else { continue };
            prop_assert_eq!(bytes.len(), format.row_bytes(512));
            // Relative to the range of values: half a step, the furthest value's missing side, and rounded scales.
            let bound = match format {
                Format::F32 => 0.0,
                Format::F16 => 1.0 / 2048.0,
                Format::Bf16 => 1.0 / 256.0,
                Format::Q8_0 => 0.6 / 127.0,
                Format::Q6K => 1.6 / 32.0,
                Format::Q5_0 => 1.1 / 16.0,
                Format::Q5_1 | Format::Q5K => 2.0 / 31.0,
                Format::Q4_0 => 1.1 / 8.0,
                Format::Q4_1 | Format::Q4K => 2.0 / 15.0,
                _ => continue,
            };
            let back = decoded(format, &bytes);
            for (block, back) in x.chunks(format.block_len().max(32)).zip(back.chunks(format.block_len().max(32))) {
                let most = block.iter().fold(0.0f32, |most, x| most.max(x.abs()));
                for (x, y) in block.iter().zip(back) {
                    prop_assert!((x - y).abs() <= bound * most, "{}: {x} {y} of {most}", format.name());
                }
            }
            // What is decoded encodes to nearly the same again.
            let again = decoded(format, &encode(format, &back).expect("as before"));
            prop_assert!(miss(&again, &back) <= miss(&back, &x) + 1e-3 * f64::from(size), "{}", format.name());
        }
    }
}

#[test]
fn zeros_encode_to_zeros() {
    for format in Format::ALL {
        if let Some(bytes) = encode(format, &[0.0; 256]) {
            assert_eq!(decoded(format, &bytes), [0.0; 256], "{}", format.name());
        }
    }
}

#[test]
fn eight_bit_floats_take_the_scale_of_their_block() {
    let (out, inp) = (130, 200);
    let bytes: Vec<u8> = (0..out * inp).map(|i| (i % 127) as u8).collect();
    let scales = [0.5, 2.0, 3.0, -1.0];
    let matrix = Matrix {
        format: Format::Fp8,
        bytes: &bytes,
        out,
        inp,
        scales: &scales,
    };
    let ids = [129, 0, 127];
    let mut rows = vec![0.0; ids.len() * inp];
    embed(&matrix, &ids, &mut rows);
    for (&id, row) in ids.iter().zip(rows.chunks_exact(inp)) {
        for (column, &x) in row.iter().enumerate() {
            let scale = scales[id as usize / 128 * 2 + column / 128];
            assert_eq!(x, from_fp8(bytes[id as usize * inp + column]) * scale);
        }
    }
}

#[test]
#[should_panic]
fn an_id_beyond_the_matrix_is_refused() {
    let matrix = Matrix {
        format: Format::F32,
        bytes: &[0; 8],
        out: 2,
        inp: 1,
        scales: &[],
    };
    embed(&matrix, &[2], &mut [0.0]);
}
